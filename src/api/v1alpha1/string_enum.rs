//! Macro for string enums: fieldless enums with display, serde and a flat schema.
//!
//! A plain `derive(JsonSchema)` prints one sub-schema per documented variant and loses the description of an optional
//! field; here the schema is the plain list of values, and each value is written once.

/// Declares a fieldless enum with `ALL`, `as_str`, `doc`, `Display`, serde and a flat `enum` schema. `Name = Variant`
/// adds a `Default`; `Variant = "text"` sets a value that differs from the variant's name.
macro_rules! string_enum {
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
            /// All values, in the order of declaration.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),+];

            /// The value as written in YAML, in status and in metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => string_enum!(@text $variant $($text)?) ),+ }
            }

            /// Meaning of the value.
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
                const WORDS: &[&str] = &[$( string_enum!(@text $variant $($text)?) ),+];
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
                schemars::json_schema!({ "type": "string", "enum": [$( string_enum!(@text $variant $($text)?) ),+] })
            }
        }
    };
    (@text $variant:ident) => { stringify!($variant) };
    (@text $variant:ident $text:literal) => { $text };
}
