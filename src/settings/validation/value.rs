//! The values of rules.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;

/// A value of a rule. There is no double: a number with a fraction is a decimal.
#[derive(Clone, Debug)]
pub enum RuleValue {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// An exact decimal.
    Decimal(Decimal),
    /// A text.
    Text(Arc<str>),
    /// A list.
    List(Arc<Vec<Self>>),
    /// Values by name.
    Map(Arc<BTreeMap<String, Self>>),
}

impl RuleValue {
    /// A text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// A text, or no value.
    pub fn optional(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    /// Values by name.
    pub fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Self::Map(Arc::new(fields.collect()))
    }

    /// The number, if it is one.
    pub(super) fn number(&self) -> Option<Decimal> {
        match self {
            Self::Int(number) => Some(Decimal::from(*number)),
            Self::Decimal(number) => Some(*number),
            _ => None,
        }
    }

    /// How two values of one type are ordered; numbers are one type.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            _ => Some(self.number()?.cmp(&other.number()?)),
        }
    }
}

impl PartialEq for RuleValue {
    /// Values of different types are not equal, nor are maps; `7`, `decimal('7')` and `decimal('7.00')` are.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(a), Self::List(b)) => a == b,
            // Whole records are not compared: it would take a step and any time.
            (Self::Map(_), _) | (_, Self::Map(_)) => false,
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }
}
