//! Runs the commands of docs/guide on a real API server, page by page, as a reader would: in one shell, with the real kubectl,
//! Helm, curl and busbar, and with the operator in its Pod.
//!
//! Different from a reader's cluster:
//!
//! - The node agent runs the Pods (`kit/cluster/node`): no Service has an effect, so curl is led to the Pod of the gateway.
//! - The banks and the database of the manifests are on this machine; the chart's copy allows such addresses.
//! - A page says by `<!-- before: … -->` what has happened before its next commands; the test brings it about.
//!
//! What a page shows as output must be printed. `<!-- not run: … -->` has one of two reasons, which hold for every machine
//! that builds Busbar; `make soak ARGS=guide` runs what compiles for minutes.

mod page;
mod reader;
mod session;
mod soak;
mod surroundings;

use std::fs;

use page::{Block, blocks, missing};
use reader::Reader;

use crate::chart::NAMESPACE;
use crate::cluster::control_planes::{forbidden, repository};

/// The pages with commands, in the order in which a reader follows them; the last one ends with the end of the release.
const PAGES: [&str; 9] = [
    "install",
    "first-bank",
    "first-sync",
    "first-route",
    "payouts",
    "backup",
    "production",
    "troubleshooting",
    "operations",
];

/// Blocks that are not run: two of a container engine and a registry, and one that `make soak` runs.
const LEFT_OUT: usize = 3;

fn text(page: &str) -> String {
    fs::read_to_string(repository(&format!("docs/guide/{page}.md"))).unwrap()
}

#[test]
fn every_page_with_commands_is_run() {
    let pages = fs::read_dir(repository("docs/guide")).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let name = page.file_stem().unwrap().to_string_lossy().into_owned();
        let commands = fs::read_to_string(&page).unwrap().contains("```sh\n");
        assert_eq!(commands, PAGES.contains(&&*name), "docs/guide/{name}.md");
    }
    let left_out = |block: &Block| matches!(block, Block::NotRun(_) | Block::Soak(_));
    let left_out = PAGES.iter().flat_map(|page| blocks(&text(page))).filter(left_out).count();
    assert_eq!(left_out, LEFT_OUT);
}

#[tokio::test]
async fn every_command_of_the_guide_works_in_the_order_of_its_pages() {
    let mut reader = Reader::new().await;
    let user = format!("system:serviceaccount:{NAMESPACE}:busbar-operator");
    let mut output = String::new();
    for page in PAGES {
        for block in blocks(&text(page)) {
            match block {
                Block::Commands { commands, shown } => {
                    if commands.starts_with("helm uninstall ") {
                        // With the rights of the guide and no others. Later the operator ends after its rights.
                        assert_eq!(forbidden(&reader.cluster.plane.audit(), &user), Vec::<String>::new());
                    }
                    let printed = reader.run(&commands).await;
                    let printed = printed.unwrap_or_else(|error| panic!("docs/guide/{page}.md: {error}"));
                    is_printed(page, &shown, &printed);
                    output.push_str(&printed);
                }
                Block::File { name, manifest } => reader.write(&name, &manifest),
                Block::Event { event, shown } => is_printed(page, &shown, &reader.happens(&event).await),
                Block::NotRun(_) | Block::Soak(_) => {}
            }
        }
    }
    // No row was lost or doubled by the restore, by the move to the database, and by the run after it.
    let all = format!(" of {} transactions\n", surroundings::TRANSACTIONS);
    assert_eq!(output.matches(&all).count(), 3, "{output}");
    after_uninstall(&reader).await;
}

/// Fails unless everything that a page shows was printed.
fn is_printed(page: &str, shown: &[String], printed: &str) {
    let missing = missing(shown, printed);
    assert!(missing.is_empty(), "docs/guide/{page}.md shows {missing:#?}, printed was:\n{printed}");
}

/// What the last page promises: definitions, objects, the volume of the ledger and Secrets stay.
async fn after_uninstall(reader: &Reader) {
    let cluster = &reader.cluster;
    assert_eq!(cluster.get("deployment", "busbar").await, None);
    cluster.definitions().await;
    for (namespace, object) in [
        ("payments", "providerconnection/mono"),
        ("payments", "syncjob/transactions"),
        ("payments", "bankroute/payouts"),
        ("payments", "secret/mono"),
        (NAMESPACE, "pvc/ledger-busbar-0"),
        (NAMESPACE, "secret/busbar-keys"),
        (NAMESPACE, "secret/busbar-database"),
        (NAMESPACE, "secret/busbar-gateway-tls"),
    ] {
        let jsonpath = "-o=jsonpath={.metadata.deletionTimestamp}";
        assert_eq!(cluster.kubectl(&["-n", namespace, "get", object, jsonpath], "").await.ok(), "", "{object}");
    }
}
