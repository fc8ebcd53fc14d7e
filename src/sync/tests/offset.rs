//! Offset pagination: Finastra's collaterals, and lists declared by a job.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{SyncHarness, plan, response};
use crate::domain::run_reason::RunReason;
use crate::ledger::RunResult;
use crate::ledger::document::StoredDocument;
use crate::ledger::record::TransactionFilter;
use crate::profile::{Classification, ResponseClass, RetryAfter};
use crate::profile::{EmptyForm, Pagination, Profiles, RecordKind, Stream};
use crate::provider::call::{CallError, Request, Response};
use crate::sync::tests::ScriptedBank;
use crate::sync::{Fetch, Partition, RunReport, SyncPlan};

type ResponseOverride = Box<dyn FnMut(u64, &mut Vec<String>) -> Option<Response> + Send>;

/// A list with offset pagination. The override is called before each response.
struct OffsetList {
    ids: Mutex<Vec<String>>,
    total: bool,
    max_page: u64,
    requested: Mutex<Vec<String>>,
    override_response: Mutex<ResponseOverride>,
}

impl OffsetList {
    fn of(count: usize) -> Self {
        let ids = (0..count).map(|n| format!("COL-{n:04}")).collect();
        Self {
            ids: Mutex::new(ids),
            total: true,
            max_page: 100,
            requested: Mutex::default(),
            override_response: Mutex::new(Box::new(|_, _| None)),
        }
    }

    fn overriding(
        self,
        override_response: impl FnMut(u64, &mut Vec<String>) -> Option<Response> + Send + 'static,
    ) -> Self {
        Self { override_response: Mutex::new(Box::new(override_response)), ..self }
    }

    fn offsets(&self) -> Vec<u64> {
        self.requested.lock().unwrap().iter().filter_map(|offset| offset.parse().ok()).collect()
    }
}

fn body(ids: &[String], total: Option<usize>) -> Response {
    let exact: Value = serde_json::from_str("12.50").unwrap();
    let items: Vec<Value> = ids.iter().map(|id| json!({"id": id, "estimatedValue": exact})).collect();
    let meta = total.map_or(json!({}), |total| json!({"totalCount": total}));
    response(200, &json!({"items": items, "_meta": meta}).to_string())
}

impl Fetch for OffsetList {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>> {
        let value = |name: &str| request.query.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
        let offset = value("startingIndex").or_else(|| value("from"));
        self.requested.lock().unwrap().push(offset.clone().unwrap_or_default());
        let start: u64 = offset.and_then(|offset| offset.parse().ok()).unwrap_or(0);
        let mut ids = self.ids.lock().unwrap();
        if let Some(instead) = (self.override_response.lock().unwrap())(start, &mut ids) {
            return async { Ok(instead) }.boxed();
        }
        let size: u64 = value("pageSize").or_else(|| value("max")).map_or(100, |size| size.parse().unwrap());
        let from = usize::try_from(start).unwrap().min(ids.len());
        let to = (from + usize::try_from(size.min(self.max_page)).unwrap()).min(ids.len());
        let response = body(&ids[from..to], self.total.then_some(ids.len()));
        async { Ok(response) }.boxed()
    }
}

fn of_profile(profile: &str, name: &str, parameters: &[(&str, &str)]) -> SyncPlan {
    let profile = Profiles::builtin().unwrap().get(profile).unwrap();
    let mut stream = Stream::clone(&profile.streams[name]);
    if let Pagination::Offset { size, .. } = &mut stream.pagination {
        *size = 10;
    }
    let given = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let parameters = stream.effective_values(&given, &[("tenant".to_owned(), "t".to_owned())].into()).unwrap();
    SyncPlan {
        provider: profile.id.clone(),
        stream_name: name.into(),
        stream: Arc::new(stream),
        partitions: vec![Partition { name: String::new(), parameters }],
        ..plan(10)
    }
}

/// Finastra's list, kept as documents: what is stored is compared as a whole.
fn collaterals() -> SyncPlan {
    let mut plan = of_profile("finastra", "collaterals", &[]);
    let mut stream = Stream::clone(&plan.stream);
    stream.record = RecordKind::Document;
    plan.stream = Arc::new(stream);
    plan
}

async fn documents(harness: &SyncHarness) -> Vec<StoredDocument> {
    harness.ledger.list_documents(&TransactionFilter::default(), 10_000).await.unwrap()
}

async fn keys(harness: &SyncHarness) -> Vec<String> {
    let mut keys: Vec<_> = documents(harness).await.into_iter().map(|document| document.record.key).collect();
    keys.sort();
    keys
}

async fn run(harness: &SyncHarness, list: &OffsetList, plan: &SyncPlan) -> RunReport {
    harness.run_with(list, plan).await
}

fn outcome(report: &RunReport) -> (RunResult, Option<&'static str>) {
    (report.result, report.reason.map(RunReason::as_str))
}

#[tokio::test]
async fn a_list_is_read_up_to_its_total_and_a_rerun_changes_nothing() {
    let (harness, list) = (SyncHarness::new(ScriptedBank::default()).await, OffsetList::of(35));
    let first = run(&harness, &list, &collaterals()).await;
    assert_eq!(outcome(&first), (RunResult::Succeeded, None));
    assert_eq!((first.counts.fetched, first.counts.inserted, first.counts.pages), (35, 35, 4));
    assert_eq!(list.offsets(), [0, 10, 20, 30], "no page beyond the total is requested");
    let again = run(&harness, &list, &collaterals()).await;
    assert_eq!((again.counts.inserted, again.counts.updated, again.counts.unchanged), (0, 0, 35));
    let stored = documents(&harness).await;
    assert_eq!(stored[0].record.body, r#"{"estimatedValue":12.50,"id":"COL-0000"}"#, "no digit is lost");
    assert_eq!((stored[0].stream.as_str(), stored[0].record.kind.as_str()), ("collaterals", "document"));
}

#[tokio::test]
async fn without_a_total_an_empty_page_is_the_end_and_a_short_one_is_not() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    // The server returns at most seven per page, whatever the requested size.
    let list = OffsetList { total: false, max_page: 7, ..OffsetList::of(20) };
    let report = run(&harness, &list, &collaterals()).await;
    assert_eq!((outcome(&report), report.counts.inserted), ((RunResult::Succeeded, None), 20));
    assert_eq!(list.offsets(), [0, 7, 14, 20]);
    assert!(run(&harness, &OffsetList { total: false, ..OffsetList::of(0) }, &collaterals()).await.empty);
}

#[tokio::test]
async fn a_repeated_last_page_is_detected_as_a_cycle() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let ids: Vec<_> = (0..10).map(|n| format!("COL-{n:04}")).collect();
    let list = OffsetList { total: false, ..OffsetList::of(10) }.overriding(move |_, _| Some(body(&ids, None)));
    assert_eq!(outcome(&run(&harness, &list, &collaterals()).await), (RunResult::Failed, Some("PaginationCycle")));
    assert_eq!(list.offsets(), [0, 10]);
    assert_eq!(keys(&harness).await.len(), 10, "each record is stored once");
}

#[tokio::test]
async fn a_total_that_counts_the_page_does_not_end_the_list() {
    for total in [0, 10, 3] {
        let harness = SyncHarness::new(ScriptedBank::default()).await;
        let list = OffsetList::of(0).overriding(move |offset, _| {
            let ids: Vec<_> = (offset..offset + 10).filter(|n| *n < 20).map(|n| format!("COL-{n:04}")).collect();
            Some(body(&ids, Some(total)))
        });
        let report = run(&harness, &list, &collaterals()).await;
        assert_eq!((outcome(&report), report.counts.inserted), ((RunResult::Succeeded, None), 20), "{total}");
        assert_eq!(list.offsets(), [0, 10, 20], "{total}");
    }
}

#[tokio::test]
async fn what_stands_for_an_empty_list_is_empty_as_far_as_the_stream_says_so() {
    use EmptyForm::{EmptyBody, NoContent, NotFound, NullValue};
    let mut gone = response(404, r#"{"title": "no collaterals"}"#);
    gone.classification.class = ResponseClass::NotFound;
    for (answer, form, otherwise) in [
        (response(204, ""), NoContent, "SchemaDrifted"),
        (response(205, ""), NoContent, "SchemaDrifted"),
        (response(200, " \r\n"), EmptyBody, "SchemaDrifted"),
        (response(200, r#"{"items": null}"#), NullValue, "SchemaDrifted"),
        (gone, NotFound, "NotFound"),
    ] {
        for (empty_as, end) in
            [(vec![form], (RunResult::Succeeded, None)), (vec![], (RunResult::Failed, Some(otherwise)))]
        {
            let harness = SyncHarness::new(ScriptedBank::default()).await;
            let mut plan = collaterals();
            plan.stream = Arc::new(Stream { empty_as, ..Stream::clone(&plan.stream) });
            let given = answer.clone();
            let list = OffsetList::of(0).overriding(move |_, _| Some(given.clone()));
            let report = run(&harness, &list, &plan).await;
            assert_eq!((outcome(&report), report.counts.fetched), (end, 0), "{form:?}");
        }
    }
    // In the middle of a list whose total is known, it is not the end.
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let list = OffsetList::of(30).overriding(|offset, _| (offset == 20).then(|| response(204, "")));
    let report = run(&harness, &list, &collaterals()).await;
    assert_eq!((outcome(&report).1, keys(&harness).await.len()), (Some("TotalNotReached"), 20));
    // An error beside what would be empty is no list.
    let failed = r#"{"status": "failed", "message": "not linked", "items": null}"#;
    let list = OffsetList::of(0).overriding(move |_, _| Some(response(200, failed)));
    assert_eq!(outcome(&run(&harness, &list, &collaterals()).await).1, Some("ErrorInBody"));
}

#[tokio::test]
async fn a_list_that_shrinks_or_grows_during_the_walk_is_read_completely() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let mut done = false;
    let list = OffsetList::of(30).overriding(move |offset, ids| {
        if offset == 10 && !std::mem::replace(&mut done, true) {
            ids.remove(0);
        }
        None
    });
    let report = run(&harness, &list, &collaterals()).await;
    assert_eq!(outcome(&report), (RunResult::Succeeded, None));
    let expected: Vec<_> = (0..30).map(|n| format!("COL-{n:04}")).collect();
    assert_eq!(keys(&harness).await, expected, "COL-0010 shifted to a page already read and was found by the restart");
    assert_eq!(list.offsets(), [0, 10, 0, 10, 20]);

    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let mut grown = false;
    let list = OffsetList::of(30).overriding(move |offset, ids| {
        if offset == 10 && !std::mem::replace(&mut grown, true) {
            ids.insert(0, "COL-NEW".to_owned());
        }
        None
    });
    assert_eq!(outcome(&run(&harness, &list, &collaterals()).await), (RunResult::Succeeded, None));
    assert!(keys(&harness).await.ends_with(&["COL-0029".to_owned()]));
}

#[tokio::test]
async fn fewer_records_than_the_total_are_read_twice_and_reported() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let list = OffsetList::of(0).overriding(|offset, _| {
        let ids: Vec<_> = (offset..offset + 10).filter(|n| *n < 15).map(|n| format!("COL-{n:04}")).collect();
        Some(body(&ids, Some(40)))
    });
    let report = run(&harness, &list, &collaterals()).await;
    assert_eq!(outcome(&report), (RunResult::Incomplete, Some("TotalNotReached")));
    assert_eq!(keys(&harness).await.len(), 15, "what was read is kept");
    assert_eq!(list.offsets(), [0, 10, 15, 0, 10, 15]);
}

#[tokio::test]
async fn an_interrupted_walk_goes_back_a_page_unless_a_total_tells_of_shifts() {
    for (total, asked) in [(false, vec![0, 10, 20, 30, 20, 30]), (true, vec![0, 10, 20, 30, 30, 40])] {
        let harness = SyncHarness::new(ScriptedBank::default()).await;
        let mut broken = false;
        let list = OffsetList { total, ..OffsetList::of(50) }.overriding(move |offset, _| {
            (offset == 30 && !std::mem::replace(&mut broken, true)).then(|| response(503, ""))
        });
        assert_eq!(outcome(&run(&harness, &list, &collaterals()).await), (RunResult::Failed, Some("ProviderError")));
        assert_eq!(outcome(&run(&harness, &list, &collaterals()).await), (RunResult::Succeeded, None));
        assert_eq!(list.offsets()[..6], asked, "total: {total}");
        assert_eq!(keys(&harness).await.len(), 50);
    }
}

fn response_classified_as(status: u16, class: ResponseClass, wait: Option<RetryAfter>) -> Response {
    Response {
        classification: Classification { class, retry_after: wait, ..Classification::default() },
        ..response(status, "{}")
    }
}

/// A list whose page at offset 10 is answered with `class` the first `times` times.
fn failing_page(times: usize, status: u16, class: ResponseClass, wait: Option<RetryAfter>) -> OffsetList {
    let mut left = times;
    OffsetList::of(30).overriding(move |offset, _| {
        (offset == 10 && left > 0).then(|| {
            left -= 1;
            response_classified_as(status, class, wait)
        })
    })
}

#[tokio::test]
async fn each_response_class_maps_to_a_run_result() {
    for (status, class, end) in [
        (401, ResponseClass::Auth, (RunResult::Failed, Some("AuthenticationFailed"))),
        (200, ResponseClass::Auth, (RunResult::Failed, Some("AuthenticationFailed"))),
        (403, ResponseClass::Rights, (RunResult::Failed, Some("AccessDenied"))),
        (404, ResponseClass::NotFound, (RunResult::Failed, Some("NotFound"))),
        (410, ResponseClass::ItemGone, (RunResult::Failed, Some("ItemGone"))),
        (429, ResponseClass::RateLimited, (RunResult::Failed, Some("RateLimited"))),
        (200, ResponseClass::Quota, (RunResult::Failed, Some("QuotaExhausted"))),
        (503, ResponseClass::Retry, (RunResult::Failed, Some("ProviderError"))),
        (200, ResponseClass::Fatal, (RunResult::Failed, Some("ErrorInBody"))),
        (426, ResponseClass::EndOfData, (RunResult::Incomplete, Some("EndOfData"))),
        (400, ResponseClass::RestartWindow, (RunResult::Incomplete, Some("WindowUnstable"))),
        (400, ResponseClass::ResetCursor, (RunResult::Incomplete, Some("WindowUnstable"))),
    ] {
        let harness = SyncHarness::new(ScriptedBank::default()).await;
        let list = failing_page(usize::MAX, status, class, None);
        assert_eq!(outcome(&run(&harness, &list, &collaterals()).await), end, "{status} {class:?}");
        assert_eq!(keys(&harness).await.len(), 10, "the page before it is committed: {class:?}");
    }
}

#[tokio::test]
async fn a_window_that_must_restart_restarts_and_succeeds() {
    for class in [ResponseClass::RestartWindow, ResponseClass::ResetCursor] {
        let harness = SyncHarness::new(ScriptedBank::default()).await;
        let list = failing_page(2, 400, class, None);
        assert_eq!(outcome(&run(&harness, &list, &collaterals()).await), (RunResult::Succeeded, None));
        assert_eq!(list.offsets(), [0, 10, 0, 10, 0, 10, 20]);
        assert_eq!(keys(&harness).await.len(), 30);
    }
}

#[tokio::test]
async fn a_rate_limit_ends_the_run_with_the_providers_retry_delay() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let hour = Some(RetryAfter::Delay(Duration::from_hours(1)));
    let report = run(&harness, &failing_page(1, 429, ResponseClass::RateLimited, hour), &collaterals()).await;
    assert_eq!((outcome(&report).1, report.retry_in), (Some("RateLimited"), Some(Duration::from_hours(1))));
    let midnight = Some(RetryAfter::At("2026-09-11T00:00:00Z".parse().unwrap()));
    let report = run(&harness, &failing_page(1, 200, ResponseClass::Quota, midnight), &collaterals()).await;
    let wait = report.retry_in.unwrap();
    assert!(wait > Duration::from_hours(11) && wait <= Duration::from_hours(12), "{wait:?}");
}

#[tokio::test]
async fn after_end_of_data_the_next_run_starts_at_the_first_page() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let list = failing_page(1, 426, ResponseClass::EndOfData, None);
    run(&harness, &list, &collaterals()).await;
    run(&harness, &list, &collaterals()).await;
    assert_eq!(list.offsets(), [0, 10, 0, 10, 20]);
}

#[tokio::test]
async fn a_job_can_declare_the_list_of_a_generic_provider() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let parameters = [
        ("path", "v1/things"),
        ("records", "/items"),
        ("key", "/id"),
        ("offset", "from"),
        ("limit", "max"),
        ("total", ""),
    ];
    let list = OffsetList { total: false, ..OffsetList::of(23) };
    let report = run(&harness, &list, &of_profile("generic", "documents-by-offset", &parameters)).await;
    assert_eq!((outcome(&report), report.counts.inserted), ((RunResult::Succeeded, None), 23));
    assert_eq!(list.offsets(), [0, 10, 20, 23]);
    assert_eq!(documents(&harness).await[0].record.kind.as_str(), "document");

    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let whole = [("path", "things"), ("records", "/items")];
    let report = run(&harness, &OffsetList::of(9), &of_profile("generic", "documents", &whole)).await;
    assert_eq!((report.counts.inserted, report.counts.pages), (9, 1));
}

#[tokio::test]
async fn documents_are_masked_and_get_derived_keys_without_an_id() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let page = r#"{"items": [
        {"id": "20260901000001", "account": "0131883461", "opened": "2026-09-01", "at": "2026-09-01T10:00:00Z",
         "ref": "6f1c7a52-8a0e-4f4e-9a58-1234567890ab", "value": "12345678.90", "n": 123456789012, "amount": 123456789012, "0131883461": {"open": true}, "note": "TRF 0131883461"},
        {"note": "twin"}, {"note": "twin"}, "no object"], "_meta": {"totalCount": 4}}"#;
    let list = OffsetList::of(0).overriding(move |_, _| Some(response(200, page)));
    let mut plan = collaterals();
    plan.dead_letter_budget_percent = 50;
    let report = run(&harness, &list, &plan).await;
    assert_eq!((report.counts.inserted, report.counts.rejected), (3, 1));
    let stored = documents(&harness).await;
    assert_eq!(
        stored[0].record.body,
        r#"{"****3461":{"open":true},"account":"****3461","amount":123456789012,"at":"2026-09-01T10:00:00Z","id":"20260901000001","n":"****9012","note":"TRF ****3461","opened":"2026-09-01","ref":"6f1c7a52-8a0e-4f4e-9a58-1234567890ab","value":"12345678.90"}"#
    );
    assert_eq!(run(&harness, &list, &plan).await.counts.unchanged, 3, "derived keys are stable");
}
