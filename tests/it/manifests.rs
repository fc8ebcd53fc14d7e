//! Reads the manifests of `config/samples/` and `config/examples/` the way the tests need them: as values, and as the types of the API.

use std::fs;
use std::path::{Path, PathBuf};

use busbar::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};
use kube::core::cel::ValidationErrors;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One manifest file.
pub(crate) struct Manifest {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) documents: Vec<Value>,
}

impl Manifest {
    /// The text after `# key:` among the leading comments.
    pub(crate) fn header(&self, key: &str) -> Option<&str> {
        self.text
            .lines()
            .take_while(|line| line.starts_with('#'))
            .find_map(|line| line.strip_prefix(&format!("# {key}: ")))
    }

    /// What the file must earn: its first line.
    pub(crate) fn want(&self) -> &str {
        let first = self.text.lines().next().unwrap_or_default();
        first
            .strip_prefix("# want: ")
            .unwrap_or_else(|| panic!("{}: the first line must be `# want: …`", self.path.display()))
    }

    /// The documents of our own group.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Value> {
        self.documents.iter().filter(|document| text(document, "/apiVersion") == "busbar.dev/v1alpha1")
    }
}

/// The manifests of one folder below `config/samples`, or of `broken` and `invalid` below `config/examples`, by name.
pub(crate) fn manifests(folder: &str) -> Vec<Manifest> {
    let parent = if ["broken", "invalid"].contains(&folder) { "config/examples" } else { "config/samples" };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(parent).join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Manifest {
    let text = fs::read_to_string(&path).unwrap();
    let documents = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .collect();
    Manifest { path, text, documents }
}

/// The text at a pointer, or nothing.
pub(crate) fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A document read as the type of its kind, and printed again.
pub(crate) fn round_trip(document: &Value) -> Result<Value, String> {
    fn through<T: DeserializeOwned + serde::Serialize>(document: &Value) -> Result<Value, String> {
        let typed: T = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
        serde_json::to_value(typed).map_err(|error| error.to_string())
    }
    match text(document, "/kind") {
        "ProviderConnection" => through::<ProviderConnection>(document),
        "BreakerPolicy" => through::<BreakerPolicy>(document),
        "SyncJob" => through::<SyncJob>(document),
        "BankRoute" => through::<BankRoute>(document),
        other => Err(format!("{other} is none of our kinds")),
    }
}

/// Evaluates the CEL rules of a document's kind, with the transition rules where there is an older document.
pub(crate) fn validate(document: &Value, old: Option<&Value>) -> Result<(), ValidationErrors> {
    macro_rules! check {
        ($kind:ty) => {{
            let new: $kind = serde_json::from_value(document.clone()).unwrap();
            match old {
                None => new.validate_cel(),
                Some(old) => new.validate_cel_update(&serde_json::from_value(old.clone()).unwrap()),
            }
        }};
    }
    match text(document, "/kind") {
        "ProviderConnection" => check!(ProviderConnection),
        "BreakerPolicy" => check!(BreakerPolicy),
        "SyncJob" => check!(SyncJob),
        "BankRoute" => check!(BankRoute),
        other => panic!("{other} is none of our kinds"),
    }
}
