use super::*;

fn read(body: &str) -> Result<TokenResponse, TokenFault> {
    read_oauth2(body.as_bytes(), Mono::ZERO)
}

fn token(body: &str) -> Result<String, TokenFault> {
    read(body).map(|response| response.access_token.expose_secret().to_owned())
}

fn lifetime_of(json: &str) -> Option<Duration> {
    read(json).unwrap().expires_in
}

#[test]
fn expires_in_may_be_a_number_a_string_or_missing() {
    assert_eq!(lifetime_of(r#"{"access_token":"x","expires_in":3600}"#), Some(Duration::from_hours(1)));
    assert_eq!(lifetime_of(r#"{"access_token":"x","expires_in":"60"}"#), Some(Duration::from_mins(1)));
    assert_eq!(lifetime_of(r#"{"access_token":"x","expires_in":59.9}"#), Some(Duration::from_secs(59)));
    assert_eq!(lifetime_of(r#"{"access_token":"x"}"#), None);
    assert_eq!(lifetime_of(r#"{"access_token":"x","expires_in":null}"#), None);
    assert_eq!(lifetime_of(r#"{"access_token":"x","expires_in":-5}"#), None);
    for (written, seconds) in
        [("3.6e3", 3600), ("3600.0", 3600), ("36E2", 3600), ("\"3.6e3\"", 3600), ("\" 60 \"", 60), ("0", 0)]
    {
        let body = format!(r#"{{"access_token":"x","expires_in":{written}}}"#);
        assert_eq!(lifetime_of(&body), Some(Duration::from_secs(seconds)), "{written}");
    }
    for nonsense in
        ["1e400", "-1", "\"soon\"", "\"inf\"", "\"NaN\"", "\"\"", "\"1h\"", "\"0x10\"", "true", "{}", "[60]"]
    {
        let body = format!(r#"{{"access_token":"x","expires_in":{nonsense}}}"#);
        assert_eq!(lifetime_of(&body), None, "{nonsense}");
    }
}

#[test]
fn a_rotated_refresh_token_is_returned_and_an_empty_one_is_ignored() {
    let read = |json: &str| read(json).unwrap().refresh_token;
    assert_eq!(read(r#"{"access_token":"x","refresh_token":"y"}"#).unwrap().expose_secret(), "y");
    assert_eq!(read(r#"{"access_token":"x","refresh_token":"y\r\n"}"#).unwrap().expose_secret(), "y");
    for none in [r#"{"access_token":"x","refresh_token":""}"#, r#"{"access_token":"x","refresh_token":" "}"#] {
        assert!(read(none).is_none());
    }
    assert!(read(r#"{"access_token":"x"}"#).is_none());
}

#[test]
fn white_space_around_a_token_is_dropped_and_any_other_odd_character_is_refused() {
    for written in ["abc\\n", "abc \\r\\n", " abc", "\\tabc\\t"] {
        assert_eq!(token(&format!(r#"{{"access_token":"{written}"}}"#)), Ok("abc".to_owned()), "{written}");
    }
    for written in ["", " ", "\\n", "a b", "a\\nb", "a\\u0000", "a\\u007f", "clé", "a\\u00a0", "\\ud83d\\ude00"] {
        let body = format!(r#"{{"access_token":"{written}"}}"#);
        assert_eq!(token(&body), Err(TokenFault::TokenCharacters), "{written}");
    }
    let of_profile = |body: &str| read_json(body.as_bytes(), "/t", "/e", Mono::ZERO).map(|it| it.access_token);
    assert_eq!(of_profile(r#"{"t":"abc\n"}"#).unwrap().expose_secret(), "abc");
    assert_eq!(of_profile(r#"{"t":"a\tb"}"#).err(), Some(TokenFault::TokenCharacters));
}

#[test]
fn only_bearer_tokens_are_used() {
    for kind in [r#""Bearer""#, r#""bearer""#, r#""BEARER ""#, r#""BearerToken""#, r#""""#, "null", "1"] {
        assert!(read(&format!(r#"{{"access_token":"x","token_type":{kind}}}"#)).is_ok(), "{kind}");
    }
    for kind in ["mac", "DPoP", "N_A", "Basic", "bearer,dpop"] {
        let body = format!(r#"{{"access_token":"x","token_type":"{kind}"}}"#);
        assert_eq!(token(&body), Err(TokenFault::TokenType), "{kind}");
    }
}

#[test]
fn what_is_no_token_response_is_told_apart() {
    for body in ["", "<html>", "null", "[]", "{}", r#"{"token":"x"}"#, r#"{"access_token":1}"#] {
        assert_eq!(token(body), Err(TokenFault::NoToken), "{body}");
    }
}

#[test]
fn token_and_lifetime_are_located_by_the_profiles_pointers() {
    let body = br#"{"access":"abc","access_expires":86400,"refresh":"r","deep":{"t":"d"}}"#;
    let read = |body: &[u8], token: &str, lifetime: &str| read_json(body, token, lifetime, Mono::ZERO);
    let found = read(body, "/access", "/access_expires").unwrap();
    assert_eq!((found.access_token.expose_secret(), found.expires_in), ("abc", Some(Duration::from_hours(24))));
    assert_eq!(read(body, "/deep/t", "/none").unwrap().access_token.expose_secret(), "d");
    assert_eq!(read(body, "/nowhere", "/none").err(), Some(TokenFault::NoToken));
    assert_eq!(read(b"<html>", "/access", "/none").err(), Some(TokenFault::NoToken));
}

#[test]
fn a_response_nested_too_deeply_is_rejected() {
    let deep = format!(r#"{{"access_token":"x","more":{}{}}}"#, "[".repeat(65), "]".repeat(65));
    assert!(read(&deep).is_err());
    assert!(read(r#"{"access_token":"x\u0079","more":[[]]}"#).is_ok());
}

#[test]
fn the_error_code_of_a_refusal_is_read_and_nothing_else() {
    for (body, code) in [
        (r#"{"error":"invalid_client","error_description":"canary"}"#, Some("invalid_client")),
        (r#"{"error":" Invalid_Grant "}"#, Some("invalid_grant")),
        (r#"{"error":401}"#, None),
        (r#"{"error":null}"#, None),
        ("<html>invalid_client</html>", None),
        ("", None),
    ] {
        assert_eq!(error_code(body.as_bytes()).as_deref(), code, "{body}");
    }
}
