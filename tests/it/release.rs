//! What `make release` hands out, with the binary of this build in the place of the optimised one.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::source::root;

fn release(out: &Path) {
    let output = Command::new(root().join("hack/release/build"))
        .args(["--binary", env!("CARGO_BIN_EXE_busbar"), "--out"])
        .arg(out)
        .env("SOURCE_DATE_EPOCH", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_release_is_complete_and_reproducible() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    release(one.path());
    let version = env!("CARGO_PKG_VERSION");
    let files = names(one.path());
    let wanted = [format!("busbar-{version}-install.yaml"), format!("busbar-{version}-manifests.tar.gz")];
    let charts = ["busbar", "busbar-crds"].map(|chart| format!("{chart}-chart-{version}.tgz"));
    for file in wanted.iter().chain(&charts) {
        assert!(files.contains(file), "{files:?}");
    }
    let sums = std::fs::read_to_string(one.path().join("SHA256SUMS")).unwrap();
    let summed: BTreeSet<String> = sums.lines().map(|l| l.split("  ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(summed, files.iter().filter(|f| *f != "SHA256SUMS").cloned().collect());
    let check = Command::new("sha256sum").args(["--quiet", "-c", "SHA256SUMS"]).current_dir(one.path()).status();
    assert!(check.unwrap().success());
    release(two.path());
    assert_eq!(sums, std::fs::read_to_string(two.path().join("SHA256SUMS")).unwrap());

    let install = std::fs::read_to_string(one.path().join(format!("busbar-{version}-install.yaml"))).unwrap();
    let parts = ["syncjobs.busbar.dev", "kind: ClusterRoleBinding", "kind: ValidatingAdmissionPolicyBinding"];
    for part in parts.into_iter().chain(["kind: StatefulSet", "pod-security.kubernetes.io/enforce: restricted"]) {
        assert!(install.contains(part), "{part}");
    }

    let bom = std::fs::read(one.path().join(format!("busbar-{version}.cdx.json"))).unwrap();
    let bom: Value = serde_json::from_slice(&bom).unwrap();
    assert_eq!((&bom["bomFormat"], &bom["metadata"]["component"]["name"]), (&"CycloneDX".into(), &"busbar".into()));
    let components = bom["components"].as_array().unwrap();
    let crates: BTreeSet<&str> = components.iter().map(|c| c["name"].as_str().unwrap()).collect();
    for inside in ["kube", "tokio", "rusqlite", "rustls", "aws-lc-rs", "serde_json"] {
        assert!(crates.contains(inside), "{inside} is missing");
    }
    // Development dependencies, and what only the test bench brings in.
    for outside in ["busbar", "failsafe", "recloser", "proptest", "insta", "rcgen", "tempfile"] {
        assert!(!crates.contains(outside), "{outside} does not ship");
    }
    for component in components {
        let whole = ["purl", "version", "bom-ref"].iter().all(|key| component[key].is_string());
        let licensed = component["licenses"].as_array().is_some_and(|l| !l.is_empty());
        assert!(whole && licensed && component["hashes"][0]["content"].is_string(), "{component}");
    }
    let refs: BTreeSet<&str> = components.iter().map(|c| c["bom-ref"].as_str().unwrap()).collect();
    let listed: BTreeSet<&str> =
        bom["dependencies"].as_array().unwrap().iter().map(|d| d["ref"].as_str().unwrap()).collect();
    assert!(refs.is_subset(&listed) && refs.len() == components.len(), "each once, each with its dependencies");
}

/// What the image's build context holds: the exceptions of `.dockerignore`, which ignores everything else.
fn context() -> Vec<String> {
    let text = crate::source::read(".dockerignore");
    assert!(text.lines().any(|line| line == "*"), "everything is ignored but the exceptions");
    text.lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect()
}

#[test]
fn the_image_is_built_from_every_file_that_cargo_reads() {
    let context = context();
    let inside = |path: &str| {
        context
            .iter()
            .any(|kept| path.strip_prefix(kept.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    // Cargo lists what it read to build the binary, with the paths of the checkout that it built last.
    let list = std::fs::read_to_string(Path::new(env!("CARGO_BIN_EXE_busbar")).with_extension("d")).unwrap();
    let read: Vec<&str> = list.split_once(": ").unwrap().1.split_whitespace().collect();
    let checkout = read.iter().find_map(|path| path.strip_suffix("build.rs")).unwrap();
    // The commit is an argument of the image's build.
    let ours = read.iter().filter_map(|path| path.strip_prefix(checkout)).filter(|path| !path.starts_with(".git/"));
    let ours: Vec<&str> = ours.collect();
    assert!(ours.contains(&"src/main.rs"), "{ours:?}");
    let others = [
        ".cargo/config.toml",
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
        "LICENSE",
        "hack/release/rootfs",
        "hack/release/sbom",
    ];
    let missing: Vec<&str> = ours.into_iter().chain(others).filter(|path| !inside(path)).collect();
    assert!(missing.is_empty(), "not in the build context (.dockerignore): {missing:?}");
    for kept in &context {
        assert!(root().join(kept).exists(), ".dockerignore: {kept} does not exist");
    }
}
