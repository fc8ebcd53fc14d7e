//! Reads `PromQL` as far as our rules and dashboards use it: which series and labels an expression names.

use std::collections::BTreeSet;

/// Words that are operators, and modifiers that a list of labels follows.
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
const LABEL_LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    /// The content of `{…}`.
    Matchers(String),
    /// A character of punctuation.
    Other(char),
}

/// The tokens outside strings, ranges and numbers.
fn tokens(expression: &str) -> Vec<Token> {
    let (mut found, mut rest) = (Vec::new(), expression);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' => quoted(rest),
            '{' => {
                let length = enclosed(rest, '}');
                found.push(Token::Matchers(rest[1..length - 1].to_owned()));
                length
            }
            '[' => enclosed(rest, ']'),
            c if c.is_ascii_digit() => {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len())
            }
            c if is_name(c) => {
                let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                found.push(Token::Word(rest[..length].to_owned()));
                length
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token::Other(c));
                }
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The length of the string at the start of `text`.
fn quoted(text: &str) -> usize {
    let quote = text.chars().next().unwrap();
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The length up to the closing character, strings skipped.
fn enclosed(text: &str, closing: char) -> usize {
    let mut at = 1;
    while let Some(next) = text[at..].chars().next() {
        match next {
            '"' | '\'' => at += quoted(&text[at..]),
            c if c == closing => return at + 1,
            c => at += c.len_utf8(),
        }
    }
    panic!("{closing} is missing in {text}")
}

/// Calls `visit` with each word that is not in a list of labels, and the token after it; returns the labels of the lists.
fn walk(expression: &str, mut visit: impl FnMut(&str, Option<&Token>)) -> BTreeSet<String> {
    let tokens = tokens(expression);
    let (mut labels, mut at) = (BTreeSet::new(), 0);
    while let Some(token) = tokens.get(at) {
        at += 1;
        let Token::Word(word) = token else { continue };
        if LABEL_LISTS.contains(&word.as_str()) && tokens.get(at) == Some(&Token::Other('(')) {
            while tokens.get(at).is_some_and(|token| *token != Token::Other(')')) {
                if let Some(Token::Word(label)) = tokens.get(at) {
                    labels.insert(label.clone());
                }
                at += 1;
            }
        } else if !OPERATORS.contains(&word.as_str()) {
            visit(word, tokens.get(at));
        }
    }
    labels
}

/// The names of the series: words that are no function, aggregation, operator or label.
pub(crate) fn series(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(expression, |word, next| {
        let is_call = next == Some(&Token::Other('('))
            || matches!(next, Some(Token::Word(modifier)) if LABEL_LISTS.contains(&modifier.as_str()));
        let is_aggregation = ["sum", "min", "max", "count", "avg"].contains(&word);
        if !is_call || !(is_aggregation || next == Some(&Token::Other('('))) {
            found.insert(word.to_owned());
        }
    });
    found
}

/// Whether the expression selects or groups by this label.
pub(crate) fn uses_label(expression: &str, label: &str) -> bool {
    let matched = |matchers: &str| {
        let names = tokens(matchers).into_iter().filter_map(|token| match token {
            Token::Word(word) => Some(word),
            _ => None,
        });
        names.into_iter().any(|name| name == label)
    };
    walk(expression, |_, _| {}).contains(label)
        || tokens(expression).iter().any(|token| matches!(token, Token::Matchers(text) if matched(text)))
}

#[test]
fn series_are_told_from_functions_labels_operators_and_strings() {
    let expression = r#"histogram_quantile(0.95, sum by (le, name) (rate(a_bucket{x="b_total", y=~"c{d}"}[5m])))
        / on (job) group_left (pod) (max(busbar:e:rate5m) > bool 2e3) unless f or vector(0) - time()
        and label_replace(g{z='h'}, "i", "$1", "j", "(.+)") offset 5m"#;
    let expected = ["a_bucket", "busbar:e:rate5m", "f", "g"].map(str::to_owned);
    assert_eq!(series(expression), BTreeSet::from(expected));
    for (label, used) in
        [("le", true), ("pod", true), ("x", true), ("z", true), ("b_total", false), ("a_bucket", false)]
    {
        assert_eq!(uses_label(expression, label), used, "{label}");
    }
}
