//! A folder as Hugging Face lays it out: `config.json` beside one `model.safetensors`, or several and an index.
use crate::config::Config;
use crate::error::Error;
use crate::mapping::Mapping;
use crate::weights::{RowOrder, Stored, Tensor, Weights};
use longleaf_kernel::{DType, Matrix};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// `config.json` is a few kB, an index some hundred; more is a mistake or an attack.
const MAX_JSON_BYTES: u64 = 32 << 20;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    config: Value,
    shards: Vec<Shard>,
    /// Which shard holds a tensor.
    shard_of: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    bytes: Mapping,
    /// Where the tensors' bytes begin.
    data: usize,
    header: Metadata,
}

impl Folder {
    /// Open and check the folder `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let config = read_json(&path.join("config.json"))?;
        let index = path.join("model.safetensors.index.json");
        let mut folder =
            Self { path: path.to_owned(), config, shards: Vec::new(), shard_of: BTreeMap::new() };
        if index.exists() {
            folder.open_shards(&index)?;
        } else {
            let file = path.join("model.safetensors");
            let shard = Shard::parse(&file, Mapping::open(&file)?)?;
            folder.shard_of = shard.header.tensors().into_keys().map(|name| (name, 0)).collect();
            folder.shards.push(shard);
        }
        Ok(folder)
    }

    /// One file's bytes and a configuration, both in memory; `path` is what errors call them.
    pub fn from_bytes(path: &Path, config: Value, bytes: Vec<u8>) -> Result<Self, Error> {
        let shard = Shard::parse(path, Mapping::Owned(bytes))?;
        let shard_of = shard.header.tensors().into_keys().map(|name| (name, 0)).collect();
        Ok(Self { path: path.to_owned(), config, shards: vec![shard], shard_of })
    }

    fn open_shards(&mut self, index: &Path) -> Result<(), Error> {
        for (name, file) in weight_map(index, &read_json(index)?)? {
            let path = self.path.join(&file);
            let known = self.shards.iter().position(|shard| shard.path == path);
            let number = known.unwrap_or(self.shards.len());
            if known.is_none() {
                self.shards.push(Shard::parse(&path, Mapping::open(&path)?)?);
            }
            if self.shards[number].header.info(&name).is_none() {
                return Err(Error::Missing { path, name });
            }
            self.shard_of.insert(name, number);
        }
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json` as it is.
    pub fn config_json(&self) -> &Value {
        &self.config
    }

    /// The configuration, by the family that `model_type` names.
    pub fn config(&self) -> Result<Config, Error> {
        crate::families::from_hugging_face(&self.path.join("config.json"), &self.config)
    }

    /// The tensor of that name, of whatever shape, if it is there.
    pub(crate) fn tensor(&self, name: String) -> Result<Option<Stored<'_>>, Error> {
        let Some(number) = self.shard_of.get(&name) else { return Ok(None) };
        let shard = &self.shards[*number];
        let info = shard.header.info(&name).expect("listed under this shard");
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                return Err(Error::Unsupported {
                    path: shard.path.clone(),
                    what: "number format",
                    found: format!("{other:?}"),
                    known: "F32, F16, BF16".to_owned(),
                });
            }
        };
        let (start, end) = info.data_offsets;
        let mut shape = [1; 4];
        let dims = info.shape.len();
        if dims > 4 {
            return Err(Error::Shape {
                path: shard.path.clone(),
                name,
                found: info.shape.clone(),
                expected: Vec::new(),
            });
        }
        shape[..dims].copy_from_slice(&info.shape);
        Ok(Some(Stored { dtype, shape, dims, bytes: &shard.bytes[shard.data + start..shard.data + end] }))
    }
}

/// Names of tensors and the files that hold them; the files must be plain names within the folder.
pub(crate) fn weight_map(path: &Path, index: &Value) -> Result<Vec<(String, String)>, Error> {
    let Some(map) = index.get("weight_map").and_then(Value::as_object) else {
        return Err(Error::Missing { path: path.to_owned(), name: "weight_map".to_owned() });
    };
    map.iter()
        .map(|(name, file)| match file.as_str() {
            Some(file)
                if file.ends_with(".safetensors") && Path::new(file).file_name() == Some(file.as_ref()) =>
            {
                Ok((name.clone(), file.to_owned()))
            }
            _ => Err(Error::Config {
                path: path.to_owned(),
                what: "a file of weights",
                found: file.to_string(),
                expected: "the name of a .safetensors file in the same folder",
            }),
        })
        .collect()
}

pub(crate) fn read_json(path: &Path) -> Result<Value, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut text = Vec::new();
    file.take(MAX_JSON_BYTES + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_JSON_BYTES {
        return Err(Error::Corrupt {
            path: path.to_owned(),
            offset: MAX_JSON_BYTES,
            what: "a JSON file of more than 32 MiB",
        });
    }
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

impl Shard {
    fn parse(path: &Path, bytes: Mapping) -> Result<Self, Error> {
        let corrupt = |offset, what| Error::Corrupt { path: path.to_owned(), offset, what };
        let (header_bytes, header) = SafeTensors::read_metadata(&bytes).map_err(|error| match error {
            SafeTensorError::InvalidHeader(_) => corrupt(8, "the header is not UTF-8"),
            SafeTensorError::InvalidHeaderDeserialization(source) => {
                Error::Json { path: path.to_owned(), source }
            }
            SafeTensorError::HeaderTooLarge => corrupt(0, "the header is larger than 100 MB"),
            SafeTensorError::HeaderTooSmall => corrupt(0, "the file is shorter than a header"),
            SafeTensorError::InvalidHeaderLength => {
                corrupt(0, "the header reaches beyond the end of the file")
            }
            SafeTensorError::MetadataIncompleteBuffer => {
                corrupt(bytes.len() as u64, "the file does not end where its last tensor ends")
            }
            SafeTensorError::InvalidOffset(_) => corrupt(8, "tensors overlap or leave a hole"),
            _ => corrupt(8, "a tensor's shape, format and offsets do not agree"),
        })?;
        Ok(Self { path: path.to_owned(), data: header_bytes + 8, bytes, header })
    }
}

impl Weights for Folder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn row_order(&self) -> RowOrder {
        RowOrder::Halves
    }

    fn name(&self, tensor: Tensor) -> String {
        tensor.hugging_face_name()
    }

    fn find(&self, tensor: Tensor) -> Result<Option<Stored<'_>>, Error> {
        self.tensor(tensor.hugging_face_name())
    }

    fn release(&self, used: Matrix<'_>) {
        if used.rows() == 0 {
            return;
        }
        let (first, len) = (used.row(0).as_ptr().addr(), used.rows() * used.row(0).len());
        for shard in &self.shards {
            let start = first.wrapping_sub(shard.bytes.as_ptr().addr());
            if start.checked_add(len).is_some_and(|end| end <= shard.bytes.len()) {
                shard.bytes.release(start..start + len);
            }
        }
    }
}
