//! Pulses as NDJSON: one object a line with the proto's field names.

use std::io::{BufRead, BufReader, Read};

use pulso_ingestor_api::formats::pulse_json;

use super::Numbered;
use crate::cli::exit::Failure;

/// Longest line: a pulse at all its bounds has about 42 KB, escapes may make it six times longer.
pub(super) const LINE_BYTES_MAX: u64 = 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// Reads line by line.
pub(super) struct Reader<R: Read> {
    input: BufReader<R>,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(BUFFER_BYTES, input), line: 0, buffer: Vec::new() }
    }

    /// The next line that is not empty, with its number; `None` at the end.
    pub(super) fn next_line(&mut self) -> Result<Option<Numbered>, Failure> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let mut bounded = (&mut self.input).take(LINE_BYTES_MAX + 1);
            let read = bounded
                .read_until(b'\n', &mut self.buffer)
                .map_err(|error| Failure::failed(format!("cannot read line {}: {error}", self.line)))?;
            if read == 0 {
                return Ok(None);
            }
            if self.buffer.len() as u64 > LINE_BYTES_MAX {
                let line = self.line;
                return Err(Failure::usage(format!(
                    "line {line} has more than {LINE_BYTES_MAX} bytes; write one pulse a line"
                )));
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Some((self.line, pulse_json::read(&self.buffer))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulso_domain::reason::Reason;

    use super::*;

    fn read(text: &str) -> Vec<Numbered> {
        let mut reader = Reader::new(text.as_bytes());
        std::iter::from_fn(|| reader.next_line().expect("reads")).collect()
    }

    #[test]
    fn a_line_is_a_pulse_with_its_number_and_empty_lines_are_passed() {
        let lines = read(
            "\n{\"id\":\"a\",\"tenant_id\":\"t\",\"product_sku\":\"s\",\"used_amount\":\"1.50\",\"use_unit\":\"u\",\
             \"occurred_at\":\"2026-01-01T00:00:00.5Z\",\"tags\":{\"k\":\"v\"},\"region\":null}\r\n{\"used_amount\":0.10}",
        );
        let (line, first) = &lines[0];
        let first = first.as_ref().expect("a pulse");
        assert_eq!((*line, first.id.as_str(), first.used_amount.as_str()), (2, "a", "1.50"));
        assert_eq!(first.occurred_at.map(|at| (at.seconds, at.nanos)), Some((1_767_225_600, 500_000_000)));
        assert_eq!(first.tags["k"], "v");
        assert_eq!(lines[1].1.as_ref().expect("a pulse").used_amount, "0.10");
        assert_eq!(lines[1].0, 3);
    }

    #[test]
    fn a_bad_line_has_a_reason_and_its_neighbours_are_kept() {
        let lines = read(
            "{\"id\":\"a\"}\nnonsense\n{\"idd\":\"a\"}\n{\"occurred_at\":\"yesterday\"}\n{\"id\":\"b\"}\n",
        );
        let reason = |place: usize| lines[place].1.as_ref().err().map(|bad| bad.reason);
        assert_eq!(
            (0..5).map(reason).collect::<Vec<_>>(),
            [None, Some(Reason::Undecodable), Some(Reason::Undecodable), Some(Reason::InvalidTime), None]
        );
    }
}
