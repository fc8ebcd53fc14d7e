//! Whose right a fallback requires: the setting `--fallback-authorization`.

/// Whose right a fallback requires.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum FallbackAuthorization {
    /// The caller's, checked at each call.
    #[default]
    Caller,
    /// The author's, checked by the admission policy when the fallback was declared.
    Author,
}

impl std::str::FromStr for FallbackAuthorization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Caller" => Ok(Self::Caller),
            "Author" => Ok(Self::Author),
            _ => Err("must be Caller or Author".to_owned()),
        }
    }
}
