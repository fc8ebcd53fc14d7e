//! Predictions: failover and failback in mode `Predictive`, proposals in mode `Hybrid`.

use uuid::Uuid;

use super::*;
use crate::api::v1alpha1::bank_route::RouteMode;
use crate::controllers::Decision;
use crate::controllers::bankroute::inputs::{KnownProposal, RouteStep, StoredProposalView};
use crate::domain::route::{Approval, CandidatePrediction};

const NOW: &str = "2026-03-01T12:00:00Z";

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

fn outage(skill: u32) -> CandidatePrediction {
    CandidatePrediction {
        demoted: skill > 0,
        risk: 900_000,
        skill,
        success: 100_000,
        valid_until: at("2026-03-01T12:20:00Z"),
        ..CandidatePrediction::default()
    }
}

fn in_mode(mode: RouteMode) -> BankRoute {
    let mut route = route();
    route.spec.mode = mode;
    route
}

fn predicting(route: &BankRoute, predictions: [Option<CandidatePrediction>; 3]) -> RouteInputs {
    let mut inputs = inputs(route, &[UP; 3]);
    inputs.predictions = predictions.map(|one| one.into_iter().collect()).to_vec();
    inputs
}

fn decided(
    route: &BankRoute,
    previous: &BankRouteStatus,
    inputs: &RouteInputs,
) -> Decision<BankRouteStatus, RouteStep> {
    decide(route, Some(previous), inputs, Now { mono: Mono::ZERO, wall: at(NOW) })
}

fn reasons(decision: &Decision<BankRouteStatus, RouteStep>) -> Vec<EventReason> {
    decision.events.iter().map(|event| event.reason).collect()
}

#[test]
fn a_predicted_outage_fails_over_and_its_end_fails_back() {
    let predictive = in_mode(RouteMode::Predictive);
    let (first, _) = run(&predictive, None, &[UP, UP, UP]);
    let over = decided(&predictive, &first, &predicting(&predictive, [Some(outage(500_000)), None, None]));
    assert_eq!(reasons(&over), [EventReason::FailedOver]);
    assert!(over.events[0].message.contains("an outage of a is predicted"), "{}", over.events[0].message);
    assert_eq!(over.requeue_after, std::time::Duration::from_mins(20), "the prediction ends then");
    let over = over.status.unwrap();
    let failover = over.last_failover.clone().unwrap();
    assert_eq!((failover.from.as_str(), failover.to.as_deref()), ("a", Some("b")));
    assert_eq!((failover.reason.as_str(), over.failovers), ("PredictedOutage", Some(1)));
    let a = &over.candidates[0];
    assert_eq!((a.state, a.reason.as_str(), a.failed_over), (CandidateState::Standby, "PredictedOutage", Some(true)));
    let back = decided(&predictive, &over, &predicting(&predictive, [None, None, None]));
    assert_eq!((reasons(&back), back.status.unwrap().failovers), (vec![EventReason::FailedBack], Some(1)));
}

#[test]
fn all_banks_at_risk_still_take_payouts_and_an_unskilled_prediction_changes_nothing() {
    let predictive = in_mode(RouteMode::Predictive);
    let (first, _) = run(&predictive, None, &[UP, UP, UP]);
    let all = [Some(outage(500_000)), Some(outage(500_000)), Some(outage(500_000))];
    let decision = decided(&predictive, &first, &predicting(&predictive, all));
    assert_eq!(decision.status.unwrap().available, Some(TriState::True));
    let ready = |inputs: &RouteInputs| {
        let status = decided(&predictive, &first, inputs).status.unwrap();
        assert_eq!(status.active.as_deref(), Some("a"));
        status.conditions.into_iter().find(|c| c.type_ == "Ready").unwrap().message
    };
    for without in [[None, None, None], [Some(outage(0)), None, None]] {
        let message = ready(&predicting(&predictive, without));
        assert!(message.contains("no prediction is in use: banks are chosen as in mode Reactive"), "{message}");
    }
    let reactive = in_mode(RouteMode::Reactive);
    let ignored = decided(&reactive, &first, &predicting(&reactive, [Some(outage(500_000)), None, None]));
    let status = ignored.status.unwrap();
    assert_eq!((status.active.as_deref(), ignored.events.len()), (Some("a"), 0));
    assert!(!status.conditions.iter().any(|c| c.message.contains("mode Reactive")), "it is what was asked for");
}

fn hybrid(stored: StoredProposalView) -> (BankRoute, RouteInputs) {
    let route = in_mode(RouteMode::Hybrid);
    let mut inputs = predicting(&route, [Some(outage(500_000)), None, None]);
    inputs.proposal = stored;
    (route, inputs)
}

fn known(candidate: &str, until: &str) -> KnownProposal {
    KnownProposal { id: Uuid::from_u128(7), candidate: candidate.to_owned(), until: at(until) }
}

#[test]
fn hybrid_proposes_once_and_shows_the_proposal_when_it_is_stored() {
    let (route, inputs) = hybrid(StoredProposalView::None);
    let (first, _) = run(&route, None, &[UP, UP, UP]);
    let made = decided(&route, &first, &inputs);
    let [RouteStep::Propose(proposal)] = &made.steps[..] else { panic!("{:?}", made.steps) };
    assert_eq!((proposal.candidate.as_str(), proposal.from.as_str()), ("b", "a"));
    let status = made.status.clone().unwrap();
    assert_eq!((status.active.as_deref(), status.proposal), (Some("a"), None), "it decides reactively");
    assert!(reasons(&made).is_empty());

    let (route, inputs) = hybrid(StoredProposalView::Pending(known("b", "2026-03-01T12:15:00Z")));
    let shown = decided(&route, &first, &inputs);
    assert_eq!((reasons(&shown), shown.steps.len()), (vec![EventReason::FailoverProposed], 0));
    assert_eq!(shown.requeue_after, std::time::Duration::from_secs(5), "another replica may take the answer");
    let status = shown.status.unwrap();
    assert_eq!((status.proposal.as_ref().unwrap().candidate.as_str(), status.active.as_deref()), ("b", Some("a")));
    assert!(BankRoute::transition_fields(&status) != BankRoute::transition_fields(&first), "it is written");
    let again = decided(&route, &status, &inputs);
    assert!(reasons(&again).is_empty(), "reported once: {:?}", again.events);
    let wavering = RouteInputs { predictions: Vec::new(), ..inputs };
    let kept = decided(&route, &status, &wavering);
    assert_eq!((kept.steps.len(), kept.status.unwrap().proposal.is_some()), (0, true), "it stands for its time");
}

#[test]
fn an_approved_proposal_fails_over_until_the_approval_ends() {
    let (route, mut inputs) = hybrid(StoredProposalView::Pending(known("b", "2026-03-01T12:15:00Z")));
    let (first, _) = run(&route, None, &[UP, UP, UP]);
    let shown = decided(&route, &first, &inputs).status.unwrap();
    let mut rules = inputs.route.clone().unwrap().rules.clone();
    let until = at("2026-03-01T12:30:00Z");
    rules.approved = Some(Approval { candidate: "b".to_owned(), proposal: Uuid::from_u128(7), until });
    inputs.rules = Some(Arc::new(rules));
    inputs.proposal = StoredProposalView::Approved(known("b", "2026-03-01T12:15:00Z"));
    let over = decided(&route, &shown, &inputs);
    assert_eq!(reasons(&over), [EventReason::FailedOver]);
    let over = over.status.unwrap();
    assert_eq!((over.active.as_deref(), over.proposal.as_ref(), over.failovers), (Some("b"), None, Some(1)));
    assert_eq!(over.last_failover.as_ref().unwrap().reason, "PredictiveHybrid");
    let ended = decided(&route, &over, &predicting(&route, [None, None, None]));
    assert_eq!((reasons(&ended), ended.status.unwrap().active), (vec![EventReason::FailedBack], Some("a".to_owned())));
}

#[test]
fn a_rejected_proposal_is_not_made_again_before_its_time_is_over() {
    let (route, pending) = hybrid(StoredProposalView::Pending(known("b", "2026-03-01T12:15:00Z")));
    let (first, _) = run(&route, None, &[UP, UP, UP]);
    let shown = decided(&route, &first, &pending).status.unwrap();
    let (_, rejected) = hybrid(StoredProposalView::Rejected(known("b", "2026-03-01T12:15:00Z")));
    let ended = decided(&route, &shown, &rejected);
    assert_eq!((reasons(&ended), ended.steps.len()), (vec![EventReason::ProposalRejected], 0));
    let status = ended.status.unwrap();
    assert_eq!((status.proposal.as_ref(), status.active.as_deref()), (None, Some("a")));
    let (_, over) = hybrid(StoredProposalView::Rejected(known("b", "2026-03-01T11:59:00Z")));
    let again = decided(&route, &status, &over);
    assert!(matches!(again.steps[..], [RouteStep::Propose(_)]), "{:?}", again.steps);
    let (_, other) = hybrid(StoredProposalView::Rejected(known("c", "2026-03-01T12:15:00Z")));
    assert!(matches!(decided(&route, &status, &other).steps[..], [RouteStep::Propose(_)]), "another bank");
}

#[test]
fn a_proposal_lapses_at_its_end_and_when_it_can_have_no_effect() {
    let (route, pending) = hybrid(StoredProposalView::Pending(known("b", "2026-03-01T12:15:00Z")));
    let (first, _) = run(&route, None, &[UP, UP, UP]);
    let shown = decided(&route, &first, &pending).status.unwrap();
    let lapse = [RouteStep::Lapse(Uuid::from_u128(7))];
    let (_, overdue) = hybrid(StoredProposalView::Pending(known("b", NOW)));
    let mut excluded = pending.clone();
    excluded.connections[1] = DOWN;
    let mut reactive = in_mode(RouteMode::Reactive);
    reactive.metadata.generation = Some(2);
    let mut edited = inputs(&reactive, &[UP; 3]);
    edited.proposal = pending.proposal.clone();
    for (route, inputs) in [(&route, &overdue), (&route, &excluded), (&reactive, &edited)] {
        let ended = decided(route, &shown, inputs);
        assert_eq!((&ended.steps[..], reasons(&ended)), (&lapse[..], vec![EventReason::ProposalLapsed]));
        assert_eq!(ended.status.unwrap().proposal, None);
        assert!(ended.requeue_after <= std::time::Duration::from_secs(10), "retried if the ledger fails");
    }
}

#[test]
fn a_ledger_that_does_not_respond_leaves_the_proposal_as_it_is() {
    let (route, pending) = hybrid(StoredProposalView::Pending(known("b", "2026-03-01T12:15:00Z")));
    let (first, _) = run(&route, None, &[UP, UP, UP]);
    let shown = decided(&route, &first, &pending).status.unwrap();
    let (_, unknown) = hybrid(StoredProposalView::Unknown);
    let kept = decided(&route, &shown, &unknown);
    assert_eq!((kept.steps.len(), reasons(&kept)), (0, Vec::new()));
    assert_eq!(kept.status.unwrap().proposal, shown.proposal);
}
