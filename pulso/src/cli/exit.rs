//! How a command ends: one enum of exit codes and one kind of failure, the sentence that goes to stderr.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of every command; scripts rely on them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something failed, or two numbers that must be equal differ.
    Failed = 1,
    /// A wrong command line, setting or input file.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// Some pulses were rejected.
    Rejected = 4,
    /// The server is not there, or cannot serve now.
    Unavailable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do its work: the exit code and one sentence that says what the caller can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// What is wrong and how to mend it.
    pub sentence: String,
    /// Whether a server that is there asks to try again in a moment.
    pub try_again: bool,
}

impl Failure {
    /// Something failed while it was being done.
    pub fn failed(sentence: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, sentence)
    }

    /// The command line, a setting or an input file is wrong.
    pub fn usage(sentence: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    /// What was asked for does not exist.
    pub fn not_found(sentence: impl fmt::Display) -> Self {
        Self::new(Exit::NotFound, sentence)
    }

    /// The server is not there.
    pub fn unavailable(sentence: impl fmt::Display) -> Self {
        Self::new(Exit::Unavailable, sentence)
    }

    fn new(exit: Exit, sentence: impl fmt::Display) -> Self {
        Self { exit, sentence: sentence.to_string(), try_again: false }
    }

    /// Whether the same request may succeed in a moment without anyone's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.try_again
    }
}

/// What a command gives back.
pub type Outcome = Result<Exit, Failure>;
