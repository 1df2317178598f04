//! Why a partition stops: a fault that must never become a wrong number. Each says what to do.

use pulso_domain::position::Rank;
use pulso_platform::log::LogError;
use pulso_platform::store::StoreError;

/// A partition that halts folds nothing more until someone acts; the others go on (G10).
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// A record or a state of a newer version.
    #[error("needs_upgrade: {what} has version {found}, this binary knows up to {known}; start a newer one")]
    NeedsUpgrade {
        /// Which format.
        what: &'static str,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// The log does not hold what was folded.
    #[error("the log is not the one that was folded: {0}; restore it, or see `pulso log resume --help`")]
    LogChanged(String),
    /// The log ends below what was folded, or begins above what is to be folded.
    #[error(
        "the log holds offsets {start}..{end}, but {wanted} is to be folded; restore it, or see `pulso log resume --help`"
    )]
    LogCut {
        /// The lowest offset held.
        start: u64,
        /// One above the highest.
        end: u64,
        /// The next to fold.
        wanted: u64,
    },
    /// The fold stands where ids are forgotten already: an owner who was left behind for longer than the log is held.
    #[error(
        "offset {wanted} is to be folded, but ids below {border} are forgotten; start again from the progress"
    )]
    Forgotten {
        /// The next to fold.
        wanted: u64,
        /// The first rank whose ids are remembered.
        border: Rank,
    },
    /// Bytes of the log are not what was written.
    #[error("{0}; restore it, or see `pulso log resume --help`")]
    LogDamaged(String),
    /// A part of the store is not there or not what was written.
    #[error(
        "the store lacks {0}; restore its backup, or, where the log is whole, give it an empty one and start: it is folded again from the log"
    )]
    StoreIncomplete(String),
    /// The archive lacks a record that was folded, or it is not what was written. Totals do not depend on it.
    #[error("the archive cannot show record {rank} of partition {partition}; restore the store's backup")]
    ArchiveIncomplete {
        /// The partition.
        partition: u32,
        /// The record.
        rank: Rank,
    },
    /// The store says that it is damaged.
    #[error(
        "{0}; restore its backup, or, where the log is whole, give it an empty one and start: it is folded again from the log"
    )]
    StoreDamaged(String),
}

/// What stops a step of the fold's shell: something to wait for, or a halt.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The log or the store cannot be used now; try the step again.
    #[error("{0}")]
    Retry(String),
    /// The partition halts.
    #[error(transparent)]
    Halt(#[from] Halt),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Retry(error.to_string()),
            StoreError::Damaged { .. } | StoreError::Refused(_) => {
                Halt::StoreDamaged(error.to_string()).into()
            }
            StoreError::NeedsUpgrade { found, supported } => {
                Halt::NeedsUpgrade { what: "the store", found, known: supported }.into()
            }
        }
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Damaged { .. } => Halt::LogDamaged(error.to_string()).into(),
            LogError::NeedsUpgrade { found, supported } => {
                Halt::NeedsUpgrade { what: "the log", found, known: supported }.into()
            }
            other => Self::Retry(other.to_string()),
        }
    }
}
