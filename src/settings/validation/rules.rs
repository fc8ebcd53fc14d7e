//! The rules of a job, compiled once.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::compile::compile;
use super::error::RuleProblem;
use super::evaluate::holds;
use super::fields::record_fields;
use super::node::Node;
use super::value::RuleValue;
use crate::profile::RecordKind;

/// Most sets of rules that are kept compiled; with more, all are compiled again.
const MAX_KEPT: usize = 512;

/// A rule as a job writes it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RuleSource {
    /// Its name.
    pub name: String,
    /// The expression.
    pub rule: String,
    /// What a record that fails is told.
    pub message: String,
}

/// The rule that a record fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailedRule {
    /// Its name.
    pub name: String,
    /// Its message.
    pub message: String,
}

/// Compiled rules. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Validations {
    rules: Vec<(RuleSource, Node)>,
}

/// A set of rules and what it is for.
type RuleSet = (RecordKindName, Vec<RuleSource>);
/// The name of a kind of records.
type RecordKindName = &'static str;

/// The sets of rules that were compiled: a job is resolved many times for one generation.
static COMPILED: LazyLock<Mutex<HashMap<RuleSet, Arc<Validations>>>> = LazyLock::new(Mutex::default);

impl Validations {
    /// Compiles rules over records of `kind`; those that were compiled before are not compiled again.
    ///
    /// # Errors
    /// The index of the first rule that cannot be compiled, and why.
    pub fn compile(kind: RecordKind, sources: Vec<RuleSource>) -> Result<Arc<Self>, (usize, RuleProblem)> {
        if sources.is_empty() {
            return Ok(Arc::default());
        }
        let set = (kind.as_str(), sources);
        if let Some(known) = COMPILED.lock().unwrap_or_else(PoisonError::into_inner).get(&set) {
            return Ok(Arc::clone(known));
        }
        let fields = record_fields(kind);
        let mut rules = Vec::with_capacity(set.1.len());
        for (index, source) in set.1.iter().enumerate() {
            let node = compile(&source.rule, fields.as_deref()).map_err(|problem| (index, problem))?;
            rules.push((source.clone(), node));
        }
        let compiled = Arc::new(Self { rules });
        let mut kept = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(set, Arc::clone(&compiled));
        Ok(compiled)
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Checks a record. A rule that has no outcome for it, because a field is missing or the rule takes too long, is one
    /// that it fails.
    ///
    /// # Errors
    /// The first rule that the record fails.
    pub fn check(&self, record: &RuleValue) -> Result<(), FailedRule> {
        for (source, rule) in &self.rules {
            let outcome = catch_unwind(AssertUnwindSafe(|| holds(rule, record)));
            if !matches!(outcome, Ok(Ok(true))) {
                return Err(FailedRule { name: source.name.clone(), message: source.message.clone() });
            }
        }
        Ok(())
    }
}
