//! What a page of the guide is to a reader: commands with their output, manifests, and what happens in between.

use std::fmt::Write as _;

/// Why commands are not run here. There are no other reasons.
const NOT_RUN: [&str; 2] = ["requires a container engine", "requires an image registry"];

/// A part of a page, in the order of the page.
#[derive(Debug, PartialEq)]
pub(super) enum Block {
    /// Commands to run, and the lines that the page shows as their output.
    Commands { commands: String, shown: Vec<String> },
    /// Commands that cannot be run on a machine that builds Busbar.
    NotRun(String),
    /// Commands that `make soak` runs: they take minutes.
    Soak(String),
    /// A manifest that begins with `# FILE`: its name and text.
    File { name: String, manifest: String },
    /// What has happened before the next commands, by `<!-- before: … -->`, and the lines that the page shows about it.
    Event { event: String, shown: Vec<String> },
}

/// The blocks of a page; languages that the reader does not run are left out.
///
/// The output of commands, and that of an event, are the `text` blocks that follow in the same section.
pub(super) fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    // Of the next commands.
    let (mut not_run, mut soak) = (None, false);
    // Whether a `text` block belongs to the last block.
    let mut output = false;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let marker = |kind: &str| line.strip_prefix(kind).and_then(|text| text.strip_suffix(" -->")).map(str::to_owned);
        if let Some(reason) = marker("<!-- not run: ") {
            assert!(NOT_RUN.contains(&&*reason), "{reason:?} is no reason for which commands are not run: {NOT_RUN:?}");
            not_run = Some(reason);
        } else if let Some(event) = marker("<!-- before: ") {
            output = true;
            found.push(Block::Event { event, shown: Vec::new() });
        } else if line.starts_with("<!-- run by make soak: ") {
            soak = true;
        } else if line.starts_with('#') {
            output = false;
        } else if let Some(language) = line.trim_start().strip_prefix("```") {
            let text =
                lines.by_ref().take_while(|line| line.trim_start() != "```").fold(String::new(), |mut text, line| {
                    let _ = writeln!(text, "{line}");
                    text
                });
            match language {
                "sh" => {
                    let (reason, by_soak) = (not_run.take(), std::mem::take(&mut soak));
                    output = reason.is_none() && !by_soak;
                    found.push(match reason {
                        Some(reason) => Block::NotRun(reason),
                        None if by_soak => Block::Soak(text),
                        None => Block::Commands { commands: text, shown: Vec::new() },
                    });
                }
                "text" if output => {
                    if let Some(Block::Commands { shown, .. } | Block::Event { shown, .. }) = found.last_mut() {
                        shown.extend(text.lines().map(str::to_owned));
                    }
                }
                "yaml" => {
                    let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
                    assert!(name.strip_suffix(".yaml").is_some(), "a manifest without its file's name: {text}");
                    output = false;
                    found.push(Block::File { name: name.to_owned(), manifest: text });
                }
                _ => {}
            }
        }
    }
    assert!(not_run.is_none() && !soak, "a marker without commands");
    found
}

/// The lines of `shown` that were not printed. Numbers, ages and times may differ, and what `…` leaves out.
pub(super) fn missing<'a>(shown: &'a [String], printed: &str) -> Vec<&'a str> {
    let printed: Vec<Vec<String>> = printed.lines().map(words).collect();
    let is_printed = |line: &&String| {
        let wanted = words(line);
        wanted.is_empty() || printed.iter().any(|line| matches(&wanted, line))
    };
    shown.iter().filter(|line| !is_printed(line)).map(String::as_str).collect()
}

/// Whether the words of a printed line are these. One that ends in `…` is any word; at the end, any words.
fn matches(wanted: &[String], printed: &[String]) -> bool {
    let open = wanted.last().is_some_and(|word| word == "…");
    let wanted = if open { &wanted[..wanted.len() - 1] } else { wanted };
    (wanted.len() == printed.len() || open && wanted.len() <= printed.len())
        && wanted.iter().zip(printed).all(|(wanted, printed)| wanted == printed || wanted.ends_with('…'))
}

/// The words of a line, with `#` for each number and each duration.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(word).filter(|word| !word.is_empty()).collect()
}

fn word(word: &str) -> String {
    // `2/2` is a state.
    if word.contains('/') && word.chars().all(|c| c == '/' || c.is_ascii_digit()) {
        return word.to_owned();
    }
    let duration = word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| "0123456789dhms".contains(c));
    if duration {
        return "#".to_owned();
    }
    // Units of durations that are words of their own.
    if word == "ms" {
        return "s".to_owned();
    }
    let mut found = String::new();
    for c in word.chars() {
        let number = c.is_ascii_digit() || c == '.' && found.ends_with('#');
        match c {
            _ if number && found.ends_with('#') => {}
            _ if number => {
                if found.ends_with('-') && found.len() == 1 {
                    found.clear();
                }
                found.push('#');
            }
            c => found.push(c),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart() {
        let page = "# A\n```sh\na\nb\n```\nProse.\n```text\n1 c\n```\n## B\n```text\nd\n```\n\
            <!-- not run: requires a container engine -->\n```sh\nc\n```\n```text\nd\n```\n<!-- before: e -->\n```text\n2 f\n```\n\
            ```yaml\n# e.yaml\nf\n```\n<!-- run by make soak: compiles -->\n```sh\ng\n```\n```python\nh\n```\n";
        let wanted = [
            Block::Commands { commands: "a\nb\n".to_owned(), shown: vec!["1 c".to_owned()] },
            Block::NotRun("requires a container engine".to_owned()),
            Block::Event { event: "e".to_owned(), shown: vec!["2 f".to_owned()] },
            Block::File { name: "e.yaml".to_owned(), manifest: "# e.yaml\nf\n".to_owned() },
            Block::Soak("g\n".to_owned()),
        ];
        assert_eq!(blocks(page), wanted);
    }

    #[test]
    #[should_panic(expected = "is no reason for which commands are not run")]
    fn commands_are_left_out_for_no_other_reason() {
        blocks("<!-- not run: takes long -->\n```sh\na\n```\n");
    }

    #[test]
    fn an_output_may_differ_in_numbers_and_in_nothing_else() {
        let shown = ["NAME  AGE", "mono  5s", "3 of 120 rows, 87 ms", "…", "hash 5f0a…", "-1.50 NGN", "Next: …"];
        let shown: Vec<String> = shown.map(str::to_owned).into();
        let printed = "NAME   AGE\nmono   1m7s\n20 of 20 rows, 1.5 s\nhash 81be\n3 NGN\nNext: a b\n";
        assert_eq!(missing(&shown, printed), Vec::<&str>::new());
        let printed = printed.replace("mono", "stereo").replace("hash", "hashes").replace("NGN", "EUR");
        assert_eq!(missing(&shown, &printed), ["mono  5s", "hash 5f0a…", "-1.50 NGN"]);
    }
}
