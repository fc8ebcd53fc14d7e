//! The digest of a table: the number of its rows, and a hash that depends on their content and not on their order.
//!
//! The hash is the sum of the rows' SHA-256 values modulo 2^256, so that neither ledger has to sort. Values that an engine
//! stores in a form of its own are hashed in a common one: a decimal column without the sign of a zero, which PostgreSQL does
//! not keep, and a column of bytes as bytes.

use sha2::{Digest as _, Sha256};

use super::cell::Cell;
use super::table::{ColumnKind, TablePair};

/// Digest of a table.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableDigest {
    /// Rows.
    pub(super) rows: u64,
    /// Little-endian.
    sum: [u8; 32],
}

/// The common form of the columns of a table.
#[derive(Clone, Debug)]
pub(super) struct Forms(Vec<ColumnKind>);

impl Forms {
    /// Of a table that is compared with its counterpart.
    pub(super) fn of(pair: &TablePair) -> Self {
        let common = |(one, other): (ColumnKind, ColumnKind)| match (one, other) {
            (ColumnKind::Bytes, _) | (_, ColumnKind::Bytes) => ColumnKind::Bytes,
            (ColumnKind::Decimal, _) | (_, ColumnKind::Decimal) => ColumnKind::Decimal,
            (one, _) => one,
        };
        let kinds = pair.source.columns.iter().zip(&pair.target.columns).map(|(one, other)| (one.kind, other.kind));
        Self(kinds.map(common).collect())
    }
}

impl TableDigest {
    /// Adds a row.
    pub(super) fn add(&mut self, row: &[Cell], forms: &Forms) {
        let mut hash = Sha256::new();
        for (cell, form) in row.iter().zip(&forms.0) {
            update(&mut hash, cell, *form);
        }
        let mut carry = 0_u16;
        for (byte, added) in self.sum.iter_mut().zip(hash.finalize()) {
            let sum = u16::from(*byte) + u16::from(added) + carry;
            let [low, high] = sum.to_le_bytes();
            *byte = low;
            carry = u16::from(high);
        }
        self.rows += 1;
    }

    /// The first half of the hash in hexadecimal: enough to tell two tables apart at a glance.
    pub(super) fn short(&self) -> String {
        hex::encode(&self.sum[..8])
    }
}

/// Each value with its type and length, so that no two rows have one encoding.
fn update(hash: &mut Sha256, cell: &Cell, form: ColumnKind) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        hash.update([tag]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    match (cell, form) {
        (Cell::Null, _) => tagged(0, &[]),
        (Cell::Integer(number), ColumnKind::Decimal | ColumnKind::Text) => tagged(2, number.to_string().as_bytes()),
        (Cell::Integer(number), _) => tagged(1, &number.to_be_bytes()),
        (Cell::Text(text), ColumnKind::Bytes) => tagged(3, text.as_bytes()),
        (Cell::Text(text), ColumnKind::Decimal) => tagged(2, without_sign_of_zero(text).as_bytes()),
        (Cell::Text(text), _) => tagged(2, text.as_bytes()),
        (Cell::Bytes(bytes), _) => tagged(3, bytes),
    }
}

fn without_sign_of_zero(text: &str) -> &str {
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| byte == b'0' || byte == b'.') => digits,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[&[Cell]], form: ColumnKind) -> TableDigest {
        let mut digest = TableDigest::default();
        for row in rows {
            digest.add(row, &Forms(vec![form; row.len()]));
        }
        digest
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_every_value_does() {
        let (a, b) = ([text("a"), Cell::Integer(1)], [text("b"), Cell::Null]);
        let of = |rows: &[&[Cell]]| digest(rows, ColumnKind::Text);
        assert_eq!(of(&[&a, &b]), of(&[&b, &a]));
        assert_ne!(of(&[&a, &b]), of(&[&a, &a]), "the same number of rows");
        assert_ne!(of(&[&a]), of(&[&a, &a]), "a doubled row");
        for other in [[text("a"), Cell::Integer(2)], [text("a"), text("")], [text("a "), Cell::Integer(1)]] {
            assert_ne!(of(&[&a]), of(&[&other]), "{other:?}");
        }
        assert_ne!(of(&[&[text("ab"), text("c")]]), of(&[&[text("a"), text("bc")]]), "where a value ends");
    }

    #[test]
    fn values_in_the_form_of_another_engine_are_equal() {
        let one = |cell: Cell, form| digest(&[&[cell]], form);
        assert_eq!(one(text("-0.00"), ColumnKind::Decimal), one(text("0.00"), ColumnKind::Decimal));
        assert_ne!(one(text("-0.01"), ColumnKind::Decimal), one(text("0.01"), ColumnKind::Decimal));
        assert_ne!(one(text("1.0"), ColumnKind::Decimal), one(text("1.00"), ColumnKind::Decimal), "digits are kept");
        assert_eq!(one(text("ab"), ColumnKind::Bytes), one(Cell::Bytes(b"ab".to_vec()), ColumnKind::Bytes));
        assert_ne!(one(text("-0.00"), ColumnKind::Text), one(text("0.00"), ColumnKind::Text));
    }
}
