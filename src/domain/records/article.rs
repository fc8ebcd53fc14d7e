//! Articles.

use super::shape::{CellValue, Column, ColumnKind, RecordIdentity, RowShape, column, optional, spelling, text, time};
use crate::domain::record::BookingTime;

/// A news article.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArticleRecord {
    /// What identifies it.
    pub identity: RecordIdentity,
    /// Its address.
    pub url: String,
    /// Its title.
    pub title: Option<String>,
    /// Who published it.
    pub source: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// The summary.
    pub description: Option<String>,
    /// The text, as far as the provider gives it.
    pub content: Option<String>,
    /// When it was published.
    pub published: Option<BookingTime>,
}

impl RowShape for ArticleRecord {
    const TABLE: &'static str = "articles";
    const COLUMNS: &'static [Column] = &[
        column("url", ColumnKind::Text),
        optional("title", ColumnKind::Text),
        optional("source", ColumnKind::Text),
        optional("author", ColumnKind::Text),
        optional("description", ColumnKind::Text),
        optional("content", ColumnKind::Text),
        optional("published_on", ColumnKind::Day),
        optional("published_ms", ColumnKind::Instant),
        optional("granularity", ColumnKind::Text),
        spelling("published_text"),
    ];

    fn identity(&self) -> &RecordIdentity {
        &self.identity
    }

    fn identity_mut(&mut self) -> &mut RecordIdentity {
        &mut self.identity
    }

    fn values(&self) -> Vec<CellValue> {
        let mut values = vec![
            CellValue::Text(self.url.clone()),
            text(self.title.as_ref()),
            text(self.source.as_ref()),
            text(self.author.as_ref()),
            text(self.description.as_ref()),
            text(self.content.as_ref()),
        ];
        values.extend(time(self.published.as_ref()));
        values
    }
}
