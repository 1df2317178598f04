//! What a command prints: data to stdout as a table, JSON or CSV; everything else to stderr.
//!
//! Decimals pass through as the text the server gave: nothing here does arithmetic.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use crate::cli::exit::Failure;

/// How data is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// JSON as the API gives it.
    Json,
    /// A header and one line per row.
    Csv,
}

/// Writes a line of data to stdout.
///
/// # Errors
/// When stdout cannot be written; a reader that has gone away (such as `head`) is no error.
pub fn data(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    tolerate_closed_pipe(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// Writes a line for people to stderr.
pub fn note(line: impl std::fmt::Display) {
    // When stderr is gone there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints rows: the named columns as a table or CSV, or `document` as it is for JSON.
///
/// # Errors
/// When stdout cannot be written.
pub fn rows(format: Format, document: &Value, list: &[Value], columns: &[&str]) -> Result<(), Failure> {
    match format {
        Format::Json => json(document),
        Format::Table => table(list, columns),
        Format::Csv => csv(list, columns),
    }
}

/// Prints a document as indented JSON.
///
/// # Errors
/// When stdout cannot be written.
pub fn json(document: &Value) -> Result<(), Failure> {
    data(serde_json::to_string_pretty(document).map_err(Failure::failed)?)
}

fn table(list: &[Value], columns: &[&str]) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| column.to_uppercase()));
    for row in list {
        table.add_row(columns.iter().map(|column| cell(row, column)));
    }
    for (place, column) in columns.iter().enumerate() {
        let numeric = !list.is_empty() && list.iter().all(|row| is_number(&cell(row, column)));
        if let (true, Some(column)) = (numeric, table.column_mut(place)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    data(table.trim_fmt())
}

fn csv(list: &[Value], columns: &[&str]) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns).map_err(Failure::failed)?;
    for row in list {
        writer.write_record(columns.iter().map(|column| cell(row, column))).map_err(Failure::failed)?;
    }
    let bytes = writer.into_inner().map_err(Failure::failed)?;
    let mut out = io::stdout().lock();
    tolerate_closed_pipe(out.write_all(&bytes).and_then(|()| out.flush()))
}

/// One field as text; `a.b` reaches into an object.
fn cell(row: &Value, column: &str) -> String {
    let value = column.split('.').try_fold(row, |value, part| value.get(part));
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text.is_empty() || digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn tolerate_closed_pipe(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_printed_as_its_own_text_and_a_missing_one_as_nothing() {
        let row = json!({"quantity": "0.10", "count": 7, "origin": {"offset": 3}, "none": null});
        assert_eq!(cell(&row, "quantity"), "0.10");
        assert_eq!(cell(&row, "count"), "7");
        assert_eq!(cell(&row, "origin.offset"), "3");
        assert_eq!(cell(&row, "none"), "");
        assert_eq!(cell(&row, "absent"), "");
    }
}
