//! Reads a request's body within its bounds of size and time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::problem::{Code, Problem};

/// The bounds of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyBounds {
    /// Most bytes.
    pub(crate) bytes_max: usize,
    /// Longest time.
    pub(crate) wait_max: Duration,
}

/// All of the body.
pub(crate) async fn read(headers: &HeaderMap, body: Body, bounds: BodyBounds) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("send at most {} bytes, in several documents if need be", bounds.bytes_max);
        Problem::new(Code::BodyTooLarge, detail)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > bounds.bytes_max as u64) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(bounds.wait_max, Limited::new(body, bounds.bytes_max).collect());
    match collected.await {
        Err(_) => Err(Problem::new(Code::RequestTimeout, "send the whole body at once")),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Code::InvalidBody, "the body ended before it was complete")),
    }
}
