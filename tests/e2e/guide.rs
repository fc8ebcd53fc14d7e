//! Runs the commands of docs/guide on a real API server, page by page, as a reader would: with the real kubectl, Helm and busbar.
//!
//! Different from a reader's cluster: the node agent runs the operator's Pod, and the banks of the manifests are simulated ones
//! on this machine, which the operator must be allowed to call.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use busbar::testbed::sim::{AccountConfig, BankConfig, BankHandle, Sim};

use crate::chart::{Cluster, NAMESPACE};
use crate::cluster::chart_release::helm_path;
use crate::cluster::control_planes::{forbidden, repository};
use crate::cluster::node::agent::NodeAgent;
use crate::kit::banks::simulator;
use crate::kit::binary::run_async;
use crate::prometheus_operator::install_definitions;

/// The pages with commands, in the order in which a reader follows them.
const PAGES: [&str; 8] =
    ["install", "first-bank", "first-sync", "first-route", "payouts", "production", "operations", "troubleshooting"];

/// The key of Mono's sandbox in the guide.
const MONO_KEY: &str = "test_sk_example";

/// What a fenced block of a page is to a reader.
#[derive(Debug, PartialEq)]
enum Block {
    /// Commands to run.
    Commands(String),
    /// Commands that this test cannot run, and why.
    NotRun(String),
    /// A manifest that begins with `# FILE`: its name and text.
    File(String, String),
}

/// The blocks of a page; outputs and other languages are left out.
fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut reason = None;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("<!-- not run: ") {
            reason = Some(text.trim_end_matches(" -->").to_owned());
        } else if let Some(language) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```").fold(String::new(), |mut text, line| {
                let _ = writeln!(text, "{line}");
                text
            });
            match (language, reason.take()) {
                ("sh", Some(reason)) => found.push(Block::NotRun(reason)),
                ("sh", None) => found.push(Block::Commands(text)),
                ("yaml", _) => {
                    let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
                    assert!(name.strip_suffix(".yaml").is_some(), "a manifest without its file's name: {text}");
                    found.push(Block::File(name.to_owned(), text));
                }
                _ => {}
            }
        }
    }
    found
}

/// Simulated banks in place of those that the manifests name.
struct Banks {
    _sim: Sim,
    mono: BankHandle,
    others: Vec<(&'static str, BankHandle)>,
}

impl Banks {
    async fn start() -> Self {
        let sim = simulator().await;
        let config = BankConfig::mono("mono", MONO_KEY).accounts([AccountConfig::new("acc-1", 20)]);
        let mono = sim.add_bank(config).await.unwrap();
        let mut others = Vec::new();
        for (name, address) in
            [("bank-a", "https://sandbox.bank-a.example"), ("bank-b", "https://sandbox.bank-b.example")]
        {
            others.push((address, sim.add_bank(BankConfig::new(name)).await.unwrap()));
        }
        Self { _sim: sim, mono, others }
    }

    /// A manifest of the guide with the addresses of the simulated banks.
    fn localized(&self, manifest: &str) -> String {
        let endpoint = |url: &str| format!("  endpoint:\n    baseURL: {url}\n    insecure: true\n");
        let mono = endpoint(&format!("{}/v2", self.mono.base_url()));
        let anchor = "  provider: mono\n";
        let text = manifest.replace(anchor, &format!("{mono}{anchor}"));
        self.others.iter().fold(text, |text, (address, bank)| {
            text.replace(&format!("  endpoint:\n    baseURL: {address}\n"), &endpoint(&bank.base_url()))
        })
    }
}

/// The reader's folder: the repository's charts and manifests, and the programs.
async fn folder(cluster: &Cluster) -> PathBuf {
    let folder = cluster.home.path().join("reader");
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for name in ["charts", "config"] {
        symlink(repository(name), folder.join(name)).unwrap();
    }
    symlink(cluster.plane.kubectl_path(), bin.join("kubectl")).unwrap();
    symlink(env!("CARGO_BIN_EXE_busbar"), bin.join("busbar")).unwrap();
    // The simulated banks are on this machine.
    let helm = bin.join("helm");
    let script = format!(
        "#!/usr/bin/env bash\nmore=()\nfor a; do [[ $a != charts/busbar ]] || \
         more=(--set 'operator.allowProviderAddresses={{127.0.0.0/8}}'); done\nexec '{}' \"$@\" \"${{more[@]}}\"\n",
        helm_path().await.display()
    );
    fs::write(&helm, script).unwrap();
    fs::set_permissions(&helm, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Runs a block in the reader's shell; a command that fails fails the test.
async fn shell(cluster: &Cluster, folder: &Path, page: &str, commands: &str) -> String {
    let mut command = std::process::Command::new("bash");
    command.args(["-euo", "pipefail", "-c", commands]).current_dir(folder).env_clear();
    for variable in ["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(variable, cluster.home.path());
    }
    command.env("KUBECONFIG", cluster.plane.admin_kubeconfig());
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", folder.join("bin").display()));
    let finished = run_async(command).await;
    assert!(finished.success(), "docs/guide/{page}.md:\n{commands}\n{}\n{}", finished.stdout, finished.stderr);
    finished.stdout
}

#[tokio::test]
async fn every_command_of_the_guide_works_in_the_order_of_its_pages() {
    let cluster = Cluster::new().await;
    let banks = Banks::start().await;
    let folder = folder(&cluster).await;
    let images = [("busbar".to_owned(), env!("CARGO_BIN_EXE_busbar").into())].into();
    let _node = NodeAgent::start(&cluster.plane, Some(NAMESPACE), images).await;
    let (mut run, mut left_out, mut output) = (0, 0, String::new());
    for page in PAGES {
        let text = fs::read_to_string(repository(&format!("docs/guide/{page}.md"))).unwrap();
        if page == "production" {
            // As on the reader's cluster: the page's monitors and rules require them.
            install_definitions(&cluster).await;
        }
        for block in blocks(&text) {
            match block {
                Block::Commands(commands) => {
                    output.push_str(&shell(&cluster, &folder, page, &commands).await);
                    run += 1;
                }
                Block::NotRun(reason) => {
                    assert!(!reason.is_empty(), "docs/guide/{page}.md");
                    left_out += 1;
                }
                Block::File(name, manifest) => fs::write(folder.join(name), banks.localized(&manifest)).unwrap(),
            }
        }
    }
    assert!(run >= 19 && left_out <= 11, "{run} blocks run, {left_out} left out");
    // What the pages promise.
    for promised in ["ConnectionVerified", "FailedOver", "failed over from bank-a to bank-b", "2/2"] {
        assert!(output.contains(promised), "{promised:?} is not in:\n{output}");
    }
    // With the rights of the guide and no others.
    let user = "system:serviceaccount:busbar-system:busbar-operator";
    let denied = forbidden(&cluster.plane.audit(), user);
    assert!(denied.is_empty(), "{denied:#?}");
}

#[test]
fn blocks_are_told_apart() {
    let page =
        "# A\n```sh\na\nb\n```\n<!-- not run: no c -->\n```sh\nc\n```\n```text\nd\n```\n```yaml\n# e.yaml\nf\n```\n";
    let wanted = [
        Block::Commands("a\nb\n".to_owned()),
        Block::NotRun("no c".to_owned()),
        Block::File("e.yaml".to_owned(), "# e.yaml\nf\n".to_owned()),
    ];
    assert_eq!(blocks(page), wanted);
}
