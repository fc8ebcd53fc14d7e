//! Each type of field, good and bad, and that errors name the field.

use super::*;

const NAMES: &[&str] = &["a", "b", "c"];

/// The fields of a body.
fn of(body: &str) -> Result<Fields<'_>, Problem> {
    Fields::of_body(body.as_bytes(), NAMES)
}

/// The parameter that an error names.
fn parameter<T>(result: Result<T, Problem>) -> String {
    let problem = result.err().expect("an error");
    assert_eq!(problem.code(), ErrorCode::InvalidRequest);
    problem.detail("parameter").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

#[test]
fn numbers_and_strings_are_the_same_decimal_and_keep_every_digit() {
    for (text, value) in [
        ("1000", "1000"),
        ("\"1000\"", "1000"),
        ("1000.50", "1000.5"),
        ("\"1000.5\"", "1000.5"),
        ("1e3", "1000"),
        ("\"1e3\"", "1000"),
        ("9007199254740993.01", "9007199254740993.01"),
        ("-0.1", "-0.1"),
        ("\"\\u0031\"", "1"),
    ] {
        let body = format!(r#"{{"a": {text}}}"#);
        assert_eq!(of(&body).unwrap().decimal("a").unwrap().unwrap().normalize().to_string(), value, "{text}");
    }
}

#[test]
fn what_is_no_exact_decimal_is_refused_by_name() {
    for text in [
        "\"NaN\"",
        "\"\"",
        "\" 1\"",
        "\"1 \"",
        "\"1,000\"",
        "1e400",
        "-1e400",
        "true",
        "[]",
        "{}",
        "\"0x10\"",
        "\"1\\u0000\"",
        "1.00000000000000000000000000001",
        "\"Infinity\"",
        "\"١\"",
    ] {
        let body = format!(r#"{{"a": {text}}}"#);
        assert_eq!(parameter(of(&body).unwrap().decimal("a")), "a", "{text}");
    }
    assert_eq!(parameter(of("{}").unwrap().required_number("a")), "a");
    assert_eq!(parameter(of(r#"{"a": null}"#).unwrap().required_number("a")), "a");
    assert_eq!(of(r#"{"a": null}"#).unwrap().decimal("a").unwrap(), None);
}

#[test]
fn unknown_and_repeated_fields_are_named_and_other_bodies_refused() {
    assert_eq!(parameter(of(r#"{"a": 1, "amuont": {"x": [1, 2]}}"#)), "amuont");
    assert_eq!(parameter(of(r#"{"a": 1, "b": 2, "a": 1}"#)), "a");
    let control = parameter(of("{\"x\\u001b[2J\\n\": 1}"));
    assert!(!control.contains(['\u{1b}', '\n']), "{control:?}");
    assert!(parameter(of(&format!(r#"{{"{}": 1}}"#, "x".repeat(9_999)))).chars().count() <= MAX_SHOWN + 1);
    for body in
        ["", "[]", "null", "1", "\"a\"", "{", "{\"a\": }", "{\"a\": NaN}", "{\"a\": 1} x", "{\"a\": 1}{}", "{a: 1}"]
    {
        assert!(of(body).is_err(), "{body}");
    }
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    assert_eq!(parameter(of(&format!(r#"{{"a": {deep}}}"#)).unwrap().text("a")), "a");
    assert!(Fields::of_body(b"{\"a\": \"\xff\"}", NAMES).is_err());
}

#[test]
fn an_item_of_a_list_is_named_by_its_place() {
    let fields = of(r#"{"a": [{"b": 1}, {"b": "x"}, 7], "c": []}"#).unwrap();
    let items = fields.items("a", 3).unwrap().unwrap();
    assert_eq!(items, [r#"{"b": 1}"#, r#"{"b": "x"}"#, "7"]);
    let second = Fields::of_item(items[1], NAMES, "a[1]").unwrap();
    assert_eq!(parameter(second.whole("b", 0, 9)), "a[1].b");
    assert_eq!(parameter(Fields::of_item(items[2], NAMES, "a[2]")), "a[2]");
    assert_eq!(parameter(fields.items("a", 2)), "a");
    assert_eq!(parameter(fields.items("c", 2)), "c", "an empty list");
}

#[test]
fn each_type_accepts_its_values_only() {
    let fields = of(r#"{"a": 7, "b": "7.0", "c": "x"}"#).unwrap();
    assert_eq!((fields.whole("a", 1, 9).unwrap(), fields.whole("b", 1, 9).unwrap()), (Some(7), Some(7)));
    assert_eq!(parameter(fields.whole("a", 1, 6)), "a");
    for name in ["a", "b", "c"] {
        assert_eq!(parameter(fields.flag(name)), name);
        assert_eq!(parameter(fields.uuid(name)), name);
        assert_eq!(parameter(fields.instant(name)), name);
    }
    let fields = of(r#"{"a": 1, "b": true, "c": "2030-01-31T19:00:00+01:00"}"#).unwrap();
    assert_eq!(fields.flag("b").unwrap(), Some(true));
    assert_eq!(fields.required_instant("c").unwrap().to_string(), "2030-01-31T18:00:00Z");
    for text in ["", " ", "a\\u0000b", "a\\nb", "\\u202e", &"x".repeat(9)] {
        let body = format!(r#"{{"a": "{text}"}}"#);
        assert_eq!(parameter(of(&body).unwrap().short_text("a", 8)), "a", "{text:?}");
    }
    assert_eq!(of(r#"{"a": "für 8"}"#).unwrap().short_text("a", 8).unwrap().as_deref(), Some("für 8"));
    let entries = of(r#"{"a": {"USD/XOF": {"rate": 1}, "x": null}}"#).unwrap().entries("a", 2).unwrap();
    assert_eq!(entries, [("USD/XOF".to_owned(), r#"{"rate": 1}"#), ("x".to_owned(), "null")]);
    assert_eq!(parameter(of(r#"{"a": {"x": 1, "y": 2, "z": 3}}"#).unwrap().entries("a", 2)), "a");
}
