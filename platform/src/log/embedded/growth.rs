//! All generations of an embedded log: opening them together, and beginning the next one.
//!
//! Growing has three steps, each of which looks at what is there: the next generation's folder appears, its partitions
//! begin, the partitions before are sealed. A folder that is opened after a crash between two of them is grown to the end.

use std::path::Path;
use std::sync::Arc;

use super::folder::{FolderLock, generation_folder, io_error};
use super::{EmbeddedLog, EmbeddedLogConfig, OpenReport};
use crate::log::generation::{is_seal, seal};
use crate::log::generations::{Generations, GrowReport};
use crate::log::{AppendReply, Log, LogError};
use pulso_domain::position::GENERATIONS_MAX;

/// The log of one process with all its generations.
pub type EmbeddedGenerations = Generations<EmbeddedLog>;

/// How many generations the folder has.
fn count(folder: &Path) -> u32 {
    let found = (1..=GENERATIONS_MAX).take_while(|number| generation_folder(folder, *number).exists());
    found.last().unwrap_or(1)
}

impl EmbeddedGenerations {
    /// Opens all generations of a folder, or makes the first. Tells of the newest what opening it found.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open`].
    pub fn open(config: &EmbeddedLogConfig) -> Result<(Self, OpenReport), LogError> {
        std::fs::create_dir_all(&config.folder).map_err(io_error("make", &config.folder))?;
        let lock = Arc::new(FolderLock::take(&config.folder)?);
        let mut logs = Vec::new();
        let mut reports = Vec::new();
        for generation in 1..=count(&config.folder) {
            let (log, report) =
                EmbeddedLog::open_in(EmbeddedLogConfig { generation, ..config.clone() }, Arc::clone(&lock))?;
            logs.push(Arc::new(log));
            reports.push(report);
        }
        for before in &logs[..logs.len() - 1] {
            seal_all(before, config)?;
        }
        let report = reports.pop().expect("the loop opens at least the first generation");
        Ok((Self::new(logs), report))
    }

    /// Opens all generations of a folder that nobody holds, to look at them.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open_read_only`].
    pub fn open_read_only(config: &EmbeddedLogConfig) -> Result<(Self, OpenReport), LogError> {
        let (first, mut report) =
            EmbeddedLog::open_read_only(&EmbeddedLogConfig { generation: 1, ..config.clone() })?;
        let lock = first.lock();
        let mut logs = vec![Arc::new(first)];
        for generation in 2..=count(&config.folder) {
            let config = EmbeddedLogConfig { generation, ..config.clone() };
            let (log, found) = EmbeddedLog::read_only_in(&config, lock.clone())?;
            logs.push(Arc::new(log));
            report = found;
        }
        Ok((Self::new(logs), report))
    }

    /// Begins a generation with so many partitions and seals the one before it. Where the newest has as many already, it
    /// only brings to its end what was begun.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open`], and when there can be no more generations.
    pub fn grow(config: &EmbeddedLogConfig, partitions: u32) -> Result<GrowReport, LogError> {
        let (log, _) = Self::open(config)?;
        let layout = log.layout();
        log.close();
        drop(log);
        if layout.partitions == partitions {
            return Ok(GrowReport { layout, begun: false });
        }
        if layout.generation >= GENERATIONS_MAX {
            let sentence =
                format!("the log has {GENERATIONS_MAX} generations, which is as many as there can be");
            return Err(LogError::Misconfigured(sentence));
        }
        let next = EmbeddedLogConfig { generation: layout.generation + 1, partitions, ..config.clone() };
        let lock = FolderLock::take(&config.folder)?;
        EmbeddedLog::open_in(next, Arc::new(lock))?.0.close();
        let (log, _) = Self::open(config)?;
        let report = GrowReport { layout: log.layout(), begun: true };
        log.close();
        Ok(report)
    }

    /// Closes all generations, as [`EmbeddedLog::close`] does.
    pub fn close(&self) {
        self.logs().iter().for_each(|log| log.close());
    }
}

/// Seals each partition whose last record is no seal. A second seal harms nothing: the first one counts.
fn seal_all(log: &EmbeddedLog, config: &EmbeddedLogConfig) -> Result<(), LogError> {
    let layout = log.layout();
    let mut replies: Vec<AppendReply> = Vec::new();
    for partition in 0..layout.partitions {
        let end = log.watermarks(partition)?.end_offset;
        let last = log.fetch(partition, &[end - 1])?;
        if !last.iter().any(|record| is_seal(&record.value)) {
            replies.push(log.append(partition, vec![seal(layout.generation + 1, config.clock.now_nanos())]));
        }
    }
    for reply in replies {
        let answer = reply.blocking_recv();
        answer.unwrap_or_else(|_| Err(LogError::Unknown("the log was closed".to_owned())))?;
    }
    Ok(())
}
