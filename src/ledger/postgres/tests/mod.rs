//! The contract on a PostgreSQL server, and what only this engine has: a server, a network and a lost answer.

mod access;
mod contract;
mod cutting_proxy;
mod every_write;
mod faults;
mod figures;
mod full_disk;
mod lost_commit;
mod store;
