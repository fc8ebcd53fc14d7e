//! Reads this project's own files the way the architecture and document tests need them.
//!
//! A small scanner, not a Rust parser: it blanks comments, literals and test code, keeps line numbers, and lists the
//! paths that what is left names. Where it is unsure it reports more than there is, never less.

use std::fs;
use std::path::{Path, PathBuf};

/// The project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` (relative to the root) with the extension `ext`, sorted, as paths relative to the root.
/// Build output and hidden folders are left out.
pub(crate) fn files(dir: &str, ext: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == ext) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The text of a file, its path relative to the root.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `text` with comments and the insides of string and character literals blanked. Lines stay where they are.
pub(crate) fn without_text(text: &str) -> String {
    let s: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let blank = |out: &mut String, from: &[char]| out.extend(from.iter().map(|&c| if c == '\n' { c } else { ' ' }));
    while i < s.len() {
        let end = match s[i] {
            '/' if s.get(i + 1) == Some(&'/') => line_end(&s, i),
            '/' if s.get(i + 1) == Some(&'*') => block_comment_end(&s, i),
            'r' | 'b' | 'c' if !i.checked_sub(1).is_some_and(|p| is_word(s[p])) => raw_string_end(&s, i).unwrap_or(i),
            '"' => string_end(&s, i, '"'),
            // A lifetime has no closing quote two or more characters on.
            '\'' if s.get(i + 1) == Some(&'\\') || s.get(i + 2) == Some(&'\'') => string_end(&s, i, '\''),
            _ => i,
        };
        if end > i {
            blank(&mut out, &s[i..end]);
            i = end;
        } else {
            out.push(s[i]);
            i += 1;
        }
    }
    out
}

/// `code` (from [`without_text`]) with every item under `#[cfg(test)]` or `#[test]` blanked. Lines stay where they are.
pub(crate) fn without_tests(code: &str) -> String {
    let mut s: Vec<char> = code.chars().collect();
    let mut from = 0;
    while let Some(start) = next_test_attribute(&s, from) {
        // The item ends with its `;`, or with the brace that closes its first `{`.
        let (mut depth, mut end) = (0_usize, start);
        let mut brackets = 0_usize;
        while end < s.len() {
            match s[end] {
                '[' | '(' => brackets += 1,
                ']' | ')' => brackets = brackets.saturating_sub(1),
                '{' => depth += 1,
                '}' if depth <= 1 => break,
                '}' => depth -= 1,
                ';' if depth == 0 && brackets == 0 => break,
                _ => {}
            }
            end += 1;
        }
        let end = (end + 1).min(s.len());
        for c in &mut s[start..end] {
            if *c != '\n' {
                *c = ' ';
            }
        }
        from = end;
    }
    s.into_iter().collect()
}

/// A path that code names, and the line (from 1) where it starts: `(7, ["crate", "domain", "key", "ObjectKey"])`.
pub(crate) type Named = (usize, Vec<String>);

/// Every path with at least one `::` in `code`, `use` trees expanded.
pub(crate) fn paths(code: &str) -> Vec<Named> {
    let s: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let mut i = 0;
    while i < s.len() {
        let starts = is_word(s[i]) && (i == 0 || !is_word(s[i - 1])) && !follows_colons(&s, i);
        if starts {
            let line = 1 + s[..i].iter().filter(|&&c| c == '\n').count();
            i = tree(&s, i, &[], line, &mut found);
        } else {
            i += 1;
        }
    }
    found.retain(|(_, path)| path.len() > 1);
    found
}

/// Reads one path or `use` tree at `i`, adds its leaves to `found`, and returns where it ends.
fn tree(s: &[char], mut i: usize, prefix: &[String], line: usize, found: &mut Vec<Named>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        i = skip_space(s, i);
        if s.get(i) == Some(&'{') && path.len() > prefix.len() {
            i += 1;
            loop {
                i = skip_space(s, i);
                match s.get(i) {
                    Some('}') => return i + 1,
                    None => return i,
                    Some(&c) if is_word(c) || c == '*' => i = tree(s, i, &path, line, found),
                    Some(_) => i += 1,
                }
            }
        }
        let start = i;
        while i < s.len() && is_word(s[i]) {
            i += 1;
        }
        if start == i {
            // `name::*` names what stands before the star.
            i += usize::from(s.get(i) == Some(&'*'));
            break;
        }
        path.push(s[start..i].iter().collect());
        let after = skip_space(s, i);
        if s.get(after) == Some(&':') && s.get(after + 1) == Some(&':') {
            i = after + 2;
        } else {
            break;
        }
    }
    found.push((line, path));
    // Within braces, `name as other` names one thing.
    let next = skip_space(s, i);
    if !prefix.is_empty()
        && next > i
        && s.get(next..next + 3).is_some_and(|w| w[0] == 'a' && w[1] == 's' && w[2] == ' ')
    {
        i = skip_space(s, next + 3);
        while s.get(i).is_some_and(|&c| is_word(c)) {
            i += 1;
        }
    }
    i
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn skip_space(s: &[char], mut i: usize) -> usize {
    while s.get(i).is_some_and(|c| c.is_whitespace()) {
        i += 1;
    }
    i
}

/// Whether `::` stands before `i`, so that a path which starts there has started already (or is `<T>::name`).
fn follows_colons(s: &[char], i: usize) -> bool {
    let before = s[..i].iter().rev().find(|c| !c.is_whitespace());
    let at = s[..i].iter().rposition(|c| !c.is_whitespace());
    // A leading `::name` names an external crate: nothing, or no word, stands before it.
    before == Some(&':')
        && at.and_then(|a| a.checked_sub(2)).is_some_and(|a| s[a + 1] == ':' && (is_word(s[a]) || s[a] == '>'))
}

fn line_end(s: &[char], i: usize) -> usize {
    s[i..].iter().position(|&c| c == '\n').map_or(s.len(), |n| i + n)
}

fn block_comment_end(s: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < s.len() {
        match (s[i], s.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => {
                (depth, i) = (depth - 1, i + 2);
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    i
}

fn string_end(s: &[char], start: usize, quote: char) -> usize {
    let mut i = start + 1;
    while i < s.len() && s[i] != quote {
        i += if s[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(s.len())
}

/// The end of `r"…"`, `r#"…"#`, `br"…"` or `cr"…"` at `i`; `None` if that is not what stands there.
fn raw_string_end(s: &[char], mut i: usize) -> Option<usize> {
    if s[i] != 'r' {
        i += 1;
    }
    (s.get(i) == Some(&'r')).then_some(())?;
    i += 1;
    let hashes = s[i..].iter().take_while(|&&c| c == '#').count();
    i += hashes;
    (s.get(i) == Some(&'"')).then_some(())?;
    i += 1;
    while i < s.len() {
        if s[i] == '"' && s[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(i)
}

/// Where the next `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[test]` or `#[…::test]` begins, from `from` on.
fn next_test_attribute(s: &[char], from: usize) -> Option<usize> {
    let mut i = from;
    while i + 1 < s.len() {
        if s[i] == '#' && s[i + 1] == '[' {
            let mut end = i + 2;
            let mut depth = 1;
            while end < s.len() && depth > 0 {
                match s[end] {
                    '[' => depth += 1,
                    ']' => depth -= 1,
                    _ => {}
                }
                end += 1;
            }
            let inside: String = s[i + 2..end.saturating_sub(1)].iter().filter(|c| !c.is_whitespace()).collect();
            let name = inside.split('(').next().unwrap_or_default();
            let is_test = name == "test"
                || name.ends_with("::test")
                || inside == "cfg(test)"
                || (inside.starts_with("cfg(all(") && inside.contains("test,"));
            if is_test {
                return Some(i);
            }
            i = end;
        } else {
            i += 1;
        }
    }
    None
}

#[test]
fn text_and_test_code_are_blanked_and_lines_stay() {
    let code = "//! crate::a\nfn f<'a>(x: &'a str) { g(\"crate::b\", 'c', '\\'', r#\"crate::\"c\"#); }\n/* crate::d\n*/\n\
                #[cfg(test)]\nmod tests {\n    use crate::e::X;\n    fn y() { z(); }\n}\nuse crate::f::Y;\n";
    let left = without_tests(&without_text(code));
    assert_eq!(left.lines().count(), code.lines().count());
    assert_eq!(paths(&left), [(10, vec!["crate".to_owned(), "f".to_owned(), "Y".to_owned()])]);
}

#[test]
fn use_trees_and_inline_paths_are_expanded() {
    let named = |code: &str| paths(code).into_iter().map(|(_, p)| p.join("::")).collect::<Vec<_>>();
    assert_eq!(
        named("use crate::{domain::{key::ObjectKey, time as t}, clock::*};"),
        ["crate::domain::key::ObjectKey", "crate::domain::time", "crate::clock"]
    );
    assert_eq!(
        named("let x: Vec<kube::Client> = crate::app::run(::http::Method::GET);"),
        ["kube::Client", "crate::app::run", "http::Method::GET"]
    );
    assert_eq!(named("if a == b { c } <T as kube::Resource>::name(x)"), ["kube::Resource"]);
}
