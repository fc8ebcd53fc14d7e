//! A value of a column, as both engines have it.

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// NULL.
    Null,
    /// A whole number, or a truth value as 0 or 1.
    Integer(i64),
    /// A text, or an exact decimal with its digits.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// The values of one row, in the order of the columns.
pub(crate) type Row = Vec<Cell>;
