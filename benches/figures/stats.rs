//! Medians and spread: what a figure on a shared machine is worth without.

use std::fmt;

/// Values of one thing, sorted.
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// Of at least one value.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value below which `percent` of all are (nearest rank).
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).clamp(1, self.0.len());
        self.0[rank - 1]
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// As a person reads it: median, least to greatest, how many.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.percentile(0), self.percentile(100));
        write!(f, "median {:.1}, {low:.1} to {high:.1} over {}", self.median(), self.len())
    }
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^53")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}
