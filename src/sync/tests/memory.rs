//! Pages that would cost more memory than a page may take.

use super::*;
use crate::domain::rejection_reason::RejectionReason;
use crate::domain::run_reason::RunReason;
use crate::sync::page::MAX_RECORD_BYTES;

/// A bank whose first page is `body`.
async fn harness_with(body: String) -> SyncHarness {
    let bank = ScriptedBank::with(1);
    bank.configure(|config| config.override_response = Some(Box::new(move |_, _| Ok(response(200, &body)))));
    SyncHarness::new(bank).await
}

#[tokio::test]
async fn a_page_of_too_many_small_records_ends_the_run_before_they_are_parsed() {
    let harness = harness_with(format!(r#"{{"data": [{}]}}"#, vec!["{}"; 20_000].join(","))).await;
    let mut plan = plan(10);
    plan.dead_letter_budget_percent = 100;
    let report = harness.run(&plan).await;
    assert_eq!((report.result, report.reason), (RunResult::Failed, Some(RunReason::AnswerTooLarge)));
    assert_eq!((report.counts.fetched, report.counts.rejected), (0, 0));
}

#[tokio::test]
async fn records_rejected_beyond_the_budget_are_counted_and_not_kept() {
    let harness = harness_with(format!(r#"{{"data": [{}]}}"#, vec!["{}"; 5_000].join(","))).await;
    let report = harness.run(&plan(10)).await;
    assert_eq!((report.result, report.reason), (RunResult::Failed, Some(RunReason::SchemaDrifted)));
    assert_eq!((report.counts.fetched, report.counts.rejected), (5_000, 5_000));
}

#[tokio::test]
async fn a_record_too_large_to_be_parsed_is_a_dead_letter_and_the_others_are_stored() {
    let bank = ScriptedBank::with(20);
    let huge = "x".repeat(MAX_RECORD_BYTES);
    bank.configure(|config| {
        config.override_response = Some(Box::new(move |_, mut body| {
            body["data"][3]["narration"] = serde_json::json!(huge);
            Ok(response(200, &body.to_string()))
        }));
    });
    let harness = SyncHarness::new(bank).await;
    let report = harness.run(&plan(20)).await;
    assert_eq!((report.result, report.counts.inserted, report.counts.rejected), (RunResult::Succeeded, 19, 1));
    let rejected = crate::sync::record::dead_letter_of_text("{\"a\": 1}", 3, 0);
    assert_eq!((rejected.reason, rejected.sample.as_str()), (RejectionReason::RecordTooLarge, "object"));
}
