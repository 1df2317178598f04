//! Every way a request can fail, as problem details (RFC 9457): a closed list of codes, each with its status and title.
//!
//! A [`Problem`] travels as an extension of an empty response; the last layer writes it out, since only that
//! knows the path that goes into `instance`.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pulso_domain::pulse::Rejection;
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_platform::log::LogError;
use pulso_platform::store::StoreError;
use pulso_pricing::catalog::CatalogError;
use pulso_pricing::service::PricingError;
use serde::Serialize;
use utoipa::ToSchema;

/// The stable codes of the API; what a program looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// A parameter that the request does not have, or one given twice.
    UnknownParameter,
    /// A parameter whose value cannot be used.
    InvalidParameter,
    /// A page token that was not given out for this request.
    InvalidPageToken,
    /// A body that cannot be parsed.
    InvalidBody,
    /// No such path.
    NotFound,
    /// A tenant that Pulso does not know.
    TenantNotFound,
    /// An invoice that does not exist.
    InvoiceNotFound,
    /// A line that the invoice does not have.
    LineNotFound,
    /// A pulse that is not folded yet, has expired, or never was.
    PulseNotFound,
    /// A dead letter that does not exist.
    DeadLetterNotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The answer does not come in a type that `Accept` names.
    NotAcceptable,
    /// The body did not come in time.
    RequestTimeout,
    /// Somebody else applied a catalog meanwhile.
    CatalogChanged,
    /// A dead letter that was sent again already.
    DeadLetterReplayed,
    /// A body over the bound.
    BodyTooLarge,
    /// A body of another type than the request takes.
    UnsupportedMediaType,
    /// A catalog document that is wrong.
    InvalidCatalog,
    /// A fix that makes no good pulse.
    InvalidFix,
    /// A fault of the server.
    Internal,
    /// The partition of the tenant is halted.
    PartitionHalted,
    /// The log or the store cannot be read now.
    Unavailable,
    /// Too many requests are in flight.
    Overloaded,
    /// The position that was waited for is not folded yet.
    WaitTimeout,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 24] = [
        Self::UnknownParameter,
        Self::InvalidParameter,
        Self::InvalidPageToken,
        Self::InvalidBody,
        Self::NotFound,
        Self::TenantNotFound,
        Self::InvoiceNotFound,
        Self::LineNotFound,
        Self::PulseNotFound,
        Self::DeadLetterNotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::RequestTimeout,
        Self::CatalogChanged,
        Self::DeadLetterReplayed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidCatalog,
        Self::InvalidFix,
        Self::Internal,
        Self::PartitionHalted,
        Self::Unavailable,
        Self::Overloaded,
        Self::WaitTimeout,
    ];

    /// Its status, text and title.
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::UnknownParameter => {
                (S::BAD_REQUEST, "UNKNOWN_PARAMETER", "a parameter is unknown or repeated")
            }
            Self::InvalidParameter => (S::BAD_REQUEST, "INVALID_PARAMETER", "a parameter cannot be used"),
            Self::InvalidPageToken => {
                (S::BAD_REQUEST, "INVALID_PAGE_TOKEN", "the page token was not given out for this request")
            }
            Self::InvalidBody => (S::BAD_REQUEST, "INVALID_BODY", "the body cannot be parsed"),
            Self::NotFound => (S::NOT_FOUND, "NOT_FOUND", "there is no such path"),
            Self::TenantNotFound => (S::NOT_FOUND, "TENANT_NOT_FOUND", "the tenant is not known"),
            Self::InvoiceNotFound => (S::NOT_FOUND, "INVOICE_NOT_FOUND", "the invoice does not exist"),
            Self::LineNotFound => (S::NOT_FOUND, "LINE_NOT_FOUND", "the invoice has no such line"),
            Self::PulseNotFound => (S::NOT_FOUND, "PULSE_NOT_FOUND", "the pulse is not known"),
            Self::DeadLetterNotFound => {
                (S::NOT_FOUND, "DEAD_LETTER_NOT_FOUND", "the dead letter does not exist")
            }
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "the path has other methods")
            }
            Self::NotAcceptable => {
                (S::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", "the answer does not come in a type that is accepted")
            }
            Self::RequestTimeout => (S::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "the body did not come in time"),
            Self::CatalogChanged => (S::CONFLICT, "CATALOG_CHANGED", "the catalog was changed meanwhile"),
            Self::DeadLetterReplayed => {
                (S::CONFLICT, "DEAD_LETTER_REPLAYED", "the dead letter was sent again already")
            }
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "the body is too large"),
            Self::UnsupportedMediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "the body is of another type")
            }
            Self::InvalidCatalog => (S::UNPROCESSABLE_ENTITY, "INVALID_CATALOG", "the catalog is wrong"),
            Self::InvalidFix => (S::UNPROCESSABLE_ENTITY, "INVALID_FIX", "the fix makes no good pulse"),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "INTERNAL", "the server failed"),
            Self::PartitionHalted => {
                (S::SERVICE_UNAVAILABLE, "PARTITION_HALTED", "the tenant's partition is halted")
            }
            Self::Unavailable => {
                (S::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the log or the store cannot be read now")
            }
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "OVERLOADED", "too many requests are in flight"),
            Self::WaitTimeout => (S::GATEWAY_TIMEOUT, "WAIT_TIMEOUT", "the position is not there yet"),
        }
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.parts().0
    }

    /// The code as it stands in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.parts().1
    }

    /// What it means, without the occurrence's detail.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.parts().2
    }
}

/// One place of a document that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Fault {
    /// Where, as a JSON pointer into the document.
    #[schema(example = "/rate_cards/0/prices/2/model/unit_price")]
    pub pointer: String,
    /// What is wrong and how to mend it.
    #[schema(example = "write money as a string, such as \"0.35\"")]
    pub detail: String,
    /// The line of the text, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<u64>,
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Problem {
    /// The stable code.
    pub code: Code,
    /// What is wrong here and how to mend it.
    pub detail: Cow<'static, str>,
    /// The parameter at fault.
    pub field: Option<&'static str>,
    /// The places at fault.
    pub errors: Vec<Fault>,
}

impl Problem {
    /// A problem with its detail.
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), field: None, errors: Vec::new() }
    }

    /// A parameter that cannot be used, and the mend.
    pub(crate) fn parameter(field: &'static str, mend: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field), ..Self::new(Code::InvalidParameter, mend) }
    }

    /// A fault of the server: told in the log, not to the caller.
    pub(crate) fn internal(what: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %what, "a request failed by a fault of the server");
        Self::new(Code::Internal, "the server's log says more; try again, and tell its operator")
    }

    /// A catalog document that is wrong, with every place.
    pub(crate) fn invalid_catalog(errors: Vec<CatalogError>) -> Self {
        let fault =
            |error: CatalogError| Fault { pointer: error.pointer, detail: error.detail, line: error.line };
        let errors: Vec<_> = errors.into_iter().map(fault).collect();
        let detail = format!("nothing was applied; mend what `errors` names ({})", errors.len());
        Self { errors, ..Self::new(Code::InvalidCatalog, detail) }
    }

    /// A fix that makes no good pulse: the field at fault, and the reason that a sender would get.
    pub(crate) fn invalid_fix(rejection: &Rejection) -> Self {
        let pointer = format!("/changes/{}", rejection.field);
        let detail = format!("{}: {}", rejection.reason, rejection.message);
        let fault = Fault { pointer, detail: detail.clone(), line: None };
        Self { errors: vec![fault], ..Self::new(Code::InvalidFix, format!("nothing was changed; {detail}")) }
    }

    /// Whether the same request may succeed later without anyone's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        use Code::{CatalogChanged, Overloaded, RequestTimeout, Unavailable, WaitTimeout};
        matches!(self.code, CatalogChanged | Overloaded | RequestTimeout | Unavailable | WaitTimeout)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::new(Code::Unavailable, error.to_string()),
            _ => Self::internal(&error),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Damaged { .. } => Self::new(Code::PartitionHalted, error.to_string()),
            LogError::Unavailable(_) | LogError::Unknown(_) | LogError::Io { .. } => {
                Self::new(Code::Unavailable, error.to_string())
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<PricingError> for Problem {
    fn from(error: PricingError) -> Self {
        match error {
            PricingError::InvalidCatalog(errors) => Self::invalid_catalog(errors),
            PricingError::Conflict => Self::new(Code::CatalogChanged, error.to_string()),
            PricingError::NotReady | PricingError::Unsteady { .. } | PricingError::Stale { .. } => {
                Self::new(Code::Unavailable, error.to_string())
            }
            PricingError::Damaged { .. } => Self::internal(&error),
            PricingError::Store(error) => error.into(),
            PricingError::Log(error) => error.into(),
        }
    }
}

impl From<Stop> for Problem {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Retry(sentence) => Self::new(Code::Unavailable, sentence),
            Stop::Halt(halt) => Self::new(Code::PartitionHalted, halt.to_string()),
        }
    }
}

/// Problem details as they are sent (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// A page that says what the code means.
    #[schema(format = "uri-reference", example = "/errors#UNKNOWN_PARAMETER")]
    r#type: String,
    /// What the code means.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong here and how to mend it.
    detail: &'a str,
    /// The path that was asked for.
    #[schema(format = "uri-reference", example = "/v1/tenants")]
    instance: &'a str,
    /// The stable code.
    code: Code,
    /// The parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'static str>,
    /// The places of the document that are at fault.
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [Fault],
}

impl<'a> ProblemBody<'a> {
    /// The body of a problem at a path.
    pub(crate) fn new(problem: &'a Problem, instance: &'a str) -> Self {
        Self {
            r#type: format!("/errors#{}", problem.code.as_str()),
            title: problem.code.title(),
            status: problem.code.status().as_u16(),
            detail: &problem.detail,
            instance,
            code: problem.code,
            field: problem.field,
            errors: &problem.errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_an_error_status() {
        for (place, code) in Code::ALL.into_iter().enumerate() {
            let status = code.status();
            assert!(status.is_client_error() || status.is_server_error());
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(!Code::ALL[..place].iter().any(|other| other.as_str() == code.as_str()));
        }
    }
}
