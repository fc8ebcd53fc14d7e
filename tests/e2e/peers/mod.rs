//! The call path against servers that other people wrote. No cluster is needed: connections are made in this process.

mod ground;
