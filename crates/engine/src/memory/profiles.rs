//! Profiles on disk: how models were found to find, a JSON file each.
use super::{Calibrated, sampled};
use crate::{Error, Model};
use longleaf_memory::Fingerprint;
use longleaf_memory::finder::{Head, Profile};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A folder of them.
#[derive(Debug, Clone)]
pub struct Profiles {
    folder: PathBuf,
}

/// What a file says.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    /// For readers only.
    model: String,
    /// Layer and head of each finder.
    heads: Vec<(usize, usize)>,
    run: usize,
    distance: usize,
    passages: usize,
    recall_at_1: f64,
    recall_at_8: f64,
}

/// The files we write. What a head is called, how runs are read, or the trial itself may change.
const VERSION: u32 = 2;

impl Profiles {
    /// Those in `folder`, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where the profile of `model` is or would be.
    ///
    /// # Errors
    /// [`Error::Io`] if the model's files cannot be read.
    pub fn path(&self, model: &Model) -> Result<PathBuf, Error> {
        let name = Fingerprint::of(&[("model", &sampled(model.path())?)]).to_string();
        Ok(self.folder.join(name + ".json"))
    }

    /// The profile of `model`, if there is one. One that another version wrote, or that names heads which the model
    /// has not, is as none.
    ///
    /// # Errors
    /// [`Error::Io`] if a file is there and cannot be read.
    pub fn load(&self, model: &Model) -> Result<Option<Profile>, Error> {
        let path = self.path(model)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::Io { path, source: error }),
        };
        let config = model.config();
        let written: Option<Written> = serde_json::from_slice(&bytes).ok();
        let sound = |written: &Written| {
            let there = |(layer, head): &(usize, usize)| *layer < config.layers && *head < config.heads;
            written.version == VERSION
                && !written.heads.is_empty()
                && written.heads.iter().all(there)
                && (1..=config.window).contains(&written.run)
                && written.run.is_multiple_of(Profile::PANEL)
                && written.passages > 0
        };
        Ok(written.filter(sound).map(|written| Profile {
            heads: written.heads.iter().map(|&(layer, head)| Head { layer, head }).collect(),
            run: written.run,
            distance: written.distance,
            passages: written.passages,
        }))
    }

    /// Keep what was found out about `model`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn save(&self, model: &Model, found: &Calibrated) -> Result<(), Error> {
        let Calibrated { profile, recall_at_1, recall_at_8, .. } = found;
        let written = Written {
            version: VERSION,
            model: model.name(),
            heads: profile.heads.iter().map(|head| (head.layer, head.head)).collect(),
            run: profile.run,
            distance: profile.distance,
            passages: profile.passages,
            recall_at_1: *recall_at_1,
            recall_at_8: *recall_at_8,
        };
        let path = self.path(model)?;
        write(&path, &written).map_err(Error::io(&path))
    }
}

/// Whole or not at all.
fn write(path: &Path, written: &Written) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec_pretty(written)?)?;
    fs::rename(&new, path)
}
