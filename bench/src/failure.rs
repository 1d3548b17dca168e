//! What ends a run before its time, sorted by whose fault it is.

use std::fmt;

/// Why there is no result, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command line, the machine's limits or the server's address do not allow the run (exit code 2).
    Mistaken(String),
    /// Something failed while it ran (exit code 1).
    Failed(String),
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Mistaken(_) => 2,
            Failure::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Mistaken(words) | Failure::Failed(words) => f.write_str(words),
        }
    }
}

/// A mistake in what was asked.
pub fn mistaken<T>(words: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Mistaken(words.into()))
}

/// A failure at run time.
pub fn failed<T>(words: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Failed(words.into()))
}
