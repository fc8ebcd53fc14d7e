//! Rejects rules of the architecture test that name no module: a rule for what is gone protects nothing.

use crate::architecture::{governs, rules};
use crate::plain_values::PLAIN_VALUES;
use crate::product_sources::product_sources;
use crate::source::read;

/// The file of the module `path` (`a::b`), relative to `src/`.
fn module_file<'a>(path: &str, sources: &'a [String]) -> Option<&'a String> {
    let path = path.replace("::", "/");
    sources.iter().find(|source| **source == format!("{path}.rs") || **source == format!("{path}/mod.rs"))
}

/// Whether `path` is a module, or an item that the file of its module names.
fn exists(path: &str, sources: &[String]) -> bool {
    let item = || {
        let (module, item) = path.rsplit_once("::")?;
        let text = read(format!("src/{}", module_file(module, sources)?));
        text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == item).then_some(())
    };
    module_file(path, sources).is_some() || item().is_some()
}

/// The rules and names that lead nowhere.
fn dangling<'a>(
    rules: impl Iterator<Item = (&'a str, &'a [&'a str])>,
    values: &[&'a str],
    sources: &[String],
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (name, modules) in rules {
        if !sources.iter().any(|source| governs(name, source)) {
            found.push(format!("rule `{name}` governs no file"));
        }
        let missing = modules.iter().filter(|module| !exists(module, sources));
        found.extend(missing.map(|module| format!("rule `{name}` names `{module}`, which does not exist")));
    }
    let missing = values.iter().filter(|value| !exists(value, sources));
    found.extend(missing.map(|value| format!("plain value `{value}` does not exist")));
    found
}

#[test]
fn every_rule_of_the_layers_names_a_module() {
    let found = dangling(rules(), PLAIN_VALUES, &product_sources());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_planted_rule_without_a_module_is_found() {
    let sources = product_sources();
    let planted: [(&str, &[&str]); 2] = [("nowhere", &[]), ("domain", &["cluster::nowhere"])];
    assert_eq!(dangling(planted.into_iter(), &["ledger::NoSuchValue"], &sources).len(), 3);
    let sound: [(&str, &[&str]); 2] = [("controllers/*/decide.rs", &["domain"]), ("gateway", &["cluster::auth"])];
    assert_eq!(dangling(sound.into_iter(), &["ledger::RunId"], &sources), [""; 0]);
}
