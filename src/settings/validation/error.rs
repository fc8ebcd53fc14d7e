//! Why a rule cannot be compiled, and why it has no outcome for a record.

/// A rule that cannot be compiled.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct RuleProblem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
}

impl RuleProblem {
    /// A problem with the text at byte `offset` of `rule`.
    pub(super) fn at(rule: &str, offset: usize, problem: impl Into<String>) -> Self {
        let before = rule.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column, problem: problem.into() }
    }
}

/// Why a rule has no outcome for a record; the record is rejected then.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    /// More steps than a rule may take.
    #[error("the rule takes too many steps")]
    TooCostly,
    /// A field, key or index that is not there.
    #[error("no such field")]
    NotFound,
    /// An operation on values of the wrong type.
    #[error("the types do not fit")]
    Type,
    /// A number that has no exact result, or a division by zero.
    #[error("the number is out of range")]
    Range,
}
