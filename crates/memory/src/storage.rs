//! Where segments lie: a folder of files, or memory that breaks on command.
//!
//! The contract is small on purpose. Bytes are only ever appended; a byte that a MANIFEST has named is never
//! written again. Two things make something durable: [`Output::sync`] for what was appended to a file, and
//! [`Storage::sync_names`] for which names exist. [`Storage::rename`] is atomic.
use std::fmt::Debug;
use std::io;
use std::path::Path;

mod directory;
mod ram;

pub use directory::Directory;
pub use ram::{Fault, Loss, Ram};

/// A flat set of named files.
pub trait Storage: Debug + Send + Sync {
    /// For messages.
    fn location(&self) -> &Path;
    /// Become the only writer, until the guard is dropped or the process ends; `None` if another one is.
    fn lock(&self) -> io::Result<Option<Box<dyn Guard>>>;
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new, empty file; remains of an older one of that name are dropped.
    fn create(&self, name: &str) -> io::Result<Box<dyn Output>>;
    /// Go on with a file after its first `len` bytes; what is beyond them, which no MANIFEST ever named, is dropped.
    fn extend(&self, name: &str, len: u64) -> io::Result<Box<dyn Output>>;
    /// Read a file. It stays readable through the handle when it is removed.
    fn open(&self, name: &str) -> io::Result<Box<dyn Input>>;
    /// Give a file another name, replacing what had it, at once.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Drop a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// [`Output::sync`] several files.
    fn sync_all(&self, files: &mut [&mut dyn Output]) -> io::Result<()> {
        files.iter_mut().try_for_each(|file| file.sync())
    }
    /// Make creations, renames and removals so far survive a power cut.
    fn sync_names(&self) -> io::Result<()>;
}

/// Held by the one writer.
pub trait Guard: Debug + Send + Sync {}

/// A file being appended to.
pub trait Output: Debug + Send + Sync {
    /// Add bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Make what was appended survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read, by any number of threads.
pub trait Input: Debug + Send + Sync {
    /// Its length now.
    fn size(&self) -> io::Result<u64>;
    /// Fill `bytes` from `offset` on; an error if the file ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}
