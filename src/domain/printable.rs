//! Text for a terminal: without characters that control it, are invisible, or change the direction of what follows.
//!
//! A provider's text, a manifest or a file name can hold an escape sequence that clears the screen, a newline that starts
//! a line of its own, or a mark that shows digits in another order. They are shown as escapes, so that they are noticed.

use std::fmt::Write as _;

/// The text on one line: control characters, line breaks and invisible characters are escapes such as `\n` and `\u{202e}`.
pub fn cell(text: &str) -> String {
    escaped(text, |_| false, rust_escape)
}

/// Lines of text: as [`cell`], but line feeds are kept.
pub fn lines(text: &str) -> String {
    escaped(text, |c| c == '\n', rust_escape)
}

/// JSON, or YAML whose strings are written as in JSON: the characters of [`lines`] are escapes of its strings.
pub fn data(text: &str) -> String {
    escaped(text, |c| c == '\n', data_escape)
}

/// The first `most` characters of a [`cell`], with `…` in place of the rest.
pub fn cell_of(text: &str, most: usize) -> String {
    let cut: String = text.chars().take(most).collect();
    let ends = if cut.len() < text.len() { "…" } else { "" };
    cell(&cut) + ends
}

/// Whether a character does not show as itself: controls of C0 and C1, line and paragraph separators, marks and overrides
/// of direction, zero-width and other blank characters, interlinear annotations, and tags.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn escaped(text: &str, keep: impl Fn(char) -> bool, escape: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) && !keep(c) {
            escape(&mut out, c);
        } else {
            out.push(c);
        }
    }
    out
}

fn rust_escape(out: &mut String, c: char) {
    match c {
        '\n' | '\r' | '\t' => out.extend(c.escape_default()),
        other => out.extend(other.escape_unicode()),
    }
}

fn data_escape(out: &mut String, c: char) {
    // Readers of JSON know no longer escape than this one; beyond it they know pairs, as of UTF-16.
    let mut units = [0; 2];
    for unit in c.encode_utf16(&mut units).iter() {
        let _ = write!(out, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_line_breaks_and_marks_of_direction_are_shown_as_escapes() {
        for (raw, shown) in [
            ("a\u{1b}[2Jb", r"a\u{1b}[2Jb"),
            ("one\ntwo\r\n\tthree", r"one\ntwo\r\n\tthree"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("pay \u{202e}0001 \u{2066}x\u{2069}", r"pay \u{202e}0001 \u{2066}x\u{2069}"),
            ("zero\u{200b}width\u{feff}", r"zero\u{200b}width\u{feff}"),
            ("\u{e0041}\u{2028}\u{7f}", r"\u{e0041}\u{2028}\u{7f}"),
            ("naïve 漢字 עברית 🏦", "naïve 漢字 עברית 🏦"),
        ] {
            assert_eq!(cell(raw), shown);
        }
        assert_eq!(lines("a\nb\u{1b}"), "a\nb\\u{1b}");
    }

    #[test]
    fn data_stays_the_same_for_a_reader() {
        for text in ["\u{202e}x", "\u{9b}", "\u{7f}", "\u{e0041}"] {
            let json = serde_json::Value::String(text.to_owned()).to_string();
            let shown = data(&json);
            assert!(!shown.chars().any(is_hidden), "{shown:?}");
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }

    #[test]
    fn a_long_cell_is_cut() {
        assert_eq!(cell_of("abcdef", 3), "abc…");
        assert_eq!(cell_of("abc", 3), "abc");
        assert_eq!(cell_of("\nbc", 1), "\\n…");
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in any::<String>()) {
            prop_assert!(!cell(&text).chars().any(is_hidden));
            prop_assert!(lines(&text).chars().all(|c| c == '\n' || !is_hidden(c)));
        }
    }
}
