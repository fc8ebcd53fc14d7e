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
    for file in ["install.yaml", "manifests.tar.gz"] {
        assert!(files.contains(&format!("busbar-{version}-{file}")), "{files:?}");
    }
    let sums = std::fs::read_to_string(one.path().join("SHA256SUMS")).unwrap();
    let summed: BTreeSet<String> = sums.lines().map(|l| l.split("  ").nth(1).unwrap().to_owned()).collect();
    assert_eq!(summed, files.iter().filter(|f| *f != "SHA256SUMS").cloned().collect());
    let check = Command::new("sha256sum").args(["--quiet", "-c", "SHA256SUMS"]).current_dir(one.path()).status();
    assert!(check.unwrap().success());
    release(two.path());
    assert_eq!(sums, std::fs::read_to_string(two.path().join("SHA256SUMS")).unwrap());

    let install = std::fs::read_to_string(one.path().join(format!("busbar-{version}-install.yaml"))).unwrap();
    for part in ["syncjobs.busbar.dev", "kind: ClusterRoleBinding", "kind: ValidatingAdmissionPolicyBinding"] {
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
