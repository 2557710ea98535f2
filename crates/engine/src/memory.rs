//! A memory and the model that reads into it.
//!
//! ```text
//! add   document ─► sections ─► tokens ─► finder keys, lexical index ─► Store         (reading.rs)
//! ask   question ─► finder scan ∪ lexical ─► re-rank ─► re-read ─► answer, citations   (asking.rs)
//! deepen  tokens ─► what a greater depth keeps of them ─► Store                       (deepening.rs)
//! if wanted:  text ─► windows ─► vectors (meaning.rs), which then find too; search shows what finds what (searching.rs)
//! ```
mod asking;
mod attending;
mod calibration;
mod deepening;
mod depth;
mod meaning;
mod profiles;
mod reading;
mod searching;

pub use asking::{Asking, Citation, Coverage, Excerpt, Finding, Hit, Keep, Reply, Stage, Stages, Timings};
pub use asking::{Rarity, chain, evidence, prompt};
pub use attending::framed_prompt;
pub use calibration::{Calibrated, Trial, calibrate};
pub use depth::Depth;
pub use profiles::Profiles;
pub use reading::{Added, Plan, Reading};
pub use searching::{Found, Way};

use crate::{Error, Model};
use longleaf_memory::finder::{Finder, Head, Profile};
use longleaf_memory::lexical::StoredIndex;
use longleaf_memory::meaning::Vectors;
use longleaf_memory::{Fingerprint, Store};
use meaning::Meaning;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// One memory on disk, open with the model it was made with.
#[derive(Debug)]
pub struct Memory<'m> {
    path: PathBuf,
    model: &'m Model,
    profile: Profile,
    store: Store,
    depth: Depth,
    /// Bytes that may be kept in RAM.
    ram: usize,
    /// Who gives and reads vectors, if anyone does.
    meaning: Option<Meaning<'m>>,
    /// What is searched; made when it is first needed, and again after something was added.
    view: Option<View>,
}

/// Everything that can be found.
#[derive(Debug)]
struct View {
    /// Its units are blocks.
    lexical: StoredIndex,
    /// The same blocks, with their keys where they have any.
    finder: Finder,
    /// Windows of the same sections, with their vectors.
    vectors: Option<Vectors>,
}

/// What a memory keeps in RAM unless it is told otherwise.
const RAM: usize = 1 << 30;

impl<'m> Memory<'m> {
    /// Open a memory to add to it; it is created if there is none.
    ///
    /// # Errors
    /// [`Error::NoFinder`] if it is not known how this model finds; [`Error::Memory`] if the store refuses, for
    /// example because another model made it.
    pub fn open_or_create(path: &Path, model: &'m Model) -> Result<Self, Error> {
        Self::with(path, model, Store::open_or_create)
    }

    /// Open a memory to ask it.
    ///
    /// # Errors
    /// As above; also if there is none.
    pub fn read_only(path: &Path, model: &'m Model) -> Result<Self, Error> {
        Self::with(path, model, Store::read_only)
    }

    fn with(
        path: &Path,
        model: &'m Model,
        open: impl FnOnce(&Path, Fingerprint) -> Result<Store, longleaf_memory::Error>,
    ) -> Result<Self, Error> {
        let profile = model.finder().ok_or_else(|| Error::NoFinder { path: model.path().to_owned() })?;
        let store = open(path, fingerprint(model, &profile)?)?;
        let depth = Depth::of(&store);
        Ok(Self { path: path.to_owned(), model, profile, store, depth, ram: RAM, meaning: None, view: None })
    }

    /// [`Memory::open_or_create`] for a model whose finder heads you know.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Panics
    /// If `profile` has no heads, or heads that the model has not.
    pub fn with_profile(path: &Path, model: &'m Model, profile: Profile) -> Result<Self, Error> {
        let config = model.config();
        let there = |head: &Head| head.layer < config.layers && head.head < config.heads;
        assert!(
            !profile.heads.is_empty() && profile.heads.iter().all(there),
            "heads of another model: {profile:?}"
        );
        let store = Store::open_or_create(path, fingerprint(model, &profile)?)?;
        let depth = Depth::of(&store);
        Ok(Self { path: path.to_owned(), model, profile, store, depth, ram: RAM, meaning: None, view: None })
    }

    /// Whose keys a memory of `model` holds: no other model's memory has the same.
    ///
    /// # Errors
    /// [`Error::NoFinder`] if it is not known how this model finds; [`Error::Io`] if its files cannot be read.
    pub fn fingerprint(model: &Model) -> Result<Fingerprint, Error> {
        let profile = model.finder().ok_or_else(|| Error::NoFinder { path: model.path().to_owned() })?;
        fingerprint(model, &profile)
    }

    /// Take the documents of this name out, and what was read of it in part. How many they were.
    ///
    /// # Errors
    /// Those of the store.
    pub fn remove(&mut self, name: &str) -> Result<usize, Error> {
        let named: Vec<_> = self
            .store
            .documents()
            .filter(|document| document.name == name)
            .map(|document| document.id)
            .collect();
        for id in &named {
            self.store.remove(*id)?;
        }
        self.view = None;
        Ok(named.len())
    }

    /// Keep at most so many bytes of what is searched in RAM, beside the model's weights and what computing takes
    /// (1 GiB unless this is called); the rest is read from disk for each question. Answers are the same.
    pub fn set_ram(&mut self, bytes: usize) {
        self.ram = bytes;
        self.view = None;
    }

    /// How deep its texts are read.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// Read texts so deep from now on. What was read less deeply comes to this depth with [`deepen`](Self::deepen).
    ///
    /// # Errors
    /// [`Error::Depth`] if texts were read deeper already.
    pub fn set_depth(&mut self, depth: Depth) -> Result<(), Error> {
        if depth < self.depth && !self.store.is_empty() {
            return Err(Error::Depth { path: self.path.clone(), found: self.depth, asked: depth });
        }
        self.depth = depth;
        Ok(())
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is on disk.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is searched.
    fn view(&mut self) -> Result<&View, Error> {
        if self.view.is_none() {
            // Words take a fiftieth of what keys take: they are hardly ever read again for each question.
            let lexical = StoredIndex::open(&self.store, self.ram / 4)?;
            let compute = self.model.decoder().compute();
            // Vectors take a tenth of what keys take.
            let vectors = self.vectors(lexical.sections(), self.ram / 4)?;
            let left = self.ram.saturating_sub(lexical.bytes() + vectors.as_ref().map_or(0, Vectors::bytes));
            let (profile, config) = (&self.profile, self.model.config());
            let finder = Finder::open(&self.store, lexical.sections(), profile, config, compute, left);
            if finder.blocks().len() != lexical.units() {
                return Err(Error::Halves {
                    path: self.path.clone(),
                    blocks: finder.blocks().len(),
                    words: lexical.units(),
                });
            }
            self.view = Some(View { lexical, finder, vectors });
        }
        Ok(self.view.as_ref().expect("just made"))
    }
}

/// Whose keys these are: the model's files, its finder heads, and how keys are stored.
fn fingerprint(model: &Model, profile: &Profile) -> Result<Fingerprint, Error> {
    Ok(Fingerprint::of(&[("model", &sampled(model.path())?), ("finder", profile.layout().as_bytes())]))
}

/// What tells a model's files from others.
///
/// A file of weights is known by its length, its first megabyte (all of a GGUF's metadata, for most) and a page in
/// every 1/512 of it: reading a gigabyte before every question would cost more than the answer.
fn sampled(path: &Path) -> Result<Vec<u8>, Error> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(Error::io(path))?;
        files = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".safetensors") || name == "config.json" || name == "tokenizer.json"
        });
        files.sort();
    }
    let mut weights = Vec::new();
    for file in &files {
        sample(file, &mut weights).map_err(Error::io(file))?;
    }
    Ok(weights)
}

fn sample(path: &Path, out: &mut Vec<u8>) -> io::Result<()> {
    const HEAD: u64 = 1 << 20;
    const PAGE: u64 = 4096;
    const PAGES: u64 = 512;
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    out.extend(len.to_le_bytes());
    file.by_ref().take(HEAD).read_to_end(out)?;
    for page in 0..PAGES {
        file.seek(SeekFrom::Start(len / PAGES * page))?;
        file.by_ref().take(PAGE).read_to_end(out)?;
    }
    Ok(())
}
