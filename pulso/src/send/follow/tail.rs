//! A file that is being written, line by line: what is complete is read, a rotation or an emptied file is noticed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::position::{FileId, Position};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::send::ndjson::LINE_BYTES_MAX;

const BUFFER_BYTES: usize = 256 * 1024;

/// A complete line.
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Its bytes.
    pub(super) text: Vec<u8>,
    /// Where the next one begins.
    pub(super) end: u64,
    /// The file that it stands in.
    pub(super) file: Arc<File>,
}

/// The end of a file that grows.
pub(super) struct Tail {
    path: PathBuf,
    input: BufReader<Arc<File>>,
    /// Where the first line that was not handed out begins.
    offset: u64,
    /// Its number.
    line: u64,
    /// What there is of it.
    partial: Vec<u8>,
}

impl Tail {
    /// Opens where an earlier run ended: in the file itself, or in what it was renamed to, else at the beginning.
    pub(super) fn open(path: &Path, kept: Option<&Position>) -> Result<Self, Failure> {
        let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
        let file = File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(Failure::usage(format!("{} is no file that can be followed", path.display())));
        }
        let Some(kept) = kept else { return Self::at(path, file, (0, 1)).map_err(unreadable) };
        if kept.is_in(&file).map_err(unreadable)? {
            return Self::at(path, file, (kept.offset, kept.line)).map_err(unreadable);
        }
        match renamed(path, kept) {
            Some(rotated) => Self::at(path, rotated, (kept.offset, kept.line)).map_err(unreadable),
            None => {
                output::note(format!(
                    "{} is not the file that was followed; it is sent from its beginning, and what was not read of the other one is not",
                    path.display()
                ));
                Self::at(path, file, (0, 1)).map_err(unreadable)
            }
        }
    }

    fn at(path: &Path, file: File, (offset, line): (u64, u64)) -> std::io::Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, Arc::new(file));
        input.seek(SeekFrom::Start(offset))?;
        Ok(Self { path: path.to_owned(), input, offset, line, partial: Vec::new() })
    }

    /// The next complete line, `None` when there is none yet.
    pub(super) fn next_line(&mut self) -> Result<Option<Line>, Failure> {
        self.read_more()?;
        Ok(if self.partial.ends_with(b"\n") { Some(self.take()) } else { None })
    }

    fn read_more(&mut self) -> Result<(), Failure> {
        let line = self.line;
        let room = (LINE_BYTES_MAX + 1).saturating_sub(self.partial.len() as u64);
        let mut bounded = std::io::Read::take(&mut self.input, room);
        bounded
            .read_until(b'\n', &mut self.partial)
            .map_err(|error| Failure::failed(format!("cannot read line {line}: {error}")))?;
        if self.partial.len() as u64 > LINE_BYTES_MAX {
            let sentence =
                format!("line {line} has more than {LINE_BYTES_MAX} bytes; write one pulse a line");
            return Err(Failure::usage(sentence));
        }
        Ok(())
    }

    fn take(&mut self) -> Line {
        let text = std::mem::take(&mut self.partial);
        let number = self.line;
        self.line += 1;
        self.offset += text.len() as u64;
        Line { number, text, end: self.offset, file: Arc::clone(self.input.get_ref()) }
    }

    /// Looks, when there is no complete line, whether the file was emptied or the path has another one. Gives the last line
    /// of a file that is left, if it has no end.
    pub(super) fn turn(&mut self) -> Result<Option<Line>, Failure> {
        let unreadable = |error: std::io::Error| Failure::failed(format!("cannot look at the file: {error}"));
        let open = self.input.get_ref().metadata().map_err(unreadable)?;
        // Right after a rename there may be none; the writer makes it with its next line.
        let Ok(now) = File::open(&self.path) else { return Ok(None) };
        let named = now.metadata().map_err(unreadable)?;
        if FileId::of(&named) == FileId::of(&open) {
            if open.len() < self.offset + self.partial.len() as u64 {
                output::note(format!("{} was emptied; it is read from its beginning", self.path.display()));
                *self = Self::at(&self.path, now, (0, 1)).map_err(unreadable)?;
            }
            return Ok(None);
        }
        // Its writer may have written on until it noticed.
        self.read_more()?;
        if self.partial.ends_with(b"\n") {
            return Ok(Some(self.take()));
        }
        let last = (!self.partial.is_empty()).then(|| self.take());
        *self = Self::at(&self.path, now, (0, 1)).map_err(unreadable)?;
        Ok(last)
    }
}

/// The file of a position under another name in the same folder.
fn renamed(path: &Path, kept: &Position) -> Option<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| File::open(entry.ok()?.path()).ok())
        .find(|file| kept.is_in(file).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(tail: &mut Tail) -> Vec<String> {
        std::iter::from_fn(|| tail.next_line().expect("reads"))
            .map(|line| format!("{}:{}", line.number, String::from_utf8_lossy(line.text.trim_ascii())))
            .collect()
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options().append(true).create(true).open(path).expect("opens");
        file.write_all(text.as_bytes()).expect("writes");
    }

    #[test]
    fn only_complete_lines_are_read_and_a_rotation_loses_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.ndjson");
        append(&path, "a\nb\nhal");
        let mut tail = Tail::open(&path, None).expect("opens");
        assert_eq!(lines(&mut tail), ["1:a", "2:b"]);
        assert!(tail.turn().expect("looks").is_none());
        append(&path, "f\nc\n");
        assert_eq!(lines(&mut tail), ["3:half", "4:c"]);
        let rotated = folder.path().join("p.ndjson.1");
        fs::rename(&path, &rotated).expect("renames");
        assert!(tail.turn().expect("looks").is_none(), "no new file yet");
        append(&rotated, "late\nopen");
        append(&path, "new\n");
        assert_eq!(lines(&mut tail), ["5:late"]);
        assert_eq!(tail.turn().expect("looks").expect("the rest").text, b"open");
        assert_eq!(lines(&mut tail), ["1:new"]);
    }

    #[test]
    fn an_emptied_file_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.ndjson");
        append(&path, "a\nb\n");
        let mut tail = Tail::open(&path, None).expect("opens");
        assert_eq!(lines(&mut tail).len(), 2);
        File::create(&path).expect("empties");
        append(&path, "c\n");
        assert!(tail.turn().expect("looks").is_none());
        assert_eq!(lines(&mut tail), ["1:c"]);
    }

    #[test]
    fn a_later_run_goes_on_in_the_file_or_in_what_it_was_renamed_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.ndjson");
        append(&path, "a\nb\n");
        let kept = Position::at(&File::open(&path).expect("opens"), 2, 2).expect("a position");
        assert_eq!(lines(&mut Tail::open(&path, Some(&kept)).expect("opens")), ["2:b"]);
        fs::rename(&path, folder.path().join("p.ndjson.1")).expect("renames");
        append(&path, "c\n");
        let mut tail = Tail::open(&path, Some(&kept)).expect("opens");
        assert_eq!(lines(&mut tail), ["2:b"]);
        assert!(tail.turn().expect("looks").is_none());
        assert_eq!(lines(&mut tail), ["1:c"]);
        fs::remove_file(folder.path().join("p.ndjson.1")).expect("removes");
        assert_eq!(lines(&mut Tail::open(&path, Some(&kept)).expect("opens")), ["1:c"]);
    }
}
