//! From text to a typed document: the first step of `plan` and `apply`.

use super::document::Document;
use super::fields::Errors;
use super::source::Node;
use super::{CatalogError, read};

/// How the text is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
}

impl Format {
    /// The format of a `Content-Type`; `None` for another. Parameters such as the charset do not matter.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/json" | "text/json" => Some(Self::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// A document with the text it came from, so that later errors have lines too.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The document.
    pub document: Document,
    text: String,
}

impl Parsed {
    /// Fills in the lines of errors whose pointers lead into this document.
    pub fn locate(&self, errors: &mut [CatalogError]) {
        locate(&self.text, errors);
    }
}

/// Why a text is no catalog document.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    /// No JSON or YAML at all.
    #[error("the document cannot be parsed: {0}")]
    Malformed(String),
    /// Values that a catalog cannot have; all of them.
    #[error("the catalog has {} errors, the first: {} {}", .0.len(), first(.0).0, first(.0).1)]
    Invalid(Vec<CatalogError>),
}

fn first(errors: &[CatalogError]) -> (&str, &str) {
    errors.first().map_or(("", ""), |error| (&error.pointer, &error.detail))
}

/// Reads a document. How its entries fit together is checked by the plan, which also knows what they are merged with.
///
/// # Errors
/// [`ParseError::Malformed`] for a text that is not of the format, [`ParseError::Invalid`] with every faulty value.
pub fn parse(bytes: &[u8], format: Format) -> Result<Parsed, ParseError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ParseError::Malformed("it is not UTF-8".to_owned()))?;
    let root = match format {
        Format::Json => Node::from_json(text).map_err(|error| ParseError::Malformed(error.to_string()))?,
        Format::Yaml => Node::from_yaml(text).map_err(|error| ParseError::Malformed(error.to_string()))?,
    };
    let mut errors = Errors::default();
    let document = read::document(&root, &mut errors);
    if errors.0.is_empty() {
        return Ok(Parsed { document, text: text.to_owned() });
    }
    locate(text, &mut errors.0);
    Err(ParseError::Invalid(errors.0))
}

fn locate(text: &str, errors: &mut [CatalogError]) {
    // JSON is YAML as far as lines go. A text that is JSON but not YAML has errors without lines.
    let Ok(root) = Node::from_yaml(text) else { return };
    for error in errors {
        error.line = error.line.or_else(|| root.nearest(&error.pointer).line);
    }
}
