//! The keys that finder heads look at, on their way from a forward pass into a store.
use super::{KeyStream, Profile};
use longleaf_kernel::{DType, Matrix, PackedMatrix, Pool, block};
use longleaf_model::Config;

/// Keys of some tokens, picked out of what each layer hands to attention.
#[derive(Debug)]
pub(super) struct Keys {
    streams: Vec<KeyStream>,
    kv_heads: usize,
    head_dim: usize,
    /// Numbers in a stored key, see [`Profile::width`].
    width: usize,
    /// For each stream, `[tokens, width]`.
    picked: Vec<Vec<f32>>,
    /// One stream's as `Q8_0`.
    encoded: Vec<u8>,
}

impl Keys {
    pub(super) fn new(config: &Config, profile: &Profile) -> Self {
        let streams = profile.streams(config);
        Self {
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            width: Profile::width(config),
            picked: vec![Vec::new(); streams.len()],
            encoded: Vec::new(),
            streams,
        }
    }

    /// Pick from the keys of one layer, `[tokens, kv_heads, head_dim]`, unrotated.
    pub(super) fn take(&mut self, layer: usize, keys: &[f32]) {
        for (stream, kept) in self.streams.iter().zip(&mut self.picked) {
            if stream.layer == layer {
                let at = stream.kv_head * self.head_dim;
                for token in keys.chunks_exact(self.kv_heads * self.head_dim) {
                    kept.extend_from_slice(&token[at..at + self.head_dim]);
                    kept.resize(kept.len() + self.width - self.head_dim, 0.0);
                }
            }
        }
    }

    /// Append what was picked to `rows`, one buffer for each stream, as whole panels of [`Profile::PANEL`] tokens,
    /// the last one filled up with zeros; then forget it.
    pub(super) fn encode(&mut self, pool: &Pool, rows: &mut [Vec<u8>]) {
        assert_eq!(rows.len(), self.streams.len(), "a buffer for every stream");
        let row_bytes = DType::Q8_0.row_bytes(self.width).expect("whole blocks");
        for (keys, rows) in self.picked.iter_mut().zip(rows) {
            let tokens = keys.len() / self.width;
            self.encoded.resize(tokens * row_bytes, 0);
            block::encode_q8_0(keys, &mut self.encoded);
            keys.clear();
            let matrix = Matrix::new(DType::Q8_0, tokens, self.width, &self.encoded);
            let packed = PackedMatrix::pack(pool, matrix.expect("a row for every token"));
            rows.extend_from_slice(packed.panels_bytes());
        }
    }

    /// Forget what was picked.
    pub(super) fn clear(&mut self) {
        self.picked.iter_mut().for_each(Vec::clear);
    }
}
