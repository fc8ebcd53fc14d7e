//! The functions and operators of rules.

use super::decimals;
use super::error::RuleError;
use super::value::RuleValue;

/// Longest list or text that a rule may make.
const MAX_LENGTH: usize = 1024;

/// A function or operator.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Function {
    Not,
    NotFalse,
    Negate,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Decimal,
    Text,
    Size,
    Abs,
    Round,
    Scale,
    Least,
    Greatest,
    StartsWith,
    EndsWith,
    Contains,
}

/// Names, numbers of arguments and functions. Operators have the names that CEL gives them.
const FUNCTIONS: &[(&str, usize, Function)] = &[
    ("!_", 1, Function::Not),
    ("@not_strictly_false", 1, Function::NotFalse),
    ("-_", 1, Function::Negate),
    ("_+_", 2, Function::Add),
    ("_-_", 2, Function::Subtract),
    ("_*_", 2, Function::Multiply),
    ("_/_", 2, Function::Divide),
    ("_%_", 2, Function::Remainder),
    ("_==_", 2, Function::Equal),
    ("_!=_", 2, Function::NotEqual),
    ("_<_", 2, Function::Less),
    ("_<=_", 2, Function::LessOrEqual),
    ("_>_", 2, Function::Greater),
    ("_>=_", 2, Function::GreaterOrEqual),
    ("@in", 2, Function::In),
    ("decimal", 1, Function::Decimal),
    ("string", 1, Function::Text),
    ("size", 1, Function::Size),
    ("abs", 1, Function::Abs),
    ("round", 2, Function::Round),
    ("scale", 1, Function::Scale),
    ("least", 2, Function::Least),
    ("greatest", 2, Function::Greatest),
    ("startsWith", 2, Function::StartsWith),
    ("endsWith", 2, Function::EndsWith),
    ("contains", 2, Function::Contains),
];

impl Function {
    /// The function called `name`, with its number of arguments.
    pub(super) fn named(name: &str) -> Option<(usize, Self)> {
        FUNCTIONS.iter().find(|(known, ..)| *known == name).map(|(_, count, function)| (*count, *function))
    }

    /// The names of functions, for messages.
    pub(super) fn names() -> String {
        let names =
            FUNCTIONS.iter().map(|(name, ..)| *name).filter(|name| name.bytes().all(|b| b.is_ascii_alphabetic()));
        names.collect::<Vec<_>>().join(", ")
    }

    /// The value of the function; `arguments` has as many as it takes.
    pub(super) fn call(self, arguments: &[RuleValue]) -> Result<RuleValue, RuleError> {
        match arguments {
            [one] => self.of_one(one),
            [one, two] => self.of_two(one, two),
            _ => Err(RuleError::Type),
        }
    }

    fn of_one(self, value: &RuleValue) -> Result<RuleValue, RuleError> {
        let number = || value.number().ok_or(RuleError::Type);
        Ok(match (self, value) {
            (Self::Not, RuleValue::Bool(is)) => RuleValue::Bool(!is),
            (Self::NotFalse, value) => RuleValue::Bool(!matches!(value, RuleValue::Bool(false))),
            (Self::Negate, RuleValue::Int(number)) => RuleValue::Int(number.checked_neg().ok_or(RuleError::Range)?),
            (Self::Negate, _) => RuleValue::Decimal(-number()?),
            (Self::Decimal, RuleValue::Text(text)) => {
                RuleValue::Decimal(decimals::parse(text).ok_or(RuleError::Range)?)
            }
            (Self::Decimal, _) => RuleValue::Decimal(number()?),
            (Self::Abs, _) => RuleValue::Decimal(number()?.abs()),
            (Self::Scale, _) => RuleValue::Int(i64::from(number()?.normalize().scale())),
            (Self::Size, RuleValue::Text(text)) => size(text.chars().count()),
            (Self::Size, RuleValue::List(items)) => size(items.len()),
            (Self::Size, RuleValue::Map(fields)) => size(fields.len()),
            (Self::Text, RuleValue::Text(_)) => value.clone(),
            (Self::Text, RuleValue::Bool(is)) => RuleValue::text(if *is { "true" } else { "false" }),
            (Self::Text, _) => RuleValue::text(&number()?.normalize().to_string()),
            _ => return Err(RuleError::Type),
        })
    }

    fn of_two(self, a: &RuleValue, b: &RuleValue) -> Result<RuleValue, RuleError> {
        let is = |ordering: fn(std::cmp::Ordering) -> bool| {
            a.order(b).map(|order| RuleValue::Bool(ordering(order))).ok_or(RuleError::Type)
        };
        match self {
            Self::Equal => Ok(RuleValue::Bool(a == b)),
            Self::NotEqual => Ok(RuleValue::Bool(a != b)),
            Self::Less => is(std::cmp::Ordering::is_lt),
            Self::LessOrEqual => is(std::cmp::Ordering::is_le),
            Self::Greater => is(std::cmp::Ordering::is_gt),
            Self::GreaterOrEqual => is(std::cmp::Ordering::is_ge),
            Self::In => contains(b, a),
            Self::StartsWith | Self::EndsWith | Self::Contains => self.of_texts(a, b),
            Self::Add => add(a, b),
            _ => self.of_numbers(a, b),
        }
    }

    fn of_texts(self, a: &RuleValue, b: &RuleValue) -> Result<RuleValue, RuleError> {
        let (RuleValue::Text(text), RuleValue::Text(part)) = (a, b) else { return Err(RuleError::Type) };
        Ok(RuleValue::Bool(match self {
            Self::StartsWith => text.starts_with(&**part),
            Self::EndsWith => text.ends_with(&**part),
            _ => text.contains(&**part),
        }))
    }

    fn of_numbers(self, a: &RuleValue, b: &RuleValue) -> Result<RuleValue, RuleError> {
        if let (RuleValue::Int(a), RuleValue::Int(b)) = (a, b)
            && !matches!(self, Self::Round | Self::Least | Self::Greatest)
        {
            let result = match self {
                Self::Subtract => a.checked_sub(*b),
                Self::Multiply => a.checked_mul(*b),
                Self::Divide => a.checked_div(*b),
                Self::Remainder => a.checked_rem(*b),
                _ => return Err(RuleError::Type),
            };
            return result.map(RuleValue::Int).ok_or(RuleError::Range);
        }
        let (Some(x), Some(y)) = (a.number(), b.number()) else { return Err(RuleError::Type) };
        let number = match self {
            Self::Subtract => decimals::add(x, y, true)?,
            Self::Multiply => decimals::multiply(x, y)?,
            Self::Divide => decimals::divide(x, y)?,
            Self::Remainder => decimals::remainder(x, y)?,
            Self::Least => x.min(y),
            Self::Greatest => x.max(y),
            Self::Round => match b {
                RuleValue::Int(places) => decimals::round(x, *places)?,
                _ => return Err(RuleError::Type),
            },
            _ => return Err(RuleError::Type),
        };
        Ok(RuleValue::Decimal(number))
    }
}

fn size(count: usize) -> RuleValue {
    RuleValue::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn contains(all: &RuleValue, one: &RuleValue) -> Result<RuleValue, RuleError> {
    match (all, one) {
        (RuleValue::List(items), _) => Ok(RuleValue::Bool(items.contains(one))),
        (RuleValue::Map(fields), RuleValue::Text(name)) => Ok(RuleValue::Bool(fields.contains_key(&**name))),
        _ => Err(RuleError::Type),
    }
}

fn add(a: &RuleValue, b: &RuleValue) -> Result<RuleValue, RuleError> {
    match (a, b) {
        (RuleValue::Int(a), RuleValue::Int(b)) => a.checked_add(*b).map(RuleValue::Int).ok_or(RuleError::Range),
        (RuleValue::Text(a), RuleValue::Text(b)) if a.len() + b.len() <= MAX_LENGTH => {
            Ok(RuleValue::Text(format!("{a}{b}").into()))
        }
        (RuleValue::List(a), RuleValue::List(b)) if a.len() + b.len() <= MAX_LENGTH => {
            Ok(RuleValue::List(std::sync::Arc::new(a.iter().chain(&**b).cloned().collect())))
        }
        (RuleValue::Text(_), RuleValue::Text(_)) | (RuleValue::List(_), RuleValue::List(_)) => {
            Err(RuleError::TooCostly)
        }
        _ => match (a.number(), b.number()) {
            (Some(a), Some(b)) => decimals::add(a, b, false).map(RuleValue::Decimal),
            _ => Err(RuleError::Type),
        },
    }
}
