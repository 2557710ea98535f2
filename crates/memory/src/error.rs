//! What can go wrong with a memory on disk.
use std::io;
use std::path::{Path, PathBuf};

use crate::Fingerprint;

/// Why a store could not be opened, read or written. The files are intact after any of these, up to the last
/// checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing to open.
    #[error("{path}: no memory here (it has no MANIFEST); read a document into it first")]
    Absent {
        /// The folder.
        path: PathBuf,
    },
    /// A memory, or something else, is already there.
    #[error(
        "{path}: cannot make a memory here, the folder already holds {found}; choose an empty or new folder"
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// The first thing found in it.
        found: PathBuf,
    },
    /// Bytes are not what was written.
    #[error(
        "{path}: damaged at byte {offset}: {what}; restore the file from a backup or read its documents again"
    )]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// Written by a version that this one does not know.
    #[error("{path}: format {found}, this version reads {oldest} to {newest}; use the version that wrote it")]
    Version {
        /// Which file.
        path: PathBuf,
        /// The version it names.
        found: u32,
        /// The oldest that can be read.
        oldest: u32,
        /// The newest that can be read.
        newest: u32,
    },
    /// Made with another model, tokenizer, rope or layout.
    #[error(
        "{path}: made for another model: its fingerprint is {found}, this model's is {expected}; use the model it was made with, or another memory"
    )]
    Mismatch {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: Fingerprint,
        /// Whose it should be.
        expected: Fingerprint,
    },
    /// Another process writes to it.
    #[error("{path}: in use by another process that is adding to it; wait for it, or open it for reading")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// It may not be written, by permission or because it was opened for reading.
    #[error("{path}: cannot be written, it is open for reading only; check the folder's permissions")]
    ReadOnly {
        /// The folder or file.
        path: PathBuf,
    },
    /// No space left.
    #[error(
        "{path}: the disk is full; free some space and run the same command again, it goes on from the last checkpoint"
    )]
    Full {
        /// Which file was being written.
        path: PathBuf,
    },
    /// A file that has grown as far as it may.
    #[error(
        "{path}: the system allows no larger file here; raise the limit (`ulimit -f`, or what the file system sets) and run the same command again, it goes on from the last checkpoint"
    )]
    TooLarge {
        /// Which file was being written.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn reading(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(crate) fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::FileTooLarge => Self::TooLarge { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ => Self::Io { path, source },
        }
    }
}
