//! Custom profiles at the process: what `busbar check profile` reports, and that the start fails for an invalid one.

use std::path::Path;

use busbar::profile::Profiles;

use crate::kit::binary::{Finished, busbar, run};
use crate::source::{files, read, without_tests, without_text};

const GOOD: &str = "id: acme\ntitle: Acme\nbreaker: Api\nhealthCheck: {path: /}\n";
const BAD: &str = "id: acme\ntitle: Acme\nbreaker: Api\nhealthCheck: {path: /}\nerrors:\n  - {status: [4xx], class: fatal}\n  - {status: [429], class: quota}\n";
const PROBLEM: &str =
    "line 7, errors[1]: is unreachable: everything it matches is matched before by errors[0]; move it up or remove it";

fn busbar_in(folder: &Path, args: &[&str]) -> Finished {
    let mut command = busbar(args);
    command.current_dir(folder);
    run(command)
}

#[test]
fn check_profile_reports_each_file_with_its_problem() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good.yaml"), GOOD).unwrap();
    std::fs::write(folder.path().join("bad.yaml"), BAD).unwrap();
    let both = busbar_in(folder.path(), &["check", "profile", "good.yaml", "bad.yaml"]);
    assert!(!both.success());
    assert_eq!(
        both.stdout,
        format!(
            "good.yaml: usable as `provider: profile:acme` with 0 operations, 0 streams, 0 error matchers, 0 limits\n\
             profile bad.yaml, {PROBLEM}\n"
        )
    );
    assert!(busbar_in(folder.path(), &["check", "profile", "good.yaml"]).success());
}

#[test]
fn features_of_yaml_that_would_be_misread_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let merge = "merge keys are not supported: write the fields out, or use an alias for a whole value";
    for (name, more, problem) in [
        ("map", "features: &f {a: true}\nheaders:\n  <<: *f\n", format!("line 7, headers.<<: {merge}")),
        ("top", "<<: {zone: UTC}\n", format!("line 5, <<: {merge}")),
        ("list", "errors:\n  - <<: {class: fatal}\n", format!("line 6, errors[0].<<: {merge}")),
        ("tag", "zone: !zone UTC\n", "line 5, zone: the YAML tag !zone is not supported: remove it".to_owned()),
        ("key", "features: {404: true}\n", "line 5, features.404: a key must be a text: quote it".to_owned()),
    ] {
        let file = format!("{name}.yaml");
        std::fs::write(folder.path().join(&file), format!("{GOOD}{more}")).unwrap();
        let check = busbar_in(folder.path(), &["check", "profile", &file]);
        assert!(!check.success());
        assert_eq!(check.stdout, format!("profile {file}, {problem}\n"));
    }
}

#[test]
fn a_stream_of_any_paging_is_accepted_without_a_note() {
    let folder = tempfile::tempdir().unwrap();
    for paging in [
        "{kind: nextUrl, next: [/n], link: {kind: follow}}",
        "{kind: linkHeader, link: {kind: takeParams, parameters: [page]}}",
        "{kind: token, from: {kind: header, name: x-next}, to: {kind: query, parameter: after}}",
    ] {
        let streams = format!(
            "streams:\n  all: {{record: document, path: /a, records: [/a], key: /id, commitScope: Window, pagination: {paging}}}\n"
        );
        std::fs::write(folder.path().join("own.yaml"), format!("{GOOD}{streams}")).unwrap();
        let check = busbar_in(folder.path(), &["check", "profile", "own.yaml"]);
        assert!(check.success() && !check.stdout.contains("note"), "{}", check.stdout);
    }
}

#[test]
fn the_start_fails_for_an_invalid_profile_with_file_line_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.yaml"), BAD).unwrap();
    let shown = folder.path().display().to_string();
    // The start fails before anything else: there is no API server here, and no ledger is created.
    let run = busbar_in(folder.path(), &["run", "--admin-address", "127.0.0.1:0", "--profiles-dir", &shown]);
    assert!(!run.success());
    assert!(run.stderr.contains(&format!("profile {shown}/bad.yaml, {PROBLEM}")), "{}", run.stderr);
    assert!(!folder.path().join("busbar.db").exists());
}

#[test]
fn a_post_without_a_class_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let operation = "operations:\n  pay:\n    path: /payments\n    method: POST\n";
    std::fs::write(folder.path().join("own.yaml"), format!("{GOOD}{operation}")).unwrap();
    let check = busbar_in(folder.path(), &["check", "profile", "own.yaml"]);
    assert!(!check.success());
    assert_eq!(
        check.stdout,
        "profile own.yaml, line 8, operations.pay.method: POST may change something or move money: add \
         class: Read, class: Write or class: Money\n"
    );
    std::fs::write(folder.path().join("own.yaml"), format!("{GOOD}{operation}    class: Money\n")).unwrap();
    assert!(busbar_in(folder.path(), &["check", "profile", "own.yaml"]).success());
}

#[test]
fn explain_uses_the_custom_profiles_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let limits = "limits:\n  - {name: minute, requests: 7, unit: Minute}\n";
    std::fs::write(own.join("acme.yaml"), format!("{GOOD}{limits}")).unwrap();
    let manifest = "apiVersion: busbar.dev/v1alpha1\nkind: ProviderConnection\nmetadata: {name: acme}\nspec: {provider: \"profile:acme\", environment: Sandbox, endpoint: {baseURL: \"https://api.acme.example\"}}\n";
    std::fs::write(folder.path().join("connection.yaml"), manifest).unwrap();
    let with = busbar_in(folder.path(), &["explain", "connection.yaml", "--profiles-dir", "own"]);
    let table = with.stdout;
    let row = table.lines().find(|line| line.contains("rateLimit.limits[minute].requests")).unwrap_or_default();
    assert!(row.contains('7') && row.contains("profile profile:acme"), "{table}{}", with.stderr);
    let without = busbar_in(folder.path(), &["explain", "connection.yaml"]);
    assert!(without.stdout.contains("not loaded"), "{}", without.stdout);
}

/// Files that may name a provider, and why. Tests, comments and the testbed (which simulates providers) may as well.
const NAMED: [(&str, &str); 14] = [
    ("src/domain/event.rs", "the names that the replaced system gave its events"),
    ("src/sync/metrics.rs", "the metrics of the replaced systems, by their names"),
    ("src/api/v1alpha1/provider_connection/mod.rs", "the rule of spec.provider, which users see in the CRD"),
    ("src/profile/builtin.rs", "lists the compiled-in profile files"),
    ("src/provider/legacy_collector.rs", "the metrics of the replaced systems, by their names"),
    ("src/provider/legacy_metrics.rs", "the metrics of the replaced systems, by their names"),
    ("src/metrics/info.rs", "the page of all metrics, those too"),
    ("src/app/metrics_reference.rs", "the page of all metrics, those too"),
    ("src/cli/telemetry.rs", "the sets of those metrics, as values of a flag"),
    ("src/cli/live.rs", "the default provider of a smoke check"),
    ("src/gateway/aliases.rs", "the paths of the Finastra integration, kept for its callers"),
    ("src/gateway/state.rs", "the paths of the Finastra integration, kept for its callers"),
    ("src/gateway/openapi.rs", "the paths of the Finastra integration, kept for its callers"),
    ("src/gateway/providers.rs", "examples in the description of the API"),
];

#[test]
fn only_listed_files_name_a_provider() {
    let profiles = Profiles::builtin().unwrap();
    let ids: Vec<&str> = profiles.ids().collect();
    let mut found = Vec::new();
    for path in files("src", "rs") {
        let shown = path.display().to_string();
        let of_tests = shown.ends_with("tests.rs")
            || shown.ends_with("testkit.rs")
            || shown.contains("/tests/")
            || shown.starts_with("src/testbed/");
        if of_tests || NAMED.iter().any(|(file, _)| *file == shown) {
            continue;
        }
        let text = read(&path);
        let code = without_text(&text);
        let kept = without_tests(&code);
        for (at, ((line, code), kept)) in text.lines().zip(code.lines()).zip(kept.lines()).enumerate() {
            if line.trim_start().starts_with("//") || code != kept {
                continue;
            }
            // Between quotes, as separate words.
            for literal in line.split('"').skip(1).step_by(2) {
                let words = || literal.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                if let Some(id) = ids.iter().find(|id| words().any(|word| word == **id)) {
                    found.push(format!("{shown}:{}: {id} in {literal:?}", at + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "provider-specific data belongs in a profile:\n{}", found.join("\n"));
    for (file, _) in NAMED {
        let text = read(file);
        assert!(ids.iter().any(|id| text.contains(id)), "{file} names no provider: remove it from the list");
    }
}
