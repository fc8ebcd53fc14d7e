//! The ends of runs: events of streaks and thresholds, resyncs, runs that go on in another process, and runs that are lost.

use super::*;
use crate::domain::sla::SlaLimits;
use crate::ledger::outbox::EventFilter;
use crate::settings::sync_plan::ResyncPlan;
use crate::sync::tests::{partition, response};

/// The types of the events of all runs so far, in their order, but for those of rows.
async fn events(fixture: &Fixture) -> Vec<String> {
    let stored = fixture.ledger.list_events(&EventFilter::default(), 1_000).await.unwrap();
    let types = stored.into_iter().map(|event| event.event_type);
    types.filter(|event| event.starts_with("fetch.") || event.starts_with("pipeline.")).collect()
}

fn failing_bank() -> Arc<ScriptedBank> {
    let bank = Arc::new(ScriptedBank::with(5));
    bank.configure(|config| config.override_response = Some(Box::new(|_, _| Ok(response(500, "")))));
    bank
}

#[tokio::test]
async fn each_run_tells_its_start_and_end_and_a_streak_is_escalated_at_its_threshold() {
    let fixture = fixture().await;
    let sla = SlaLimits { failure_streak: 2, ..SlaLimits::default() };
    let plan = Arc::new(SyncPlan { sla, ..(*job("books")).clone() });
    let broken = failing_bank();
    fixture.run(&plan, &broken).await;
    assert_eq!(events(&fixture).await, ["fetch.started", "fetch.failed", "pipeline.completed"]);
    fixture.run(&plan, &broken).await;
    fixture.run(&plan, &Arc::new(ScriptedBank::with(5))).await;
    assert_eq!(
        events(&fixture).await[3..],
        [
            "fetch.started",
            "fetch.failed",
            "fetch.failure_streak",
            "pipeline.completed",
            "fetch.started",
            "fetch.completed",
            "pipeline.completed"
        ]
    );
    let stored = fixture.ledger.list_events(&EventFilter::default(), 1_000).await.unwrap();
    let streak = stored.iter().find(|event| event.event_type == "fetch.failure_streak").unwrap();
    assert!(streak.payload.contains("\"failures\":2"), "{}", streak.payload);
}

#[tokio::test]
async fn an_empty_run_is_told_each_time_and_a_slow_fetch_too() {
    let fixture = fixture().await;
    let sla = SlaLimits { fetch_duration: Duration::ZERO, ..SlaLimits::default() };
    let plan = Arc::new(SyncPlan { sla, ..(*job("books")).clone() });
    for _ in 0..2 {
        let view = fixture.run(&plan, &Arc::new(ScriptedBank::with(0))).await;
        assert_eq!(view.last[0].failure.slow, 1, "the job's status and event say so after a restart too");
    }
    let told = events(&fixture).await;
    let count = |wanted: &str| told.iter().filter(|event| *event == wanted).count();
    assert_eq!((count("fetch.zero_transactions"), count("fetch.latency_sla_exceeded")), (2, 2), "{told:?}");
    let text = fixture.metrics.render().unwrap();
    assert!(text.contains("busbar_sync_slow_fetches_total{namespace=\"team\",syncjob=\"books\"} 2"), "{text}");
    assert!(text.contains("busbar_sync_empty_streak{namespace=\"team\",syncjob=\"books\"} 2"), "{text}");
}

#[tokio::test]
async fn a_partition_that_fails_has_a_streak_of_its_own() {
    let fixture = fixture().await;
    let partitions = vec![partition("a", "acc-000000001"), partition("b", "acc-000000002")];
    let plan = Arc::new(SyncPlan { partitions, ..(*job("books")).clone() });
    let bank = Arc::new(ScriptedBank::with(5));
    let failing = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let pages = Arc::clone(&failing);
    bank.configure(|config| {
        // Every second request for a page: that of the second partition.
        config.override_response = Some(Box::new(move |_, body| match pages.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Ok(response(200, &body.to_string())),
            _ => Ok(response(404, "")),
        }));
    });
    for _ in 0..2 {
        fixture.run(&plan, &bank).await;
    }
    let view = fixture.pool.view(&plan.job, 10).await.unwrap();
    let streaks: Vec<_> = view.streaks.iter().map(|streak| (streak.name.as_str(), streak.failure_streak)).collect();
    assert_eq!(streaks, [("b", 2)]);
    assert_eq!((view.worst_failure_streak(2), view.failure_streak), (2, 2));
}

#[tokio::test]
async fn a_resync_that_fails_is_counted_apart_and_one_that_ends_is_done() {
    let fixture = fixture().await;
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let resync = ResyncPlan {
        id: "may".into(),
        from: at("2026-09-01T00:00:00Z"),
        to: at("2026-09-05T00:00:00Z"),
        partitions: Vec::new(),
    };
    let plan = Arc::new(SyncPlan { resync: Some(resync), ..(*job("books")).clone() });
    let request = || RunRequest { trigger: RunTrigger::Resync, slot: None, ..run_request() };
    for bank in [failing_bank(), failing_bank(), Arc::new(ScriptedBank::with(5))] {
        assert_eq!(fixture.pool.start(plan.clone(), bank, request()), StartOutcome::Accepted);
        fixture.next_enqueued().await;
        let view = fixture.pool.view(&plan.job, 10).await.unwrap();
        assert_eq!((view.failure_streak, view.streaks.len(), view.last_success), (0, 0, None));
        assert_eq!(view.last[0].failure.resync.as_deref(), Some("may"), "known after a restart");
        let attempts = view.resync.as_ref().unwrap();
        let failed = view.last.iter().filter(|run| run.result == Some(RunResult::Failed)).count();
        let done = view.last[0].result == Some(RunResult::Succeeded);
        assert_eq!((attempts.id.as_str(), view.last_resync.is_some()), ("may", done));
        assert_eq!(attempts.failures, if done { 0 } else { u32::try_from(failed).unwrap() });
    }
    assert!(fixture.ledger.is_resync_done(&plan.job, "may").await.unwrap());
    assert!(!events(&fixture).await.contains(&"fetch.failed".to_owned()), "no streak of the job");
}

#[tokio::test]
async fn a_run_goes_on_under_its_id_where_its_process_was_killed() {
    let fixture = fixture().await;
    let (plan, request) = (job("books"), run_request());
    let lease =
        fixture.ledger.acquire_lease("sync/team/books", "me", Duration::from_secs(3), fixture.clock.now().wall, None);
    let lease = lease.await.unwrap().acquired().unwrap();
    let start = RunStart {
        id: request.run,
        job: plan.job.clone(),
        trigger: request.trigger,
        slot: request.slot,
        dry_run: false,
        events: Vec::new(),
        at: fixture.clock.now().wall,
    };
    assert!(fixture.ledger.start_run(&start, &lease).await.unwrap());
    for (resumes, inserted) in [(false, None), (true, Some(5)), (true, None)] {
        let options = PoolOptions { resumes, ..options("me") };
        let queue = ReconcileQueue::new();
        let pool =
            SyncPool::new(fixture.ledger.clone(), queue.clone(), fixture.clock, &Metrics::new(), options).unwrap();
        let mut ends = std::pin::pin!(queue.subscribe(Kind::SyncJob, None));
        pool.start(plan.clone(), Arc::new(ScriptedBank::with(5)), request);
        tokio::time::timeout(Duration::from_secs(20), ends.next()).await.unwrap().unwrap();
        let outcome = pool.view(&plan.job, 1).await.unwrap().last_outcome.unwrap();
        let read = (outcome.report.result == RunResult::Succeeded).then_some(outcome.report.counts.inserted);
        assert_eq!(read, inserted, "{resumes} {:?}", outcome.report.reason);
    }
}

#[tokio::test]
async fn a_lost_run_is_recorded_once_its_lease_is_free() {
    let fixture = fixture().await;
    let (plan, request) = (job("books"), run_request());
    let lost =
        |request, resync: Option<&str>| LostRun { request, plan: Some(&*plan), resync: resync.map(str::to_owned) };
    let (ttl, now) = (Duration::from_secs(3), fixture.clock.now().wall);
    let lease = fixture.ledger.acquire_lease("sync/team/books", "its Pod", ttl, now, None).await.unwrap();
    assert!(!fixture.pool.record_lost(&plan.job, lost(request, None)).await.unwrap(), "its Pod may go on");
    fixture.ledger.release_lease(&lease.acquired().unwrap()).await.unwrap();
    assert!(fixture.pool.record_lost(&plan.job, lost(request, None)).await.unwrap());
    let told = ["fetch.started", "fetch.failed", "pipeline.completed"];
    assert_eq!(events(&fixture).await, told, "as of every other run");
    let view = fixture.pool.view(&plan.job, 10).await.unwrap();
    assert_eq!((view.last[0].id, view.last[0].reason), (request.run, Some(RunReason::JobFailed)));
    assert_eq!((view.failure_streak, view.last.len()), (1, 1));
    let resync = RunRequest { run: RunId(Uuid::from_u128(8)), trigger: RunTrigger::Resync, slot: None };
    assert!(fixture.pool.record_lost(&plan.job, lost(resync, Some("may"))).await.unwrap());
    let view = fixture.pool.view(&plan.job, 10).await.unwrap();
    assert_eq!((view.last[0].trigger, view.last[0].result), (RunTrigger::Resync, Some(RunResult::Failed)));
    assert_eq!(view.last[0].failure.resync.as_deref(), Some("may"), "another one need not wait for its pauses");
    assert_eq!((view.failure_streak, view.last_resync), (1, None), "no failure of the job");
    assert_eq!(events(&fixture).await[3..], ["fetch.started", "pipeline.completed"]);
}
