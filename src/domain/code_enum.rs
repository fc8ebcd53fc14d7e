//! Machine-readable codes as closed enums that carry their own documentation.
//!
//! Callers of the HTTP API branch on these codes, so they are added or deprecated, never renamed. The reference of
//! codes (docs/reference/reasons.md) is generated from the same declarations.

/// Documentation of one code.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CodeDoc {
    /// The code as printed.
    pub code: &'static str,
    /// Its meaning.
    pub meaning: &'static str,
    /// What the reader can do about it.
    pub remedy: &'static str,
}

/// Declares an enum of codes, each as `Variant = "code": "meaning" => "remedy"`.
macro_rules! code_enum {
    ($(#[$meta:meta])* $name:ident {
        $( $variant:ident = $code:literal: $meaning:literal => $remedy:literal ),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( #[doc = $meaning] $variant ),+ }

        impl $name {
            /// All codes, in the order of declaration.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),+];

            /// The code as printed.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $code ),+ }
            }

            /// The code with its meaning and remedy.
            pub const fn doc(self) -> $crate::domain::code_enum::CodeDoc {
                let (meaning, remedy) = match self { $( Self::$variant => ($meaning, $remedy) ),+ };
                $crate::domain::code_enum::CodeDoc { code: self.as_str(), meaning, remedy }
            }
        }
    };
}

pub(crate) use code_enum;
