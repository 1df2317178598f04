//! Cuts: what recovery took off the end of the log. A cut that may concern acknowledged records is kept on disk until
//! someone has noted it; `pulso audit` asks for it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::{generation_folder, read_sealed, write_sealed};
use crate::log::LogError;

/// Bytes that were taken off the end of the log because they were no whole group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CutReport {
    /// The segment file.
    pub file: String,
    /// The byte from which on it was cut.
    pub byte: u64,
    /// How many bytes went.
    pub bytes: u64,
    /// How many records they held, when that could still be read.
    pub records: Option<u32>,
    /// What was wrong with them.
    pub detail: String,
    /// Whether clients may have got an answer for them: the group was there in full length, but not as written. A group
    /// cut short was never acknowledged.
    pub possibly_acknowledged: bool,
}

/// A cut as kept on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordedCut {
    /// What was cut.
    pub cut: CutReport,
    /// When it was found, in nanoseconds since the Unix epoch.
    pub found_at_nanos: i64,
    /// Who noted it and why, once somebody did.
    pub noted: Option<String>,
}

fn cuts_path(folder: &Path, generation: u32) -> PathBuf {
    generation_folder(folder, generation).join("cuts")
}

/// The cuts of a log that may concern acknowledged records, oldest first.
///
/// # Errors
/// When the list cannot be read.
pub fn list_cuts(folder: &Path, generation: u32) -> Result<Vec<RecordedCut>, LogError> {
    Ok(read_sealed(&cuts_path(folder, generation))?.unwrap_or_default())
}

/// Notes every cut that nobody noted yet and says how many those were.
///
/// # Errors
/// When the list cannot be read or written.
pub fn note_cuts(folder: &Path, generation: u32, note: &str) -> Result<usize, LogError> {
    let mut cuts = list_cuts(folder, generation)?;
    let mut noted = 0;
    for cut in cuts.iter_mut().filter(|cut| cut.noted.is_none()) {
        cut.noted = Some(note.into());
        noted += 1;
    }
    if noted > 0 {
        write_sealed(&cuts_path(folder, generation), &cuts)?;
    }
    Ok(noted)
}

/// Keeps a cut before it is made, so that a crash in between cannot hide it; finding it again adds nothing.
pub(super) fn record_cut(
    folder: &Path,
    generation: u32,
    cut: &CutReport,
    found_at_nanos: i64,
) -> Result<(), LogError> {
    let mut cuts = list_cuts(folder, generation)?;
    if cuts.last().is_some_and(|last| last.cut == *cut && last.noted.is_none()) {
        return Ok(());
    }
    cuts.push(RecordedCut { cut: cut.clone(), found_at_nanos, noted: None });
    write_sealed(&cuts_path(folder, generation), &cuts)
}
