//! What every e2e test stands on. Start reading at [`operator::Operator`].

// Each test file uses some of it.
#![allow(dead_code, unused_imports, reason = "a toolbox is complete before every tool is used")]

pub(crate) mod eventually;
pub(crate) mod fault_run;
pub(crate) mod metrics;
pub(crate) mod namespace;
pub(crate) mod operator;
pub(crate) mod peer;
pub(crate) mod plane;
pub(crate) mod policies;
pub(crate) mod scene;
pub(crate) mod status_recorder;
pub(crate) mod world;

pub(crate) use busbar::testbed::canaries::Canaries;
pub(crate) use eventually::eventually;
pub(crate) use fault_run::Expected;
pub(crate) use namespace::{Output, TestNs};
pub(crate) use operator::Operator;
pub(crate) use peer::Peer;
pub(crate) use plane::{OwnPlane, own_plane, shared_plane};
pub(crate) use scene::Scene;
pub(crate) use status_recorder::StatusRecorder;
pub(crate) use world::World;
