//! Why a whole call fails, and the one table from that to a gRPC status with google.rpc details.
//!
//! Nothing of a call that fails like this was stored, with the one exception that gRPC itself makes: a call that is
//! cancelled or times out at the client is unknown to it (G5).

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::settings::BATCH_PULSES_MAX;

/// The `domain` of every google.rpc.ErrorInfo.
pub const ERROR_DOMAIN: &str = "pulso.v1";

/// How long a client is asked to wait when the door is full: about what a group of appends takes under load.
const OVERLOADED_RETRY: Duration = Duration::from_millis(200);
/// How long a client is asked to wait when the log takes nothing: a disk or a broker does not come back faster.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

/// What concerns the whole call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// No pulses.
    #[error("the batch is empty; send 1 to {BATCH_PULSES_MAX} pulses")]
    EmptyBatch,
    /// More than [`BATCH_PULSES_MAX`] pulses.
    #[error("the batch has more than {BATCH_PULSES_MAX} pulses; split it")]
    TooManyPulses,
    /// The bytes are no `SendPulsesRequest`.
    #[error("{field} is no protobuf message of its type; nothing of the call was stored")]
    NotProtobuf {
        /// Where: `pulses[17]`, or `request` for the message itself.
        field: String,
    },
    /// The framing or the compression of the message is broken.
    #[error("the message cannot be read ({0}); nothing of the call was stored")]
    BadFraming(String),
    /// The message, decompressed, is larger than `message_bytes_max`.
    #[error("the message has more than {limit} bytes; split the batch")]
    MessageTooLarge {
        /// The bound.
        limit: usize,
    },
    /// A budget of [`crate::admission`] is used up.
    #[error("too many {what} are in flight; send again later")]
    Overloaded {
        /// `calls` or `bytes`.
        what: &'static str,
    },
    /// The log surely stored nothing of the call.
    #[error("the log takes no records now and nothing of the call was stored; send again later")]
    LogUnavailable,
    /// The request did not arrive in time, or a stream brought nothing for too long.
    #[error("no complete request arrived in time; nothing of it was stored")]
    Late,
    /// The server is stopping or the connection has reached its age; what was read is answered.
    #[error("the server ends this stream; open another one and send what was not answered again")]
    StreamEnded,
}

impl IngestError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::LogUnavailable | Self::Late | Self::StreamEnded)
    }

    /// The stable code: `ErrorInfo.reason` and metric label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::EmptyBatch => "EMPTY_BATCH",
            Self::TooManyPulses => "TOO_MANY_PULSES",
            Self::NotProtobuf { .. } => "NOT_PROTOBUF",
            Self::BadFraming(_) => "BAD_FRAMING",
            Self::MessageTooLarge { .. } => "MESSAGE_TOO_LARGE",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::LogUnavailable => "LOG_UNAVAILABLE",
            Self::Late => "REQUEST_TIMEOUT",
            Self::StreamEnded => "STREAM_ENDED",
        }
    }

    /// All values of [`reason`](Self::reason).
    pub const REASONS: [&'static str; 9] = [
        "EMPTY_BATCH",
        "TOO_MANY_PULSES",
        "NOT_PROTOBUF",
        "BAD_FRAMING",
        "MESSAGE_TOO_LARGE",
        "OVERLOADED",
        "LOG_UNAVAILABLE",
        "REQUEST_TIMEOUT",
        "STREAM_ENDED",
    ];

    const fn code(&self) -> Code {
        match self {
            Self::EmptyBatch | Self::TooManyPulses | Self::NotProtobuf { .. } | Self::BadFraming(_) => {
                Code::InvalidArgument
            }
            Self::MessageTooLarge { .. } => Code::OutOfRange,
            Self::Overloaded { .. } => Code::ResourceExhausted,
            Self::LogUnavailable | Self::StreamEnded => Code::Unavailable,
            Self::Late => Code::DeadlineExceeded,
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        match self {
            Self::TooManyPulses => [("pulses_max".to_owned(), BATCH_PULSES_MAX.to_string())].into(),
            Self::MessageTooLarge { limit } => [("message_bytes_max".to_owned(), limit.to_string())].into(),
            Self::Overloaded { what } => [("in_flight".to_owned(), (*what).to_owned())].into(),
            _ => HashMap::new(),
        }
    }
}

impl From<&IngestError> for Status {
    fn from(error: &IngestError) -> Self {
        let message = error.to_string();
        let mut details = ErrorDetails::with_error_info(error.reason(), ERROR_DOMAIN, error.metadata());
        match error {
            IngestError::EmptyBatch | IngestError::TooManyPulses => {
                details.add_bad_request_violation("pulses", &message);
            }
            IngestError::NotProtobuf { field } => {
                details.add_bad_request_violation(field, &message);
            }
            IngestError::Overloaded { .. } => {
                details.set_retry_info(Some(OVERLOADED_RETRY));
            }
            IngestError::LogUnavailable | IngestError::StreamEnded => {
                details.set_retry_info(Some(UNAVAILABLE_RETRY));
            }
            IngestError::BadFraming(_) | IngestError::MessageTooLarge { .. } | IngestError::Late => {}
        }
        Self::with_error_details(error.code(), message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_carries_its_reason_and_those_to_retry_say_when() {
        let errors = [
            IngestError::EmptyBatch,
            IngestError::TooManyPulses,
            IngestError::NotProtobuf { field: "pulses[3]".into() },
            IngestError::BadFraming("short".into()),
            IngestError::MessageTooLarge { limit: 7 },
            IngestError::Overloaded { what: "bytes" },
            IngestError::LogUnavailable,
            IngestError::Late,
            IngestError::StreamEnded,
        ];
        for (error, reason) in errors.iter().zip(IngestError::REASONS) {
            let status = Status::from(error);
            let info = status.get_details_error_info().expect("always there");
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, ERROR_DOMAIN));
            let says_when = status.get_details_retry_info().is_some();
            assert_eq!(says_when, error.is_retryable() && *error != IngestError::Late, "{reason}");
        }
    }
}
