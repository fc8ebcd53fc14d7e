//! The metrics of the process itself: `busbar_build_info` and `process_*`.

use crate::metrics::{Metrics, MetricsError};

/// Registers them.
///
/// # Errors
/// If one of them is registered already.
pub(super) fn register(metrics: &Metrics) -> Result<(), MetricsError> {
    metrics.process()?;
    metrics
        .int_gauge("busbar_build_info", "Always 1; the labels identify the build.", &["version", "commit"])?
        .with_label_values(&[crate::cli::VERSION, crate::cli::COMMIT])
        .set(1);
    Ok(())
}
