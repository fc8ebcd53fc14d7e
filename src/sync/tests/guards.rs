//! What a walk does when the provider misbehaves.

use serde_json::{Value, json};

use super::*;
use crate::provider::call::{Answer, CallError};
use crate::sync::RunReason;

async fn tricked(
    count: usize,
    trick: impl Fn(u64, Value) -> Result<Answer, CallError> + Send + Sync + 'static,
) -> World {
    let bank = Bank::with(count);
    bank.configure(|config| config.trick = Some(Box::new(trick)));
    World::new(bank).await
}

#[expect(clippy::unnecessary_wraps, reason = "a trick may also give an error")]
fn ok(body: &Value) -> Result<Answer, CallError> {
    Ok(answer(200, &body.to_string()))
}

async fn outcome(world: &World, plan: &SyncPlan) -> (RunResult, Option<RunReason>, u64) {
    let report = world.run(plan).await;
    (report.result, report.reason, report.counts.inserted)
}

#[tokio::test]
async fn a_failure_between_pages_keeps_what_is_in_and_the_next_run_goes_on_from_there() {
    let world = tricked(50, |page, body| if page == 4 { Ok(answer(503, "<html>")) } else { ok(&body) }).await;
    let plan = plan(10);
    assert_eq!(outcome(&world, &plan).await, (RunResult::Failed, Some(RunReason::ProviderError), 30));
    assert_eq!(world.cursor(&plan).await, (None, true), "the cursor waits for the window's end");
    world.bank.configure(|config| config.trick = None);
    let report = world.run(&plan).await;
    assert_eq!((report.result, report.counts.inserted), (RunResult::Succeeded, 20));
    assert_eq!(world.table().await, world.bank.table());
    assert_eq!(world.bank.pages_served(), 4 + 3 + 1, "one page of overlap, then the window up to now");
}

#[tokio::test]
async fn a_page_that_is_too_large_ends_the_run_and_those_before_it_are_in() {
    let limit = crate::provider::call::MAX_BODY;
    let world =
        tricked(50, move |page, body| if page == 3 { Err(CallError::TooLarge { limit }) } else { ok(&body) }).await;
    let plan = plan(10);
    assert_eq!(outcome(&world, &plan).await, (RunResult::Failed, Some(RunReason::AnswerTooLarge), 20));
    assert_eq!(world.cursor(&plan).await, (None, true), "the next run goes on from there");
    assert_eq!(world.bank.pages_served(), 3, "it would be as large again");
}

#[tokio::test]
async fn a_next_page_that_leads_back_is_a_cycle() {
    for target in [1, 2, 3] {
        let trick = move |page, mut body: Value| {
            if page == 3 {
                body["meta"]["next"] = json!(format!("?page={target}"));
            }
            ok(&body)
        };
        let world = tricked(50, trick).await;
        let plan = plan(10);
        assert_eq!(outcome(&world, &plan).await, (RunResult::Failed, Some(RunReason::PaginationCycle), 20));
        assert_eq!(world.cursor(&plan).await, (None, false), "the next run starts the window over");
        assert!(world.bank.pages_served() < 5);
    }
}

#[tokio::test]
async fn a_server_that_answers_every_page_with_its_last_is_a_cycle() {
    let last = std::sync::Mutex::new(Value::Null);
    let trick = move |page: u64, mut body: Value| {
        let mut last = last.lock().unwrap();
        if page >= 3 {
            body["data"] = last.clone();
        }
        *last = body["data"].clone();
        body["meta"]["next"] = json!(page + 1);
        ok(&body)
    };
    let world = tricked(20, trick).await;
    assert_eq!(outcome(&world, &plan(10)).await, (RunResult::Failed, Some(RunReason::PaginationCycle), 20));
}

#[tokio::test]
async fn empty_pages_with_a_next_one_are_borne_with_but_not_for_ever() {
    let hollow = |until: u64| {
        move |page: u64, mut body: Value| {
            if page < until {
                body["data"] = json!([]);
                body["meta"] = json!({"next": page + 1});
            } else {
                body["meta"] = json!({});
            }
            ok(&body)
        }
    };
    let world = tricked(5, hollow(10)).await;
    assert_eq!(outcome(&world, &plan(10)).await.0, RunResult::Succeeded);
    let world = tricked(5, hollow(20)).await;
    assert_eq!(outcome(&world, &plan(10)).await, (RunResult::Failed, Some(RunReason::TooManyEmptyPages), 0));
}

#[tokio::test]
async fn a_capped_run_is_incomplete_and_the_next_goes_on() {
    let world = World::new(Bank::with(50)).await;
    let mut plan = plan(10);
    plan.limits.max_pages = 2;
    let mut results = Vec::new();
    for _ in 0..10 {
        let report = world.run(&plan).await;
        results.push(report.result);
        if report.result == RunResult::Succeeded {
            break;
        }
        assert_eq!(report.reason, Some(RunReason::PageCapReached));
    }
    assert_eq!(results.last(), Some(&RunResult::Succeeded));
    assert!(results.len() > 2);
    assert_eq!(world.table().await, world.bank.table());
}

#[tokio::test]
async fn few_bad_records_are_kept_aside_and_many_stop_the_page() {
    for (bad, result) in [(1, RunResult::Succeeded), (2, RunResult::Failed)] {
        let trick = move |page: u64, mut body: Value| {
            if page == 2 {
                for (n, wrong) in [json!(10.5), json!("10")].iter().take(bad).enumerate() {
                    body["data"][n]["amount"] = wrong.clone();
                }
            }
            ok(&body)
        };
        let world = tricked(30, trick).await;
        let report = world.run(&plan(10)).await;
        assert_eq!((report.result, report.counts.rejected), (result, bad as u64));
        let letters = world.ledger.count_dead_letters(&TransactionFilter::default()).await.unwrap();
        if result == RunResult::Succeeded {
            assert_eq!((report.counts.inserted, letters), (29, 1));
        } else {
            assert_eq!((report.reason, report.counts.inserted, letters), (Some(RunReason::SchemaDrifted), 10, 0));
        }
    }
}

#[tokio::test]
async fn every_kind_of_bad_record_has_its_word() {
    let cases = [
        ("amount", json!(10.5), "AmountNotInteger"),
        ("amount", json!(null), "AmountMissing"),
        ("amount", json!("1000"), "AmountNotInteger"),
        ("amount", json!(-5), "AmountSigned"),
        ("type", json!(null), "DirectionMissing"),
        ("type", json!("transfer"), "DirectionUnknown"),
        ("date", json!(null), "TimeMissing"),
        ("date", json!("soon"), "TimeInvalid"),
        ("date", json!(1_700_000_000), "TimeInvalid"),
        ("date", json!("9999-01-01"), "TimeOutOfRange"),
        ("id", json!({}), "KeyInvalid"),
    ];
    let stream = stream(10);
    let account = crate::sync::record::AccountInfo {
        token: "t".into(),
        shown: "****".into(),
        currency: crate::sync::record::read_currency("ngn"),
    };
    let mask = MaskRules::default();
    let reading =
        crate::sync::record::Reading { stream: &stream, account: &account, mask: &mask, grain: Granularity::Day };
    let good = json!({"id": " a ", "amount": 100, "type": "debit", "date": "2026-09-01", "narration": "x"});
    assert_eq!(reading.row(&good).unwrap().key, "a");
    for (field, value, word) in cases {
        let mut bad = good.clone();
        bad[field] = value;
        assert_eq!(reading.row(&bad).unwrap_err().reason, word, "{bad}");
    }
    assert_eq!(reading.row(&json!([1])).unwrap_err().reason, "NotAnObject");
    let letter = crate::sync::record::dead_letter(&good, reading.row(&json!(1)).unwrap_err(), 0, 0);
    assert_eq!(letter.sample, "{amount: number, date: string, id: string, narration: string, type: string}");
}

#[tokio::test]
async fn an_unknown_currency_stops_the_run_before_a_row_is_guessed() {
    let bank = Bank::with(5);
    bank.configure(|config| config.currency = Some("QQQ"));
    let world = World::new(bank).await;
    assert_eq!(outcome(&world, &plan(10)).await, (RunResult::Failed, Some(RunReason::CurrencyUnknown), 0));
    assert_eq!(world.bank.pages_served(), 0);
}

#[tokio::test]
async fn duplicate_ids_in_a_page_keep_the_last_and_are_counted() {
    let trick = |_, mut body: Value| {
        body["data"][0]["id"] = body["data"][1]["id"].clone();
        ok(&body)
    };
    let world = tricked(5, trick).await;
    let report = world.run(&plan(10)).await;
    assert_eq!((report.duplicates, report.counts.inserted, report.counts.fetched), (1, 4, 5));
}

#[tokio::test]
async fn honest_twins_without_an_id_stay_two_over_pages_and_runs() {
    let bank = Bank::with(0);
    for n in 0..6 {
        bank.push(["", " "][n % 2], 500, "debit", "2026-09-09", "coffee");
    }
    let world = World::new(bank).await;
    let plan = plan(2);
    assert_eq!(world.run(&plan).await.counts.inserted, 6);
    assert_eq!(world.run(&plan).await.counts.inserted, 0);
    assert!(world.rows().await.iter().all(|row| row.record.key_quality == KeyQuality::Derived));
}

#[tokio::test]
async fn a_record_that_vanishes_before_the_walk_reaches_it_takes_no_other_with_it() {
    let bank = Bank::with(50);
    bank.configure(|config| {
        config.meanwhile = Some((
            3,
            Box::new(|rows| {
                rows.remove(0);
            }),
        ));
    });
    let world = World::new(bank).await;
    let report = world.run(&plan(10)).await;
    assert_eq!(report.result, RunResult::Succeeded);
    let (ours, theirs) = (world.table().await, world.bank.table());
    assert!(theirs.iter().all(|row| ours.contains(row)), "the list moved up, and no row fell into the gap");
}

#[tokio::test]
async fn a_list_that_never_holds_still_is_incomplete_not_succeeded() {
    let shrinking = std::sync::atomic::AtomicU64::new(1000);
    let trick = move |_, mut body: Value| {
        body["meta"]["total"] = json!(shrinking.fetch_sub(1, std::sync::atomic::Ordering::Relaxed));
        ok(&body)
    };
    let world = tricked(50, trick).await;
    let report = world.run(&plan(10)).await;
    assert_eq!((report.result, report.reason), (RunResult::Incomplete, Some(RunReason::WindowUnstable)));
}

#[tokio::test]
async fn fewer_records_than_announced_are_read_twice_and_then_said() {
    let trick = |_, mut body: Value| {
        body["meta"]["total"] = json!(99);
        ok(&body)
    };
    let world = tricked(15, trick).await;
    let report = world.run(&plan(10)).await;
    assert!(report.result == RunResult::Succeeded && report.short_of_total);
    assert_eq!(world.bank.pages_served(), 4);
}

#[tokio::test]
async fn a_run_out_of_time_or_asked_to_stop_ends_between_pages() {
    let world = World::new(Bank::with(50)).await;
    let mut timed = plan(10);
    timed.run_timeout = Duration::ZERO;
    assert_eq!(outcome(&world, &timed).await, (RunResult::Failed, Some(RunReason::RunTimeout), 0));
    world.cancel.cancel();
    assert_eq!(outcome(&world, &plan(10)).await, (RunResult::Cancelled, Some(RunReason::StopRequested), 0));
    assert!(world.rows().await.is_empty());
}

#[tokio::test]
async fn an_empty_answer_is_a_good_run_that_says_so() {
    let world = World::new(Bank::with(0)).await;
    let report = world.run(&plan(10)).await;
    assert!(report.result == RunResult::Succeeded && report.empty);
    assert_eq!((report.counts.pages, world.cursor(&plan(10)).await), (1, (None, false)));
}
