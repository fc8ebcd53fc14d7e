//! The commands of the guide that compile for minutes: `make soak ARGS=guide`.

use std::ffi::OsString;
use std::time::Duration;

use super::page::{Block, blocks};
use super::session::Session;
use super::{PAGES, text};
use crate::cluster::control_planes::repository;

/// It took 25 minutes on two cores that other builds shared.
const LONGEST: Duration = Duration::from_hours(1);

#[tokio::test]
#[ignore = "compiles for minutes: make soak ARGS=guide"]
#[expect(clippy::disallowed_methods, reason = "the toolchain is that of the environment")]
async fn what_the_guide_installs_is_the_program_that_its_pages_use() {
    let home = tempfile::tempdir().unwrap();
    let installed = home.path().join("installed");
    // A reader's own folders of Cargo are not touched.
    let mut environment: Vec<(&str, OsString)> =
        vec![("CARGO_INSTALL_ROOT", installed.clone().into()), ("CARGO_TARGET_DIR", home.path().join("target").into())];
    for variable in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"] {
        environment.extend(std::env::var_os(variable).map(|value| (variable, value)));
    }
    let mut session = Session::start(&repository(""), home.path(), &environment).await;
    let mut count = 0;
    for block in PAGES.iter().flat_map(|page| blocks(&text(page))) {
        if let Block::Soak(commands) = block {
            session.run_within(LONGEST, &commands).await.unwrap();
            count += 1;
        }
    }
    assert_eq!(count, 1);
    let program = installed.join("bin/busbar");
    let version = session.run(&format!("'{}' --version", program.display())).await.unwrap();
    assert!(version.starts_with(&format!("busbar {}", env!("CARGO_PKG_VERSION"))), "{version}");
}
