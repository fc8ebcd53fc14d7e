//! The shape of a table, and which columns two ledgers have in common.

use super::error::TransferError;

/// What a column holds, as far as the engines differ.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    /// Whole numbers and truth values.
    Integer,
    /// Exact decimals.
    Decimal,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) kind: ColumnKind,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableShape {
    /// Its name.
    pub(crate) name: String,
    /// Its columns, in their order.
    pub(crate) columns: Vec<Column>,
    /// The columns of its primary key, in the key's order.
    pub(crate) key: Vec<String>,
    /// The tables that its rows refer to.
    pub(crate) references: Vec<String>,
}

impl TableShape {
    /// The column with this name.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A table of the source with its counterpart in the target: the same columns, in the same order.
#[derive(Clone, Debug)]
pub(super) struct TablePair {
    /// In the source.
    pub(super) source: TableShape,
    /// In the target. Its further columns get their defaults.
    pub(super) target: TableShape,
}

impl TablePair {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.source.name
    }
}

/// The tables of the source with their counterparts, in an order in which the target's references hold.
///
/// # Errors
/// If the source has a table or a column that the target lacks: it was written by a newer version.
pub(super) fn pairs(source: Vec<TableShape>, target: &[TableShape]) -> Result<Vec<TablePair>, TransferError> {
    let mut pairs = Vec::new();
    for source in source {
        let Some(counterpart) = target.iter().find(|table| table.name == source.name) else {
            return Err(TransferError::Newer { what: format!("table {}", source.name) });
        };
        let columns = source.columns.iter().map(|column| {
            counterpart
                .column(&column.name)
                .cloned()
                .ok_or_else(|| TransferError::Newer { what: format!("column {}.{}", source.name, column.name) })
        });
        let target = TableShape { columns: columns.collect::<Result<_, _>>()?, ..counterpart.clone() };
        pairs.push(TablePair { source, target });
    }
    Ok(ordered(pairs))
}

/// Referenced tables before those that refer to them. A cycle, which no schema of ours has, keeps its order.
fn ordered(mut pending: Vec<TablePair>) -> Vec<TablePair> {
    let mut ordered: Vec<TablePair> = Vec::with_capacity(pending.len());
    while !pending.is_empty() {
        let is_free = |pair: &TablePair| {
            let unmet = |name: &String| *name != pair.target.name && pending.iter().any(|other| other.name() == name);
            !pair.target.references.iter().any(unmet)
        };
        let next = pending.iter().position(is_free).unwrap_or(0);
        ordered.push(pending.remove(next));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, columns: &[&str], references: &[&str]) -> TableShape {
        let columns = columns.iter().map(|name| Column { name: (*name).to_owned(), kind: ColumnKind::Text });
        TableShape {
            name: name.to_owned(),
            columns: columns.collect(),
            key: vec!["id".to_owned()],
            references: references.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_referenced_table_comes_first_and_a_further_column_of_the_target_is_left_out() {
        let source = vec![table("rows", &["id", "stream"], &[]), table("streams", &["id"], &[])];
        let target =
            vec![table("streams", &["id", "added"], &[]), table("rows", &["stream", "id"], &["streams", "rows"])];
        let pairs = pairs(source, &target).unwrap();
        let shown: Vec<_> = pairs.iter().map(|pair| (pair.name(), pair.target.columns.len())).collect();
        assert_eq!(shown, [("streams", 1), ("rows", 2)]);
        assert_eq!(pairs[1].target.columns[0].name, "id", "in the order of the source");
    }

    #[test]
    fn a_table_or_a_column_that_the_target_lacks_is_of_a_newer_version() {
        for (source, expected) in
            [(table("later", &["id"], &[]), "table later"), (table("a", &["b"], &[]), "column a.b")]
        {
            let error = pairs(vec![source], &[table("a", &["id"], &[])]).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("newer version"), "{error}");
        }
    }
}
