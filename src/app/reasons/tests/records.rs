//! Records that the parser rejects, by declared stream.

use serde_json::{Value, json};

use super::Emitted;
use crate::ledger::{DocumentKind, Granularity};
use crate::profile::Profile;
use crate::sync::MaskRules;
use crate::sync::record::{AccountInfo, RecordParser, dead_letter};

/// Rejects `records` of a stream of transactions with these `money` fields, or of documents without.
fn reject(money: Option<&str>, records: &[Value], emitted: &mut Emitted) {
    let fields = money.map_or("record: document".to_owned(), |money| {
        format!("record: transaction, time: {{pointer: /on}}, money: {{amount: /a, {money}}}")
    });
    let text = format!(
        "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{}}\nstreams:\n  rows: {{{fields}, path: /rows, records: \
         [/data], key: /id, pagination: {{kind: none}}}}\n"
    );
    let profile = Profile::parse("x.yaml", &text).unwrap();
    let account = AccountInfo { token: "t".into(), display: "****".into(), currency: None };
    let mask = MaskRules::default();
    let stream = &profile.streams["rows"];
    let parser = RecordParser { stream, account: &account, mask: &mask, granularity: Granularity::Day };
    for record in records {
        let rejection = match money {
            Some(_) => parser.row(record).unwrap_err(),
            None => parser.document(record, DocumentKind::Document).unwrap_err(),
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
}
