//! Closed lists of names that users alert on: reasons and results. A name is added or deprecated, never renamed.
//!
//! [`closed_list!`] declares such an enum: each name with its meaning and its remedy, printed by one function.
//! `docs/reference/reasons.md` is generated from these lists.

/// A name that is not in its closed list.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name:?} is not a known {list}")]
pub struct UnknownName {
    name: String,
    list: &'static str,
}

impl UnknownName {
    /// `name` is not in the list that `list` describes.
    pub fn new(name: &str, list: &'static str) -> Self {
        Self { name: name.to_owned(), list }
    }
}

/// Declares a closed list of names: `Variant: "meaning" => "remedy"`, with `ALL`, `as_str`, `meaning`, `remedy`,
/// `Display` and `FromStr`. `$list` describes the list in errors.
macro_rules! closed_list {
    ($list:literal, $(#[$meta:meta])* $name:ident { $( $variant:ident: $meaning:literal => $remedy:literal ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $( #[doc = $meaning] $variant ),+ }

        impl $name {
            /// All names, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),+];

            /// The name as written in status, in metric labels and in the ledger.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => stringify!($variant) ),+ }
            }

            /// What the name says.
            pub const fn meaning(self) -> &'static str {
                match self { $( Self::$variant => $meaning ),+ }
            }

            /// What the user can do.
            pub const fn remedy(self) -> &'static str {
                match self { $( Self::$variant => $remedy ),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::closed_list::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|one| one.as_str() == name)
                    .ok_or_else(|| $crate::domain::closed_list::UnknownName::new(name, $list))
            }
        }
    };
}

pub(crate) use closed_list;
