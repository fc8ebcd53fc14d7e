//! How much of a text fits into a number of bytes of JSON.
//!
//! A status has a largest size, whatever texts of users and providers it quotes: so these are limited by the bytes that
//! they take there, not by their characters.

/// The longest prefix of `text` whose JSON form, without the quotes around it, has at most `max` bytes.
pub fn json_prefix(text: &str, max: usize) -> &str {
    let mut used = 0;
    let mut exceeds = |c: char| {
        used += json_bytes(c);
        used > max
    };
    let end = text.char_indices().find(|(_, c)| exceeds(*c));
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// The bytes of a character in JSON.
const fn json_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> usize {
        serde_json::to_string(text).unwrap().len() - 2
    }

    #[test]
    fn a_prefix_takes_the_bytes_that_its_json_has() {
        for c in ['x', 'é', '€', '🏦', '"', '\\', '\n', '\u{1}', '\u{8}', '\u{1f}', '\u{7f}', ' '] {
            let text = c.to_string().repeat(100);
            assert_eq!(json_bytes(c), size(&c.to_string()), "{c:?}");
            for max in 0..50 {
                let prefix = json_prefix(&text, max);
                assert!(size(prefix) <= max && size(prefix) + json_bytes(c) > max, "{c:?} {max}");
            }
        }
        assert_eq!(json_prefix("short", 5), "short");
        assert_eq!(json_prefix("a\"b", 3), "a\"");
    }
}
