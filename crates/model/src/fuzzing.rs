//! The bodies of the fuzz targets: whatever the bytes, they return. Ordinary tests replay the corpus through them.
use crate::{Decoder, Dense, Error, Folder, Gguf, Scratch, Visible, Weights};
use longleaf_kernel::{Compute, KvFormat, by_name};
use std::path::Path;
use std::sync::Arc;

/// Load what was opened, and take a step with it.
fn run(weights: &dyn Weights, config: crate::Config) -> Result<(), Error> {
    let compute = Arc::new(Compute::with(by_name("scalar").expect("always there"), 1));
    let decoder = Decoder::from_weights(weights, config, &compute)?;
    let mut dense = Dense::new(decoder.config(), compute, KvFormat::F32, Visible::All, 2);
    let mut scratch = Scratch::new();
    for position in 0..2 {
        let logits = decoder.forward(&[0], position, &mut dense, &mut scratch);
        let Ok(logits) = logits;
        assert_eq!(logits.len(), decoder.config().vocab_size);
    }
    Ok(())
}

/// A GGUF file: opened, every value and tensor touched, then loaded and run.
pub fn gguf(bytes: &[u8]) -> Result<(), Error> {
    let gguf = Gguf::from_bytes(Path::new("fuzz.gguf"), bytes.to_vec())?;
    for (key, value) in gguf.values() {
        assert_eq!(gguf.value(key).map(|v| v.number().is_some()), Some(value.number().is_some()));
        if let crate::gguf::Value::Array(array) = value {
            assert_eq!(array.values().count(), array.len());
        }
    }
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor(tensor.name).map(|t| t.bytes.len()), Some(tensor.bytes.len()));
    }
    run(&gguf, gguf.config()?)
}

/// The length of `config.json` in two bytes, `config.json`, then a safetensors file.
pub fn folder(bytes: &[u8]) -> Result<(), Error> {
    let path = Path::new("fuzz.safetensors");
    let (config, weights) = match bytes.split_first_chunk::<2>() {
        Some((len, rest)) => rest.split_at(rest.len().min(u16::from_le_bytes(*len).into())),
        None => (bytes, &[][..]),
    };
    let json = |source| Error::Json { path: path.to_owned(), source };
    let config = serde_json::from_slice(config).map_err(json)?;
    let folder = Folder::from_bytes(path, config, weights.to_vec())?;
    run(&folder, folder.config()?)
}

/// The index of a sharded checkpoint.
pub fn index(bytes: &[u8]) -> Result<usize, Error> {
    let path = Path::new("fuzz.index.json");
    let json =
        serde_json::from_slice(bytes).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    Ok(crate::safetensors::weight_map(path, &json)?.len())
}
