//! The line on which a field of a YAML file begins, for errors that are found only after the whole file is parsed.
//!
//! The file is read again, along the path of the field only, and the reader fails on purpose at its end: the YAML
//! parser's error then holds the line. No type of the format has to carry line numbers.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One segment of a path into a YAML document.
#[derive(Clone, PartialEq, Eq, Debug)]
enum PathSegment {
    /// A field.
    Field(String),
    /// An item of a list, from 0.
    Index(usize),
}

/// The path of a field in a profile.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct YamlPath(Vec<PathSegment>);

impl YamlPath {
    /// The field `name` of this one.
    pub(super) fn field(mut self, name: impl Into<String>) -> Self {
        self.0.push(PathSegment::Field(name.into()));
        self
    }

    /// The item `index` of this list.
    pub(super) fn index(mut self, index: usize) -> Self {
        self.0.push(PathSegment::Index(index));
        self
    }

    /// The field at `inner`, relative to this one.
    pub(super) fn join(mut self, inner: Self) -> Self {
        self.0.extend(inner.0);
        self
    }
}

impl<const N: usize> From<[&str; N]> for YamlPath {
    fn from(fields: [&str; N]) -> Self {
        fields.into_iter().fold(Self::default(), Self::field)
    }
}

impl fmt::Display for YamlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                PathSegment::Field(name) if position == 0 => f.write_str(name)?,
                PathSegment::Field(name) => write!(f, ".{name}")?,
                PathSegment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The line on which the field at `path` begins; 1 where the file has no such field.
pub(super) fn line_of(text: &str, path: &YamlPath) -> usize {
    // An absent field is reported at the part that lacks it.
    let lines = (1..=path.0.len()).rev().filter_map(|depth| {
        let found = Descend(path.0.get(..depth)?).deserialize(serde_yaml::Deserializer::from_str(text));
        found.err()?.location().map(|location| location.line())
    });
    lines.into_iter().next().unwrap_or(1)
}

/// The key that merges another map in YAML 1.1.
pub(super) const MERGE_KEY: &str = "<<";

/// Reads a key. A merge key at the end of the path is where the field begins: its value may be the alias of a map that
/// stands on another line.
struct Key {
    is_end: bool,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        if self.is_end && key == MERGE_KEY { Err(E::custom("here")) } else { Ok(key.to_owned()) }
    }
}

/// Reads along the remaining segments and fails at their end.
struct Descend<'a>(&'a [PathSegment]);

impl<'de> DeserializeSeed<'de> for Descend<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Descend<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or map on the path of a field")
    }

    // Scalars fall through to serde's type error, which holds the line that is wanted.

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((PathSegment::Field(wanted), rest)) = self.0.split_first() else {
            return Err(A::Error::custom("here"));
        };
        while let Some(key) = map.next_key_seed(Key { is_end: rest.is_empty() })? {
            if key == *wanted {
                return map.next_value_seed(Descend(rest));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((PathSegment::Index(wanted), rest)) = self.0.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        list.next_element_seed(Descend(rest)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_path() {
        let text = "id: x\nerrors:\n  - status: [1]\n  - status: [2]\n    class: fatal\nstreams:\n  a:\n    key: b\n";
        for (path, line) in [
            (YamlPath::from(["errors"]).index(1), 4),
            (YamlPath::from(["errors"]).index(1).field("class"), 5),
            (YamlPath::from(["streams", "a", "key"]), 8),
            (YamlPath::from(["id"]), 1),
            (YamlPath::from(["nowhere"]), 1),
        ] {
            assert_eq!(line_of(text, &path), line, "{path}");
        }
    }
}
