//! How far a followed file has been sent: kept in a small file of its own, written only after the answers.
//!
//! A file is known by its number on its device, and by what stands before the place: numbers are given again to other
//! files, and a file can be emptied and written anew.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cli::exit::Failure;

/// Bytes before the place that are compared.
const MARK_BYTES: u64 = 256;

/// Which file, while it is open or gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of an open file.
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A place in a file: everything before it has its final answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Position {
    /// The file.
    pub(super) file: FileId,
    /// The first byte that is not settled.
    pub(super) offset: u64,
    /// The number of the line that begins there, from 1.
    pub(super) line: u64,
    /// What stands before the place.
    mark: String,
}

impl Position {
    /// A place in an open file.
    pub(super) fn at(file: &File, offset: u64, line: u64) -> std::io::Result<Self> {
        let id = FileId::of(&file.metadata()?);
        Ok(Self { file: id, offset, line, mark: mark(file, offset)? })
    }

    /// Whether this open file is the one, and what stands before the place is still the same.
    pub(super) fn is_in(&self, file: &File) -> std::io::Result<bool> {
        let metadata = file.metadata()?;
        Ok(FileId::of(&metadata) == self.file
            && metadata.len() >= self.offset
            && mark(file, self.offset)? == self.mark)
    }
}

/// A digest of the bytes before a place; of fewer where the file has fewer.
pub(super) fn mark(file: &File, offset: u64) -> std::io::Result<String> {
    let from = offset.saturating_sub(MARK_BYTES);
    let mut bytes = vec![0; usize::try_from(offset - from).unwrap_or_default()];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], from + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    let digest = Sha256::digest(&bytes[..read]);
    Ok(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The file that keeps a position.
#[derive(Clone, Debug)]
pub(super) struct PositionFile {
    path: PathBuf,
}

impl PositionFile {
    /// The one named, else one beside the followed file.
    pub(super) fn new(named: Option<&Path>, followed: &Path) -> Self {
        let beside = || {
            let mut path = followed.as_os_str().to_owned();
            path.push(".pulso-position");
            PathBuf::from(path)
        };
        Self { path: named.map_or_else(beside, Path::to_owned) }
    }

    /// What it keeps; `None` when there is none yet.
    pub(super) fn load(&self) -> Result<Option<Position>, Failure> {
        let place = self.path.display();
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                let mend = "remove it to send the file from its beginning, which counts nothing twice";
                Failure::usage(format!("{place} keeps no position ({error}); {mend}"))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::usage(format!("cannot read {place}: {error}"))),
        }
    }

    /// Keeps a position: the old one or the new one, whatever happens meanwhile.
    pub(super) fn save(&self, position: &Position) -> Result<(), Failure> {
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let saved = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(position)?)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)
        };
        saved().map_err(|error| {
            Failure::failed(format!("cannot keep the position in {}: {error}", self.path.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_holds_for_its_file_and_for_no_other_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pulses.ndjson");
        fs::write(&path, "one\ntwo\n").expect("writes");
        let file = File::open(&path).expect("opens");
        let position = Position::at(&file, 4, 2).expect("a position");
        let keeper = PositionFile::new(None, &path);
        assert_eq!(keeper.load(), Ok(None));
        keeper.save(&position).expect("saves");
        assert_eq!(keeper.load(), Ok(Some(position.clone())));
        assert!(position.is_in(&file).expect("reads"));
        // Emptied and written anew, beyond the place.
        fs::write(&path, "eno\nowt\neerht\n").expect("writes");
        assert!(!position.is_in(&File::open(&path).expect("opens")).expect("reads"));
        fs::write(&path, "on").expect("writes");
        assert!(!position.is_in(&File::open(&path).expect("opens")).expect("reads"));
    }
}
