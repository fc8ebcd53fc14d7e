//! The stored form of the lists that say which events a consumer gets: `|a|b|`, which a trigger can search.

/// As stored. The empty list is the empty text.
pub(crate) fn encode(values: &[String]) -> String {
    if values.is_empty() {
        return String::new();
    }
    let mut text = "|".to_owned();
    for value in values {
        text.push_str(value);
        text.push('|');
    }
    text
}

/// What [`encode`] made.
pub(crate) fn decode(text: &str) -> Vec<String> {
    text.split('|').filter(|value| !value.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_back() {
        for values in [vec![], vec!["team".to_owned()], vec!["a".to_owned(), "b.c".to_owned()]] {
            assert_eq!(decode(&encode(&values)), values);
        }
        assert_eq!(encode(&["a".to_owned(), "b".to_owned()]), "|a|b|");
    }
}
