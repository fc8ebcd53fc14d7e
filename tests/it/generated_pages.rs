//! Generated responses to requests for a page: no panic, a page is stored whole or not at all, and no row is altered but by
//! the replacement of characters that are not valid.
//!
//! `FUZZ_CASES` and `FUZZ_SEED` make it longer, and repeat a failure; see docs/soak.md.

use std::collections::BTreeMap;

use busbar::ledger::RunResult;

use crate::kit::generated_response::{GeneratedServer, Random, Verdict, generate};
use crate::kit::list_bank::ListBank;

const LIST: &str = "record: document, records: [/data], key: /id, pagination: {kind: none}";

/// What may stand in a text, and what is stored for it.
const TEXTS: [(&[u8], &str); 9] = [
    (b"coffee", "coffee"),
    ("caf\u{e9} \u{1f600}".as_bytes(), "caf\u{e9} \u{1f600}"),
    (br"\u00e9\ud83d\ude00", "\u{e9}\u{1f600}"),
    (b"caf\xe9", "caf\u{fffd}"),
    (br"\ud800x", "\u{fffd}x"),
    (b"\xc0\xafx", "\u{fffd}\u{fffd}x"),
    (b"\xf0\x9f\x98x", "\u{fffd}x"),
    (b"x\0y", "x\u{fffd}y"),
    (br"x\qy", "x\u{fffd}qy"),
];

/// A page, what of it is stored, and whether it may be.
struct Page {
    body: Vec<u8>,
    stored: BTreeMap<String, String>,
    verdict: Verdict,
}

/// A page of records that no other case has.
fn page(random: &mut Random, case: u64) -> Page {
    let (mut records, mut stored) = (Vec::new(), BTreeMap::new());
    let count = 1 + random.below(9);
    let with_bad_key = random.below(count * 4);
    for n in 0..count {
        let ((text, shown), key) = (TEXTS[random.below(TEXTS.len())], format!("c{case}-{n}"));
        let is_bad = n == with_bad_key;
        let end: &[u8] = if is_bad { b"\xff" } else { b"" };
        records.push([b"{\"id\": \"", key.as_bytes(), end, b"\", \"n\": 1.50, \"t\": \"", text, b"\"}"].concat());
        if !is_bad {
            let body = format!(r#"{{"id":"{key}","n":1.50,"t":"{shown}"}}"#);
            stored.insert(key, body);
        }
    }
    let mut body = [b"{\"data\": [", records.join(&b","[..]).as_slice(), b"]}"].concat();
    let verdict = match random.below(8) {
        0 => {
            body.truncate(random.below(body.len()));
            Verdict::Unusable
        }
        1 => {
            body.extend_from_slice(b" {}");
            Verdict::Unusable
        }
        _ => Verdict::Usable,
    };
    Page { body, stored, verdict }
}

#[expect(clippy::disallowed_methods, reason = "the length of this test is set by the environment")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the length of this test is set by the environment")]
async fn a_generated_page_is_stored_whole_or_not_at_all() {
    // About a second, and a minute in CI.
    let default = if std::env::var_os("CI").is_some() { 3_000 } else { 100 };
    let (cases, seed) = (number("FUZZ_CASES", default), number("FUZZ_SEED", 20_261_129));
    let server = GeneratedServer::start().await;
    let (mut bank, mut random) = (ListBank::of(LIST, server.url.clone()).await, Random::new(seed));
    let (mut succeeded, mut expected) = (0, BTreeMap::new());
    for case in 0..cases {
        let page = page(&mut random, case);
        let response = generate(&mut random, &[(page.body, page.verdict, "a page")]);
        server.set(&response);
        let run = bank.record().await;
        let label = format!("case {case} of seed {seed}: {}: {:?} {:?}", response.label, run.reason, run.failure);
        let is_whole = run.result == Some(RunResult::Succeeded);
        match response.verdict {
            Verdict::Usable => assert!(is_whole, "{label}"),
            Verdict::Unusable => assert!(!is_whole, "{label}"),
            Verdict::Either => {}
        }
        if is_whole {
            succeeded += 1;
            expected.extend(page.stored);
        }
        let stored: BTreeMap<String, String> = bank.documents().await.into_iter().collect();
        assert_eq!(stored, expected, "{label}");
        // So that a long run stays as quick.
        if expected.len() > 2_000 {
            (bank, expected) = (ListBank::of(LIST, server.url.clone()).await, BTreeMap::new());
        }
    }
    assert!(succeeded > cases / 50 && succeeded < cases, "{succeeded} of {cases} pages: the generator shows nothing");
}
