//! Rules over records: what compiles, what holds, what ends.

use super::*;
use crate::profile::RecordKind;

fn source(rule: &str) -> RuleSource {
    RuleSource { name: "r".into(), rule: rule.into(), message: "m".into() }
}

fn compiled(rule: &str) -> Result<std::sync::Arc<Validations>, String> {
    Validations::compile(RecordKind::Transaction, vec![source(rule)]).map_err(|(_, problem)| problem.to_string())
}

fn record(amount: &str) -> RuleValue {
    RuleValue::map([
        ("amount", RuleValue::Decimal(amount.parse().unwrap())),
        ("amount_minor", RuleValue::Decimal("7".parse().unwrap())),
        ("currency", RuleValue::text("NGN")),
        ("booked_on", RuleValue::text("2026-09-01")),
        ("booked_at", RuleValue::Null),
        ("narration", RuleValue::text("POS LAGOS")),
        ("counterparty", RuleValue::Null),
        ("status", RuleValue::text("booked")),
    ])
}

fn holds(rule: &str, amount: &str) -> bool {
    let rules = compiled(rule).unwrap_or_else(|problem| panic!("{rule}: {problem}"));
    rules.check(&record(amount)).is_ok()
}

#[test]
fn money_is_compared_exactly_and_never_as_a_double() {
    for (rule, yes, no) in [
        ("record.amount > decimal('0')", "0.01", "-0.01"),
        ("record.amount == decimal('9007199254740993')", "9007199254740993.00", "9007199254740992"),
        ("record.amount < decimal('12345678901234567.89')", "12345678901234567.88", "12345678901234567.89"),
        ("record.amount + decimal('0.1') == decimal('0.3')", "0.2", "0.20000000000000001"),
        ("record.amount * decimal('3') == decimal('0.3')", "0.1", "0.10000000000000001"),
        ("record.amount - decimal('90071992547409.93') == decimal('0')", "90071992547409.93", "90071992547409.92"),
        ("abs(record.amount) <= decimal('5') && record.amount != 0", "-5", "0"),
        ("record.amount % decimal('0.05') == decimal('0')", "0.15", "0.16"),
        ("round(record.amount, 1) == decimal('1.2')", "1.25", "1.35"),
        ("scale(record.amount) <= 2", "1.250", "1.251"),
        ("record.amount >= 1 && record.amount <= 1", "1.00", "1.01"),
        ("-record.amount == decimal('2')", "-2", "2"),
        ("greatest(record.amount, decimal('0')) == least(record.amount, decimal('9'))", "3", "-3"),
        ("record.amount / decimal('4') == decimal('0.25')", "1", "2"),
    ] {
        assert!(holds(rule, yes), "{rule} {yes}");
        assert!(!holds(rule, no), "{rule} {no}");
    }
}

#[test]
fn texts_days_lists_and_conditions_are_those_of_cel() {
    for rule in [
        "record.currency in ['NGN', 'GHS']",
        "record.booked_on >= '2026-01-01' && record.booked_on < '2027-01-01'",
        "record.narration.startsWith('POS') && record.narration.contains('LAG') && record.narration.endsWith('OS')",
        "has(record.narration) && !has(record.counterparty)",
        "record.counterparty == null || size(record.counterparty) < 10",
        "record.currency == 'JPY' ? record.amount == decimal('9') : true",
        "['NGN', 'GHS'].exists(c, c == record.currency)",
        "['a', 'b'].all(c, size(c) == 1)",
        "[1, 2, 3].filter(n, n > 1).map(n, n * 2) == [4, 6]",
        "size(record.narration) == 9 && size([1]) == 1 && record.narration.size() == 9",
        "string(record.amount) == '1.5'",
        "record['currency'] == 'NGN'",
        "record.nothing_true == true || true",
    ] {
        let rules = Validations::compile(RecordKind::Document, vec![source(rule)]).unwrap();
        assert!(rules.check(&record("1.50")).is_ok(), "{rule}");
    }
}

#[test]
fn a_rule_that_does_not_compile_is_reported_with_its_position() {
    for (rule, problem) in [
        ("record.amout > decimal('0')", "line 1, column 8: the record has no field amout"),
        ("true &&\n row.amount == 1", "line 2, column 2: the name row is unknown"),
        ("record.amount > 0.5", "a number with a fraction is a double: write decimal('0.5')"),
        ("decimal('1e5') < record.amount", "line 1, column 1: decimal needs digits in quotes"),
        ("record.currency.matches('N.*')", "line 1, column 17: the function matches is unknown"),
        ("abs(record.amount, 1) > 0", "line 1, column 1: abs takes 1 argument(s)"),
        ("{'a': 1} == {}", "maps and messages cannot be made in a rule"),
        ("record.amount > 1u", "unsigned numbers are not supported"),
    ] {
        let found = compiled(rule).unwrap_err();
        assert!(found.contains(problem), "{rule}: {found}");
    }
    for rule in ["record.amount >", "(record.amount", "record..amount", "", "true &&", "\"", "a b"] {
        let found = compiled(rule).unwrap_err();
        assert!(found.starts_with("line 1, column "), "{rule}: {found}");
    }
}

#[test]
fn a_rule_nested_without_end_is_rejected_before_it_is_parsed() {
    let many = |open: &str, middle: &str, close: &str, count: usize| {
        format!("{}{middle}{}", open.repeat(count), close.repeat(count))
    };
    for rule in [
        many("(", "true", ")", 500),
        many("[", "1", "]", 500),
        many("!", "true", "", 1000),
        many("-", "1", "", 1000),
        many("true ? true : ", "true", "", 70),
        many("1 + ", "1", "", 250),
        format!("record{}", ".a".repeat(500)),
    ] {
        assert!(Validations::compile(RecordKind::Document, vec![source(&rule)]).is_err(), "{rule}");
    }
}

#[test]
fn a_rule_that_would_run_for_ever_ends_and_fails_the_record() {
    let list = format!("[{}]", vec!["1"; 40].join(","));
    let mut rule = "true".to_owned();
    for variable in ["a", "b", "c", "d", "e"] {
        rule = format!("{list}.all({variable}, {rule})");
    }
    assert!(!holds(&rule, "1"));
    let doubled = "['xxxxxxxxxxxxxxxx'].map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a) != []";
    assert!(!holds(doubled, "1"), "a text has a limit");
}

#[test]
fn a_rule_without_an_outcome_fails_the_record_and_names_itself() {
    for rule in ["record.counterparty > 'a'", "record.amount", "record.amount / decimal('0') > 1", "record.status > 1"]
    {
        let failed = compiled(rule).unwrap().check(&record("1")).unwrap_err();
        assert_eq!(failed, FailedRule { name: "r".into(), message: "m".into() }, "{rule}");
    }
}

#[test]
fn the_fields_of_every_kind_can_be_named() {
    for (kind, field) in [
        (RecordKind::Transaction, "amount"),
        (RecordKind::Balance, "as_of_at"),
        (RecordKind::Quote, "price"),
        (RecordKind::Observation, "observed_on"),
        (RecordKind::Collateral, "body"),
        (RecordKind::Account, "holder"),
        (RecordKind::Article, "url"),
    ] {
        let rule = source(&format!("has(record.{field})"));
        assert!(Validations::compile(kind, vec![rule]).is_ok(), "{field}");
        assert!(!record_fields(kind).unwrap().iter().any(|name| name.ends_with("_ms") || name.ends_with("_text")));
    }
    assert_eq!(record_fields(RecordKind::Document), None);
}
