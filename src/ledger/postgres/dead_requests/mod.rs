//! Dead requests: storage, retries, replay and queries.

mod access;
mod removal;
mod settling;
mod storing;
