//! Every documented name is emitted, and every emitted name is documented.
//!
//! The cases call the functions that emit names in the operator (the breaker, a run of the pool over a scripted bank,
//! the plan of a spec, `decide`) and collect the names from what these return. Nothing here writes a name itself.

mod circuits;
mod connections;
mod decisions;
mod jobs;
mod payouts;
mod policies;
mod predictions;
mod records;
mod routes;
mod runs;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::Timestamp;

use super::*;
use crate::api::v1alpha1::common::Condition as ApiCondition;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::app::outbox_wiring::topology_event;
use crate::cluster::events::EventDraft;
use crate::controllers::conditions::from_api;
use crate::domain::conditions::{Condition, ConditionStatus, check_invariants};
use crate::domain::time::{Mono, Now};

/// The names that the cases emitted, by where they occur.
#[derive(Default)]
struct Emitted {
    /// `type reason` of conditions.
    conditions: BTreeSet<String>,
    events: BTreeSet<String>,
    circuits: BTreeSet<String>,
    candidates: BTreeSet<String>,
    problems: BTreeSet<String>,
    obstacles: BTreeSet<String>,
    predictions: BTreeSet<String>,
    results: BTreeSet<String>,
    runs: BTreeSet<String>,
    rejections: BTreeSet<String>,
    attempt_states: BTreeSet<String>,
    holds: BTreeSet<String>,
    refusals: BTreeSet<String>,
}

impl Emitted {
    fn add_conditions(&mut self, conditions: &[ApiCondition]) {
        let plain: Vec<_> = conditions.iter().map(from_api).collect();
        check_invariants(&plain).unwrap();
        self.conditions.extend(plain.iter().map(|c| format!("{} {}", c.type_, c.reason)));
    }

    fn add_events(&mut self, events: &[EventDraft]) {
        self.events.extend(events.iter().map(|event| event.reason.to_string()));
    }
}

static EMITTED: LazyLock<Emitted> = LazyLock::new(|| {
    let mut emitted = Emitted::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let views = runtime.block_on(runs::emit(&mut emitted));
    jobs::emit(&views, &mut emitted);
    let snapshots = circuits::emit(&mut emitted);
    connections::emit(snapshots, &mut emitted);
    routes::emit(&mut emitted);
    decisions::emit(&mut emitted);
    policies::emit(&mut emitted);
    predictions::emit(&mut emitted);
    records::emit(&mut emitted);
    payouts::emit(&mut emitted);
    emitted.add_events(&[topology_event("a queue differs".to_owned())]);
    emitted
});

fn at(text: &str) -> Now {
    Now { mono: Mono::ZERO, wall: text.parse::<Timestamp>().unwrap() }
}

/// What is documented and not emitted, and the reverse, a line each.
fn differences(emitted: &BTreeSet<String>, documented: &BTreeSet<String>) -> Vec<String> {
    let silent = documented.difference(emitted).map(|name| format!("documented, but emitted by no case: {name}"));
    let unknown = emitted.difference(documented).map(|name| format!("emitted, but not documented: {name}"));
    silent.chain(unknown).collect()
}

fn assert_same(emitted: &BTreeSet<String>, documented: impl IntoIterator<Item = impl Into<String>>) {
    let documented: BTreeSet<String> = documented.into_iter().map(Into::into).collect();
    let found = differences(emitted, &documented);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn names(table: ReasonTable) -> impl Iterator<Item = &'static str> {
    table.rows.into_iter().map(|row| row.name)
}

#[test]
fn every_reason_of_a_condition_is_emitted_and_documented() {
    let of = |reason: &Reason| {
        let reason = *reason;
        reason.conditions().iter().map(move |type_| format!("{type_} {reason}"))
    };
    assert_same(&EMITTED.conditions, Reason::ALL.iter().flat_map(of));
}

#[test]
fn every_condition_type_is_emitted() {
    let types: BTreeSet<_> = EMITTED.conditions.iter().filter_map(|name| Some(name.split_once(' ')?.0)).collect();
    assert_eq!(types, ConditionType::ALL.iter().map(|type_| type_.as_str()).collect());
}

#[test]
fn a_condition_documented_as_only_while_true_is_checked_as_such() {
    for type_ in ConditionType::ALL {
        let unknown = Condition::new(type_.as_str(), ConditionStatus::Unknown, "X", "", 1, Timestamp::UNIX_EPOCH);
        let rejected = check_invariants(&[unknown]).is_err();
        assert_eq!(rejected, type_.doc().contains("Only while True"), "{type_}");
    }
}

#[test]
fn every_event_is_emitted_and_documented() {
    assert_same(&EMITTED.events, EventReason::ALL.iter().map(|reason| reason.as_str()));
}

#[test]
fn every_reason_of_a_circuit_is_emitted_and_documented() {
    assert_same(&EMITTED.circuits, names(circuits()));
}

#[test]
fn every_reason_of_a_candidate_is_emitted_and_documented() {
    assert_same(&EMITTED.candidates, names(candidates()));
}

#[test]
fn every_problem_of_a_decision_request_is_emitted_and_documented() {
    assert_same(&EMITTED.problems, names(problems()));
}

#[test]
fn every_reason_of_an_unresolved_attempt_is_emitted_and_documented() {
    assert_same(&EMITTED.obstacles, names(obstacles()));
}

#[test]
fn every_reason_of_a_refused_prediction_is_emitted_and_documented() {
    assert_same(&EMITTED.predictions, names(super::predictions()));
}

#[test]
fn every_result_of_a_run_is_emitted_and_documented() {
    assert_same(&EMITTED.results, names(results()));
}

#[test]
fn every_reason_of_a_run_is_emitted_and_documented() {
    assert_same(&EMITTED.runs, names(runs()));
}

#[test]
fn every_reason_of_a_rejected_record_is_emitted_and_documented() {
    assert_same(&EMITTED.rejections, names(rejections()));
}

#[test]
fn every_state_of_an_attempt_is_emitted_and_documented() {
    assert_same(&EMITTED.attempt_states, names(attempt_states()));
}

#[test]
fn every_reason_of_a_held_payout_is_emitted_and_documented() {
    assert_same(&EMITTED.holds, names(holds()));
}

#[test]
fn every_reason_of_a_refused_act_on_a_payout_is_emitted_and_documented() {
    assert_same(&EMITTED.refusals, names(refusals()));
}

#[test]
fn a_silent_and_an_undocumented_name_are_found() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let found = differences(&set(&["Both", "New"]), &set(&["Both", "Old"]));
    assert_eq!(found, ["documented, but emitted by no case: Old", "emitted, but not documented: New"]);
}

#[test]
fn every_name_is_on_the_page_with_a_meaning() {
    let page = markdown();
    for name in [&EMITTED.events, &EMITTED.circuits, &EMITTED.candidates, &EMITTED.results, &EMITTED.runs]
        .into_iter()
        .chain([&EMITTED.rejections])
        .flatten()
    {
        assert!(page.contains(&format!("| `{name}` | ")), "{name}");
    }
}
