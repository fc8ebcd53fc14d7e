//! Reads the Prometheus text format as far as our own metrics use it.

use std::collections::BTreeMap;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// All samples of a scrape.
pub(crate) fn parse(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()
}

/// Samples of `name` that have all of `labels`.
pub(crate) fn find(text: &str, name: &str, labels: &[(&str, &str)]) -> Vec<Sample> {
    let has = |sample: &Sample, (key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|have| have == value);
    parse(text).into_iter().filter(|s| s.name == name && labels.iter().all(|label| has(s, label))).collect()
}

/// The value of the one sample of `name` with these labels; panics if there are several, for a test that means one
/// would look at another.
#[track_caller]
pub(crate) fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let found = find(text, name, labels);
    assert!(found.len() <= 1, "{name}{labels:?} is ambiguous, name more labels: {found:?}");
    found.first().map(|sample| sample.value)
}

fn sample(line: &str) -> Sample {
    let split = if line.contains('{') { line.rsplit_once("} ") } else { line.split_once(' ') };
    let (series, value) = split.unwrap_or_else(|| panic!("not a sample: {line}"));
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let value = value.trim().parse().unwrap_or_else(|error| panic!("{error}: {line}"));
    Sample { name: name.to_owned(), labels: self::labels(labels), value }
}

/// `a="x",b="y"` with the three escapes of the format.
fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = after.char_indices();
        let mut end = after.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped)) => value.push(escaped),
                    None => {}
                },
                other => value.push(other),
            }
        }
        labels.insert(key.trim_start_matches(',').to_owned(), value);
        rest = &after[end..];
    }
    labels
}

#[test]
fn samples_with_and_without_labels_and_with_escapes_are_read() {
    let text = "# TYPE x counter\nx 3\ny{a=\"1\",b=\"q\\\"}, \\\\ \"} 2.5\ny{a=\"2\",b=\"\"} +Inf\n";
    assert_eq!(value(text, "x", &[]), Some(3.0));
    assert_eq!(value(text, "y", &[("a", "1")]), Some(2.5));
    assert_eq!(find(text, "y", &[("a", "1")])[0].labels["b"], "q\"}, \\ ");
    assert_eq!(value(text, "y", &[("b", "")]), Some(f64::INFINITY));
    assert_eq!(value(text, "z", &[]), None);
}
