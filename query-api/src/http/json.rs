//! Reads a JSON body strictly: a field that the operation does not have is an error, and so is another content type.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use super::body::{self, BodyBounds};
use crate::api::Api;
use crate::problem::{Code, Problem};

/// The document that was sent.
pub(crate) async fn read_json<T: DeserializeOwned>(
    api: &Api,
    headers: &HeaderMap,
    sent: Body,
) -> Result<T, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
        let mend = "send application/json, and say so in Content-Type";
        return Err(Problem::new(Code::UnsupportedMediaType, mend));
    }
    let (bytes_max, wait_max) = (api.settings.body_bytes_max, api.settings.body_wait_max);
    let bytes = body::read(headers, sent, BodyBounds { bytes_max, wait_max }).await?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::new(Code::InvalidBody, error.to_string()))
}
