//! What the events listener answers: results as JSON, and problem details (RFC 9457) with the codes that gRPC has.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pulso_domain::reason::Reason;
use pulso_proto::v1;
use pulso_proto::v1::pulse_result::Status;
use serde::Serialize;

use crate::formats::Unreadable;
use crate::formats::message::MessageError;
use crate::refusal::IngestError;

/// The answer to a batch.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    /// One per event, in order.
    pub(crate) results: Vec<EventResult>,
}

impl IntoResponse for Results {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// What became of one event.
#[derive(Debug, Serialize)]
pub(crate) struct EventResult {
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip)]
    code: Status,
}

#[derive(Debug, Serialize)]
struct Receipt {
    generation: u32,
    partition: u32,
    offset: u64,
    index: u32,
}

impl EventResult {
    /// The door's result.
    pub(crate) fn of(id: String, result: v1::PulseResult) -> Self {
        let code = match result.status() {
            Status::Unspecified => Status::Unknown,
            status => status,
        };
        let receipt = result.receipt.map(|receipt| Receipt {
            generation: receipt.generation,
            partition: receipt.partition,
            offset: receipt.offset,
            index: receipt.index,
        });
        let v1::PulseResult { reason, field, message, .. } = result;
        Self { id, status: code.as_str_name(), receipt, reason, field, message, code }
    }

    /// An event that could not be read.
    pub(crate) fn unreadable(why: &Unreadable) -> Self {
        let result = v1::PulseResult {
            status: Status::Rejected.into(),
            reason: why.reason.code().to_owned(),
            field: why.field.to_owned(),
            message: why.detail.clone(),
            ..Default::default()
        };
        Self::of(String::new(), result)
    }

    /// What became of it.
    pub(crate) const fn status(&self) -> Status {
        self.code
    }

    /// A rejected event as the problem of its request; what is not even JSON is an invalid body.
    pub(crate) fn into_problem(self, is_json: bool) -> Problem {
        if !is_json && self.reason == Reason::Undecodable.code() {
            return Problem::new(StatusCode::BAD_REQUEST, "INVALID_BODY", self.message);
        }
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Problem { field: self.field, ..Problem::new(status, self.reason, self.message) }
    }
}

impl IntoResponse for EventResult {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// Why a request failed.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    r#type: Kind,
    title: &'static str,
    status: u16,
    code: Cow<'static, str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
    detail: String,
    /// Whether it may go better in a second.
    #[serde(skip)]
    again: bool,
}

/// The code says what a problem is; there is no page about each.
#[derive(Debug, Serialize)]
enum Kind {
    #[serde(rename = "about:blank")]
    AboutBlank,
}

impl Problem {
    /// A problem of this code.
    pub(crate) fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            r#type: Kind::AboutBlank,
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: code.into(),
            field: String::new(),
            detail: detail.into(),
            again: false,
        }
    }

    /// An event that may or may not be stored.
    pub(crate) fn unknown() -> Self {
        let detail = "the log did not confirm it; send it again with the same id";
        Self { again: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNKNOWN", detail) }
    }
}

impl From<&IngestError> for Problem {
    fn from(error: &IngestError) -> Self {
        let status = match error {
            IngestError::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
            IngestError::LogUnavailable | IngestError::StreamEnded => StatusCode::SERVICE_UNAVAILABLE,
            IngestError::MessageTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            IngestError::Late => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { again: error.is_retryable(), ..Self::new(status, error.reason(), error.to_string()) }
    }
}

impl From<MessageError> for Problem {
    fn from(error: MessageError) -> Self {
        let (status, code) = match error {
            MessageError::UnknownType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE"),
            MessageError::NotOfItsType(_) => (StatusCode::BAD_REQUEST, "INVALID_BODY"),
            MessageError::TooMany => (StatusCode::BAD_REQUEST, IngestError::TooManyPulses.reason()),
            MessageError::Empty => (StatusCode::BAD_REQUEST, IngestError::EmptyBatch.reason()),
        };
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.again {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}
