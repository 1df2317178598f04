//! The catalog: read from text, checked as a whole, planned against the one in force.

pub mod document;
mod fields;
pub mod parse;
pub mod plan;
mod read;
mod source;
pub mod validate;
pub mod words;

pub use document::Document;
pub use parse::{Format, ParseError, Parsed, parse};
pub use plan::{Change, ChangeKind, Mode, Plan, plan};

/// One thing that is wrong with a catalog document.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct CatalogError {
    /// Where, as a JSON pointer into the document that was sent.
    pub pointer: String,
    /// What, and how to mend it.
    pub detail: String,
    /// The line of the text, counted from 1, when it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

impl CatalogError {
    /// An error at a place; its line is filled in from the text.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into(), line: None }
    }
}
