//! The compiled-in profile files.

macro_rules! builtin {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("builtin/", $file)))),*]
    };
}

/// The compiled-in files: name and text. A new provider is a file and a line here.
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
