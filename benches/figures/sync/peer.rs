//! `dlt`, a Python library that loads data from APIs: the same records from the same bank into the same server.

use std::path::Path;
use std::process::Command;

use busbar::testbed::postgres::PostgresServer;

use super::per_second;
use super::workload::{KEY, PAGE, Workload};
use crate::Figures;

/// Rates of this version, to compare with.
pub(super) struct Ours {
    pub(super) postgres: f64,
    pub(super) sqlite: f64,
}

/// Measures and prints, if `dlt` is or can be installed.
pub(super) async fn run(figures: &mut Figures, work: &Workload, folder: &Path, ours: &Ours) {
    let database = PostgresServer::shared().await.expect("a server").create_database().await.expect("a database");
    let file = format!("sqlite:///{}", folder.join("dlt.db").display());
    for (destination, url, ids, ours) in [
        ("postgres", database, ["sync.dlt_rows_per_s", "sync.dlt_ratio"], ours.postgres),
        ("sqlite", file, ["sync.dlt_sqlite_rows_per_s", "sync.dlt_sqlite_ratio"], ours.sqlite),
    ] {
        match load(work, destination, &url, folder) {
            Ok(seconds) => {
                let theirs = per_second(work.rows, std::time::Duration::from_secs_f64(seconds));
                println!("dlt into {destination}: {theirs:.0} rows per second");
                figures.figure(ids[0], format_args!("{theirs:.0}"), "rows/s");
                figures.figure(ids[1], format_args!("{:.1}", ours / theirs), "ratio");
            }
            Err(reason) => println!("dlt into {destination} was not measured: {reason}"),
        }
    }
}

/// Seconds of a load.
fn load(work: &Workload, destination: &str, url: &str, folder: &Path) -> Result<f64, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/bench/dlt");
    let arguments = [work.base_url.as_str(), KEY, &PAGE.to_string(), destination, url];
    let output = Command::new(script).args(arguments).arg(folder.join("dlt")).output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(stderr.lines().last().unwrap_or("it failed").to_owned());
    }
    let rows = value("rows").unwrap_or(0.0);
    let expected = per_second(work.rows, std::time::Duration::from_secs(1));
    if (rows - expected).abs() > 0.5 {
        return Err(format!("{rows} rows instead of {expected}"));
    }
    value("seconds").ok_or_else(|| format!("no seconds in {text:?}"))
}
