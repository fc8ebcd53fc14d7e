//! Tables for a terminal: columns as wide as their content, one line for each row whatever its cells hold.

use jiff::Timestamp;

use crate::domain::printable;

/// Widest cell, in characters; what is longer is cut, so that a row stays readable.
const MAX_CELL: usize = 200;
/// Between two columns.
const GAP: &str = "   ";

/// A column of a table.
#[derive(Copy, Clone)]
pub(super) struct Column {
    head: &'static str,
    right: bool,
}

/// A column of texts.
pub(super) const fn left(head: &'static str) -> Column {
    Column { head, right: false }
}

/// A column of numbers.
pub(super) const fn right(head: &'static str) -> Column {
    Column { head, right: true }
}

/// An instant, to the second.
pub(super) fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The rows under their heads. An empty cell is shown as `-`.
pub(super) fn table<const N: usize>(columns: [Column; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let shown = |text: &String| if text.is_empty() { "-".to_owned() } else { printable::cell_of(text, MAX_CELL) };
    let heads = columns.map(|column| column.head.to_owned());
    let rows = rows.into_iter().map(|row| row.each_ref().map(shown));
    let lines: Vec<[String; N]> = std::iter::once(heads).chain(rows).collect();
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for ((cell, column), width) in line.iter().zip(columns).zip(widths) {
            let cell = if column.right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            text.push_str(&cell);
            text.push_str(GAP);
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_right_aligned_and_each_row_is_one_line() {
        let rows = [("a", "1"), ("two\nlines\u{1b}[2J", "1000"), ("", "\u{202e}7")];
        let printed = table([left("NAME"), right("N")], rows.map(|(name, n)| [name.to_owned(), n.to_owned()]));
        assert_eq!(
            printed,
            "NAME                          N\n\
             a                             1\n\
             two\\nlines\\u{1b}[2J        1000\n\
             -                     \\u{202e}7\n"
        );
    }

    #[test]
    fn a_long_cell_is_cut() {
        let printed = table([left("X")], [["y".repeat(1000)]]);
        assert_eq!(printed.lines().nth(1).unwrap().chars().count(), MAX_CELL + 1);
    }
}
