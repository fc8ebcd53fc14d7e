//! Subcommands that write generated files.

use std::path::Path;

use crate::app::error::AppError;
use crate::app::metrics_reference;
use crate::cli::flags_reference;

/// Writes the custom resource definitions.
pub(super) fn crds(out: &Path) -> Result<(), AppError> {
    crate::api::write_crds(out)?;
    Ok(())
}

/// Writes the generated reference documents.
pub(super) async fn docs(out: &Path) -> Result<(), AppError> {
    let metrics = ("metrics.md", metrics_reference::markdown().await?);
    for (name, text) in documents().into_iter().chain([metrics]) {
        let path = out.join(name);
        std::fs::write(&path, text)
            .map_err(|source| AppError::Io { what: format!("writing {}", path.display()), source })?;
    }
    Ok(())
}

/// The generated documents that need no process: file name and text.
pub(super) fn documents() -> Vec<(&'static str, String)> {
    vec![
        ("flags.md", flags_reference()),
        ("crds.md", crate::api::reference::crds_markdown()),
        ("reasons.md", crate::app::reasons::markdown()),
        ("profiles.md", crate::profile::reference::markdown()),
        ("profile.schema.json", crate::profile::reference::json_schema()),
        ("openapi.json", crate::gateway::openapi::text()),
    ]
}
