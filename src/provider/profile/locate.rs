//! The line of a YAML file that a part of it begins on, to say where a mistake is that only shows when it is all read.
//!
//! The file is read once more, along the path only, and the reader is made to fail at its end: YAML's own error then
//! knows the line. Nobody has to carry line numbers through the format's types.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One step down into a YAML document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A field.
    Field(String),
    /// An item of a list, from 0.
    Index(usize),
}

/// A part of a profile.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Place(Vec<Step>);

impl Place {
    pub(super) fn of<const N: usize>(fields: [&str; N]) -> Self {
        Self(fields.iter().map(|field| Step::Field((*field).to_owned())).collect())
    }

    pub(super) fn and(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// The part that `inner` names within this one.
    pub(super) fn join(mut self, inner: Self) -> Self {
        self.0.extend(inner.0);
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if at == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The line on which `place` begins; 1 where the file has no such part.
pub(super) fn line(text: &str, place: &Place) -> usize {
    // What is not written (a field that is missing) is said of the part that lacks it.
    let lines = (1..=place.0.len()).rev().filter_map(|depth| {
        let found = Down(place.0.get(..depth)?).deserialize(serde_yaml::Deserializer::from_str(text));
        found.err()?.location().map(|location| location.line())
    });
    lines.into_iter().next().unwrap_or(1)
}

/// Goes down the steps that are left.
struct Down<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Down<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Down<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the way to a part of a profile")
    }

    // Whatever is no list or map falls through to serde's error, which is where we wanted to be.

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Field(wanted), rest)) = self.0.split_first() else { return Err(A::Error::custom("here")) };
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                return map.next_value_seed(Down(rest));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.0.split_first() else { return Err(A::Error::custom("here")) };
        for _ in 0..*wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        list.next_element_seed(Down(rest)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_by_its_line() {
        let text = "id: x\nerrors:\n  - status: [1]\n  - status: [2]\n    class: fatal\nstreams:\n  a:\n    key: b\n";
        for (place, at) in [
            (Place::of(["errors"]).and(Step::Index(1)), 4),
            (Place::of(["errors"]).and(Step::Index(1)).and(Step::Field("class".into())), 5),
            (Place::of(["streams", "a", "key"]), 8),
            (Place::of(["id"]), 1),
            (Place::of(["nowhere"]), 1),
        ] {
            assert_eq!(line(text, &place), at, "{place}");
        }
    }
}
