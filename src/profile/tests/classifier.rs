//! How every status is classified by every matcher of every built-in profile, as a snapshot: a change of a profile
//! shows each response whose classification changes.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::domain::quota;
use crate::profile::*;

/// Late in the day, so that the delay until the next one is short.
const NOW: &str = "2026-03-01T20:00:00Z";

fn read(profile: &Profile, status: u16, headers: &HeaderMap, body: &str) -> Classification {
    profile.classify(&ResponseView::new(status, headers, body.as_bytes()), NOW.parse().unwrap())
}

/// Minimal responses that match a matcher's conditions, of any status: one for each value of a condition, with the
/// first value of the others.
fn samples(matcher: &ResponseMatcher) -> Vec<(HeaderMap, String)> {
    let mut all = vec![sample(matcher)];
    if let Some(rule) = &matcher.header {
        for value in rule.is.iter().skip(1) {
            let header = Some(HeaderMatcher { name: rule.name.clone(), is: vec![value.clone()] });
            all.push(sample(&ResponseMatcher { header, ..matcher.clone() }));
        }
    }
    for (at, rule) in matcher.json.iter().enumerate() {
        for value in rule.is.iter().skip(1) {
            let mut narrowed = matcher.clone();
            narrowed.json[at].is = vec![value.clone()];
            all.push(sample(&narrowed));
        }
    }
    all
}

/// The minimal response that matches the first value of each condition.
fn sample(matcher: &ResponseMatcher) -> (HeaderMap, String) {
    let mut headers = HeaderMap::new();
    let mut put = |name: &str, value: &str| {
        headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    };
    if let Some(kind) = &matcher.content_type {
        put("content-type", kind);
    }
    if let Some(rule) = &matcher.header {
        put(&rule.name, rule.is.first().map_or("anything", String::as_str));
    }
    let mut body = Value::Object(Map::new());
    for rule in &matcher.json {
        let text = rule.is.first().cloned().or(rule.contains.clone()).unwrap_or_else(|| "anything".to_owned());
        set(&mut body, &rule.pointer, text);
    }
    (headers, body.to_string())
}

fn set(at: &mut Value, pointer: &str, text: String) {
    let Some((first, rest)) = pointer.trim_start_matches('/').split_once('/') else {
        at[pointer.trim_start_matches('/')] = Value::String(text);
        return;
    };
    if first == "0" || rest.starts_with("0/") {
        // Matchers only ever test the first item of a list.
        at[first] = serde_json::json!([{}]);
        set(&mut at[first][0], rest.trim_start_matches("0/"), text);
        return;
    }
    if at[first].is_null() {
        at[first] = Value::Object(Map::new());
    }
    set(&mut at[first], rest, text);
}

fn text_of(classification: Classification) -> String {
    let delay = match classification.retry_after {
        None => String::new(),
        Some(RetryAfter::Delay(duration)) => format!(" for {}s", duration.as_secs()),
        Some(RetryAfter::At(at)) => format!(" until {at}"),
    };
    let scope = if classification.scope == quota::LimitScope::Partition { " of the partition" } else { "" };
    format!("{}{scope}{delay}", classification.class.as_str())
}

/// `100-199 fatal, 200-299 ok, …`: every status once.
fn statuses(profile: &Profile, headers: &HeaderMap, body: &str) -> String {
    let mut runs: Vec<(u16, u16, String)> = Vec::new();
    for status in 100..600 {
        let text = text_of(read(profile, status, headers, body));
        match runs.last_mut() {
            Some((_, last, same)) if *same == text => *last = status,
            _ => runs.push((status, status, text)),
        }
    }
    let print = |(first, last, text): &(u16, u16, String)| {
        if first == last { format!("{first} {text}") } else { format!("{first}-{last} {text}") }
    };
    runs.iter().map(print).collect::<Vec<_>>().join(", ")
}

#[test]
fn classification_of_every_status_by_every_matcher() {
    let profiles = Profiles::builtin().unwrap();
    let mut all = String::new();
    for profile in profiles.ids().map(|id| profiles.get(id).unwrap()) {
        writeln!(all, "{}", profile.id).unwrap();
        writeln!(all, "  -: {}", statuses(&profile, &HeaderMap::new(), "")).unwrap();
        for (at, matcher) in profile.errors.iter().enumerate() {
            for (headers, body) in samples(matcher) {
                let shown: Vec<_> =
                    headers.iter().map(|(name, value)| format!("{name}: {} ", value.to_str().unwrap())).collect();
                writeln!(all, "  errors[{at}] {}{body}", shown.concat()).unwrap();
                writeln!(all, "    {}", statuses(&profile, &headers, &body)).unwrap();
            }
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn every_matcher_decides_some_response() {
    let profiles = Profiles::builtin().unwrap();
    for profile in profiles.ids().map(|id| profiles.get(id).unwrap()) {
        for (at, matcher) in profile.errors.iter().enumerate() {
            for (headers, body) in samples(matcher) {
                let decides = (100..600).any(|status| {
                    let response = ResponseView::new(status, &headers, body.as_bytes());
                    profile.errors.iter().position(|matcher| matcher.matches(&response)) == Some(at)
                });
                assert!(decides, "{} errors[{at}] {body}", profile.id);
            }
        }
    }
}

fn with_headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), value.parse().unwrap());
    }
    headers
}

#[test]
fn retry_after_is_read_in_every_format() {
    let generic = Profiles::builtin().unwrap().get("generic").unwrap();
    let wait = |headers: &[(&'static str, &str)]| text_of(read(&generic, 429, &with_headers(headers), ""));
    assert_eq!(wait(&[("retry-after", "7")]), "rateLimited for 7s");
    assert_eq!(wait(&[("retry-after", "3600")]), "rateLimited for 3600s");
    assert_eq!(wait(&[("retry-after", "Sun, 01 Mar 2026 20:00:30 GMT")]), "rateLimited until 2026-03-01T20:00:30Z");
    assert_eq!(wait(&[("retry-after", "Sunday, 01-Mar-26 20:00:30 GMT")]), "rateLimited until 2026-03-01T20:00:30Z");
    assert_eq!(wait(&[("retry-after", "Sun Mar  1 20:00:30 2026")]), "rateLimited until 2026-03-01T20:00:30Z");
    let off = ("date", "Sun, 01 Mar 2026 08:00:00 GMT");
    assert_eq!(wait(&[("retry-after", "Sun, 01 Mar 2026 08:00:30 GMT"), off]), "rateLimited for 30s");
    assert_eq!(wait(&[("retry-after", "Sun, 01 Mar 2026 07:00:00 GMT"), off]), "rateLimited for 0s");
    for bad in ["", "soon", "-5", "1e3", "1, 2"] {
        assert_eq!(wait(&[("retry-after", bad)]), "rateLimited", "{bad}");
    }
    let far = format!("rateLimited for {}s", u64::MAX);
    assert_eq!(wait(&[("retry-after", "99999999999999999999")]), far, "far away: every wait is capped");
    assert_eq!(wait(&[("retry-after", "7"), ("retry-after", "9"), ("retry-after", "8")]), "rateLimited for 9s");
    assert_eq!(text_of(read(&generic, 503, &with_headers(&[("retry-after", "2.5")]), "")), "retry for 3s");
    assert_eq!(text_of(read(&generic, 404, &with_headers(&[("retry-after", "9")]), "")), "notFound");
}

#[test]
fn a_delay_is_read_from_provider_headers_and_sentences() {
    let gocardless = Profiles::builtin().unwrap().get("gocardless").unwrap();
    let account = with_headers(&[
        ("http_x_ratelimit_account_success_remaining", "0"),
        ("http_x_ratelimit_account_success_reset", "43200"),
        ("http_x_ratelimit_reset", "12"),
    ]);
    assert_eq!(text_of(read(&gocardless, 429, &account, "")), "quota of the partition for 43200s");
    let company =
        with_headers(&[("http_x_ratelimit_account_success_remaining", "3"), ("http_x_ratelimit_reset", "12")]);
    assert_eq!(text_of(read(&gocardless, 429, &company, "")), "rateLimited for 12s");
    let body = r#"{"summary":"Rate limit exceeded","detail":"The rate limit is 100. Please TRY again in 37 seconds","status_code":429}"#;
    assert_eq!(text_of(read(&gocardless, 429, &HeaderMap::new(), body)), "rateLimited for 37s");
    let spent = with_headers(&[("http_x_ratelimit_remaining", "0"), ("http_x_ratelimit_reset", "x")]);
    assert_eq!(text_of(read(&gocardless, 429, &spent, "{}")), "rateLimited");
}

#[test]
fn limit_headers_are_the_last_source_of_a_delay() {
    let text = "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {path: /}\nlimits:\n  - {name: a, requests: 1, unit: Minute, headers: {remaining: x-left, reset: {name: x-reset, as: epochSeconds}}}\n";
    let profile = Profile::parse("x.yaml", text).unwrap();
    let headers = |left: &'static str| with_headers(&[("x-left", left), ("x-reset", "1772395230")]);
    assert_eq!(text_of(read(&profile, 429, &headers("0"), "")), "rateLimited until 2026-03-01T20:00:30Z");
    assert_eq!(text_of(read(&profile, 429, &headers("4"), "")), "rateLimited");
}

#[test]
fn a_quota_error_with_status_200_waits_for_the_next_day() {
    let fmp = Profiles::builtin().unwrap().get("fmp").unwrap();
    let at = |body: &str| text_of(read(&fmp, 200, &HeaderMap::new(), body));
    let limit = r#"{"Error Message":"Limit Reach . Please upgrade your plan"}"#;
    assert_eq!(at(limit), "quota until 2026-03-02T00:00:00Z");
    assert_eq!(at(&format!("\u{feff}{limit}")), "quota until 2026-03-02T00:00:00Z");
    assert_eq!(at(r#"{"Error Message":"Invalid API KEY. Please retry"}"#), "auth");
    assert_eq!(at(r#"{"\u0045rror Message":"Limit Reach"}"#), "quota until 2026-03-02T00:00:00Z");
    assert_eq!(at(r#"[{"symbol":"AAPL","name":"Error Message"}]"#), "ok");
    // A body of this size holds data, not an error.
    assert_eq!(at(&format!("{limit}{}", " ".repeat(MAX_ERROR_BODY))), "ok");
    assert_eq!(read(&fmp, 200, &HeaderMap::new(), "[]").class, ResponseClass::Ok);
    // A character that is not valid hides no error.
    let headers = HeaderMap::new();
    let latin_1 = ResponseView::new(200, &headers, b"{\"Error Message\":\"Limit Reach\",\"hint\":\"cr\xe9dits\"}");
    assert_eq!(fmp.classify(&latin_1, NOW.parse().unwrap()).class, ResponseClass::Quota);
}

#[test]
fn an_unreachable_matcher_is_reported_with_its_line() {
    for (errors, hidden) in [
        (
            "  - {status: [4xx], class: fatal}\n  - {status: [429], class: rateLimited}\n",
            "line 7, errors[1]: is unreachable: everything it matches is matched before by errors[0]; move it up or remove it",
        ),
        (
            "  - {status: [429], class: rateLimited}\n  - {status: [430], class: fatal}\n  - {status: [429, 430], json: [{pointer: /a}], class: quota}\n",
            "line 8, errors[2]: is unreachable: everything it matches is matched before by errors[0], errors[1]; move it up or remove it",
        ),
        (
            "  - {json: [{pointer: /code, is: [a]}], class: fatal}\n  - {json: [{pointer: /code, is: [b, c]}], class: retry}\n  - {status: [400], json: [{pointer: /code, is: [c, a]}], class: quota}\n",
            "line 8, errors[2]: is unreachable: everything it matches is matched before by errors[0], errors[1]; move it up or remove it",
        ),
        (
            "  - {json: [{pointer: /m, contains: limit}], class: quota}\n  - {json: [{pointer: /m, contains: Rate Limit}], class: retry}\n",
            "line 7, errors[1]: is unreachable: everything it matches is matched before by errors[0]; move it up or remove it",
        ),
        (
            "  - {header: {name: X-A}, class: quota}\n  - {header: {name: x-a, is: [b]}, contentType: text/html, class: retry}\n",
            "line 7, errors[1]: is unreachable: everything it matches is matched before by errors[0]; move it up or remove it",
        ),
        (
            "  - {class: fatal}\n",
            "line 6, errors[0]: matches every response: name a status, a contentType, a header or a JSON pointer",
        ),
        (
            "  - {status: [400], json: [{pointer: code}], class: fatal}\n",
            r#"line 6, errors[0]: "code" is not a JSON pointer: it must be empty or start with /"#,
        ),
        (
            "  - {status: [429], class: quota, wait: [{kind: header, name: a b, as: deltaSeconds}]}\n",
            r#"line 6, errors[0]: "a b" is not a valid header name"#,
        ),
    ] {
        let text = format!("id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{path: /}}\nerrors:\n{errors}");
        let error = Profile::parse("x.yaml", &text).unwrap_err().to_string();
        assert_eq!(error, format!("profile x.yaml, {hidden}"), "{errors}");
    }
}

#[test]
fn matchers_with_different_conditions_are_all_reachable() {
    for errors in [
        "  - {status: [429], json: [{pointer: /a}], class: quota}\n  - {status: [429], class: rateLimited}\n",
        "  - {json: [{pointer: /a, is: [x]}], class: quota}\n  - {json: [{pointer: /a}], class: fatal}\n",
        "  - {json: [{pointer: /a}, {pointer: /b}], class: quota}\n  - {json: [{pointer: /a}], class: fatal}\n",
        "  - {status: [429], class: quota}\n  - {status: [429, 430], class: fatal}\n",
        "  - {contentType: text/html, class: quota}\n  - {contentType: text/xml, class: fatal}\n",
    ] {
        let text = format!("id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{path: /}}\nerrors:\n{errors}");
        Profile::parse("x.yaml", &text).unwrap();
    }
}
