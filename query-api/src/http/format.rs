//! The types that answers come in, chosen by `Accept`: JSON everywhere, CSV for lists of usage and charges.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use crate::problem::{Code, Problem};

/// Carries the token of the next page of a CSV answer, which has no place for it.
pub(crate) const NEXT_PAGE_TOKEN: &str = "x-next-page-token";

/// A type of answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// `application/json`.
    Json,
    /// `text/csv`.
    Csv,
}

impl Format {
    const fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("application", "json"),
            Self::Csv => ("text", "csv"),
        }
    }

    /// The offered type that `Accept` likes most; the first offered among equals, and without the header.
    pub(crate) fn negotiate(headers: &HeaderMap, offered: &[Self]) -> Result<Self, Problem> {
        let ranges: Vec<Accepted> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(Accepted::parse)
            .collect();
        let quality = |format: Self| {
            if ranges.is_empty() {
                return 1000;
            }
            // The most specific range decides.
            let fitting = ranges.iter().filter(|range| range.fits(format));
            fitting.max_by_key(|range| range.precision()).map_or(0, |range| range.quality)
        };
        let mut best: Option<(u16, Self)> = None;
        for format in offered {
            let liked = quality(*format);
            if liked > 0 && best.is_none_or(|(most, _)| liked > most) {
                best = Some((liked, *format));
            }
        }
        best.map(|(_, format)| format).ok_or_else(|| {
            let names: Vec<_> = offered.iter().map(|format| format.media_type()).collect();
            let names: Vec<_> = names.iter().map(|(kind, name)| format!("{kind}/{name}")).collect();
            Problem::new(Code::NotAcceptable, format!("accept one of: {}", names.join(", ")))
        })
    }
}

/// One media range of `Accept`, with its quality in thousandths.
struct Accepted {
    kind: String,
    name: String,
    quality: u16,
}

impl Accepted {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, name) = parts.next()?.split_once('/')?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.map_or(Some(1000), thousandths)?;
        Some(Self { kind: kind.to_ascii_lowercase(), name: name.to_ascii_lowercase(), quality })
    }

    fn fits(&self, format: Format) -> bool {
        let (kind, name) = format.media_type();
        (self.kind == "*" || self.kind == kind) && (self.name == "*" || self.name == name)
    }

    fn precision(&self) -> u8 {
        u8::from(self.kind != "*") + u8::from(self.name != "*")
    }
}

/// A quality such as `0.25` in thousandths.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let whole: u16 = whole.parse().ok().filter(|whole| *whole <= 1 && digits)?;
    let padded: u16 = format!("{fraction:0<3}").parse().ok()?;
    Some((whole * 1000 + padded).min(1000))
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(document: &T) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(document).map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// Rows as CSV under these columns; a field that a row does not have is empty.
pub(crate) fn csv<T: Serialize>(
    columns: &[&str],
    rows: &[T],
    next_page_token: Option<&str>,
) -> Result<Response, Problem> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Problem::internal(&error);
    writer.write_record(columns).map_err(failed)?;
    for row in rows {
        let row = serde_json::to_value(row).map_err(|error| Problem::internal(&error))?;
        writer.write_record(columns.iter().map(|column| cell(row.get(column)))).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| Problem::internal(&error))?;
    let mut response = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], bytes).into_response();
    if let Some(token) = next_page_token.and_then(|token| HeaderValue::from_str(token).ok()) {
        response.headers_mut().insert(NEXT_PAGE_TOKEN, token);
    }
    Ok(response)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Format::negotiate(&headers, &[Format::Json, Format::Csv]).ok()
    }

    #[test]
    fn the_best_liked_type_is_chosen_and_none_is_told() {
        assert_eq!(Format::negotiate(&HeaderMap::new(), &[Format::Json]).unwrap(), Format::Json);
        for (accept, expected) in [
            ("*/*", Some(Format::Json)),
            ("text/csv", Some(Format::Csv)),
            ("text/*", Some(Format::Csv)),
            ("application/json;q=0.5, text/csv;q=0.8", Some(Format::Csv)),
            ("text/csv;q=0, */*;q=0.1", Some(Format::Json)),
            ("TEXT/CSV; header=present", Some(Format::Csv)),
            ("image/png", None),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
    }
}
