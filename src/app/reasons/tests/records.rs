//! Records that the parser rejects, by declared stream.

use serde_json::{Value, json};

use super::Emitted;
use crate::ledger::{DocumentKind, Granularity};
use crate::profile::{Profile, RecordKind};
use crate::settings::validation::{RuleSource, RuleValue, Validations};
use crate::sync::MaskRules;
use crate::sync::account_scope::AccountScope;
use crate::sync::record::{AccountInfo, RecordParser, Rejection, dead_letter};

/// Rejects `records` of a stream of transactions with these `money` fields, or of documents without.
fn reject(money: Option<&str>, records: &[Value], emitted: &mut Emitted) {
    let fields = money.map_or("record: document".to_owned(), |money| {
        format!("record: transaction, time: {{pointer: /on}}, money: {{amount: /a, {money}}}")
    });
    reject_by(&fields, records, emitted);
}

/// Rejects `records` of a stream with these fields.
fn reject_by(fields: &str, records: &[Value], emitted: &mut Emitted) {
    let text = format!(
        "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{}}\nstreams:\n  rows: {{{fields}, path: /rows, records: \
         [/data], key: /id, pagination: {{kind: none}}}}\n"
    );
    let profile = Profile::parse("x.yaml", &text).unwrap();
    let account = AccountInfo { token: "t".into(), display: "****".into(), currency: None };
    let mask = MaskRules::default();
    let stream = &profile.streams["rows"];
    let scope = AccountScope::for_tests();
    let granularity = Granularity::Day;
    let parser = RecordParser { stream, account: &account, mask: &mask, granularity, scope: &scope, first_day: None };
    for record in records {
        let rejection = match stream.record {
            RecordKind::Transaction => parser.row(record).map(drop).unwrap_err(),
            RecordKind::Document => parser.document(record, DocumentKind::Document).map(drop).unwrap_err(),
            _ => parser.canonical(record).map(drop).unwrap_err(),
        };
        emitted.rejections.insert(dead_letter(record, rejection, 0, 0).reason.to_string());
    }
}

pub(super) fn emit(emitted: &mut Emitted) {
    let large = json!({"id": "1", "items": vec![7; 200_000]});
    reject(None, &[json!(1), json!({"id": []}), large], emitted);

    let good = json!({"id": "1", "a": 500, "on": "2026-09-01", "dir": "in"});
    let with = |field: &str, value: Value| {
        let mut record = good.clone();
        record[field] = value;
        record
    };
    let euros = "currency: {kind: const, code: EUR}";
    let minor = format!("repr: minorInteger, {euros}, sign: {{kind: field, pointer: /dir, credit: in, debit: out}}");
    let records = [
        with("on", Value::Null),
        with("on", json!("soon")),
        with("on", json!("9999-01-01")),
        with("a", Value::Null),
        with("a", json!(1.5)),
        with("a", json!(-500)),
        with("dir", Value::Null),
        with("dir", json!("sideways")),
    ];
    reject(Some(&minor), &records, emitted);
    let text = format!("repr: decimalString, {euros}, sign: {{kind: signed}}");
    reject(Some(&text), &[with("a", json!(5)), with("a", json!("five")), with("a", json!("5.001"))], emitted);
    let number = format!("repr: jsonNumber, {euros}, sign: {{kind: signed}}");
    reject(Some(&number), &[with("a", json!("5"))], emitted);
    let named = "repr: jsonNumber, currency: {kind: field, pointer: /cur}, sign: {kind: signed}";
    reject(Some(named), &[with("cur", json!("QQQ"))], emitted);
    let of_record = format!("{named}}}, account: {{pointer: /acc}}, status: {{pointer: /s, pending: [p], booked: [b]");
    let named = |status: &str, account: Value| json!({"id": "1", "a": 5, "on": "2026-09-01", "cur": "EUR", "s": status, "acc": account});
    reject(Some(&of_record), &[named("b", Value::Null), named("x", json!("acc-1"))], emitted);
    let quote = "record: quote, fields: {symbol: /s, price: /p}";
    reject_by(quote, &[json!({"id": "1", "p": 5}), json!({"id": "1", "s": "A", "p": "high"})], emitted);
    let rule = RuleSource { name: "r".into(), rule: "false".into(), message: "m".into() };
    let rules = Validations::compile(RecordKind::Document, vec![rule]).unwrap();
    let failed = rules.check(&RuleValue::Null).unwrap_err();
    let rejection = Rejection::failed(failed);
    emitted.rejections.insert(dead_letter(&json!({}), rejection, 0, 0).reason.to_string());
}
