//! What a process makes of a COMMIT whose answer it never gets, and of a server that is restarted under it.

use busbar::testbed::postgres::PostgresServer;

use super::commit_proxy::{CommitProxy, Loss};
use super::env::{Engine, KillEnv};
use super::oracle::assert_exact;

const PAGES: u64 = 60;
const KILLS: u64 = 6;

#[tokio::test]
async fn a_process_killed_between_commit_and_its_answer_loses_and_doubles_nothing() {
    let env = KillEnv::new(Engine::Postgres, PAGES).await;
    let proxy = CommitProxy::start(PostgresServer::shared().await.unwrap().socket());
    let through = proxy.url(&env.ledger);
    for kill in 0..KILLS {
        let mut worker = env.start_on("worker", &through);
        // The first ones are before the first page: of a lease, of the start of the run.
        let target = env.page_requests() + if kill < 2 { 0 } else { 3 + kill };
        assert!(worker.until(|| env.page_requests() >= target).await, "{}", worker.stderr());
        proxy.lose(Loss::Held);
        assert!(worker.until(|| proxy.has_lost()).await, "{}", worker.stderr());
        worker.kill().await;
        proxy.lose(Loss::None);
    }
    env.run_to_the_end("worker", 1).await;
    let repeated = env.repeated_pages();
    assert!(repeated <= KILLS, "{repeated} pages were requested again");
    assert_exact(&env).await;
}

#[tokio::test]
async fn a_process_that_loses_the_answer_to_a_commit_reads_what_became_of_it() {
    let env = KillEnv::new(Engine::Postgres, PAGES).await;
    let proxy = CommitProxy::start(PostgresServer::shared().await.unwrap().socket());
    let through = proxy.url(&env.ledger);
    let mut attempts = 0;
    let mut lost = 0;
    loop {
        attempts += 1;
        assert!(attempts <= 8, "no run succeeds");
        let mut worker = env.start_on("worker", &through);
        for _ in 0..4 {
            let target = env.page_requests() + 4;
            if !worker.until(|| env.page_requests() >= target).await {
                break;
            }
            proxy.lose(Loss::Cut);
            if worker.until(|| proxy.has_lost()).await {
                lost += 1;
            }
        }
        proxy.lose(Loss::None);
        if worker.exit().await.success() {
            break;
        }
    }
    assert!(lost >= 4, "{lost} answers were lost");
    assert_exact(&env).await;
}

#[tokio::test]
async fn a_server_that_is_restarted_under_a_sync_loses_and_doubles_nothing() {
    let server = PostgresServer::start().await.unwrap();
    let env = KillEnv::on(server.create_database().await.unwrap(), PAGES).await;
    let mut worker = env.start("worker");
    for _ in 0..2 {
        let target = env.page_requests() + 8;
        if !worker.until(|| env.page_requests() >= target).await {
            break;
        }
        server.restart().await.unwrap();
    }
    // A run may end with the connection; the next one goes on.
    if !worker.exit().await.success() {
        env.run_to_the_end("worker", 5).await;
    }
    assert_exact(&env).await;
}
