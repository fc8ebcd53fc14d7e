//! Rejects circles of imports between source files: a file that imports another never depends on it in turn, directly or
//! through others. `mod` declarations do not count, re-exports do.

use std::collections::{BTreeMap, BTreeSet};

use crate::product_sources::product_sources;
use crate::source::{paths, read, without_tests, without_text};

/// The imports of every file: path relative to `src/` → the files whose items it names.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The module that the file `path` holds, as segments below the crate root: `a/b/mod.rs` and `a/b.rs` are `[a, b]`.
fn module(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// The imports among `sources`, pairs of path relative to `src/` and text.
fn imports(sources: &[(String, String)]) -> Imports {
    let files: BTreeMap<Vec<String>, &str> = sources.iter().map(|(path, _)| (module(path), path.as_str())).collect();
    let of = |(path, text): &(String, String)| {
        let own = module(path);
        let named = paths(&without_tests(&without_text(text)));
        let targets = named.into_iter().filter_map(|(_, name)| {
            let full = absolute(&own, &name, &files)?;
            // The longest prefix that is a file is where the item is looked up; `lib.rs` holds no items.
            (1..=full.len()).rev().find_map(|n| files.get(&full[..n])).map(|file| (*file).to_owned())
        });
        (path.clone(), targets.filter(|target| target != path).collect())
    };
    sources.iter().map(of).collect()
}

/// `name`, as written in the module `own`, from the crate root; `None` for other crates' paths.
fn absolute(own: &[String], name: &[String], files: &BTreeMap<Vec<String>, &str>) -> Option<Vec<String>> {
    let (mut base, mut rest) = (own.to_vec(), name);
    match rest.first()?.as_str() {
        "crate" | "busbar" => (base, rest) = (Vec::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|s| s == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        first => {
            base.push(first.to_owned());
            files.contains_key(&base).then_some(())?;
            base.pop();
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The circles: groups of files that reach each other, a line each with the edges that tie them.
fn circles(imports: &Imports) -> Vec<String> {
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|file| (file, reached(imports, file))).collect();
    let mut found = BTreeSet::new();
    for (file, targets) in &reach {
        if targets.contains(file) {
            let circle: BTreeSet<_> = targets.iter().filter(|other| reach[**other].contains(file)).copied().collect();
            found.insert(circle);
        }
    }
    let edges = |circle: &BTreeSet<&String>| {
        let of = |file: &&String| {
            let within = imports[*file].iter().filter(|target| circle.contains(target));
            format!("{file} -> {}", within.map(String::as_str).collect::<Vec<_>>().join(", "))
        };
        circle.iter().map(of).collect::<Vec<_>>().join("; ")
    };
    found.iter().map(|circle| format!("{} files import each other: {}", circle.len(), edges(circle))).collect()
}

/// The files that `from` imports, directly or through others.
fn reached<'a>(imports: &'a Imports, from: &str) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = imports[from].iter().collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(imports.get(file).into_iter().flatten());
        }
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources: Vec<_> =
        product_sources().into_iter().map(|path| (path.clone(), read(format!("src/{path}")))).collect();
    let imports = imports(&sources);
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 1000, "the scan found too little");
    let found = circles(&imports);
    assert!(found.is_empty(), "\nmove what both sides need to a file of its own:\n{}\n", found.join("\n"));
}

#[test]
fn a_planted_circle_is_found() {
    let planted = |files: &[(&str, &str)]| {
        let sources: Vec<_> = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        circles(&imports(&sources))
    };
    let direct =
        planted(&[("a/b.rs", "use crate::a::c::X;"), ("a/c.rs", "fn f() { super::b::g() }"), ("a/mod.rs", "")]);
    assert_eq!(direct, ["2 files import each other: a/b.rs -> a/c.rs; a/c.rs -> a/b.rs"]);
    let through_parent = planted(&[("a/mod.rs", "mod b;\npub use b::X;\nstruct Y;"), ("a/b.rs", "use super::Y;")]);
    assert_eq!(through_parent.len(), 1, "a re-export is an import");
    let three = planted(&[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")]);
    assert_eq!(three.len(), 1);
    let tests_are_free =
        planted(&[("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }")]);
    assert_eq!(tests_are_free, [""; 0]);
    let one_way = planted(&[("a/mod.rs", "mod b;\nmod c;\nuse b::X;"), ("a/b.rs", "use super::c::Y;"), ("a/c.rs", "")]);
    assert_eq!(one_way, [""; 0]);
}
