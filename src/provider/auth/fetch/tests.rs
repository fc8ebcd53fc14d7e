use super::*;

fn oauth2() -> Grant {
    let secret = || SecretString::from("canary");
    Grant::OAuth2 { scopes: vec![], audience: None, client_id: secret(), client_secret: secret() }
}

fn life(json: &str) -> Option<Duration> {
    oauth2().read(json.as_bytes(), Mono::ZERO).unwrap().expires_in
}

#[test]
fn a_life_is_read_as_number_or_text_and_may_be_missing() {
    assert_eq!(life(r#"{"access_token":"x","expires_in":3600}"#), Some(Duration::from_hours(1)));
    assert_eq!(life(r#"{"access_token":"x","expires_in":"60"}"#), Some(Duration::from_mins(1)));
    assert_eq!(life(r#"{"access_token":"x","expires_in":59.9}"#), Some(Duration::from_secs(59)));
    assert_eq!(life(r#"{"access_token":"x"}"#), None);
    assert_eq!(life(r#"{"access_token":"x","expires_in":null}"#), None);
    assert_eq!(life(r#"{"access_token":"x","expires_in":-5}"#), None);
    for (written, seconds) in
        [("3.6e3", 3600), ("3600.0", 3600), ("36E2", 3600), ("\"3.6e3\"", 3600), ("\" 60 \"", 60), ("0", 0)]
    {
        let body = format!(r#"{{"access_token":"x","expires_in":{written}}}"#);
        assert_eq!(life(&body), Some(Duration::from_secs(seconds)), "{written}");
    }
    for nonsense in ["1e400", "-1", "\"soon\"", "\"inf\"", "\"NaN\"", "\"\"", "\"1h\"", "\"0x10\""] {
        let body = format!(r#"{{"access_token":"x","expires_in":{nonsense}}}"#);
        assert_eq!(life(&body), None, "{nonsense}");
    }
}

#[test]
fn the_silence_that_is_asked_for_is_kept_whole_up_to_a_day_as_seconds_or_as_a_date() {
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
        assert_eq!(wait(&headers, now), seconds.map(Duration::from_secs), "{written}");
    }
    assert_eq!(wait(&HeaderMap::new(), now), None);
}

#[test]
fn a_rotated_refresh_token_is_taken_and_an_empty_one_is_none() {
    let read = |json: &str| oauth2().read(json.as_bytes(), Mono::ZERO).unwrap().refresh_token;
    assert_eq!(read(r#"{"access_token":"x","refresh_token":"y"}"#).unwrap().expose_secret(), "y");
    assert!(read(r#"{"access_token":"x","refresh_token":""}"#).is_none());
    assert!(read(r#"{"access_token":"x"}"#).is_none());
}

#[test]
fn a_profile_says_where_in_the_answer_token_and_life_are() {
    let at =
        |token: &str, life: &str| Grant::Json { fields: vec![], token_at: token.to_owned(), life_at: life.to_owned() };
    let body = br#"{"access":"abc","access_expires":86400,"refresh":"r","deep":{"t":"d"}}"#;
    let read = at("/access", "/access_expires").read(body, Mono::ZERO).unwrap();
    assert_eq!((read.access_token.expose_secret(), read.expires_in), ("abc", Some(Duration::from_hours(24))));
    assert_eq!(at("/deep/t", "/none").read(body, Mono::ZERO).unwrap().access_token.expose_secret(), "d");
    assert!(at("/nowhere", "/none").read(body, Mono::ZERO).is_none());
    assert!(at("/access", "/none").read(b"<html>", Mono::ZERO).is_none());
}
#[test]
fn a_request_says_what_it_is_told_to_in_memory_that_never_grows() {
    let pairs = [("client_secret", "a b+c&d=é%"), ("grant_type", "client_credentials")];
    let form = form_of(&pairs);
    assert_eq!(*form, b"client_secret=a%20b%2Bc%26d%3D%C3%A9%25&grant_type=client_credentials");
    let room: usize = pairs.iter().map(|(name, value)| 2 + 3 * (name.len() + value.len())).sum();
    assert_eq!(form.capacity(), room);
    let fields = BTreeMap::from([("secret_id", "a\"\u{1}"), ("secret_key", "b")]);
    let body = json_of(&fields).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        serde_json::json!({"secret_id": "a\"\u{1}", "secret_key": "b"})
    );
}

#[test]
fn an_answer_that_nests_deeper_than_any_is_none() {
    let deep = format!(r#"{{"access_token":"x","more":{}{}}}"#, "[".repeat(65), "]".repeat(65));
    assert!(oauth2().read(deep.as_bytes(), Mono::ZERO).is_none());
    assert!(oauth2().read(br#"{"access_token":"x\u0079","more":[[]]}"#, Mono::ZERO).is_some());
}
