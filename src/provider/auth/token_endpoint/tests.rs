use super::*;

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
fn request_bodies_are_encoded_without_reallocation() {
    let pairs = [("client_secret", "a b+c&d=é%"), ("grant_type", "client_credentials")];
    let form = encode_form(&pairs);
    assert_eq!(*form, b"client_secret=a%20b%2Bc%26d%3D%C3%A9%25&grant_type=client_credentials");
    let capacity: usize = pairs.iter().map(|(name, value)| 2 + 3 * (name.len() + value.len())).sum();
    assert_eq!(form.capacity(), capacity);
    let fields = BTreeMap::from([("secret_id", "a\"\u{1}"), ("secret_key", "b")]);
    let body = encode_json(&fields).unwrap();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&body).unwrap(),
        serde_json::json!({"secret_id": "a\"\u{1}", "secret_key": "b"})
    );
}
