//! The folder of a log: names of its files, the small sealed documents in it, and the lock against a second process.
//!
//! ```text
//! lock                           the pid of the holder, locked while it lives
//! g1/meta                        format, log id, generation, partitions
//! g1/00000000000000000000.log    segments, by number
//! g1/00000000000000000000.idx    the sparse index of a full segment; can always be made again
//! g1/closed                      where the log ended when it was last closed; gone while it is in use
//! g1/cuts                        cuts that may concern acknowledged records
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use super::disk::remove_if_there;
use crate::log::LogError;

pub(super) const META: &str = "meta";
pub(super) const CLOSED: &str = "closed";

/// Turns an error of the operating system into one that says what was being done.
pub(super) fn io_error(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let doing = format!("{doing} {}", path.display());
    move |source| LogError::Io { doing, source }
}

/// Damage of a whole file.
pub(super) fn damaged(path: &Path, detail: &str) -> LogError {
    LogError::Damaged { place: path.display().to_string(), partition: None, detail: detail.into() }
}

pub(super) fn generation_folder(folder: &Path, generation: u32) -> PathBuf {
    folder.join(format!("g{generation}"))
}

pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.log"))
}

pub(super) fn index_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.idx"))
}

/// How many segments the folder holds; their numbers must be 0, 1, 2, ... without a gap.
pub(super) fn count_segments(folder: &Path) -> Result<u64, LogError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io_error("list", folder))? {
        let name = entry.map_err(io_error("list", folder))?.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".log")) else { continue };
        match stem.parse::<u64>() {
            Ok(number) if stem.len() == 20 => numbers.push(number),
            _ => return Err(damaged(&folder.join(&name), "this is not the name of a segment")),
        }
    }
    numbers.sort_unstable();
    for (expected, number) in (0..).zip(&numbers) {
        if expected != *number {
            return Err(damaged(&segment_path(folder, expected), "the segment is missing"));
        }
    }
    Ok(numbers.len() as u64)
}

/// Writes a document and a checksum of it in one step: afterwards the file is either the old one or the new one.
pub(super) fn write_sealed<T: Serialize>(path: &Path, document: &T) -> Result<(), LogError> {
    let text = serde_json::to_string(document).expect("the documents of this folder have only text keys");
    let sealed = format!("{text}\n{:016x}\n", xxh3_64(text.as_bytes()));
    let fresh = path.with_extension("new");
    write_durably(&fresh, sealed.as_bytes()).map_err(io_error("write", &fresh))?;
    std::fs::rename(&fresh, path).map_err(io_error("rename to", path))?;
    sync_parent(path)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a document; `None` when there is none.
pub(super) fn read_sealed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LogError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let text = unsealed(&bytes).ok_or_else(|| damaged(path, "its checksum does not match"))?;
    let document = serde_json::from_str(text).map_err(|error| damaged(path, &error.to_string()))?;
    Ok(Some(document))
}

fn unsealed(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (text, checksum) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    (checksum == format!("{:016x}", xxh3_64(text.as_bytes()))).then_some(text)
}

/// Removes a file and makes its absence durable.
pub(super) fn remove_durably(path: &Path) -> Result<(), LogError> {
    remove_if_there(path).map_err(io_error("remove", path))?;
    sync_parent(path)
}

/// Makes the names beside `path` durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), LogError> {
    let parent = path.parent().expect("each file of a log has a folder");
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(io_error("sync", parent))
}

/// The exclusive right to a folder, until dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(folder: &Path) -> Result<Self, LogError> {
        let path = folder.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = std::fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok());
                let folder = folder.display().to_string();
                return Err(LogError::InUse { folder, pid: pid.unwrap_or(0) });
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
        }
        file.set_len(0).map_err(io_error("write", &path))?;
        // On a full disk the pid does not fit; the lock holds all the same.
        let _ = (&file).write_all(format!("{}\n", std::process::id()).as_bytes());
        Ok(Self { _file: file })
    }
}
