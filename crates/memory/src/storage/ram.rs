//! Files in memory that break on command: the oracle of durability.
//!
//! It keeps apart what was written and what would survive a power cut. Every change (create, extend, append, sync,
//! rename, remove, sync of names) is counted; at a given one the power can be cut, before it or in the middle of it,
//! and [`Ram::survivor`] is what the next start finds.
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Guard, Input, Output, Storage};

/// How the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Before the change: it does not take place.
    Before,
    /// In the middle: an append leaves half of its bytes, anything else takes place but is reported as failed.
    Torn,
}

/// What a power cut does to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing is lost: the process died, the machine went on.
    Nothing,
    /// Bytes and names that were not synced are gone.
    Unsynced,
    /// Names and lengths are there, bytes that were not synced are zeros, as file systems with delayed allocation
    /// leave them.
    Zeroed,
}

/// A set of files in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Ram {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, Bytes>,
    next: u64,
    names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    locked: bool,
    changes: u64,
    fault: Option<(u64, Fault)>,
    off: bool,
    capacity: Option<u64>,
    read_only: bool,
}

#[derive(Debug, Clone, Default)]
struct Bytes {
    bytes: Vec<u8>,
    synced: usize,
}

/// What a counted change may do.
enum Step {
    Go,
    Half,
}

impl Ram {
    /// No files.
    pub fn new() -> Self {
        Self { path: PathBuf::from("ram"), ..Self::default() }
    }

    /// Cut the power at the `change`-th change from now, counted from 0.
    pub fn cut_power_at(&self, change: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.changes + change, fault));
    }

    /// How many changes there have been.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// At most this many bytes fit from now on; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Refuse every change, as a folder without write permission does.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// The files as the next start finds them: a copy, unlocked and with the power on.
    #[must_use]
    pub fn survivor(&self, loss: Loss) -> Self {
        let state = self.state();
        let names = if loss == Loss::Unsynced { &state.durable } else { &state.names };
        let mut files = state.files.clone();
        for file in files.values_mut() {
            match loss {
                Loss::Nothing => {}
                Loss::Unsynced => file.bytes.truncate(file.synced),
                Loss::Zeroed => file.bytes[file.synced..].fill(0),
            }
            file.synced = file.bytes.len();
        }
        let next = State {
            files,
            next: state.next,
            names: names.clone(),
            durable: names.clone(),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(next)), path: self.path.clone() }
    }

    /// All names with their lengths.
    pub fn sizes(&self) -> Vec<(String, usize)> {
        let state = self.state();
        state.names.iter().map(|(name, id)| (name.clone(), state.files[id].bytes.len())).collect()
    }

    /// Change one byte of a file by exclusive or; with 0 nothing changes.
    pub fn flip(&self, name: &str, at: usize, mask: u8) {
        self.edit(name, |bytes| bytes[at] ^= mask);
    }

    /// Cut a file off after `len` bytes.
    pub fn truncate(&self, name: &str, len: usize) {
        self.edit(name, |bytes| bytes.truncate(len));
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.names[name];
        let file = state.files.get_mut(&id).expect("every name has a file");
        change(&mut file.bytes);
        file.synced = file.synced.min(file.bytes.len());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panicking test must not hide the state from the next assertion.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self) -> io::Result<Step> {
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        if self.read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let now = self.changes;
        self.changes += 1;
        match self.fault {
            Some((at, fault)) if at == now => {
                self.off = true;
                match fault {
                    Fault::Before => Err(io::Error::other("the power went off")),
                    Fault::Torn => Ok(Step::Half),
                }
            }
            _ => Ok(Step::Go),
        }
    }

    fn end(step: &Step) -> io::Result<()> {
        match step {
            Step::Go => Ok(()),
            Step::Half => Err(io::Error::other("the power went off")),
        }
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        self.names.values().map(|id| self.files[id].bytes.len() as u64).sum()
    }
}

#[derive(Debug)]
struct Held(Ram);

impl Guard for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

impl Storage for Ram {
    fn location(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Guard>>> {
        let mut state = self.state();
        if state.read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if std::mem::replace(&mut state.locked, true) {
            return Ok(None);
        }
        drop(state);
        Ok(Some(Box::new(Held(self.clone()))))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let mut state = self.state();
        let step = state.begin()?;
        let id = state.next;
        state.next += 1;
        state.files.insert(id, Bytes::default());
        state.names.insert(name.into(), id);
        State::end(&step)?;
        drop(state);
        Ok(Box::new(RamFile { ram: self.clone(), id }))
    }

    fn extend(&self, name: &str, len: u64) -> io::Result<Box<dyn Output>> {
        let mut state = self.state();
        let id = state.find(name)?;
        let step = state.begin()?;
        let file = state.files.get_mut(&id).expect("every name has a file");
        file.bytes.truncate(len as usize);
        file.synced = file.synced.min(len as usize);
        State::end(&step)?;
        drop(state);
        Ok(Box::new(RamFile { ram: self.clone(), id }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Input>> {
        let id = self.state().find(name)?;
        Ok(Box::new(RamFile { ram: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(from)?;
        let step = state.begin()?;
        state.names.remove(from);
        state.names.insert(to.into(), id);
        State::end(&step)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.find(name)?;
        let step = state.begin()?;
        // The bytes stay: they may still be open, and the name may come back after a power cut.
        state.names.remove(name);
        State::end(&step)
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        let step = state.begin()?;
        state.durable = state.names.clone();
        State::end(&step)
    }
}

#[derive(Debug)]
struct RamFile {
    ram: Ram,
    id: u64,
}

impl Output for RamFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.ram.state();
        let step = state.begin()?;
        let room = state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        let wanted = match step {
            Step::Go => bytes.len(),
            Step::Half => bytes.len() / 2,
        };
        let taken = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
        let file = state.files.get_mut(&self.id).expect("a handle has a file");
        file.bytes.extend_from_slice(&bytes[..taken]);
        if taken < wanted {
            return Err(io::ErrorKind::StorageFull.into());
        }
        State::end(&step)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.ram.state();
        let step = state.begin()?;
        let file = state.files.get_mut(&self.id).expect("a handle has a file");
        file.synced = file.bytes.len();
        State::end(&step)
    }
}

impl Input for RamFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.ram.state().files[&self.id].bytes.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.ram.state();
        let file = &state.files[&self.id].bytes;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(file.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
