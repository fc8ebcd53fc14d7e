//! Busbar against a real API server and etcd. Run with `cargo test --test e2e`.
//!
//! One control plane is shared by the whole binary, each test has a namespace of its own. The operator is the real
//! binary, with a service account's token and the rights of `config/rbac/`; a test that needs to break the control plane
//! starts one of its own. A control plane that cannot be had is a failure: a suite that skips itself shows nothing.

// The lints that forbid `unwrap` and its kin know tests by this attribute.
#[cfg(test)]
mod admission;
#[cfg(test)]
mod connection_use;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod deletion;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod least_privilege;
#[cfg(test)]
mod metrics_auth;
#[cfg(test)]
mod override_guards;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod providers;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod runtime;
#[cfg(test)]
mod runtime_replicas;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod support;
