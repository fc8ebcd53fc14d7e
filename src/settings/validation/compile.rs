//! From the text of a rule to a checked tree.
//!
//! Everything that can be said of a rule without a record is said here: syntax, names, numbers of arguments, fields of
//! the record. Nesting is limited before the text is parsed, because a parser that recurses has no limit of its own,
//! and a panic of the parser is an error of the rule.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::Program;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr};

use super::error::RuleProblem;
use super::functions::Function;
use super::node::{Loop, Node};
use super::value::RuleValue;

/// Most brackets within brackets, and most conditions: what a parser that recurses must hold.
const MAX_NESTING: usize = 24;
/// Most nodes within nodes.
const MAX_DEPTH: usize = 64;
/// The name of the record.
const RECORD: &str = "record";

/// Compiles `rule` over a record with these fields; `None`: with any.
pub(super) fn compile(rule: &str, fields: Option<&[String]>) -> Result<Node, RuleProblem> {
    check_nesting(rule)?;
    let parsed = catch_unwind(AssertUnwindSafe(|| Program::compile(rule)));
    let program = match parsed {
        Ok(Ok(program)) => program,
        Ok(Err(errors)) => return Err(syntax_error(rule, &errors)),
        Err(_) => return Err(RuleProblem::at(rule, 0, "cannot be parsed: simplify the expression")),
    };
    let mut compiler = Compiler { rule, fields, variables: Vec::new() };
    compiler.node(program.expression(), 0)
}

fn syntax_error(rule: &str, errors: &cel::ParseErrors) -> RuleProblem {
    let Some(first) = errors.errors.first() else { return RuleProblem::at(rule, 0, "cannot be parsed") };
    let number = |value: isize| usize::try_from(value).unwrap_or_default().max(1);
    let problem = first.msg.lines().next().unwrap_or("syntax error").trim().to_owned();
    RuleProblem { line: number(first.pos.0), column: number(first.pos.1), problem }
}

/// Checks what must be known before a text is parsed.
fn check_nesting(rule: &str) -> Result<(), RuleProblem> {
    let (mut open, mut conditions, mut signs, mut quote) = (0_usize, 0_usize, 0_usize, None);
    let mut escaped = false;
    for (at, c) in rule.char_indices() {
        if let Some(end) = quote {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == end => quote = None,
                _ => {}
            }
            continue;
        }
        signs = if matches!(c, '!' | '-' | '.') || c.is_whitespace() { signs } else { 0 };
        match c {
            '"' | '\'' => quote = Some(c),
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            '?' => conditions += 1,
            '!' | '-' => signs += 1,
            _ => {}
        }
        if open > MAX_NESTING || conditions > MAX_NESTING || signs > MAX_NESTING {
            return Err(RuleProblem::at(rule, at, "is nested too deeply: simplify the expression"));
        }
    }
    Ok(())
}

struct Compiler<'a> {
    rule: &'a str,
    fields: Option<&'a [String]>,
    variables: Vec<String>,
}

impl Compiler<'_> {
    /// A problem with the first occurrence of `name`.
    fn problem(&self, name: &str, problem: impl Into<String>) -> RuleProblem {
        RuleProblem::at(self.rule, self.rule.find(name).unwrap_or_default(), problem)
    }

    fn node(&mut self, expression: &IdedExpr, depth: usize) -> Result<Node, RuleProblem> {
        if depth > MAX_DEPTH {
            return Err(self.problem("", "is nested too deeply: simplify the expression"));
        }
        let depth = depth + 1;
        match &expression.expr {
            Expr::Literal(literal) => self.literal(literal).map(Node::Constant),
            Expr::Ident(name) if self.variables.contains(name) => Ok(Node::Variable(name.clone())),
            Expr::Ident(name) if name == RECORD => Ok(Node::Record),
            Expr::Ident(name) => {
                Err(self.problem(name, format!("the name {name} is unknown: a rule has one variable, record")))
            }
            Expr::Select(select) => self.select(select, depth),
            Expr::Call(call) => self.call(call, depth),
            Expr::List(list) => {
                let items = list.elements.iter().map(|item| self.node(item, depth)).collect::<Result<_, _>>()?;
                Ok(Node::List(items))
            }
            Expr::Comprehension(looped) => self.looped(looped, depth),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err(self.problem("{", "maps and messages cannot be made in a rule"))
            }
        }
    }

    fn literal(&self, literal: &LiteralValue) -> Result<RuleValue, RuleProblem> {
        Ok(match literal {
            LiteralValue::Boolean(value) => RuleValue::Bool(*value.inner()),
            LiteralValue::Int(value) => RuleValue::Int(*value.inner()),
            LiteralValue::String(value) => RuleValue::text(value.inner()),
            LiteralValue::Null => RuleValue::Null,
            LiteralValue::Double(_) => {
                return Err(self.problem(".", "a number with a fraction is a double: write decimal('0.5')"));
            }
            LiteralValue::UInt(_) => return Err(self.problem("u", "unsigned numbers are not supported: remove the u")),
            LiteralValue::Bytes(_) => return Err(self.problem("b", "bytes are not supported: write a text")),
        })
    }

    fn select(&mut self, select: &SelectExpr, depth: usize) -> Result<Node, RuleProblem> {
        let of = self.node(&select.operand, depth)?;
        if let (Node::Record, Some(fields)) = (&of, self.fields)
            && !fields.contains(&select.field)
        {
            let problem = format!("the record has no field {}: it has {}", select.field, fields.join(", "));
            return Err(self.problem(&select.field, problem));
        }
        let (of, field) = (Box::new(of), select.field.clone());
        Ok(if select.test { Node::Has(of, field) } else { Node::Select(of, field) })
    }

    fn call(&mut self, call: &CallExpr, depth: usize) -> Result<Node, RuleProblem> {
        let name = call.func_name.as_str();
        let mut arguments = Vec::with_capacity(call.args.len() + 1);
        for argument in call.target.as_deref().into_iter().chain(&call.args) {
            arguments.push(self.node(argument, depth)?);
        }
        let mut taken = arguments.drain(..);
        let mut next = || taken.next().map(Box::new);
        match (name, call.args.len() + usize::from(call.target.is_some())) {
            ("_&&_", 2) => return self.two(next(), next(), Node::And),
            ("_||_", 2) => return self.two(next(), next(), Node::Or),
            ("_[_]", 2) => return self.two(next(), next(), Node::Index),
            ("_?_:_", 3) => {
                if let (Some(condition), Some(one), Some(other)) = (next(), next(), next()) {
                    return Ok(Node::Condition(condition, one, other));
                }
            }
            _ => {}
        }
        let arguments: Vec<Node> = taken.collect();
        match Function::named(name) {
            Some((count, function)) if count == arguments.len() => self.checked(function, arguments),
            Some((count, _)) => Err(self.problem(name, format!("{name} takes {count} argument(s)"))),
            None => Err(self.problem(name, format!("the function {name} is unknown: there are {}", Function::names()))),
        }
    }

    fn two(
        &self,
        one: Option<Box<Node>>,
        other: Option<Box<Node>>,
        node: fn(Box<Node>, Box<Node>) -> Node,
    ) -> Result<Node, RuleProblem> {
        one.zip(other).map(|(one, other)| node(one, other)).ok_or_else(|| self.problem("", "has too few operands"))
    }

    /// A call whose arguments are constants is evaluated now: a decimal that is none is a mistake in the rule.
    fn checked(&self, function: Function, arguments: Vec<Node>) -> Result<Node, RuleProblem> {
        if let (Function::Decimal, [Node::Constant(constant)]) = (function, arguments.as_slice()) {
            let value = function.call(std::slice::from_ref(constant));
            return value.map(Node::Constant).map_err(|_| {
                self.problem(
                    "decimal",
                    "decimal needs digits in quotes with at most 28 of them, such as decimal('12.50')",
                )
            });
        }
        Ok(Node::Call(function, arguments))
    }

    fn looped(&mut self, looped: &ComprehensionExpr, depth: usize) -> Result<Node, RuleProblem> {
        if looped.iter_var2.is_some() {
            return Err(self.problem("", "loops with two variables are not supported"));
        }
        let list = self.node(&looped.iter_range, depth)?;
        let start = self.node(&looped.accu_init, depth)?;
        let known = self.variables.len();
        self.variables.push(looped.accu_var.clone());
        self.variables.push(looped.iter_var.clone());
        let goes_on = self.node(&looped.loop_cond, depth);
        let step = self.node(&looped.loop_step, depth);
        self.variables.truncate(known + 1);
        let end = self.node(&looped.result, depth);
        self.variables.truncate(known);
        let (item, result) = (looped.iter_var.clone(), looped.accu_var.clone());
        Ok(Node::Loop(Box::new(Loop { list, item, result, start, goes_on: goes_on?, step: step?, end: end? })))
    }
}
