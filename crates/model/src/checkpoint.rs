//! Whatever a path holds.
use crate::config::Config;
use crate::error::Error;
use crate::gguf::Gguf;
use crate::safetensors::Folder;
use crate::weights::{RowOrder, Stored, Tensor, Weights};
use longleaf_kernel::Matrix;
use std::path::Path;

/// An open model: a GGUF file, or a folder as Hugging Face lays it out.
#[derive(Debug)]
pub enum Checkpoint {
    /// One file with everything.
    Gguf(Gguf),
    /// `config.json`, safetensors, `tokenizer.json`.
    Folder(Folder),
}

impl Checkpoint {
    /// Open `path`: a folder with `config.json`, a `.safetensors` file in such a folder, or a GGUF file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return Ok(Self::Folder(Folder::open(path)?));
        }
        if path.extension().is_some_and(|e| e == "safetensors") {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Ok(Self::Folder(Folder::open(folder)?));
        }
        Ok(Self::Gguf(Gguf::open(path)?))
    }

    /// What the model is.
    pub fn config(&self) -> Result<Config, Error> {
        match self {
            Self::Gguf(gguf) => gguf.config(),
            Self::Folder(folder) => folder.config(),
        }
    }

    fn weights(&self) -> &dyn Weights {
        match self {
            Self::Gguf(gguf) => gguf,
            Self::Folder(folder) => folder,
        }
    }
}

impl Weights for Checkpoint {
    fn path(&self) -> &Path {
        self.weights().path()
    }

    fn row_order(&self) -> RowOrder {
        self.weights().row_order()
    }

    fn name(&self, tensor: Tensor) -> String {
        self.weights().name(tensor)
    }

    fn find(&self, tensor: Tensor) -> Result<Option<Stored<'_>>, Error> {
        self.weights().find(tensor)
    }

    fn release(&self, used: Matrix<'_>) {
        self.weights().release(used);
    }
}
