//! Decodes the escapes that a text may contain, one layer at a time, and knows where each decoded byte came from. Pure.
//!
//! A provider may repeat a credential in a JSON string, in a link, in HTML, or in any of them inside another: `+` may
//! appear as `\u002b`, `%2B`, `%2b`, `%252B`, `&#43;` or `\\u002b`. What an escape is does not depend on the format of
//! the text, which is not known: decoding too much only means that more is compared.

use std::ops::Range;

use zeroize::Zeroizing;

/// Maximum number of layers that are decoded. A JSON string in a JSON string, in the query of a link, in HTML has four.
const MAX_LAYERS: usize = 6;
/// Most places that are found. A text with more is an attack on memory: all of it counts as found.
pub(super) const MAX_FOUND: usize = 100_000;
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

/// Length of the longest of these names.
const MAX_HTML_NAME: usize = 6;

/// The ranges of `text` in which `search` finds something, as written or decoded: it is called with the text and with
/// what its escapes decode to, layer by layer. An escape of which a part is found counts as a whole.
///
/// At most two decoded copies exist at a time, and at most [`MAX_FOUND`] ranges, of which `search` need not find more: so a
/// hostile text costs little more memory than twice its length.
pub(super) fn find(text: &[u8], search: impl Fn(&[u8], &mut Vec<Range<usize>>)) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    search(text, &mut found);
    let (mut layer, mut depth) = (decode(text), 1);
    while let Some(decoded) = layer {
        let mut here = Vec::new();
        search(&decoded, &mut here);
        if found.len() + here.len() > MAX_FOUND {
            return std::iter::once(0..text.len()).collect();
        }
        if !here.is_empty() {
            found.append(&mut original(text, depth, here));
        }
        layer = (depth < MAX_LAYERS).then(|| decode(&decoded)).flatten();
        depth += 1;
    }
    if found.len() > MAX_FOUND { std::iter::once(0..text.len()).collect() } else { found }
}

/// The text without any escapes.
pub(super) fn innermost(text: &[u8]) -> Zeroizing<Vec<u8>> {
    decoded_times(text, MAX_LAYERS)
}

fn decoded_times(text: &[u8], times: usize) -> Zeroizing<Vec<u8>> {
    let mut decoded = Zeroizing::new(text.to_vec());
    for _ in 0..times {
        let Some(next) = decode(&decoded) else { break };
        decoded = next;
    }
    decoded
}

/// Decodes one layer of escapes; `None` if there is none. Wiped on drop: it may contain a credential that the original
/// only contains escaped.
fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // Without an early exit within a chunk, so that the compiler vectorizes it: most texts have no escapes.
    if !text.chunks(256).any(|chunk| chunk.iter().fold(false, |found, byte| found | is_introducer(*byte))) {
        return None;
    }
    // Allocated at full size, so that no reallocation leaves a copy behind.
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut changed = false;
    each_piece(text, |piece| {
        changed |= piece.escaped.is_some();
        decoded.extend_from_slice(piece.escaped.unwrap_or_else(|| text.get(piece.source).unwrap_or_default()));
    });
    changed.then_some(decoded)
}

/// Where ranges of the text that was decoded `depth` times are in the original.
fn original(text: &[u8], depth: usize, mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    for depth in (0..depth).rev() {
        map_back(&decoded_times(text, depth), &mut ranges);
    }
    ranges
}

/// Maps ranges of what `text` decodes to, none of them empty, to ranges of `text`: in one pass, however many there are.
fn map_back(text: &[u8], ranges: &mut [Range<usize>]) {
    /// A bound of a range: its first byte, or its last.
    struct Bound {
        byte: usize,
        range: usize,
        is_last: bool,
    }
    let bounds = ranges.iter().enumerate().flat_map(|(range, found)| {
        [Bound { byte: found.start, range, is_last: false }, Bound { byte: found.end - 1, range, is_last: true }]
    });
    let mut bounds: Vec<Bound> = bounds.collect();
    bounds.sort_unstable_by_key(|bound| bound.byte);
    let (mut bounds, mut decoded) = (bounds.into_iter().peekable(), 0);
    each_piece(text, |piece| {
        let end = decoded + piece.escaped.map_or(piece.source.len(), <[u8]>::len);
        while let Some(bound) = bounds.next_if(|bound| bound.byte < end) {
            let source = if piece.escaped.is_some() {
                piece.source.clone()
            } else {
                let at = piece.source.start + (bound.byte - decoded);
                at..at + 1
            };
            if let Some(range) = ranges.get_mut(bound.range) {
                if bound.is_last { range.end = source.end } else { range.start = source.start }
            }
        }
        decoded = end;
    });
}

/// A part of a text: an escape, or what is between two.
struct Piece<'a> {
    source: Range<usize>,
    /// What the escape decodes to.
    escaped: Option<&'a [u8]>,
}

/// Calls `each` with the pieces of a text, in order.
fn each_piece(text: &[u8], mut each: impl FnMut(Piece<'_>)) {
    let (mut at, mut plain, mut escaped) = (0, 0, Vec::with_capacity(4));
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(next) = rest.iter().position(|byte| is_introducer(*byte)) else { break };
        at += next;
        escaped.clear();
        let len = unescape(text.get(at..).unwrap_or_default(), &mut escaped);
        if len == 0 {
            // The introducer itself is plain.
            at += 1;
            continue;
        }
        if plain < at {
            each(Piece { source: plain..at, escaped: None });
        }
        each(Piece { source: at..at + len, escaped: Some(&escaped) });
        at += len;
        plain = at;
    }
    if plain < text.len() {
        each(Piece { source: plain..text.len(), escaped: None });
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
            // Looked up only if it may be a name: a body of ampersands would take seconds.
            let end = name.iter().take(MAX_HTML_NAME + 1).position(|byte| *byte == b';');
            let name = end.and_then(|end| name.get(..end)).unwrap_or_default();
            let named = HTML_NAMES.iter().find(|(known, _)| known.as_bytes() == name);
            named.map_or(0, |(known, c)| push(*c, known.len() + 2, text))
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
        String::from_utf8_lossy(&innermost(text.as_bytes())).into_owned()
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
        for text in [
            "",
            "100 %",
            "50%zz",
            "a & b",
            "&unknown;",
            "&unknow;",
            "&&;",
            "&#;",
            "&#xfffffff;",
            "C:\\dir",
            "\\u12",
            "\\ud83c",
            "%",
        ] {
            assert_eq!(decoded(text), text);
        }
    }

    #[test]
    fn a_find_in_a_decoded_layer_names_the_whole_escapes_of_the_original() {
        let text = r"x=%5Cu002bkey%5C/&y";
        let find = |needle: &str| {
            super::find(text.as_bytes(), |layer, found| {
                let layer = std::str::from_utf8(layer).unwrap();
                found.extend(layer.match_indices(needle).map(|(at, _)| at..at + needle.len()));
            })
        };
        assert_eq!(find("+key/"), vec![2..17]);
        assert_eq!(find("key"), [10..13, 10..13, 10..13], "once at each layer");
        assert_eq!(find("k"), [10..11, 10..11, 10..11]);
        assert_eq!(find("=").len(), 3);
    }
}
