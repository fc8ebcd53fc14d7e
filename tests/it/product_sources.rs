//! Which source files, modules and crates there are, and which files are compiled outside tests.

use std::path::Path;

use crate::source::{files, read, without_text};

/// Every source file, its path relative to `src/`.
pub(crate) fn sources() -> Vec<String> {
    files("src", "rs").iter().map(|p| p.strip_prefix("src").unwrap().to_str().unwrap().to_owned()).collect()
}

/// The source files that are compiled outside tests.
pub(crate) fn product_sources() -> Vec<String> {
    let all = sources();
    let tests: Vec<_> = all.iter().flat_map(|p| test_modules(p, &read(Path::new("src").join(p)))).collect();
    // A file of tests, or one in the folder of a module of tests.
    let is_test = |p: &str| {
        tests.iter().any(|t| p == t || p.strip_prefix(t.trim_end_matches(".rs")).is_some_and(|r| r.starts_with('/')))
    };
    all.into_iter().filter(|p| !is_test_file(p) && !is_test(p)).collect()
}

/// The module right under the crate's root that `path` belongs to.
pub(crate) fn top(path: &str) -> &str {
    path.split('/').next().map_or(path, |first| first.strip_suffix(".rs").unwrap_or(first))
}

/// Our top modules, from the files under `src/`.
pub(crate) fn our_modules() -> Vec<String> {
    let mut modules: Vec<_> = sources().iter().map(|p| top(p).to_owned()).collect();
    modules.dedup();
    modules
}

/// The crates that Cargo.toml names, as code spells them.
pub(crate) fn other_crates() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let mut section = "";
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies")
            && let Some((name, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            names.push(name.trim().replace('-', "_"));
        }
    }
    names.retain(|name| name != "busbar");
    names
}

/// A file of tests by its name. Others are found by how they are declared: [`test_modules`].
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("_tests.rs")
}

/// The files that `path` declares as `#[cfg(test)] mod name;`, relative to `src/`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let folder = path.strip_suffix("mod.rs").map_or_else(|| path.replace(".rs", "/"), str::to_owned);
    let folder = if matches!(path, "lib.rs" | "main.rs") { "" } else { &folder };
    let code = without_text(text);
    let declared = code.split("#[cfg(test)]").skip(1).filter_map(|after| {
        let item = after.split([';', '{']).next()?;
        let name =
            item.rsplit("mod ").next().filter(|_| item.contains("mod ") && after[item.len()..].starts_with(';'))?;
        Some(format!("{folder}{}.rs", name.trim()))
    });
    declared.collect()
}

#[test]
fn test_modules_are_found_by_their_declaration() {
    let text = "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\npub(crate) mod c;\n#[cfg(test)]\nmod d {\n    mod e;\n}\n";
    assert_eq!(test_modules("domain/mod.rs", text), ["domain/b.rs", "domain/c.rs"]);
    assert_eq!(test_modules("domain/route.rs", text), ["domain/route/b.rs", "domain/route/c.rs"]);
    assert_eq!(test_modules("lib.rs", text), ["b.rs", "c.rs"]);
}
