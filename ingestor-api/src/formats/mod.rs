//! Pulses in the forms that files and other programs write, turned into `pulso.v1.Pulse`.
//!
//! What is missing stays missing and what is malformed stays malformed, so that the door gives the reason and there is
//! one place that says what a good pulse is. Only what cannot be expressed as a pulse at all is [`Unreadable`].

pub mod message;

pub mod pulse_json;

pub mod cloud_event;

use pulso_domain::reason::Reason;
use pulso_domain::time::Instant;

/// Most bytes of a detail: enough for a sentence, whatever it quotes.
const DETAIL_BYTES_MAX: usize = 512;

/// Why something is no pulse, as the door would say it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// The stable code.
    pub reason: Reason,
    /// The field at fault; empty when it is the whole.
    pub field: &'static str,
    /// What is wrong and how to mend it.
    pub detail: String,
}

impl Unreadable {
    /// Something that is no pulse as a whole.
    pub fn whole(detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        // It may quote what was sent, which can be long.
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
        Self { reason: Reason::Undecodable, field: "", detail }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field {
            "" => write!(formatter, "{}: {}", self.reason, self.detail),
            field => write!(formatter, "{}: {field}: {}", self.reason, self.detail),
        }
    }
}

/// Reads a time; a missing or empty one stays missing.
///
/// # Errors
/// When it is there and no RFC 3339 time.
pub fn occurred_at(text: Option<&str>) -> Result<Option<prost_types::Timestamp>, Unreadable> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let instant = Instant::parse_rfc3339(text).ok_or_else(|| Unreadable {
        reason: Reason::InvalidTime,
        field: "occurred_at",
        detail: format!("{} is no RFC 3339 time such as 2026-01-31T23:59:59Z", quoted(text)),
    })?;
    Ok(Some(prost_types::Timestamp { seconds: instant.seconds(), nanos: instant.nanos().cast_signed() }))
}

/// The beginning of a text, in quotes.
fn quoted(text: &str) -> String {
    format!("{:?}", &text[..text.floor_char_boundary(64)])
}
