//! Decodes the escapes that a text may contain, one layer at a time, and knows where each decoded byte came from. Pure.
//!
//! A provider may repeat a credential in a JSON string, in a link, in HTML, or in any of them inside another: `+` may
//! appear as `\u002b`, `%2B`, `%2b`, `%252B`, `&#43;` or `\\u002b`. What an escape is does not depend on the format of
//! the text, which is not known: decoding too much only means that more is compared.

use std::ops::Range;

use zeroize::Zeroizing;

/// Maximum number of layers that are decoded. A JSON string in a JSON string, in the query of a link, in HTML has four.
const MAX_LAYERS: usize = 6;
/// The characters that HTML names, where names are not the characters themselves.
const HTML_NAMES: [(&str, char); 34] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("sol", '/'),
    ("bsol", '\\'),
    ("plus", '+'),
    ("equals", '='),
    ("num", '#'),
    ("percnt", '%'),
    ("dollar", '$'),
    ("excl", '!'),
    ("quest", '?'),
    ("commat", '@'),
    ("lpar", '('),
    ("rpar", ')'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("lcub", '{'),
    ("lbrace", '{'),
    ("rcub", '}'),
    ("rbrace", '}'),
    ("ast", '*'),
    ("comma", ','),
    ("period", '.'),
    ("colon", ':'),
    ("semi", ';'),
    ("lowbar", '_'),
    ("Hat", '^'),
    ("grave", '`'),
    ("verbar", '|'),
];

/// A text with one layer of escapes decoded.
pub(super) struct Layer {
    /// The decoded text, wiped on drop: it may contain a credential that the original only contains escaped.
    pub(super) text: Zeroizing<Vec<u8>>,
    /// The decoded escapes, in order.
    escapes: Vec<Escape>,
}

/// An escape: the bytes that it was decoded to, and those that it was decoded from.
struct Escape {
    decoded: Range<usize>,
    source: Range<usize>,
}

impl Layer {
    /// Decodes the escapes of `text` once; `None` if it contains none.
    fn decode(text: &[u8]) -> Option<Self> {
        let first = text.iter().position(|byte| is_introducer(*byte))?;
        // Allocated at full size, so that no reallocation leaves a copy behind.
        let mut layer = Self { text: Zeroizing::new(Vec::with_capacity(text.len())), escapes: Vec::new() };
        let mut at = first;
        layer.text.extend_from_slice(text.get(..first)?);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let start = layer.text.len();
            let consumed = unescape(rest, &mut layer.text);
            if consumed > 0 {
                layer.escapes.push(Escape { decoded: start..layer.text.len(), source: at..at + consumed });
                at += consumed;
                continue;
            }
            // The introducer itself, and everything up to the next one.
            let plain = rest.iter().skip(1).position(|byte| is_introducer(*byte)).map_or(rest.len(), |next| next + 1);
            layer.text.extend_from_slice(rest.get(..plain)?);
            at += plain;
        }
        (!layer.escapes.is_empty()).then_some(layer)
    }

    /// The bytes of the source that `found`, a range of the decoded text that is not empty, came from; an escape counts
    /// as a whole.
    fn source_of(&self, found: &Range<usize>) -> Range<usize> {
        let last = self.origin(found.end.saturating_sub(1));
        self.origin(found.start).start..last.end
    }

    /// The bytes of the source that the decoded byte at `at` came from.
    fn origin(&self, at: usize) -> Range<usize> {
        let before = self.escapes.partition_point(|escape| escape.decoded.start <= at);
        match before.checked_sub(1).and_then(|index| self.escapes.get(index)) {
            Some(escape) if at < escape.decoded.end => escape.source.clone(),
            Some(escape) => {
                let source = escape.source.end + (at - escape.decoded.end);
                source..source + 1
            }
            None => at..at + 1,
        }
    }
}

/// A text and what its escapes decode to, layer by layer.
pub(super) struct Layers<'a> {
    text: &'a [u8],
    layers: Vec<Layer>,
}

impl<'a> Layers<'a> {
    /// Decodes `text` until it contains no more escapes.
    pub(super) fn of(text: &'a [u8]) -> Self {
        let mut layers: Vec<Layer> = Vec::new();
        while layers.len() < MAX_LAYERS {
            let Some(layer) = Layer::decode(layers.last().map_or(text, |layer| &layer.text)) else { break };
            layers.push(layer);
        }
        Self { text, layers }
    }

    /// The text without any escapes.
    pub(super) fn innermost(&self) -> &[u8] {
        self.layers.last().map_or(self.text, |layer| &layer.text)
    }

    /// The ranges of the original text in whose decoded form, at any layer, `search` finds something.
    pub(super) fn find(&self, mut search: impl FnMut(&[u8], &mut Vec<Range<usize>>)) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        search(self.text, &mut found);
        for (depth, layer) in self.layers.iter().enumerate() {
            let mut here = Vec::new();
            search(&layer.text, &mut here);
            let outwards = self.layers.iter().take(depth + 1).rev();
            found.extend(here.into_iter().map(|range| outwards.clone().fold(range, |range, to| to.source_of(&range))));
        }
        found
    }
}

/// Whether an escape may begin with this byte.
const fn is_introducer(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'&')
}

/// Decodes the escape at the start of `rest` into `text`, and returns its length; 0 if there is none.
fn unescape(rest: &[u8], text: &mut Vec<u8>) -> usize {
    match rest {
        [b'\\', b'u', b'{', digits @ ..] => {
            let len = digits.iter().take(6).take_while(|byte| byte.is_ascii_hexdigit()).count();
            match (digits.get(len), hex(digits, len).and_then(char::from_u32)) {
                (Some(b'}'), Some(c)) => push(c, len + 4, text),
                _ => 0,
            }
        }
        [b'\\', b'u', digits @ ..] => match utf16(digits, b"\\u") {
            Some((c, len)) => push(c, len, text),
            None => 0,
        },
        [b'\\', b'x', digits @ ..] => hex(digits, 2).and_then(char::from_u32).map_or(0, |c| push(c, 4, text)),
        [b'\\', control @ (b'n' | b'r' | b't' | b'b' | b'f'), ..] => {
            let c = match control {
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'b' => '\u{8}',
                _ => '\u{c}',
            };
            push(c, 2, text)
        }
        [b'\\', byte, ..] if byte.is_ascii_punctuation() || *byte == b' ' => push(char::from(*byte), 2, text),
        [b'%', b'u' | b'U', digits @ ..] => match utf16(digits, b"%u") {
            Some((c, len)) => push(c, len, text),
            None => 0,
        },
        [b'%', digits @ ..] => match hex(digits, 2).and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => {
                // A byte, not a character: the others of the character are escaped too.
                text.push(byte);
                3
            }
            None => 0,
        },
        [b'&', b'#', b'x' | b'X', digits @ ..] => {
            let len = digits.iter().take(8).take_while(|byte| byte.is_ascii_hexdigit()).count();
            let end = usize::from(digits.get(len) == Some(&b';'));
            hex(digits, len).and_then(char::from_u32).map_or(0, |c| push(c, len + end + 3, text))
        }
        [b'&', b'#', digits @ ..] => {
            let len = digits.iter().take(8).take_while(|byte| byte.is_ascii_digit()).count();
            let end = usize::from(digits.get(len) == Some(&b';'));
            let number = digits.get(..len).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            number.and_then(char::from_u32).map_or(0, |c| push(c, len + end + 2, text))
        }
        [b'&', name @ ..] => {
            let named = |(known, c): &(&str, char)| {
                let rest = name.strip_prefix(known.as_bytes())?;
                (rest.first() == Some(&b';')).then_some((*c, known.len() + 2))
            };
            HTML_NAMES.iter().find_map(named).map_or(0, |(c, len)| push(c, len, text))
        }
        _ => 0,
    }
}

/// Appends a decoded character; returns the length of its escape.
fn push(c: char, len: usize, text: &mut Vec<u8>) -> usize {
    text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    len
}

/// The number of the first `len` digits, if there are so many and at least one.
fn hex(digits: &[u8], len: usize) -> Option<u32> {
    let digits = digits.get(..len).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The character of a UTF-16 escape whose digits begin here, and the escape's length including `introducer`. A
/// character outside the basic plane is two escapes.
fn utf16(digits: &[u8], introducer: &[u8]) -> Option<(char, usize)> {
    let first = hex(digits, 4)?;
    if let Some(c) = char::from_u32(first) {
        return Some((c, 6));
    }
    let second = hex(digits.get(4..)?.strip_prefix(introducer)?, 4)?;
    let units = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    let c = char::decode_utf16(units).next()?.ok()?;
    Some((c, 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> String {
        String::from_utf8_lossy(Layers::of(text.as_bytes()).innermost()).into_owned()
    }

    #[test]
    fn every_escape_of_a_character_decodes_to_it() {
        for escaped in [
            "+",
            "%2B",
            "%2b",
            "%252B",
            "%25252b",
            "%u002B",
            "\\u002b",
            "\\u002B",
            "\\\\u002b",
            "\\x2b",
            "\\u{2b}",
            "\\+",
            "&#43;",
            "&#043;",
            "&#x2b;",
            "&#X2B;",
            "&plus;",
            "&amp;#43;",
            "&amp;plus;",
            "\\u0026plus;",
            "%5Cu002b",
            "\\u0025\\u0032\\u0042",
        ] {
            assert_eq!(decoded(&format!("a{escaped}b")), "a+b", "{escaped}");
        }
        assert_eq!(decoded(r#"\\\"\/\n%F0%9F%8F%A6 \ud83c\udfe6"#), "\"/\n\u{1f3e6} \u{1f3e6}");
    }

    #[test]
    fn text_that_only_looks_like_an_escape_is_unchanged() {
        for text in
            ["", "100 %", "50%zz", "a & b", "&unknown;", "&#;", "&#xfffffff;", "C:\\dir", "\\u12", "\\ud83c", "%"]
        {
            assert_eq!(decoded(text), text);
        }
    }

    #[test]
    fn a_find_in_a_decoded_layer_names_the_whole_escapes_of_the_original() {
        let text = r"x=%5Cu002bkey%5C/&y";
        let find = |needle: &str| {
            Layers::of(text.as_bytes()).find(|layer, found| {
                let layer = String::from_utf8_lossy(layer).into_owned();
                found.extend(layer.match_indices(needle).map(|(at, _)| at..at + needle.len()));
            })
        };
        assert_eq!(find("+key/"), [2..17]);
        assert_eq!(find("key"), [10..13, 10..13, 10..13], "once at each layer");
    }
}
