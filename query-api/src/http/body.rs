//! Reads a request's body within its bounds of size and time, with a problem for what breaks them.

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
pub(crate) use pulso_platform::service::http::BodyBounds;
use pulso_platform::service::http::{BodyError, read_body};

use crate::problem::{Code, Problem};

/// All of the body.
pub(crate) async fn read(headers: &HeaderMap, body: Body, bounds: BodyBounds) -> Result<Bytes, Problem> {
    read_body(headers, body, bounds).await.map_err(|error| match error {
        BodyError::TooLarge { bytes_max } => {
            let detail = format!("send at most {bytes_max} bytes, in several documents if need be");
            Problem::new(Code::BodyTooLarge, detail)
        }
        BodyError::Late => Problem::new(Code::RequestTimeout, "send the whole body at once"),
        BodyError::Cut => Problem::new(Code::InvalidBody, "the body ended before it was complete"),
    })
}
