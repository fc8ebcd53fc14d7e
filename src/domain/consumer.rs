//! Names and API keys of consumers of events. Pure.
//!
//! A key is `bbk_<id>_<secret>`: the ID finds the stored hash and may be shown, the secret is shown once and never stored.

/// Beginning of the user names of consumers; the gateway accepts no user of the API server with such a name.
const USER_PREFIX: &str = "busbar:consumer:";
/// Beginning of every key, by which scanners of leaked secrets can find it.
const KEY_PREFIX: &str = "bbk_";
/// Random bytes of the ID of a key.
pub const KEY_ID_LEN: usize = 8;
/// Random bytes of the secret of a key.
pub const KEY_SECRET_LEN: usize = 32;
/// Longest name: the queue's name and the routing key hold it.
const MAX_NAME: usize = 63;

/// Whether a consumer can have this name.
pub fn is_consumer_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(plain)
}

/// The user name under which a consumer calls providers and is recorded.
pub fn consumer_user(name: &str) -> String {
    format!("{USER_PREFIX}{name}")
}

/// Whether a user name is that of a consumer.
pub fn is_consumer_user(user: &str) -> bool {
    user.starts_with(USER_PREFIX)
}

/// The parts of a key.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// What the key is found by.
    pub id: &'a str,
    /// What proves it.
    pub secret: &'a str,
}

/// The parts of a key; `None` if the text has another form.
pub fn parse_key(text: &str) -> Option<KeyParts<'_>> {
    let (id, secret) = text.strip_prefix(KEY_PREFIX)?.split_once('_')?;
    let is_hex = |text: &str, bytes: usize| {
        text.len() == 2 * bytes && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    (is_hex(id, KEY_ID_LEN) && is_hex(secret, KEY_SECRET_LEN)).then_some(KeyParts { id, secret })
}

/// The text of a key with these parts.
pub fn key_text(parts: KeyParts<'_>) -> String {
    format!("{KEY_PREFIX}{}_{}", parts.id, parts.secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_an_id_and_a_secret_and_no_other_form() {
        let (id, secret) = ("0123456789abcdef", "ab".repeat(KEY_SECRET_LEN));
        let text = key_text(KeyParts { id, secret: &secret });
        assert!(parse_key(&text) == Some(KeyParts { id, secret: &secret }));
        let upper = text.to_ascii_uppercase();
        let others = [&text[1..], &text[..text.len() - 1], &upper, "", "bbk_", "bbk__", "bbk_0123456789abcdef", "é"];
        for other in others {
            assert!(parse_key(other).is_none(), "{other}");
        }
        assert!(parse_key(&format!("{text}0")).is_none());
    }

    #[test]
    fn the_user_of_a_consumer_is_told_from_others() {
        assert!(is_consumer_user(&consumer_user("ops")));
        for user in ["ops", "system:serviceaccount:busbar:consumer", "busbar:unauthenticated", ""] {
            assert!(!is_consumer_user(user), "{user}");
        }
    }
}
