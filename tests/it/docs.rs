//! Checks the documents: links have targets, commands exist, every requirement has its row, and what that row names
//! exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::source::{files, read, root};

/// The requirements' ids: a letter per source system, numbered from 1.
const REQUIREMENTS: &[(&str, u32)] = &[("F", 8), ("M", 14), ("E", 10), ("P", 9), ("B", 13), ("K", 9)];

/// Every document that people read: the snapshot of advisories is data.
fn documents() -> Vec<PathBuf> {
    let mut all = files(".", "md");
    all.retain(|p| !p.starts_with("hack/advisories/crates"));
    all
}

/// `text` without fenced code blocks; lines stay where they are.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if fenced || fence { "" } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The targets of `[text](target)` in `text`, and the line of each.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text).lines().enumerate() {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else { break };
            found.push((number + 1, target.to_owned()));
            rest = after;
        }
    }
    found
}

/// The anchors that headings of `text` get: lower case, words joined by dashes, other signs dropped.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| line.starts_with('#').then(|| line.trim_start_matches('#').trim().to_lowercase());
    let dash = |c: char| match c {
        ' ' => Some('-'),
        c => (c.is_alphanumeric() || "-_".contains(c)).then_some(c),
    };
    prose(text).lines().filter_map(heading).map(|title| title.chars().filter_map(dash).collect()).collect()
}

/// What is wrong with the relative links of a document.
fn dead_links(document: &Path, text: &str) -> Vec<String> {
    let folder = document.parent().unwrap_or(Path::new(""));
    let mut dead = Vec::new();
    for (line, target) in links(text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let file = if path.is_empty() { document.to_owned() } else { folder.join(path) };
        let at = format!("{}:{line}: {target}", document.display());
        if !path.is_empty() && !root().join(&file).exists() {
            dead.push(format!("{at}: no such file"));
        } else if !anchor.is_empty() && file.extension().is_some_and(|e| e == "md") {
            let there = if path.is_empty() { anchors(text) } else { anchors(&read(&file)) };
            if !there.contains(anchor) {
                dead.push(format!("{at}: no such heading"));
            }
        }
    }
    dead
}

/// The targets of the Makefile.
fn make_targets() -> BTreeSet<String> {
    let makefile = read("Makefile");
    let name = |line: &str| Some(line.split_once(':')?.0.to_owned());
    let plain = |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    makefile.lines().filter(|l| !l.contains(":=")).filter_map(name).filter(plain).collect()
}

/// The words that follow `make` where a document shows code: in a fenced block at a line's start, or in backticks.
fn make_commands(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let code: Vec<&str> = if fenced { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for code in code {
            let code = code.trim_start_matches("$ ");
            if let Some(rest) = code.strip_prefix("make ") {
                let target = rest.split_whitespace().next().unwrap_or_default();
                if target.starts_with(|c: char| c.is_ascii_lowercase()) {
                    found.push((number + 1, target.trim_end_matches([';', ',']).to_owned()));
                }
            }
        }
    }
    found
}

/// The rows of docs/requirements.md: id, and where it is met.
fn requirement_rows(text: &str) -> Vec<(String, String)> {
    let ids: BTreeSet<String> = required_ids().into_iter().collect();
    let letter = |id: &str| id.chars().next().is_some_and(|c| REQUIREMENTS.iter().any(|(l, _)| l.starts_with(c)));
    let looks_like_an_id = |id: &str| letter(id) && id.len() > 1 && id[1..].chars().all(|c| c.is_ascii_digit());
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.trim_end().trim_end_matches('|').split('|').map(str::trim);
            let id = cells.next()?.to_owned();
            (ids.contains(&id) || looks_like_an_id(&id)).then(|| (id, cells.next_back().unwrap_or_default().to_owned()))
        })
        .collect()
}

fn required_ids() -> Vec<String> {
    REQUIREMENTS.iter().flat_map(|(letter, count)| (1..=*count).map(move |n| format!("{letter}{n}"))).collect()
}

/// What is wrong with the places that a row names: `path`, or `path::name` for an item in a file.
fn missing_places(id: &str, met: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let places: Vec<_> = met.split('`').skip(1).step_by(2).filter(|p| p.contains('/')).collect();
    if places.is_empty() && !met.starts_with("not yet") {
        missing.push(format!("{id}: names no path, and does not start with \"not yet\""));
    }
    for place in places {
        let (path, item) = place.split_once("::").unwrap_or((place, ""));
        if !root().join(path).exists() {
            missing.push(format!("{id}: {path} does not exist"));
        } else if !item.is_empty() && !read(path).contains(item.rsplit("::").next().unwrap_or(item)) {
            missing.push(format!("{id}: {path} has no {item}"));
        }
    }
    missing
}

/// The items that a document names: `path::name` in backticks, and the line of each.
fn named_items(text: &str) -> Vec<(usize, String)> {
    let in_sources = |code: &&str| ["src/", "tests/", "benches/"].iter().any(|folder| code.starts_with(folder));
    let numbered = text.lines().enumerate();
    let items = numbered.flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |code| (number, code)));
    items
        .filter(|(_, code)| in_sources(code) && code.contains("::") && !code.contains([' ', '*', '{']))
        .map(|(number, code)| (number + 1, code.to_owned()))
        .collect()
}

/// Whether `source` defines `name`.
fn defines(source: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"].iter().any(|kind| {
        let definition = format!("{kind} {name}");
        source.match_indices(&definition).any(|(at, found)| source.get(at + found.len()..).is_some_and(ends))
    })
}

/// What is wrong with the items that a document names.
fn missing_items(document: &Path, text: &str) -> Vec<String> {
    let missing = |path: &str, name: &str| !root().join(path).is_file() || !defines(&read(path), name);
    let split = |item: &str| {
        let (path, rest) = item.split_once("::").unwrap_or((item, ""));
        (path.to_owned(), rest.rsplit("::").next().unwrap_or(rest).to_owned())
    };
    let items = named_items(text).into_iter().map(|(line, item)| (line, split(&item), item));
    items
        .filter(|(_, (path, name), _)| missing(path, name))
        .map(|(line, _, item)| format!("{}:{line}: {item} does not exist", document.display()))
        .collect()
}

/// The rows of tables of promises that name no test. Such a table has a column `test`, or is that of the threats.
fn unproven(document: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut promises = false;
    for (number, line) in text.lines().enumerate() {
        let header = line.ends_with("| test |") || line == "| threat | mitigation |";
        promises = header || (promises && line.starts_with('|'));
        // What is no test: a decision of the administrator, and the command that checks crates.
        let names = [".rs", "docs/faults.md#", "make deny", "rbac.aggregateToDefaultRoles"];
        if promises && !header && !line.starts_with("|--") && !names.iter().any(|name| line.contains(name)) {
            found.push(format!("{}:{}: {line}", document.display(), number + 1));
        }
    }
    found
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut checked = 0;
    let mut missing = Vec::new();
    for document in documents() {
        let text = read(&document);
        checked += named_items(&text).len();
        missing.append(&mut missing_items(&document, &text));
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
    assert!(checked > 300, "the scan found too little: {checked}");
}

#[test]
fn every_promise_about_faults_and_threats_names_a_test() {
    for document in ["docs/faults.md", "SECURITY.md"] {
        let unproven = unproven(Path::new(document), &read(document));
        assert!(unproven.is_empty(), "\n{}\n", unproven.join("\n"));
    }
}

#[test]
fn planted_promises_without_a_test_are_found() {
    let page = Path::new("docs/page.md");
    let named = missing_items(page, "`src/clock.rs::Clock` `src/clock.rs::Cloc` `tests/no.rs::such` `Type::new`\n");
    let expected =
        ["src/clock.rs::Cloc", "tests/no.rs::such"].map(|item| format!("docs/page.md:1: {item} does not exist"));
    assert_eq!(named, expected);
    let table =
        "| what | test |\n|---|---|\n| a | `src/a.rs::b` |\n| c | trust us |\n\n| not | one |\n|---|---|\n| d | e |\n";
    assert_eq!(unproven(page, table), ["docs/page.md:4: | c | trust us |"]);
}

#[test]
fn every_relative_link_has_a_target() {
    let dead: Vec<_> = documents().iter().flat_map(|d| dead_links(d, &read(d))).collect();
    assert!(dead.is_empty(), "\n{}\n", dead.join("\n"));
}

#[test]
fn every_make_command_in_a_document_exists() {
    let targets = make_targets();
    assert!(targets.contains("demo"), "the scan of the Makefile found too little: {targets:?}");
    let mut unknown = Vec::new();
    for document in documents() {
        for (line, target) in make_commands(&read(&document)) {
            if !targets.contains(&target) {
                unknown.push(format!("{}:{line}: make {target}", document.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "\n{}\n", unknown.join("\n"));
}

#[test]
fn every_make_target_has_a_description() {
    let makefile = read("Makefile");
    let silent: Vec<_> = make_targets()
        .into_iter()
        .filter(|target| {
            let rule = format!("{target}:");
            !makefile.lines().any(|line| line.starts_with(&rule) && line.contains("## "))
        })
        .collect();
    assert!(silent.is_empty(), "targets without a `## text`: {silent:?}");
}

#[test]
fn every_requirement_is_in_the_table_exactly_once() {
    let rows: Vec<_> = requirement_rows(&read("docs/requirements.md")).into_iter().map(|(id, _)| id).collect();
    assert_eq!(rows, required_ids(), "docs/requirements.md: the first column, in order");
    assert_eq!(rows.len(), 63);
}

#[test]
fn every_place_that_the_requirements_name_exists() {
    let rows = requirement_rows(&read("docs/requirements.md"));
    let missing: Vec<_> = rows.iter().flat_map(|(id, met)| missing_places(id, met)).collect();
    assert!(missing.is_empty(), "docs/requirements.md:\n{}\n", missing.join("\n"));
}

#[test]
fn planted_mistakes_are_found() {
    let page = Path::new("docs/page.md");
    let dead = dead_links(page, "# A title\n[a](../Makefile) [b](nowhere.md) [c](#a-title) [d](#no-title)\n");
    assert_eq!(dead, ["docs/page.md:2: nowhere.md: no such file", "docs/page.md:2: #no-title: no such heading"]);
    assert_eq!(dead_links(page, "```\n[b](nowhere.md)\n```\n"), Vec::<String>::new());
    let commands: Vec<_> = make_commands("Run `make tea`.\n```sh\nmake coffee ARGS=1\n```\n");
    assert_eq!(commands, [(1, "tea".to_owned()), (3, "coffee".to_owned())]);
    assert_eq!(missing_places("F1", "`src/nowhere.rs`").len(), 1);
    assert_eq!(missing_places("F1", "`src/clock.rs::no_such_name`").len(), 1);
    assert_eq!(missing_places("F1", "some day").len(), 1);
    assert_eq!(missing_places("F1", "`src/clock.rs::Clock`"), Vec::<String>::new());
    assert_eq!(missing_places("F1", "not yet"), Vec::<String>::new());
    assert_eq!(requirement_rows("| F9 | x | not yet |\n|---|---|\n| id | y |"), [("F9".into(), "not yet".into())]);
}

/// The names of the fields of the JSON object that begins in `text`; those of objects within are left out.
fn fields(text: &str) -> Vec<&str> {
    let (mut depth, mut found, mut rest) = (0, Vec::new(), text);
    while let Some(at) = rest.find(['{', '}', '"']) {
        let (sign, after) = rest[at..].split_at(1);
        rest = after;
        match sign {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {
                let Some((string, after)) = rest.split_once('"') else { break };
                rest = after;
                if depth == 1 && rest.trim_start().starts_with(':') {
                    found.push(string);
                }
            }
        }
        if depth == 0 {
            break;
        }
    }
    found
}

#[test]
fn the_bodies_in_the_pages_on_decisions_have_the_fields_of_the_api() {
    let api: serde_json::Value = serde_json::from_str(&read(root().join("docs/reference/openapi.json"))).unwrap();
    let pages = [read(root().join("docs/decisions.md")), read(root().join("docs/guide/payouts.md"))];
    for (page, before, schema, examples) in [
        (0, "routing/decide\"", "DecideBody", 2),
        (0, "routing/outcomes\"", "OutcomesBody", 1),
        (0, "routing/override/{decision_id}` `", "OverrideBody", 1),
        (0, "routing/adjustments` `", "AdjustmentBody", 1),
        (0, "routing/simulate` `", "SimulateBody", 1),
        (1, "gateway routing/decide --json '", "DecideBody", 1),
        (1, "gateway routing/outcomes --json '", "OutcomesBody", 1),
    ] {
        let known = &api["components"]["schemas"][schema]["properties"];
        let found: Vec<_> = pages[page].split(before).skip(1).collect();
        assert_eq!(found.len(), examples, "{before}");
        for text in found {
            let names = fields(&text[text.find('{').unwrap()..]);
            assert!(!names.is_empty(), "{before}");
            for name in names {
                assert!(known.get(name).is_some(), "{before}: {schema} has no field {name}");
            }
        }
    }
    let most = &api["components"]["schemas"]["DecideBody"]["properties"]["rates"]["description"];
    assert!(most.as_str().unwrap().ends_with("At most 32.") && pages[0].contains("| `rates` | 32 |"), "{most}");
}
