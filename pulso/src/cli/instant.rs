//! Times as flags.

use pulso_domain::time::Instant;

/// Reads a time such as `2026-01-31T23:00:00Z`.
///
/// # Errors
/// When it is none.
pub fn parse_instant(text: &str) -> Result<Instant, String> {
    Instant::parse_rfc3339(text).ok_or_else(|| "write a time such as 2026-01-31T23:00:00Z".to_owned())
}
