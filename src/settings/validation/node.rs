//! A compiled rule: a tree of checked nodes.

use super::functions::Function;
use super::value::RuleValue;

/// A node of a rule.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A constant.
    Constant(RuleValue),
    /// The record.
    Record,
    /// A variable of a loop.
    Variable(String),
    /// A field of a map.
    Select(Box<Self>, String),
    /// Whether a map has a field with a value.
    Has(Box<Self>, String),
    /// An item of a list or map.
    Index(Box<Self>, Box<Self>),
    /// Both, whichever is evaluated first.
    And(Box<Self>, Box<Self>),
    /// Either, whichever is evaluated first.
    Or(Box<Self>, Box<Self>),
    /// One of two, by a condition.
    Condition(Box<Self>, Box<Self>, Box<Self>),
    /// A function of its arguments.
    Call(Function, Vec<Self>),
    /// A list.
    List(Vec<Self>),
    /// A loop over a list.
    Loop(Box<Loop>),
}

/// A loop over a list, which macros such as `all` stand for.
#[derive(Clone, Debug)]
pub(super) struct Loop {
    pub(super) list: Node,
    pub(super) item: String,
    pub(super) result: String,
    pub(super) start: Node,
    pub(super) goes_on: Node,
    pub(super) step: Node,
    pub(super) end: Node,
}
