//! Checks the alerting rules and dashboards of the chart: every alert has a runbook and unit tests in which it fires and
//! does not, and every series that an expression names exists.
//!
//! The unit tests themselves are run by promtool (`make check-rules`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::promql::{series, uses_label};
use crate::source::{files, read};

const RULES: &str = "charts/busbar/rules";
const DASHBOARDS: &str = "charts/busbar/dashboards";
const RUNBOOK_URL: &str = "https://busbar.dev/runbooks/";

/// Series that Prometheus itself makes.
const BUILT_IN: [&str; 2] = ["up", "ALERTS"];

/// Labels that would show an account, a person or a text: none of our series has them.
const PRIVATE_LABELS: [&str; 6] = ["account", "iban", "subject", "user", "message", "secret"];

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All rules, each with its file.
fn rules() -> Vec<(String, Value)> {
    let rules_of = |path: &std::path::PathBuf| {
        let path = path.display().to_string();
        let groups = yaml(&path)["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.into_iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        rules.map(|rule| (path.clone(), rule)).collect::<Vec<_>>()
    };
    let all: Vec<_> = files(RULES, "yaml").iter().flat_map(rules_of).collect();
    assert!(all.len() > 40, "{} rules", all.len());
    all
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The alerts by name.
fn alerts() -> BTreeMap<String, Value> {
    let named = rules().into_iter().filter_map(|(_, rule)| Some((rule["alert"].as_str()?.to_owned(), rule)));
    let (all, unique): (Vec<_>, BTreeMap<_, _>) = (named.clone().collect(), named.collect());
    assert_eq!(all.len(), unique.len(), "two alerts have one name");
    unique
}

/// The metrics of docs/reference/metrics.md: name → type.
fn metrics() -> BTreeMap<String, String> {
    let page = read("docs/reference/metrics.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
    };
    page.lines().filter_map(row).collect()
}

/// What is exported or recorded under `name`: the suffixes of histograms are theirs only.
fn exists(name: &str, metrics: &BTreeMap<String, String>, recorded: &BTreeSet<String>) -> bool {
    let histogram = ["_bucket", "_sum", "_count"]
        .iter()
        .filter_map(|suffix| name.strip_suffix(suffix))
        .any(|base| metrics.get(base).is_some_and(|kind| kind == "histogram"));
    let plain = metrics.get(name).is_some_and(|kind| kind != "histogram");
    plain || histogram || recorded.contains(name) || BUILT_IN.contains(&name)
}

/// The expressions of a dashboard's panels and variables that are `PromQL`, each with the panel's title.
fn dashboard_expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let of_panel = |panel: &Value| {
        let title = text(panel, "/title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let promql = targets.into_iter().filter(|target| text(target, "/datasource/type") == "prometheus");
        promql.map(|target| (title.clone(), text(&target, "/expr").to_owned())).collect::<Vec<_>>()
    };
    let variables = dashboard["templating"]["list"].as_array().into_iter().flatten();
    let of_variable = |variable: &Value| {
        let name = text(variable, "/name").to_owned();
        let query = text(variable, "/definition").strip_prefix("label_values(")?.rsplit_once(',')?.0.to_owned();
        Some((name, query))
    };
    panels.flat_map(of_panel).chain(variables.filter_map(of_variable)).collect()
}

fn dashboards() -> Vec<(String, Value)> {
    let all: Vec<_> = files(DASHBOARDS, "json")
        .iter()
        .map(|path| {
            let path = path.display().to_string();
            let value = serde_json::from_str(&read(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            (path, value)
        })
        .collect();
    assert!(all.len() >= 8, "{} dashboards", all.len());
    all
}

#[test]
fn every_alert_has_a_severity_texts_and_a_runbook_with_four_parts() {
    let mut wrong = Vec::new();
    let alerts = alerts();
    for (name, alert) in &alerts {
        if !["critical", "warning", "info"].contains(&text(alert, "/labels/severity")) {
            wrong.push(format!("{name}: severity"));
        }
        for annotation in ["summary", "description"] {
            if text(alert, &format!("/annotations/{annotation}")).is_empty() {
                wrong.push(format!("{name}: {annotation}"));
            }
        }
        if text(alert, "/annotations/runbook_url") != format!("{RUNBOOK_URL}{name}") {
            wrong.push(format!("{name}: runbook_url must be {RUNBOOK_URL}{name}"));
        }
        let path = format!("docs/runbooks/{name}.md");
        if !crate::source::root().join(&path).exists() {
            wrong.push(format!("{name}: {path} does not exist"));
            continue;
        }
        let page = read(&path);
        for heading in
            [format!("# {name}\n"), "\n## Symptom\n".into(), "\n## Cause\n".into(), "\n## Diagnosis\n".into()]
                .into_iter()
                .chain(["\n## Mitigation\n".to_owned()])
        {
            if !page.contains(&heading) {
                wrong.push(format!("{path}: has no {heading:?}"));
            }
        }
        if !page.contains("\n```sh\n") || !page.contains("kubectl ") {
            wrong.push(format!("{path}: has no command"));
        }
        if !read("docs/runbooks/README.md").contains(&format!("[{name}]({name}.md)")) {
            wrong.push(format!("docs/runbooks/README.md: has no row for {name}"));
        }
    }
    for path in files("docs/runbooks", "md") {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name != "README" && !alerts.contains_key(&name) {
            wrong.push(format!("{}: belongs to no alert", path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for path in files("tests/rules", "yaml") {
        let tests = yaml(&path.display().to_string())["tests"].as_array().cloned().unwrap_or_default();
        let cases = tests.iter().flat_map(|test| test["alert_rule_test"].as_array().cloned().unwrap_or_default());
        for case in cases {
            let name = text(&case, "/alertname").to_owned();
            let expected = case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
            if expected {
                fires.insert(name)
            } else {
                silent.insert(name)
            };
        }
    }
    let names: BTreeSet<String> = alerts().into_keys().collect();
    assert_eq!(names.difference(&fires).collect::<Vec<_>>(), [""; 0], "no test in which it fires");
    assert_eq!(names.difference(&silent).collect::<Vec<_>>(), [""; 0], "no test in which it does not fire");
    assert_eq!(
        fires.union(&silent).filter(|name| !names.contains(*name)).collect::<Vec<_>>(),
        [""; 0],
        "no such alert"
    );
}

#[test]
fn every_recording_rule_has_a_unit_test_of_its_value() {
    let tested: BTreeSet<String> = files("tests/rules", "yaml")
        .iter()
        .flat_map(|path| yaml(&path.display().to_string())["tests"].as_array().cloned().unwrap_or_default())
        .flat_map(|test| test["promql_expr_test"].as_array().cloned().unwrap_or_default())
        .filter(|case| case["exp_samples"].as_array().is_some_and(|samples| !samples.is_empty()))
        .map(|case| text(&case, "/expr").to_owned())
        .collect();
    let recorded = rules().into_iter().filter_map(|(_, rule)| rule["record"].as_str().map(str::to_owned));
    let untested: Vec<_> = recorded.filter(|name| !tested.contains(name)).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

#[test]
fn every_series_of_rules_and_dashboards_exists() {
    let (metrics, rules) = (metrics(), rules());
    let recorded: BTreeSet<String> =
        rules.iter().filter_map(|(_, rule)| rule["record"].as_str().map(str::to_owned)).collect();
    let of_rules = rules.iter().map(|(path, rule)| (path.clone(), text(rule, "/expr").to_owned()));
    let of_dashboards = dashboards().into_iter().flat_map(|(path, dashboard)| {
        let expressions = dashboard_expressions(&dashboard);
        expressions.into_iter().map(move |(title, expression)| (format!("{path}: {title}"), expression))
    });
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (place, expression) in of_rules.chain(of_dashboards) {
        let names = series(&expression);
        if names.is_empty() {
            wrong.push(format!("{place}: names no series: {expression}"));
        }
        seen += names.len();
        for name in names.iter().filter(|name| !exists(name, &metrics, &recorded)) {
            wrong.push(format!("{place}: {name} is not in docs/reference/metrics.md"));
        }
        if place.contains(DASHBOARDS) && names.iter().any(|name| recorded.contains(name)) {
            wrong.push(format!("{place}: a dashboard must work without the recording rules"));
        }
        for label in PRIVATE_LABELS.iter().filter(|label| uses_label(&expression, label)) {
            wrong.push(format!("{place}: label {label}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(seen > 150, "{seen} names were checked");
}

#[test]
fn a_series_that_does_not_exist_is_found() {
    let metrics = BTreeMap::from([
        ("busbar_a_total".to_owned(), "counter".to_owned()),
        ("busbar_b_seconds".to_owned(), "histogram".to_owned()),
    ]);
    let recorded = BTreeSet::from(["busbar:a:rate5m".to_owned()]);
    for name in ["busbar_a_total", "busbar_b_seconds_bucket", "busbar_b_seconds_count", "busbar:a:rate5m", "up"] {
        assert!(exists(name, &metrics, &recorded), "{name}");
    }
    for name in ["busbar_a", "busbar_a_total_count", "busbar_b_seconds", "busbar:b:rate5m", "busbar_c_total"] {
        assert!(!exists(name, &metrics, &recorded), "{name}");
    }
}

#[test]
fn alerts_about_a_connection_are_silent_in_maintenance_and_suspension() {
    for (name, alert) in alerts() {
        let expression = text(&alert, "/expr");
        let about_a_connection = text(&alert, "/annotations/summary").contains("$labels.connection");
        assert_eq!(expression.contains("busbar:connection_silenced"), about_a_connection, "{name}: {expression}");
    }
}

#[test]
fn every_dashboard_has_a_data_source_variable_and_panels_that_do_not_overlap() {
    let mut uids = BTreeSet::new();
    for (path, dashboard) in dashboards() {
        assert!(uids.insert(text(&dashboard, "/uid").to_owned()), "{path}: uid");
        assert!(dashboard["schemaVersion"].as_u64() >= Some(39) && dashboard["id"].is_null(), "{path}");
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        assert!(variables.iter().any(|v| v["name"] == "datasource" && v["query"] == "prometheus"), "{path}");
        let (mut cells, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}: id of {panel}");
            let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(side("x") + side("w") <= 24, "{path}: {panel}");
            for x in side("x")..side("x") + side("w") {
                for y in side("y")..side("y") + side("h") {
                    assert!(cells.insert((x, y)), "{path}: {} overlaps", panel["title"]);
                }
            }
            for target in panel["targets"].as_array().into_iter().flatten() {
                let source = text(target, "/datasource/uid");
                assert!(["${datasource}", "${loki}"].contains(&source), "{path}: {source}");
            }
        }
    }
}
