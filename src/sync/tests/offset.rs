//! Walks over a list that is read from a place on: Finastra's collaterals, and lists that a job describes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{World, answer, plan};
use crate::ledger::document::StoredDocument;
use crate::ledger::record::TransactionFilter;
use crate::ledger::{Ledger, RunResult};
use crate::provider::call::{Answer, CallError, Request};
use crate::provider::classify::{Class, Reading, Wait};
use crate::provider::profile::{Pagination, Profiles, Stream};
use crate::sync::tests::Bank;
use crate::sync::{Fetch, Partition, RunReason, RunReport, SyncPlan};

type Trick = Box<dyn FnMut(u64, &mut Vec<String>) -> Option<Answer> + Send>;

/// A list that is read from a place on. The trick comes before each answer.
struct List {
    ids: Mutex<Vec<String>>,
    total: bool,
    most: u64,
    asked: Mutex<Vec<String>>,
    trick: Mutex<Trick>,
}

impl List {
    fn of(count: usize) -> Self {
        let ids = (0..count).map(|n| format!("COL-{n:04}")).collect();
        Self {
            ids: Mutex::new(ids),
            total: true,
            most: 100,
            asked: Mutex::default(),
            trick: Mutex::new(Box::new(|_, _| None)),
        }
    }

    fn tricky(self, trick: impl FnMut(u64, &mut Vec<String>) -> Option<Answer> + Send + 'static) -> Self {
        Self { trick: Mutex::new(Box::new(trick)), ..self }
    }

    fn places(&self) -> Vec<u64> {
        self.asked.lock().unwrap().iter().filter_map(|asked| asked.parse().ok()).collect()
    }
}

fn body(ids: &[String], total: Option<usize>) -> Answer {
    let exact: Value = serde_json::from_str("12.50").unwrap();
    let items: Vec<Value> = ids.iter().map(|id| json!({"id": id, "estimatedValue": exact})).collect();
    let meta = total.map_or(json!({}), |total| json!({"totalCount": total}));
    answer(200, &json!({"items": items, "_meta": meta}).to_string())
}

impl Fetch for List {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Answer, CallError>> {
        let value = |name: &str| request.query.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
        let place = value("startingIndex").or_else(|| value("from"));
        self.asked.lock().unwrap().push(place.clone().unwrap_or_default());
        let start: u64 = place.and_then(|place| place.parse().ok()).unwrap_or(0);
        let mut ids = self.ids.lock().unwrap();
        if let Some(instead) = (self.trick.lock().unwrap())(start, &mut ids) {
            return async { Ok(instead) }.boxed();
        }
        let size: u64 = value("pageSize").or_else(|| value("max")).map_or(100, |size| size.parse().unwrap());
        let from = usize::try_from(start).unwrap().min(ids.len());
        let to = (from + usize::try_from(size.min(self.most)).unwrap()).min(ids.len());
        let answer = body(&ids[from..to], self.total.then_some(ids.len()));
        async { Ok(answer) }.boxed()
    }
}

fn of_profile(profile: &str, name: &str, parameters: &[(&str, &str)]) -> SyncPlan {
    let profile = Profiles::builtin().unwrap().get(profile).unwrap();
    let mut stream = Stream::clone(&profile.streams[name]);
    if let Pagination::Offset { size, .. } = &mut stream.pagination {
        *size = 10;
    }
    let given = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let parameters = stream.values(&given, &[("tenant".to_owned(), "t".to_owned())].into()).unwrap();
    SyncPlan {
        provider: profile.id.clone(),
        stream_name: name.into(),
        stream: Arc::new(stream),
        partitions: vec![Partition { name: String::new(), parameters }],
        ..plan(10)
    }
}

fn collaterals() -> SyncPlan {
    of_profile("finastra", "collaterals", &[])
}

async fn documents(world: &World) -> Vec<StoredDocument> {
    world.ledger.list_documents(&TransactionFilter::default(), 10_000).await.unwrap()
}

async fn keys(world: &World) -> Vec<String> {
    let mut keys: Vec<_> = documents(world).await.into_iter().map(|document| document.record.key).collect();
    keys.sort();
    keys
}

async fn run(world: &World, list: &List, plan: &SyncPlan) -> RunReport {
    world.run_with(list, plan).await
}

fn ended(report: &RunReport) -> (RunResult, Option<&'static str>) {
    (report.result, report.reason.map(RunReason::as_str))
}

#[tokio::test]
async fn a_list_is_read_to_the_count_it_tells_and_again_without_a_change() {
    let (world, list) = (World::new(Bank::default()).await, List::of(35));
    let first = run(&world, &list, &collaterals()).await;
    assert_eq!(ended(&first), (RunResult::Succeeded, None));
    assert_eq!((first.counts.fetched, first.counts.inserted, first.counts.pages), (35, 35, 4));
    assert_eq!(list.places(), [0, 10, 20, 30], "no page behind the count is asked for");
    let again = run(&world, &list, &collaterals()).await;
    assert_eq!((again.counts.inserted, again.counts.updated, again.counts.unchanged), (0, 0, 35));
    let stored = documents(&world).await;
    assert_eq!(stored[0].record.body, r#"{"estimatedValue":12.50,"id":"COL-0000"}"#, "no digit is lost");
    assert_eq!((stored[0].stream.as_str(), stored[0].record.kind.as_str()), ("collaterals", "collateral"));
}

#[tokio::test]
async fn without_a_count_an_empty_page_is_the_end_and_a_short_one_is_not() {
    let world = World::new(Bank::default()).await;
    // The server gives seven at a time, whatever it is asked for.
    let list = List { total: false, most: 7, ..List::of(20) };
    let report = run(&world, &list, &collaterals()).await;
    assert_eq!((ended(&report), report.counts.inserted), ((RunResult::Succeeded, None), 20));
    assert_eq!(list.places(), [0, 7, 14, 20]);
    assert!(run(&world, &List { total: false, ..List::of(0) }, &collaterals()).await.empty);
}

#[tokio::test]
async fn a_server_that_repeats_its_last_page_is_noticed() {
    let world = World::new(Bank::default()).await;
    let ids: Vec<_> = (0..10).map(|n| format!("COL-{n:04}")).collect();
    let list = List { total: false, ..List::of(10) }.tricky(move |_, _| Some(body(&ids, None)));
    assert_eq!(ended(&run(&world, &list, &collaterals()).await), (RunResult::Failed, Some("PaginationCycle")));
    assert_eq!(list.places(), [0, 10]);
    assert_eq!(keys(&world).await.len(), 10, "what was read once is in once");
}

#[tokio::test]
async fn a_list_that_shrinks_or_grows_under_the_walk_is_read_whole() {
    let world = World::new(Bank::default()).await;
    let mut done = false;
    let list = List::of(30).tricky(move |place, ids| {
        if place == 10 && !std::mem::replace(&mut done, true) {
            ids.remove(0);
        }
        None
    });
    let report = run(&world, &list, &collaterals()).await;
    assert_eq!(ended(&report), (RunResult::Succeeded, None));
    let expected: Vec<_> = (0..30).map(|n| format!("COL-{n:04}")).collect();
    assert_eq!(keys(&world).await, expected, "COL-0010 moved behind the walk and was found by starting over");
    assert_eq!(list.places(), [0, 10, 0, 10, 20]);

    let world = World::new(Bank::default()).await;
    let mut grown = false;
    let list = List::of(30).tricky(move |place, ids| {
        if place == 10 && !std::mem::replace(&mut grown, true) {
            ids.insert(0, "COL-NEW".to_owned());
        }
        None
    });
    assert_eq!(ended(&run(&world, &list, &collaterals()).await), (RunResult::Succeeded, None));
    assert!(keys(&world).await.ends_with(&["COL-0029".to_owned()]));
}

#[tokio::test]
async fn fewer_records_than_announced_are_read_twice_and_then_said() {
    let world = World::new(Bank::default()).await;
    let list = List::of(0).tricky(|place, _| {
        let ids: Vec<_> = (place..place + 10).filter(|n| *n < 15).map(|n| format!("COL-{n:04}")).collect();
        Some(body(&ids, Some(40)))
    });
    let report = run(&world, &list, &collaterals()).await;
    assert_eq!((report.result, report.short_of_total), (RunResult::Succeeded, true));
    assert_eq!(list.places(), [0, 10, 15, 0, 10, 15]);
}

#[tokio::test]
async fn a_walk_that_was_broken_off_goes_on_a_page_before_its_place() {
    let world = World::new(Bank::default()).await;
    let mut broken = false;
    let list = List::of(50)
        .tricky(move |place, _| (place == 30 && !std::mem::replace(&mut broken, true)).then(|| answer(503, "")));
    assert_eq!(ended(&run(&world, &list, &collaterals()).await), (RunResult::Failed, Some("ProviderError")));
    assert_eq!(ended(&run(&world, &list, &collaterals()).await), (RunResult::Succeeded, None));
    assert_eq!(list.places()[..6], [0, 10, 20, 30, 20, 30]);
    assert_eq!(keys(&world).await.len(), 50);
}

fn read_as(status: u16, class: Class, wait: Option<Wait>) -> Answer {
    Answer { reading: Reading { class, wait, ..Reading::default() }, ..answer(status, "{}") }
}

/// A list whose page at 10 is answered otherwise, so often.
fn disturbed(times: usize, status: u16, class: Class, wait: Option<Wait>) -> List {
    let mut left = times;
    List::of(30).tricky(move |place, _| {
        (place == 10 && left > 0).then(|| {
            left -= 1;
            read_as(status, class, wait)
        })
    })
}

#[tokio::test]
async fn each_class_of_answer_ends_a_run_in_its_own_way() {
    for (status, class, end) in [
        (401, Class::Auth, (RunResult::Failed, Some("AuthenticationFailed"))),
        (200, Class::Auth, (RunResult::Failed, Some("AuthenticationFailed"))),
        (403, Class::Rights, (RunResult::Failed, Some("AccessDenied"))),
        (404, Class::NotFound, (RunResult::Failed, Some("NotFound"))),
        (410, Class::ItemGone, (RunResult::Failed, Some("ItemGone"))),
        (429, Class::RateLimited, (RunResult::Failed, Some("RateLimited"))),
        (200, Class::Quota, (RunResult::Failed, Some("QuotaExhausted"))),
        (503, Class::Retry, (RunResult::Failed, Some("ProviderError"))),
        (200, Class::Fatal, (RunResult::Failed, Some("RequestRejected"))),
        (426, Class::EndOfData, (RunResult::Incomplete, Some("EndOfData"))),
        (400, Class::RestartWindow, (RunResult::Incomplete, Some("WindowUnstable"))),
        (400, Class::ResetCursor, (RunResult::Incomplete, Some("WindowUnstable"))),
    ] {
        let world = World::new(Bank::default()).await;
        let list = disturbed(usize::MAX, status, class, None);
        assert_eq!(ended(&run(&world, &list, &collaterals()).await), end, "{status} {class:?}");
        assert_eq!(keys(&world).await.len(), 10, "the page before it is in: {class:?}");
    }
}

#[tokio::test]
async fn a_window_that_must_be_begun_again_is_and_then_succeeds() {
    for class in [Class::RestartWindow, Class::ResetCursor] {
        let world = World::new(Bank::default()).await;
        let list = disturbed(2, 400, class, None);
        assert_eq!(ended(&run(&world, &list, &collaterals()).await), (RunResult::Succeeded, None));
        assert_eq!(list.places(), [0, 10, 0, 10, 0, 10, 20]);
        assert_eq!(keys(&world).await.len(), 30);
    }
}

#[tokio::test]
async fn a_limit_parks_the_run_for_as_long_as_the_provider_asks() {
    let world = World::new(Bank::default()).await;
    let hour = Some(Wait::For(Duration::from_hours(1)));
    let report = run(&world, &disturbed(1, 429, Class::RateLimited, hour), &collaterals()).await;
    assert_eq!((ended(&report).1, report.retry_in), (Some("RateLimited"), Some(Duration::from_hours(1))));
    let midnight = Some(Wait::Until("2026-09-11T00:00:00Z".parse().unwrap()));
    let report = run(&world, &disturbed(1, 200, Class::Quota, midnight), &collaterals()).await;
    let wait = report.retry_in.unwrap();
    assert!(wait > Duration::from_hours(11) && wait <= Duration::from_hours(12), "{wait:?}");
}

#[tokio::test]
async fn after_the_end_of_what_the_plan_shows_the_next_run_begins_at_the_front() {
    let world = World::new(Bank::default()).await;
    let list = disturbed(1, 426, Class::EndOfData, None);
    run(&world, &list, &collaterals()).await;
    run(&world, &list, &collaterals()).await;
    assert_eq!(list.places(), [0, 10, 0, 10, 20]);
}

#[tokio::test]
async fn a_job_describes_the_list_of_a_generic_provider_itself() {
    let world = World::new(Bank::default()).await;
    let parameters = [
        ("path", "v1/things"),
        ("records", "/items"),
        ("key", "/id"),
        ("offset", "from"),
        ("limit", "max"),
        ("total", ""),
    ];
    let list = List { total: false, ..List::of(23) };
    let report = run(&world, &list, &of_profile("generic", "documents-by-offset", &parameters)).await;
    assert_eq!((ended(&report), report.counts.inserted), ((RunResult::Succeeded, None), 23));
    assert_eq!(list.places(), [0, 10, 20, 23]);
    assert_eq!(documents(&world).await[0].record.kind.as_str(), "document");

    let world = World::new(Bank::default()).await;
    let whole = [("path", "things"), ("records", "/items")];
    let report = run(&world, &List::of(9), &of_profile("generic", "documents", &whole)).await;
    assert_eq!((report.counts.inserted, report.counts.pages), (9, 1));
}

#[tokio::test]
async fn a_record_kept_whole_is_masked_and_one_without_an_id_is_told_apart() {
    let world = World::new(Bank::default()).await;
    let page = r#"{"items": [
        {"id": "20260901000001", "account": "0131883461", "opened": "2026-09-01", "at": "2026-09-01T10:00:00Z",
         "ref": "6f1c7a52-8a0e-4f4e-9a58-1234567890ab", "value": "12345678.90", "n": 123456789012, "note": "TRF 0131883461"},
        {"note": "twin"}, {"note": "twin"}, "no object"], "_meta": {"totalCount": 4}}"#;
    let list = List::of(0).tricky(move |_, _| Some(answer(200, page)));
    let mut plan = collaterals();
    plan.dead_letter_budget_percent = 50;
    let report = run(&world, &list, &plan).await;
    assert_eq!((report.counts.inserted, report.counts.rejected), (3, 1));
    let stored = documents(&world).await;
    assert_eq!(
        stored[0].record.body,
        r#"{"account":"****3461","at":"2026-09-01T10:00:00Z","id":"20260901000001","n":123456789012,"note":"TRF ****3461","opened":"2026-09-01","ref":"6f1c7a52-8a0e-4f4e-9a58-1234567890ab","value":"12345678.90"}"#
    );
    assert_eq!(run(&world, &list, &plan).await.counts.unchanged, 3, "twins are recognised again");
}
