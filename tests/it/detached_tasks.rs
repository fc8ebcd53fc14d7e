//! Rejects tasks and threads outside the groups of `src/tasks.rs`: what the shutdown does not know it cannot wait for.

use std::path::Path;

use crate::product_sources::{product_sources, top};
use crate::source::{paths, read, without_tests, without_text};

/// Why a file may name what starts tasks or threads. An entry that no file needs any more is an error.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("tasks.rs", "tokio::spawn", "the groups themselves"),
    ("tasks.rs", "tokio::task::spawn_blocking", "the groups themselves"),
    ("tasks.rs", "tokio_util::task::TaskTracker", "the groups themselves"),
    ("tasks.rs", "TaskTracker", "the groups themselves"),
    ("tasks.rs", "tokio::runtime::Handle", "the groups themselves"),
    ("app.rs", "tokio::runtime::Builder", "the runtime, whose end is the end of the process"),
    ("provider/run_on.rs", "tokio::runtime::Handle", "whether there is a runtime: the task is one of a group"),
    ("ledger/sqlite/worker.rs", "std::thread::Builder", "the ledger's own thread, which closing the ledger ends"),
    ("ledger/lease_holder.rs", "tokio::runtime::Handle", "whether there is a runtime: the task is one of a group"),
    (
        "telemetry/traces.rs",
        "tokio::runtime::Handle",
        "the exporter's thread has no runtime: the task is one of a group",
    ),
    (
        "telemetry/log_writer.rs",
        "std::thread::Builder",
        "may be blocked forever, so nothing waits for it without a limit",
    ),
];

/// Not a part of the operator: the simulator, the control plane of the tests, and their programs.
const NOT_THE_OPERATOR: &[&str] = &["testbed", "bin"];

/// Functions that start a task or a thread, with the modules that they are of.
const FUNCTIONS: &[&str] = &["spawn", "spawn_blocking", "spawn_local", "block_in_place", "scope"];
const MODULES: &[&str] = &["tokio", "task", "thread"];

/// Types that start tasks or threads, of whatever module.
const TYPES: &[&str] =
    &["JoinSet", "JoinMap", "JoinQueue", "LocalSet", "LocalPoolHandle", "TaskTracker", "TokioExecutor", "ThreadPool"];

/// Types with a common name, and the modules that they are of.
const TYPES_OF_MODULES: &[(&str, &str)] =
    &[("thread", "Builder"), ("runtime", "Builder"), ("runtime", "Handle"), ("runtime", "Runtime")];

/// The part of a path that starts tasks, such as `tokio::spawn`; `None` if it starts none.
fn starts_tasks(path: &[String]) -> Option<String> {
    let end = path.iter().enumerate().position(|(i, name)| {
        let module = i.checked_sub(1).map_or("", |before| path[before].as_str());
        TYPES.contains(&name.as_str())
            || TYPES_OF_MODULES.contains(&(module, name.as_str()))
            || FUNCTIONS.contains(&name.as_str()) && MODULES.contains(&module)
    })?;
    Some(path[..=end].join("::"))
}

/// Where a file starts tasks: the line and the name.
fn started(text: &str) -> Vec<(usize, String)> {
    let code = without_tests(&without_text(text));
    paths(&code).into_iter().filter_map(|(line, path)| Some((line, starts_tasks(&path)?))).collect()
}

#[test]
fn every_task_belongs_to_a_group() {
    let mut needed = vec![false; ALLOWED.len()];
    let mut found = Vec::new();
    for path in product_sources().into_iter().filter(|path| !NOT_THE_OPERATOR.contains(&top(path))) {
        for (line, name) in started(&read(Path::new("src").join(&path))) {
            match ALLOWED.iter().position(|(file, allowed, _)| *file == path && *allowed == name) {
                Some(entry) => needed[entry] = true,
                None => found.push(format!("src/{path}:{line}: {name}: spawn through a TaskGroup (src/tasks.rs)")),
            }
        }
    }
    let unused = ALLOWED.iter().zip(needed).filter(|(_, needed)| !needed);
    found.extend(unused.map(|((file, name, _), _)| format!("src/{file} does not name {name}: remove it from ALLOWED")));
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_planted_task_without_a_group_is_found() {
    for planted in [
        "fn f() { tokio::spawn(g()); }",
        "fn f() { tokio::task::spawn(g()); }",
        "use tokio::task;\nfn f() { task::spawn_blocking(g); }",
        "use tokio::{spawn as start, time};",
        "use tokio::task::{JoinHandle, JoinSet};",
        "struct S { running: tokio::task::JoinSet<()> }",
        "use tokio_util::task::TaskTracker;",
        "fn f() { std::thread::spawn(g); }",
        "use std::thread;\nfn f() { thread::Builder::new().spawn(g); }",
        "fn f() { std::thread::scope(g); }",
        "fn f() { tokio::runtime::Handle::current().spawn(g()); }",
        "fn f() { Server::new(hyper_util::rt::TokioExecutor::new()); }",
        "fn f() { tokio::task::block_in_place(g); }",
    ] {
        assert!(!started(planted).is_empty(), "{planted}");
    }
    for sound in [
        "use crate::tasks::TaskGroup;\nfn f(tasks: &TaskGroup) { tasks.spawn(\"call\", g()); }",
        "use tokio::task::{AbortHandle, JoinError, JoinHandle};",
        "// tokio::spawn would be detached",
        "#[cfg(test)]\nmod tests { fn f() { tokio::spawn(g()); } }",
        "fn f() { tokio::task::yield_now(); std::process::Command::new(\"x\").spawn(); }",
    ] {
        assert!(started(sound).is_empty(), "{sound}");
    }
}
