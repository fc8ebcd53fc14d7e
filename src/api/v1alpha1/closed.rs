//! One macro for every closed set of words: an enum that prints, parses and describes itself.
//!
//! A plain `derive(JsonSchema)` would print one sub-schema per documented variant and lose the field's own
//! description where the field is optional; here the schema is the bare list of words, and the words exist once.

/// Declares a fieldless enum with `ALL`, `as_str`, `doc`, `Display`, serde and a flat `enum` schema. `Name = Variant`
/// gives it a `Default`; `Variant = "text"` a word that differs from the variant's name.
macro_rules! closed_enum {
    ($(#[$meta:meta])* $name:ident $(= $default:ident)? { $( $(#[doc = $doc:literal])+ $variant:ident $(= $text:literal)? ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[doc = $doc])+ $variant ),+ }

        $(impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        })?

        impl $name {
            /// Every value, in the order they are declared.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),+];

            /// The word as it is written in YAML, in status and in metrics labels.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => closed_enum!(@text $variant $($text)?) ),+ }
            }

            /// What the value means, in one or two sentences.
            pub const fn doc(self) -> &'static str {
                match self { $( Self::$variant => concat!($($doc),+).trim_ascii() ),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                const WORDS: &[&str] = &[$( closed_enum!(@text $variant $($text)?) ),+];
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| value.as_str() == word)
                    .ok_or_else(|| serde::de::Error::unknown_variant(&word, WORDS))
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$( closed_enum!(@text $variant $($text)?) ),+] })
            }
        }
    };
    (@text $variant:ident) => { stringify!($variant) };
    (@text $variant:ident $text:literal) => { $text };
}
