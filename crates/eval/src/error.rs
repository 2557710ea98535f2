//! What can go wrong.
use std::io;
use std::path::{Path, PathBuf};

/// Why a suite could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the data could not be read.
    #[error("{}: {reason}; --data names the folder that holds it", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// A file of the data is not what its suite expects.
    #[error("{}: {expected} expected{}", path.display(), place(*.line))]
    Format {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// In which line, counted from 1; 0 if it is about the file as a whole.
        line: usize,
    },
    /// No such task in the suite.
    #[error("{suite} has no task {task:?}; it has {known}")]
    Task {
        /// The suite.
        suite: &'static str,
        /// What was asked for.
        task: String,
        /// The tasks there are.
        known: String,
    },
    /// The data are not enough for so long a context.
    #[error("{task}: {wanted} tokens of context are wanted, the data give {there}")]
    Short {
        /// The task.
        task: String,
        /// Tokens asked for.
        wanted: usize,
        /// Tokens there are.
        there: usize,
    },
    /// A context so short that the task itself does not fit.
    #[error(
        "{task}: the task alone takes {least} tokens, which is more than {wanted}; ask for a longer context"
    )]
    Long {
        /// The task.
        task: String,
        /// Tokens asked for.
        wanted: usize,
        /// Tokens of the prompt without any context.
        least: usize,
    },
    /// The model or its memory refused.
    #[error(transparent)]
    Engine(#[from] longleaf_engine::Error),
    /// A text of the suite was refused.
    #[error(transparent)]
    Text(#[from] longleaf_text::Error),
    /// It was broken off; the same command goes on.
    #[error("interrupted; with --out the same command goes on from here")]
    Interrupted,
}

fn place(line: usize) -> String {
    if line == 0 { String::new() } else { format!(" in line {line}") }
}

impl Error {
    pub(crate) fn data(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Data { path: path.to_owned(), reason }
    }
}
