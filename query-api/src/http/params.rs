//! Reads the query of a request strictly: a parameter that the operation does not document, or one given twice, is an
//! error. The names come from the documentation itself, so the two cannot differ.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use super::format::Format;
use crate::problem::{Code, Problem};

/// The parameters of an operation: every field is an `Option<String>`, checked by the operation itself.
pub(crate) trait Parameters: DeserializeOwned + IntoParams + Send {
    /// The types that the operation can answer in, the preferred one first.
    const FORMATS: &'static [Format] = &[Format::Json];
}

/// The parameters and the type of the answer.
pub(crate) struct Strict<T> {
    /// The parameters.
    pub(crate) params: T,
    /// What `Accept` asks for.
    pub(crate) format: Format,
}

impl<T: Parameters, S: Send + Sync> FromRequestParts<S> for Strict<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let format = Format::negotiate(&parts.headers, T::FORMATS)?;
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Ok(Query(pairs)) = pairs else {
            return Err(Problem::new(Code::UnknownParameter, "write the query as name=value&name=value"));
        };
        Ok(Self { params: read(pairs)?, format })
    }
}

fn read<T: Parameters>(pairs: Vec<(String, String)>) -> Result<T, Problem> {
    let documented = T::into_params(|| None);
    let mut fields = Map::new();
    for (name, value) in pairs {
        if !documented.iter().any(|parameter| parameter.name == name) {
            let known: Vec<_> = documented.iter().map(|parameter| parameter.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let detail = format!("{} is not a parameter here; known are: {known}", shorten(&name));
            return Err(Problem::new(Code::UnknownParameter, detail));
        }
        if fields.insert(name.clone(), Value::String(value)).is_some() {
            return Err(Problem::new(Code::UnknownParameter, format!("{name} is given twice; give it once")));
        }
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| Problem::internal(&error))
}

/// What a caller sent, as much as an answer should repeat.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().count() > 64 {
        short.push_str("...");
    }
    short
}

/// Parts of the path, decoded.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(_) => Err(Problem::new(Code::NotFound, "write the path as percent-encoded UTF-8")),
        }
    }
}

/// A number of items per page that was asked for.
pub(crate) fn page_size(text: Option<&str>) -> Result<usize, Problem> {
    const PAGE_SIZE_MAX: usize = 1000;
    let Some(text) = text else { return Ok(PAGE_SIZE_MAX) };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let size = text.parse().ok().filter(|size| digits && (1..=PAGE_SIZE_MAX).contains(size));
    size.ok_or_else(|| Problem::parameter("page_size", "give a whole number from 1 to 1000"))
}
