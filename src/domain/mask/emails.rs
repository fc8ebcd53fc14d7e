//! E-mail addresses in free texts: the domain is kept, the name is not. Pure.

use std::borrow::Cow;

/// What a masked name becomes.
const MASKED: &str = "****";

/// The text with the name of every e-mail address masked.
pub(super) fn mask_emails(text: &str) -> Cow<'_, str> {
    if !text.contains(['@', '\u{ff20}']) {
        return Cow::Borrowed(text);
    }
    let chars: Vec<char> = text.chars().collect();
    let mut out: Vec<char> = Vec::with_capacity(chars.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let is_address = matches!(c, '@' | '\u{ff20}') && has_domain(&chars, at + 1);
        if is_address {
            let name = out.iter().rev().take_while(|c| is_name(**c)).count();
            if name > 0 {
                out.truncate(out.len() - name);
                out.extend(MASKED.chars());
            }
        }
        out.push(c);
        at += 1;
    }
    Cow::Owned(out.into_iter().collect())
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '*' | '\'' | '\u{ff0e}')
}

/// Whether a domain with a dot starts at `from`.
fn has_domain(chars: &[char], from: usize) -> bool {
    let domain: Vec<char> = chars
        .iter()
        .skip(from)
        .take(255)
        .take_while(|c| c.is_alphanumeric() || matches!(**c, '.' | '-' | '\u{ff0e}'))
        .copied()
        .collect();
    let dot = domain.iter().position(|c| matches!(*c, '.' | '\u{ff0e}'));
    dot.is_some_and(|dot| dot > 0 && domain.get(dot + 1).is_some_and(|c| c.is_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_address_is_masked_and_its_domain_is_kept() {
        for (raw, masked) in [
            ("TO ada.lovelace@mail.example REF 7", "TO ****@mail.example REF 7"),
            ("<Ada+x_1@sub.example.co>", "<****@sub.example.co>"),
            ("a@b.ng, c@d.io", "****@b.ng, ****@d.io"),
            ("\u{e9}lo\u{ef}se@bank.example", "****@bank.example"),
            ("ada\u{ff20}mail.example", "****\u{ff20}mail.example"),
            ("PAY @ SHOP 12:30", "PAY @ SHOP 12:30"),
            ("5@3.50", "****@3.50"),
            ("user@localhost", "user@localhost"),
            ("@handle.x", "@handle.x"),
        ] {
            assert_eq!(mask_emails(raw), masked, "{raw}");
        }
    }
}
