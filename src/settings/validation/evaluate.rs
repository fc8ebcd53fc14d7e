//! Evaluates a rule for a record, in a limited number of steps.

use super::error::RuleError;
use super::functions::Function;
use super::node::{Loop, Node};
use super::value::RuleValue;

/// Most steps of a rule for one record: each node that is evaluated is one, and so is each item or field that is
/// compared or copied. More than a thousand times what a rule of the documentation takes.
const MAX_STEPS: u32 = 20_000;

/// Whether `rule` holds for `record`.
pub(super) fn holds(rule: &Node, record: &RuleValue) -> Result<bool, RuleError> {
    let mut evaluation = Evaluation { record, steps: 0, variables: Vec::new() };
    match evaluation.value(rule)? {
        RuleValue::Bool(holds) => Ok(holds),
        _ => Err(RuleError::Type),
    }
}

struct Evaluation<'a> {
    record: &'a RuleValue,
    steps: u32,
    variables: Vec<(String, RuleValue)>,
}

impl Evaluation<'_> {
    fn step(&mut self, count: usize) -> Result<(), RuleError> {
        self.steps = self.steps.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.steps > MAX_STEPS { Err(RuleError::TooCostly) } else { Ok(()) }
    }

    fn value(&mut self, node: &Node) -> Result<RuleValue, RuleError> {
        self.step(1)?;
        match node {
            Node::Constant(value) => Ok(value.clone()),
            Node::Record => Ok(self.record.clone()),
            Node::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or(RuleError::NotFound)
            }
            Node::Select(of, field) => match self.value(of)? {
                RuleValue::Map(fields) => fields.get(field).cloned().ok_or(RuleError::NotFound),
                _ => Err(RuleError::Type),
            },
            Node::Has(of, field) => match self.value(of)? {
                RuleValue::Map(fields) => {
                    Ok(RuleValue::Bool(fields.get(field).is_some_and(|value| !matches!(value, RuleValue::Null))))
                }
                RuleValue::Null => Ok(RuleValue::Bool(false)),
                _ => Err(RuleError::Type),
            },
            Node::Index(of, at) => self.item(of, at),
            Node::And(a, b) => self.logical(a, b, false),
            Node::Or(a, b) => self.logical(a, b, true),
            Node::Condition(condition, one, other) => match self.value(condition)? {
                RuleValue::Bool(true) => self.value(one),
                RuleValue::Bool(false) => self.value(other),
                _ => Err(RuleError::Type),
            },
            Node::Call(function, arguments) => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    let value = match self.value(argument) {
                        // Not strictly false: an error is not false.
                        Err(error) if *function == Function::NotFalse => {
                            if error == RuleError::TooCostly {
                                return Err(error);
                            }
                            RuleValue::Null
                        }
                        value => value?,
                    };
                    self.step(weight(&value))?;
                    values.push(value);
                }
                function.call(&values)
            }
            Node::List(items) => {
                let values = items.iter().map(|item| self.value(item)).collect::<Result<Vec<_>, _>>()?;
                Ok(RuleValue::List(values.into()))
            }
            Node::Loop(looped) => self.looped(looped),
        }
    }

    fn item(&mut self, of: &Node, at: &Node) -> Result<RuleValue, RuleError> {
        match (self.value(of)?, self.value(at)?) {
            (RuleValue::List(items), RuleValue::Int(at)) => {
                let found = usize::try_from(at).ok().and_then(|at| items.get(at).cloned());
                found.ok_or(RuleError::NotFound)
            }
            (RuleValue::Map(fields), RuleValue::Text(name)) => fields.get(&*name).cloned().ok_or(RuleError::NotFound),
            _ => Err(RuleError::Type),
        }
    }

    /// `&&` and `||`: the side that decides is enough, even if the other has no value. `decisive` is the value that
    /// decides.
    fn logical(&mut self, a: &Node, b: &Node, decisive: bool) -> Result<RuleValue, RuleError> {
        let mut undecided = None;
        for side in [a, b] {
            match self.value(side) {
                Ok(RuleValue::Bool(is)) if is == decisive => return Ok(RuleValue::Bool(is)),
                Ok(RuleValue::Bool(_)) => {}
                Ok(_) => undecided = undecided.or(Some(RuleError::Type)),
                Err(RuleError::TooCostly) => return Err(RuleError::TooCostly),
                Err(error) => undecided = undecided.or(Some(error)),
            }
        }
        undecided.map_or(Ok(RuleValue::Bool(!decisive)), Err)
    }

    fn looped(&mut self, looped: &Loop) -> Result<RuleValue, RuleError> {
        let items: Vec<RuleValue> = match self.value(&looped.list)? {
            RuleValue::List(items) => items.to_vec(),
            RuleValue::Map(fields) => fields.keys().map(|name| RuleValue::text(name)).collect(),
            _ => return Err(RuleError::Type),
        };
        self.step(items.len())?;
        let depth = self.variables.len();
        let start = self.value(&looped.start)?;
        self.variables.push((looped.result.clone(), start));
        let result = self.rounds(looped, items, depth);
        self.variables.truncate(depth);
        result
    }

    fn rounds(&mut self, looped: &Loop, items: Vec<RuleValue>, depth: usize) -> Result<RuleValue, RuleError> {
        for item in items {
            self.variables.truncate(depth + 1);
            self.variables.push((looped.item.clone(), item));
            if matches!(self.value(&looped.goes_on)?, RuleValue::Bool(false)) {
                break;
            }
            let next = self.value(&looped.step)?;
            if let Some(result) = self.variables.get_mut(depth) {
                result.1 = next;
            }
        }
        self.variables.truncate(depth + 1);
        self.value(&looped.end)
    }
}

/// How many values a value consists of.
fn weight(value: &RuleValue) -> usize {
    match value {
        RuleValue::List(items) => items.iter().map(|item| weight(item) + 1).sum(),
        RuleValue::Map(fields) => fields.len(),
        RuleValue::Text(text) => text.len() / 64,
        _ => 0,
    }
}
