//! The profiles that are compiled in: their files, and nothing about them.

macro_rules! builtin {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("../profiles/", $file)))),*]
    };
}

/// The compiled-in files. Adding a provider is a file and a line here.
pub(super) const BUILTIN: &[(&str, &str)] = builtin![
    "finastra.yaml",
    "fmp.yaml",
    "fred.yaml",
    "generic.yaml",
    "gocardless.yaml",
    "mono.yaml",
    "newsapi.yaml",
    "open-banking-uk.yaml",
    "plaid.yaml",
    "polygon.yaml",
    "stripe.yaml",
];
