//! The bodies of the fuzz targets: whatever the bytes, they return. Ordinary tests replay the corpus through them.
use crate::{Decoder, Error, Folder, Gguf};
use longleaf_kernel::{Compute, by_name};
use std::path::Path;
use std::sync::Arc;

fn compute() -> Arc<Compute> {
    Arc::new(Compute::with(by_name("scalar").expect("always there"), 1))
}

/// A GGUF file: opened, every value and tensor touched, then loaded as a decoder.
pub fn gguf(bytes: &[u8]) -> Result<Decoder, Error> {
    let gguf = Gguf::from_bytes(Path::new("fuzz.gguf"), bytes.to_vec())?;
    for (key, value) in gguf.values() {
        assert_eq!(gguf.value(key).map(|v| v.number().is_some()), Some(value.number().is_some()));
        if let crate::gguf::Value::Array(array) = value {
            assert_eq!(array.values().count(), array.len());
        }
    }
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor(tensor.name).expect("listed").bytes.len(), tensor.bytes.len());
    }
    let config = gguf.config()?;
    Decoder::from_weights(&gguf, config, &compute())
}

/// The length of `config.json` in two bytes, `config.json`, then a safetensors file.
pub fn folder(bytes: &[u8]) -> Result<Decoder, Error> {
    let path = Path::new("fuzz.safetensors");
    let (config, weights) = match bytes.split_first_chunk::<2>() {
        Some((len, rest)) => rest.split_at(rest.len().min(u16::from_le_bytes(*len).into())),
        None => (bytes, &[][..]),
    };
    let json = |source| Error::Json { path: path.to_owned(), source };
    let config = serde_json::from_slice(config).map_err(json)?;
    let folder = Folder::from_bytes(path, config, weights.to_vec())?;
    let config = folder.config()?;
    Decoder::from_weights(&folder, config, &compute())
}

/// The index of a sharded checkpoint.
pub fn index(bytes: &[u8]) -> Result<usize, Error> {
    let path = Path::new("fuzz.index.json");
    let json =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    Ok(crate::safetensors::weight_map(path, &json)?.len())
}
