//! Parsers of flag values that several files of flags share; an error says what is allowed.

use std::time::Duration;

use crate::domain::duration::parse_duration;

/// Parses a namespace. An empty one is rejected, because the API reads it as all namespaces.
pub(super) fn namespace(s: &str) -> Result<String, String> {
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if s.is_empty() || s.len() > 63 || !s.chars().all(label) {
        return Err("must be comma-separated namespace names; omit the flag to watch all namespaces".into());
    }
    Ok(s.to_owned())
}

/// Checks log directives; they stay text, because they are installed later.
pub(super) fn log_level(s: &str) -> Result<String, String> {
    crate::telemetry::filter(s).map(|_| s.to_owned()).map_err(|e| e.to_string())
}

/// Parses the interval at which Secrets are read again.
pub(super) fn secret_refresh(s: &str) -> Result<Duration, String> {
    bounded(s, Duration::from_secs(1), Duration::from_mins(1))
}

/// Parses the retention of events.
pub(super) fn event_retention(s: &str) -> Result<Duration, String> {
    bounded(s, Duration::from_hours(1), Duration::from_hours(43_800))
}

/// Parses the retention of probe results; zero: none are stored.
pub(super) fn probe_retention(s: &str) -> Result<Duration, String> {
    if parse_duration(s).is_ok_and(|d| d.is_zero()) {
        return Ok(Duration::ZERO);
    }
    bounded(s, Duration::from_hours(1), Duration::from_hours(720))
}

/// Parses the timeout of `busbar check operator`.
pub(super) fn check_timeout(s: &str) -> Result<Duration, String> {
    bounded(s, Duration::from_secs(1), Duration::from_mins(10))
}

/// Parses the grace period of the shutdown.
pub(super) fn shutdown_grace(s: &str) -> Result<Duration, String> {
    bounded(s, Duration::from_secs(1), Duration::from_mins(10))
}

/// Parses the memory for responses.
pub(super) fn response_memory(s: &str) -> Result<u64, String> {
    byte_size(s, 16 << 20, 64 << 30)
}

/// Parses a size such as `512MiB` or `1GiB` and checks its bounds, in bytes.
pub(super) fn byte_size(s: &str, min: u64, max: u64) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let parsed = units.iter().find_map(|(unit, shift)| {
        let number: u64 = s.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(1 << shift)
    });
    let text = |bytes: u64| {
        let (unit, shift) = units.iter().rev().find(|(_, shift)| bytes >= 1 << shift).unwrap_or(&units[0]);
        format!("{}{unit}", bytes >> shift)
    };
    parsed
        .filter(|bytes| (min..=max).contains(bytes))
        .ok_or_else(|| format!("must be a size from {} to {}, such as 512MiB or 1GiB", text(min), text(max)))
}

/// Parses a duration and checks its bounds.
pub(super) fn bounded(s: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let d = parse_duration(s).map_err(|e| e.to_string())?;
    if d < min || d > max {
        return Err(format!("must be between {}s and {}s", min.as_secs(), max.as_secs()));
    }
    Ok(d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_binary_unit_and_bounds() {
        let size = |text| byte_size(text, 16 << 20, 1 << 40);
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("16384KiB"), Ok(16 << 20));
        for bad in ["", "1", "1GB", "15MiB", "2TiB", "-1GiB", "99999999999999999999GiB", "1.5GiB"] {
            assert_eq!(size(bad).unwrap_err(), "must be a size from 16MiB to 1TiB, such as 512MiB or 1GiB", "{bad}");
        }
    }
}
