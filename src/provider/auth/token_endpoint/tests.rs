use super::*;

fn oauth2() -> Grant {
    let secret = || SecretString::from("canary");
    Grant::OAuth2 { scopes: vec![], audience: None, client_id: secret(), client_secret: secret() }
}

fn lifetime(json: &str) -> Option<Duration> {
    oauth2().read(json.as_bytes(), Mono::ZERO).unwrap().expires_in
}

#[test]
fn expires_in_may_be_a_number_a_string_or_missing() {
    assert_eq!(lifetime(r#"{"access_token":"x","expires_in":3600}"#), Some(Duration::from_hours(1)));
    assert_eq!(lifetime(r#"{"access_token":"x","expires_in":"60"}"#), Some(Duration::from_mins(1)));
    assert_eq!(lifetime(r#"{"access_token":"x","expires_in":59.9}"#), Some(Duration::from_secs(59)));
    assert_eq!(lifetime(r#"{"access_token":"x"}"#), None);
    assert_eq!(lifetime(r#"{"access_token":"x","expires_in":null}"#), None);
    assert_eq!(lifetime(r#"{"access_token":"x","expires_in":-5}"#), None);
    for (written, seconds) in
        [("3.6e3", 3600), ("3600.0", 3600), ("36E2", 3600), ("\"3.6e3\"", 3600), ("\" 60 \"", 60), ("0", 0)]
    {
        let body = format!(r#"{{"access_token":"x","expires_in":{written}}}"#);
        assert_eq!(lifetime(&body), Some(Duration::from_secs(seconds)), "{written}");
    }
    for nonsense in ["1e400", "-1", "\"soon\"", "\"inf\"", "\"NaN\"", "\"\"", "\"1h\"", "\"0x10\""] {
        let body = format!(r#"{{"access_token":"x","expires_in":{nonsense}}}"#);
        assert_eq!(lifetime(&body), None, "{nonsense}");
    }
}

#[test]
fn retry_after_is_honoured_up_to_a_day_as_seconds_or_as_a_date() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for (written, seconds) in [
        ("20", Some(20)),
        ("3600", Some(3600)),
        ("864000", Some(86_400)),
        ("Thu, 01 Jan 2026 02:00:00 GMT", Some(7200)),
        ("Wed, 31 Dec 2025 23:00:00 GMT", None),
        ("0", None),
        ("soon", None),
    ] {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, written.parse().unwrap())]);
        assert_eq!(requested_delay(&headers, now), seconds.map(Duration::from_secs), "{written}");
    }
    assert_eq!(requested_delay(&HeaderMap::new(), now), None);
}

#[test]
fn a_rotated_refresh_token_is_returned_and_an_empty_one_is_ignored() {
    let read = |json: &str| oauth2().read(json.as_bytes(), Mono::ZERO).unwrap().refresh_token;
    assert_eq!(read(r#"{"access_token":"x","refresh_token":"y"}"#).unwrap().expose_secret(), "y");
    assert!(read(r#"{"access_token":"x","refresh_token":""}"#).is_none());
    assert!(read(r#"{"access_token":"x"}"#).is_none());
}

#[test]
fn token_and_lifetime_are_located_by_the_profiles_pointers() {
    let at = |token: &str, lifetime: &str| Grant::Json {
        fields: vec![],
        token_pointer: token.to_owned(),
        lifetime_pointer: lifetime.to_owned(),
    };
    let body = br#"{"access":"abc","access_expires":86400,"refresh":"r","deep":{"t":"d"}}"#;
    let read = at("/access", "/access_expires").read(body, Mono::ZERO).unwrap();
    assert_eq!((read.access_token.expose_secret(), read.expires_in), ("abc", Some(Duration::from_hours(24))));
    assert_eq!(at("/deep/t", "/none").read(body, Mono::ZERO).unwrap().access_token.expose_secret(), "d");
    assert!(at("/nowhere", "/none").read(body, Mono::ZERO).is_none());
    assert!(at("/access", "/none").read(b"<html>", Mono::ZERO).is_none());
}

#[test]
fn request_bodies_are_encoded_without_reallocation() {
    let pairs = [("client_secret", "a b+c&d=é%"), ("grant_type", "client_credentials")];
    let form = encode_form(&pairs);
    assert_eq!(*form, b"client_secret=a%20b%2Bc%26d%3D%C3%A9%25&grant_type=client_credentials");
    let capacity: usize = pairs.iter().map(|(name, value)| 2 + 3 * (name.len() + value.len())).sum();
    assert_eq!(form.capacity(), capacity);
    let fields = BTreeMap::from([("secret_id", "a\"\u{1}"), ("secret_key", "b")]);
    let body = encode_json(&fields).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        serde_json::json!({"secret_id": "a\"\u{1}", "secret_key": "b"})
    );
}

#[test]
fn a_response_nested_too_deeply_is_rejected() {
    let deep = format!(r#"{{"access_token":"x","more":{}{}}}"#, "[".repeat(65), "]".repeat(65));
    assert!(oauth2().read(deep.as_bytes(), Mono::ZERO).is_none());
    assert!(oauth2().read(br#"{"access_token":"x\u0079","more":[[]]}"#, Mono::ZERO).is_some());
}
