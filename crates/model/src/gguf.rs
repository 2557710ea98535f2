//! GGUF, versions 2 and 3, little endian: one file with metadata, tensor table and tensors.
//!
//! ```text
//! "GGUF" version:u32 tensors:u64 pairs:u64
//! pairs  × { key:string type:u32 value }              string = length:u64 bytes, array = type:u32 length:u64 values
//! tensors× { name:string dims:u32 dim:u64×dims type:u32 offset:u64 }
//! padding to general.alignment (32 if absent), then the tensors at their offsets, each so aligned
//! ```
//!
//! Source: the format's page in ggml's documentation. Opening walks metadata and table once and checks all of it:
//! nothing is read past the end, nothing is allocated by a count that the remaining bytes could not hold, keys and
//! names are unique, tensors are aligned, inside the file, and do not overlap. Values stay where they are; a
//! vocabulary of 150,000 strings costs nothing until it is asked for.
mod reader;
mod value;
mod writer;

pub use value::{Array, Value};
pub use writer::Writer;

use crate::config::Config;
use crate::error::Error;
use crate::mapping::Mapping;
use crate::weights::{RowOrder, Stored, Tensor, Weights};
use longleaf_kernel::{DType, Matrix};
use reader::{Parsed, Reader};
use std::path::{Path, PathBuf};

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    bytes: Mapping,
    parsed: Parsed,
}

/// One tensor of a GGUF file.
#[derive(Debug, Clone, Copy)]
pub struct TensorInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its format.
    pub dtype: DType,
    /// Its shape, rows first (GGUF itself writes the columns first).
    pub shape: [usize; 4],
    /// How many numbers of `shape` count; the first `dims`.
    pub dims: usize,
    /// Its numbers.
    pub bytes: &'a [u8],
}

impl TensorInfo<'_> {
    /// The shape, rows first, without padding.
    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.dims]
    }
}

impl Gguf {
    /// Open and check `path`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`], or [`Error::Unsupported`] for a format of numbers not known here.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::parse(path, Mapping::open(path)?)
    }

    /// The same for bytes in memory; `path` is what errors call them.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::parse(path, Mapping::Owned(bytes))
    }

    fn parse(path: &Path, bytes: Mapping) -> Result<Self, Error> {
        let parsed = Parsed::read(&mut Reader::new(path, &bytes))?;
        Ok(Self { path: path.to_owned(), bytes, parsed })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every metadata key with its value, by name.
    pub fn values(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.parsed.pairs.iter().map(|pair| {
            (text(&self.bytes[pair.key.clone()]), value::at(&self.bytes, pair.kind, pair.value.clone()))
        })
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        let pairs = &self.parsed.pairs;
        let at = pairs.binary_search_by(|pair| self.bytes[pair.key.clone()].cmp(key.as_bytes())).ok()?;
        Some(value::at(&self.bytes, pairs[at].kind, pairs[at].value.clone()))
    }

    /// Every tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo<'_>> {
        (0..self.parsed.tensors.len()).map(|i| self.tensor_at(i))
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<TensorInfo<'_>> {
        let find = |t: &reader::Entry| self.bytes[t.name.clone()].cmp(name.as_bytes());
        Some(self.tensor_at(self.parsed.tensors.binary_search_by(find).ok()?))
    }

    fn tensor_at(&self, index: usize) -> TensorInfo<'_> {
        let entry = &self.parsed.tensors[index];
        TensorInfo {
            name: text(&self.bytes[entry.name.clone()]),
            dtype: entry.dtype,
            shape: entry.shape,
            dims: entry.dims,
            bytes: &self.bytes[entry.data.clone()],
        }
    }

    /// A string, if the key is there.
    ///
    /// # Errors
    /// [`Error::Config`] if the value is of another type; the same holds for the accessors below.
    pub fn string(&self, key: &'static str) -> Result<Option<&str>, Error> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// A whole number that is not negative, of whatever width.
    pub fn unsigned(&self, key: &'static str) -> Result<Option<u64>, Error> {
        self.typed(key, "a whole number", Value::unsigned)
    }

    /// Yes or no.
    pub fn boolean(&self, key: &'static str) -> Result<Option<bool>, Error> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(yes) => Some(yes),
            _ => None,
        })
    }

    /// An array.
    pub fn array(&self, key: &'static str) -> Result<Option<Array<'_>>, Error> {
        self.typed(key, "an array", |value| match value {
            Value::Array(array) => Some(array),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Error::Config {
            path: self.path.clone(),
            what: key,
            found: value.kind_name().to_owned(),
            expected,
        })
    }

    /// The configuration, by the family that `general.architecture` names.
    pub fn config(&self) -> Result<Config, Error> {
        crate::families::from_gguf(self)
    }
}

impl Weights for Gguf {
    fn path(&self) -> &Path {
        &self.path
    }

    fn row_order(&self) -> RowOrder {
        match self.value("general.architecture") {
            Some(Value::String(name)) => crate::families::gguf_row_order(name),
            _ => RowOrder::Halves,
        }
    }

    fn find(&self, tensor: Tensor) -> Result<Option<Stored<'_>>, Error> {
        Ok(self.tensor(&tensor.gguf_name()).map(|found| Stored {
            dtype: found.dtype,
            shape: found.shape,
            dims: found.dims,
            bytes: found.bytes,
        }))
    }

    fn name(&self, tensor: Tensor) -> String {
        tensor.gguf_name()
    }

    fn release(&self, used: Matrix<'_>) {
        if used.rows() == 0 {
            return;
        }
        let start = used.row(0).as_ptr().addr().wrapping_sub(self.bytes.as_ptr().addr());
        let end = start.saturating_add(used.rows() * used.row(0).len());
        if end <= self.bytes.len() {
            self.bytes.release(start..end);
        }
    }
}

/// Bytes that were checked to be UTF-8 when the file was opened.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("checked when the file was opened")
}
