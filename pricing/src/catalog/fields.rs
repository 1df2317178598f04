//! Reads the fields of one object of the text and remembers everything that is wrong, so that a document is refused with
//! all its errors at once.

use super::CatalogError;
use super::source::{Node, Value};
use super::words::Word;

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Errors(pub(super) Vec<CatalogError>);

impl Errors {
    pub(super) fn push(&mut self, pointer: &str, line: Option<u64>, detail: impl Into<String>) {
        self.0.push(CatalogError { pointer: pointer.to_owned(), detail: detail.into(), line });
    }
}

/// One object; every field read is crossed off, what is left at the end is unknown.
pub(super) struct Fields<'a> {
    fields: Vec<(&'a str, &'a Node)>,
    pub(super) pointer: String,
    line: Option<u64>,
}

impl<'a> Fields<'a> {
    /// The fields of a node, `None` when it is no object.
    pub(super) fn of(node: &'a Node, pointer: String, errors: &mut Errors) -> Option<Self> {
        let Value::Map(map) = &node.value else {
            errors.push(&pointer, node.line, format!("must be an object, not {}", node.value.kind()));
            return None;
        };
        let mut fields: Vec<(&str, &Node)> = Vec::with_capacity(map.len());
        for (name, value) in map {
            if fields.iter().any(|(other, _)| other == name) {
                errors.push(&child(&pointer, name), value.line, "stands here twice; keep one");
            } else {
                fields.push((name, value));
            }
        }
        Some(Self { fields, pointer, line: node.line })
    }

    fn take(&mut self, name: &str) -> Option<&'a Node> {
        let place = self.fields.iter().position(|(field, _)| *field == name)?;
        // An explicit null is as good as a field that is not there.
        Some(self.fields.remove(place).1).filter(|node| node.value != Value::Null)
    }

    /// Reports what was not read.
    pub(super) fn finish(self, known: &str, errors: &mut Errors) {
        for (name, node) in self.fields {
            errors.push(
                &child(&self.pointer, name),
                node.line,
                format!("is unknown here; known are {known}"),
            );
        }
    }

    /// Reports a field that must be there.
    pub(super) fn missing(&self, name: &str, errors: &mut Errors) {
        errors.push(&child(&self.pointer, name), self.line, "is missing");
    }

    /// A text of 1 to `bytes_max` bytes without control characters; `None` when it is absent or bad.
    pub(super) fn text(&mut self, name: &str, bytes_max: usize, errors: &mut Errors) -> Option<String> {
        let node = self.take(name)?;
        let pointer = child(&self.pointer, name);
        let Value::Text(text) = &node.value else {
            let kind = node.value.kind();
            errors.push(&pointer, node.line, format!("must be a string, not {kind}; put it in quotes"));
            return None;
        };
        let good = (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control);
        if !good {
            let detail = format!("must have 1 to {bytes_max} bytes and no control characters");
            errors.push(&pointer, node.line, detail);
        }
        good.then(|| text.clone())
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, name: &str, bytes_max: usize, errors: &mut Errors) -> Option<String> {
        if !self.has(name) {
            self.missing(name, errors);
        }
        self.text(name, bytes_max, errors)
    }

    /// A decimal, time or mode; `None` when it is absent or bad.
    pub(super) fn word<T: Word>(&mut self, name: &str, errors: &mut Errors) -> Option<T> {
        let line = self.line_of(name);
        let text = self.text(name, 256, errors)?;
        match T::read(&text) {
            Ok(value) => Some(value),
            Err(detail) => {
                errors.push(&child(&self.pointer, name), line, format!("\"{text}\" {detail}"));
                None
            }
        }
    }

    /// A decimal or time that must be there.
    pub(super) fn required_word<T: Word>(&mut self, name: &str, errors: &mut Errors) -> Option<T> {
        if !self.has(name) {
            self.missing(name, errors);
        }
        self.word(name, errors)
    }

    /// A boolean; `None` when it is absent or bad.
    pub(super) fn flag(&mut self, name: &str, errors: &mut Errors) -> Option<bool> {
        let node = self.take(name)?;
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        let detail = format!("must be true or false, not {}", node.value.kind());
        errors.push(&child(&self.pointer, name), node.line, detail);
        None
    }

    /// The entries of a list, each with its pointer; none when it is absent or bad.
    pub(super) fn list(&mut self, name: &str, errors: &mut Errors) -> Vec<(&'a Node, String)> {
        let Some(node) = self.take(name) else { return Vec::new() };
        let pointer = child(&self.pointer, name);
        let Value::List(nodes) = &node.value else {
            errors.push(&pointer, node.line, format!("must be a list, not {}", node.value.kind()));
            return Vec::new();
        };
        nodes.iter().enumerate().map(|(index, node)| (node, format!("{pointer}/{index}"))).collect()
    }

    /// A nested object with its pointer.
    pub(super) fn object(&mut self, name: &str, errors: &mut Errors) -> Option<Self> {
        let pointer = child(&self.pointer, name);
        match self.take(name) {
            Some(node) => Self::of(node, pointer, errors),
            None => {
                self.missing(name, errors);
                None
            }
        }
    }

    /// Whether a field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, node)| *field == name && node.value != Value::Null)
    }

    /// The line of a field, or of the object.
    pub(super) fn line_of(&self, name: &str) -> Option<u64> {
        let field = self.fields.iter().find(|(field, _)| *field == name);
        field.and_then(|(_, node)| node.line).or(self.line)
    }
}

/// The pointer of a field.
pub(super) fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}
