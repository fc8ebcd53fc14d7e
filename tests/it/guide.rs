//! The guide is complete: troubleshooting has a row for each reason of a condition, and the index has each page.
//! The commands are run by `tests/e2e/guide/mod.rs`.

use std::collections::BTreeSet;

use crate::source::{files, read};

/// The names in the first column of a table's rows.
fn first_column(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    text.lines().filter_map(name).collect()
}

/// What follows a heading, up to the next one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, after) = text.split_once(heading).unwrap_or_else(|| panic!("no heading {heading:?}"));
    after.split_once("\n## ").map_or(after, |(section, _)| section)
}

/// Reasons without a row, and rows without a reason.
fn differences(reasons: &str, guide: &str) -> Vec<String> {
    let listed = first_column(section(reasons, "## Reasons of conditions\n"));
    let rows = first_column(guide);
    let (listed_set, rows_set): (BTreeSet<_>, BTreeSet<_>) = (listed.iter().collect(), rows.iter().collect());
    assert!(listed.len() > 40, "the scan of reasons.md found too little: {listed:?}");
    let missing = listed_set.difference(&rows_set).map(|reason| format!("no row for {reason}"));
    let unknown = rows_set.difference(&listed_set).map(|reason| format!("no reason {reason}"));
    let twice = (rows.len() != rows_set.len()).then(|| "a reason has two rows".to_owned());
    missing.chain(unknown).chain(twice).collect()
}

#[test]
fn troubleshooting_has_one_row_for_each_reason_of_a_condition() {
    let (reasons, guide) = (read("docs/reference/reasons.md"), read("docs/guide/troubleshooting.md"));
    let found = differences(&reasons, &guide);
    assert!(found.is_empty(), "docs/guide/troubleshooting.md: {found:#?}");

    // It would notice a new reason, a removed one and a second row.
    let with_new = reasons.replace("| `Accepted` |", "| `Planted` |");
    assert_eq!(differences(&with_new, &guide), ["no row for Planted", "no reason Accepted"]);
    assert_eq!(differences(&reasons, &format!("{guide}\n| `Accepted` | a | b |")), ["a reason has two rows"]);
}

#[test]
fn every_page_of_the_guide_is_in_its_index_and_the_picture_exists() {
    let index = read("docs/guide/README.md");
    for page in files("docs/guide", "md") {
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "{name} is not in docs/guide/README.md");
    }
    assert!(index.contains("](architecture.svg)"));
    let picture = read("docs/guide/architecture.svg");
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>") && picture.len() < 8192);
}
