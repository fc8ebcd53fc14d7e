//! Keeps the project's language plain: text that a person can see uses the field's terms (docs/architecture.md, Glossary).
//!
//! The phrases below are those of an older idiom. The scan reads code, comments, documents, samples and charts alike, so
//! that a message cannot come back by way of a comment.

use std::path::PathBuf;

use crate::source::{files, read};

/// Phrases that are rejected, and what to say instead. Matched without regard to case, as whole words.
const REJECTED: &[(&str, &str)] = &[
    ("to be had", "available"),
    ("nobody", "no caller, no replica, none"),
    ("somebody", "the caller, another client"),
    ("whoever", "the caller, the client"),
    ("he", "the caller, it, they"),
    ("him", "the caller, it, them"),
    ("his", "its, their"),
    ("amiss", "invalid, wrong"),
    ("stand-in", "fallback"),
    ("stand-ins", "fallbacks"),
    ("stands in for", "is the fallback of"),
    ("stand in for", "be the fallback of"),
    ("could stand in", "succeeded as fallback"),
    ("for ever", "forever"),
    ("at noon", "at run time"),
    ("of late", "recently"),
    ("has spoken", "has completed"),
    ("speak of", "describe"),
    ("speaks of", "describes"),
    ("tells of", "reports"),
    ("asked for silence", "rate limited"),
    ("asks for silence", "rate limits"),
    ("asked for a pause", "rate limited"),
    ("in service", "ready"),
    ("came about", "was made"),
    ("comes about", "is made"),
    ("is being worked on", "is in a maintenance window"),
    ("its makers", "report it"),
    ("mend", "fix, correct"),
    ("mends", "fixes, corrects"),
    ("mended", "fixed, corrected"),
    ("mending", "fixing"),
    ("misfortune", "fault"),
    ("misfortunes", "faults"),
    ("hardship", "fault"),
    ("hardships", "faults"),
    ("bends this", "overrides this"),
    ("goes astray", "is lost"),
    ("lets go of", "releases"),
    ("let go of", "released"),
    ("is done with", "has finished"),
    ("prove who they are", "authenticate"),
    ("thereof", "of it"),
    ("wherein", "in which"),
    ("you call too often", "rate limit exceeded"),
];

/// The longest name of a test.
const LONGEST_TEST_NAME: usize = 80;

/// Every text file that a person reads. Left out: this list itself, the licence and the advisories, which others wrote.
fn texts() -> Vec<PathBuf> {
    let extensions = ["rs", "md", "yaml", "yml", "toml", "json", "sql", "tpl", "txt"];
    let mut all: Vec<_> = extensions.iter().flat_map(|extension| files(".", extension)).collect();
    all.extend(["Makefile", "Dockerfile"].map(PathBuf::from));
    all.retain(|path| {
        let path = path.to_string_lossy();
        !path.starts_with("./hack/advisories/crates")
            && !path.starts_with("hack/advisories/crates")
            && !path.contains("package-lock")
            && !path.ends_with("it/words.rs")
    });
    all
}

/// The rejected phrases in `text`, a line each with what to say instead.
fn rejected(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        for (phrase, instead) in REJECTED {
            if has_words(&lower, phrase) {
                found.push(format!("{}: {phrase:?}: say {instead:?}", number + 1));
            }
        }
    }
    found
}

/// Whether `phrase` stands in `line` as whole words.
fn has_words(line: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(phrase).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + phrase.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The names of the tests in `text` that are too long.
fn long_test_names(text: &str) -> Vec<String> {
    let mut attribute = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            attribute = true;
        } else if let Some((_, after)) = line.split_once("fn ")
            && std::mem::take(&mut attribute)
        {
            let name = after.split(['(', '<']).next().unwrap_or(after);
            if name.len() > LONGEST_TEST_NAME {
                found.push(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn no_text_has_a_rejected_phrase() {
    let texts = texts();
    assert!(texts.len() > 300, "the scan found too little: {} files", texts.len());
    let found: Vec<_> = texts
        .iter()
        .flat_map(|path| rejected(&read(path)).into_iter().map(move |line| format!("{}:{line}", path.display())))
        .collect();
    assert!(found.is_empty(), "\n{} lines:\n{}\n", found.len(), found.join("\n"));
}

#[test]
fn test_names_are_at_most_80_characters() {
    let found: Vec<_> = ["src", "tests", "benches"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .flat_map(|path| {
            long_test_names(&read(&path)).into_iter().map(move |name| format!("{}: {name}", path.display()))
        })
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_planted_phrase_is_found() {
    for line in [
        "/// No token is to be had.",
        "let text = \"and Nobody could stand in\";",
        "the caller and his key",
        "| retry | whoever asks |",
    ] {
        assert!(!rejected(line).is_empty(), "not found: {line}");
    }
    for line in ["history of the channel", "\"stand_ins\": []", "the header", "the services are ready"] {
        assert_eq!(rejected(line), [""; 0], "{line}");
    }
    let long = format!("#[test]\nfn {}() {{}}", "a".repeat(81));
    assert_eq!(long_test_names(&long).len(), 1);
    assert_eq!(long_test_names("#[test]\nfn short() {}\nfn helper() {}"), [""; 0]);
}
