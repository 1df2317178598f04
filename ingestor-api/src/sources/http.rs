//! Events over HTTP: `POST /v1/events` takes CloudEvents 1.0 in structured, batch and binary mode, and pulses as JSON or
//! protobuf, and answers only when they are durable.
//!
//! A request is admitted, with room for all of its body, before any of that is read (G11). An answer is true in the same
//! sense as one by gRPC (G5).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use pulso_platform::service::http::{BodyBounds, BodyError, HttpBounds, read_body};
use pulso_proto::v1;
use pulso_proto::v1::pulse_result::Status;
use pulso_proto::walk;

use super::http_answer::{EventResult, Problem, Results};
use crate::door::Caller;
use crate::formats::cloud_event::Attributes;
use crate::formats::message::{self, Item, Message, MessageError, Pulses};
use crate::ingest::Ingest;
use crate::refusal::IngestError;

/// Longest that a client may take for the headers of a request.
const HEADER_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// The bounds of the listener's connections.
pub(crate) fn bounds(ingest: &Ingest) -> HttpBounds {
    let settings = ingest.settings();
    HttpBounds {
        connections_max: settings.connections_max,
        header_wait_max: HEADER_WAIT_MAX,
        drain_max: settings.drain_max,
    }
}

/// The one route, and problems for everything else.
pub(crate) fn router(ingest: Arc<Ingest>) -> Router {
    Router::new()
        .route("/v1/events", post(take_events))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "send events by POST")
        })
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "events are taken at /v1/events"))
        .with_state(ingest)
}

async fn take_events(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    match answer(&ingest, request).await {
        Ok(answer) => answer,
        Err(problem) => problem.into_response(),
    }
}

async fn answer(ingest: &Ingest, request: Request) -> Result<Response, Problem> {
    let failed = |error: IngestError| {
        ingest.metrics().count_failed(&error);
        Problem::from(&error)
    };
    let _place = ingest.admission().enter().map_err(failed)?;
    let (head, body) = request.into_parts();
    let bytes_max = ingest.settings().message_bytes_max;
    let announced =
        head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut lease = ingest.admission().lease();
    lease.grow(announced.unwrap_or(bytes_max).min(bytes_max)).map_err(failed)?;
    let body = receive(ingest, &head.headers, body).await?;

    let message =
        Message { content_type: content_type(&head.headers)?, attributes: attributes(&head.headers)?, body };
    let pulses = message::read(&message)?;
    let items: &[Item] = match &pulses {
        Pulses::One(item) => std::slice::from_ref(item),
        Pulses::Many(items) => items,
    };
    let good: Vec<&Bytes> = items.iter().filter_map(|item| item.as_ref().ok()).collect();
    let results = match good.is_empty() {
        true => Vec::new(),
        false => ingest
            .take_admitted(&good, lease, Caller::default())
            .await
            .map_err(|error| Problem::from(&error))?,
    };
    let results = in_order(items, results);
    match pulses {
        Pulses::One(_) => one(results, &message.body),
        Pulses::Many(_) => Ok(Results { results }.into_response()),
    }
}

async fn receive(ingest: &Ingest, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let settings = ingest.settings();
    let bounds = BodyBounds { bytes_max: settings.message_bytes_max, wait_max: settings.receive_timeout };
    read_body(headers, body, bounds).await.map_err(|error| {
        let (status, code) = match error {
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
            BodyError::Late => (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
            BodyError::Cut => (StatusCode::BAD_REQUEST, "INVALID_BODY"),
        };
        Problem::new(status, code, error.to_string())
    })
}

/// What the body is. A request must say so, since a page of another site can make a browser send one that does not.
fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    let named =
        headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match named {
        Some(content_type) if !content_type.trim().is_empty() => Ok(content_type),
        _ if headers.contains_key("ce-specversion") => Ok(String::new()),
        _ => Err(MessageError::UnknownType(String::new()).into()),
    }
}

/// The attributes of an event in binary mode; `None` when it is in none.
fn attributes(headers: &HeaderMap) -> Result<Option<Attributes>, Problem> {
    if !headers.contains_key("ce-specversion") {
        return Ok(None);
    }
    let attribute = |name: &'static str| match headers.get(name) {
        None => Ok(None),
        Some(value) => {
            let text = value.to_str().ok().and_then(|text| percent_decode_str(text).decode_utf8().ok());
            let decoded = text.map(|text| text.trim_matches('"').to_owned());
            let detail = format!("percent-encode the header {name} as UTF-8");
            decoded.map(Some).ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "INVALID_BODY", detail))
        }
    };
    Ok(Some(Attributes {
        specversion: attribute("ce-specversion")?,
        id: attribute("ce-id")?,
        source: attribute("ce-source")?,
        r#type: attribute("ce-type")?,
        subject: attribute("ce-subject")?,
        time: attribute("ce-time")?,
        // The body's own type, which was looked at already.
        datacontenttype: None,
    }))
}

/// One result per item: those of the door for good ones, in their order.
fn in_order(items: &[Item], results: Vec<v1::PulseResult>) -> Vec<EventResult> {
    let mut results = results.into_iter();
    let result = |item: &Item| match item {
        Err(bad) => EventResult::unreadable(&bad.why),
        Ok(pulse) => {
            let id = walk::pulse(pulse).map(|raw| String::from_utf8_lossy(raw.id).into_owned());
            EventResult::of(id.unwrap_or_default(), results.next().unwrap_or_default())
        }
    };
    items.iter().map(result).collect()
}

/// The answer to a single event: its fate is the request's.
fn one(mut results: Vec<EventResult>, body: &Bytes) -> Result<Response, Problem> {
    let Some(result) = results.pop() else { return Err(MessageError::Empty.into()) };
    match result.status() {
        Status::Accepted => Ok(result.into_response()),
        Status::Rejected => {
            let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
            Err(result.into_problem(is_json))
        }
        Status::Unknown | Status::Unspecified => Err(Problem::unknown()),
    }
}
