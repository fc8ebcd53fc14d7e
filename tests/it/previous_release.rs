//! The previous version's binary on what this version has written: additive migrations, whatever they add.
//!
//! That it also syncs into such a ledger is shown with its own operator, in `tests/e2e/release_upgrade.rs`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::kills::env::{Engine, KillEnv, PAGE};
use crate::kit::binary::{Finished, run};
use crate::kit::release::previous_binary;

fn ledger_command(binary: &Path, command: &str, ledger: &str) -> Finished {
    let mut process = Command::new(binary);
    process.args(["ledger", command, "--ledger", ledger, "--limit", "1000"]).env_clear().stdin(Stdio::null());
    run(process)
}

#[tokio::test]
async fn the_previous_version_reads_a_ledger_of_this_one() {
    let Some(binary) = previous_binary() else { return };
    let env = KillEnv::new(Engine::Sqlite, 3).await;
    env.run_to_the_end("worker", 1).await;
    let total = format!("{} of {} transactions", 3 * PAGE, 3 * PAGE);
    let listed = ledger_command(&binary, "transactions", &env.ledger).ok();
    assert!(listed.contains(&total), "{listed}");
    for (command, expected) in [("runs", "Succeeded"), ("dead-letters", "0 of 0 dead letters"), ("audit", "0 entries")]
    {
        let text = ledger_command(&binary, command, &env.ledger).ok();
        assert!(text.contains(expected), "{command}: {text}");
    }
    let backup = env.backup("backup.db");
    let listed = ledger_command(&binary, "transactions", &format!("sqlite:{}", backup.display())).ok();
    assert!(listed.contains(&total), "a backup is a ledger: {listed}");
}
