//! The test kit: what the integration tests (`tests/it`) and the end-to-end tests (`tests/e2e`) share.
//!
//! Both binaries include this module; the folder [`cluster`](../kit/cluster/mod.rs) is included by the end-to-end tests
//! only, because it needs a control plane. A test waits with [`wait::eventually`], builds objects with [`objects`],
//! connections of this process with [`connections`], and moves time with [`time::ManualTime`].

#![allow(dead_code, reason = "each of the two binaries uses a part of the kit")]

pub(crate) mod banks;
pub(crate) mod binary;
pub(crate) mod connections;
pub(crate) mod decision_server;
pub(crate) mod events;
pub(crate) mod generated_response;
pub(crate) mod hostile_provider;
pub(crate) mod http;
pub(crate) mod late_choices;
pub(crate) mod list_bank;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod objects;
pub(crate) mod pika;
pub(crate) mod release;
pub(crate) mod small_volume;
pub(crate) mod sync_env;
pub(crate) mod time;
pub(crate) mod token_server;
pub(crate) mod wait;
pub(crate) mod walk_bank;
