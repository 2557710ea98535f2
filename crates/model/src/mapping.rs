//! A file as bytes, without reading it first.
use crate::Error;
use memmap2::{Advice, Mmap, UncheckedAdvice};
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

/// The bytes of a file: mapped, or owned where they never were a file.
#[derive(Debug)]
pub(crate) enum Mapping {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Mapping {
    /// Map the whole of `path` for reading.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        let mapped = map(&file).map_err(io)?;
        // Read ahead: a cold file is then read in large pieces. A hint only.
        let _ = mapped.advise(Advice::WillNeed);
        Ok(Self::Mapped(mapped))
    }

    /// These bytes have been used: their pages need not stay in memory (they can be read again).
    pub(crate) fn release(&self, range: Range<usize>) {
        if let Self::Mapped(mapped) = self {
            forget(mapped, range);
        }
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Owned(bytes) => bytes,
        }
    }
}

#[expect(unsafe_code, reason = "mapping a file is the one thing here that cannot be checked")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only. What remains is that another process may truncate or rewrite
    // the file while it is mapped; every reader of mapped weights accepts this, and it ends when loading does,
    // because weights are repacked into memory of our own.
    unsafe { Mmap::map(file) }
}

#[expect(unsafe_code, reason = "the advice is only dangerous for memory that has no file behind it")]
fn forget(mapped: &Mmap, range: Range<usize>) {
    // SAFETY: the mapping is of a file and read-only, so a dropped page is read again from the file with the same
    // content; no private change can be lost. The range is checked by the call itself. A hint: failure is no harm.
    let _ = unsafe { mapped.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
}
