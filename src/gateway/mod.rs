//! The gateway: Busbar's HTTP API for payment systems, services and people.
//!
//! It serves requests and stores no state of its own. The API server authenticates callers ([`authenticate`]); RBAC and
//! the licence profiles of a connection authorize them; a call to a provider takes the same call path as every other.
//! Every replica serves, the standby too: only what needs a single writer (retrying dead requests, writing status) is
//! the leader's.
//!
//! [`crate::http_server`] accepts connections, [`router`] maps the paths, [`envelope`] and [`problem`] define the
//! response format, [`observe`] adds metrics and logs, and each resource has a file. No response holds a secret, no log
//! line a query.

pub mod access;
pub mod aliases;
mod answer_body;
mod attempt;
pub mod audit;
pub mod audit_list;
pub mod authenticate;
pub mod call;
pub mod call_budget;
mod call_problem;
pub mod call_request;
mod candidates;
pub mod consumers;
pub mod dead_requests;
pub mod envelope;
pub mod error_code;
pub mod events;
mod extract;
pub mod fallback_access;
pub mod fallback_authorization;
pub mod fallback_code;
mod guard;
pub mod listen_address;
pub mod metrics;
pub mod observe;
pub mod openapi;
pub mod operation;
pub mod problem;
pub mod providers;
pub mod rate_limit;
pub mod request_label;
pub mod request_limits;
pub mod router;
pub mod routing;
pub mod shared_rates;
pub mod state;
pub mod syncs;
pub mod tls;
pub mod webhooks;

pub use crate::http_server::{connection_limits, server};
pub use state::{Exists, Gateway};
