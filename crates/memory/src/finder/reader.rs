//! The lowest layers over text and questions.
use super::{KeyStream, Profile};
use longleaf_kernel::{DType, KvFormat, Matrix, PackedMatrix, block};
use longleaf_model::{Attention, Decoder, Dense, PREFILL_TOKENS, Qkv, Rotation, Scratch, Visible};
use std::convert::Infallible;
use std::ops::Range;

/// Reads runs of text for their keys, and questions for their queries.
#[derive(Debug)]
pub struct Reader<'m> {
    decoder: &'m Decoder,
    profile: Profile,
    attention: Watched,
    scratch: Scratch,
    hidden: Vec<f32>,
    /// One head's keys, `[tokens, width]`.
    keys: Vec<f32>,
    /// The same as `Q8_0`.
    encoded: Vec<u8>,
}

/// The queries of a question's tokens in the finder heads, rotated to the profile's distance.
#[derive(Debug, Clone)]
pub struct Queries {
    /// For each head of the profile, in its order, `[tokens, width]`, filled up with zeros as keys are.
    pub heads: Vec<Vec<f32>>,
    /// Tokens of the question.
    pub tokens: usize,
}

/// Dense attention that keeps what passes through it.
#[derive(Debug)]
struct Watched {
    dense: Dense,
    streams: Vec<KeyStream>,
    kv_heads: usize,
    head_dim: usize,
    /// Numbers in a stored key, see [`Profile::width`].
    width: usize,
    /// For each stream, `[tokens, width]`.
    keys: Vec<Vec<f32>>,
    /// For each layer, `[tokens, heads, head_dim]`, if questions are watched.
    queries: Option<Vec<Vec<f32>>>,
}

impl Watched {
    fn take_keys(&mut self, layer: usize, keys: &[f32]) {
        for (stream, kept) in self.streams.iter().zip(&mut self.keys) {
            if stream.layer == layer {
                let at = stream.kv_head * self.head_dim;
                for token in keys.chunks_exact(self.kv_heads * self.head_dim) {
                    kept.extend_from_slice(&token[at..at + self.head_dim]);
                    kept.resize(kept.len() + self.width - self.head_dim, 0.0);
                }
            }
        }
    }

    fn take_queries(&mut self, layer: usize, queries: &[f32]) {
        if let Some(kept) = &mut self.queries {
            kept[layer].extend_from_slice(queries);
        }
    }
}

impl Attention for Watched {
    type Error = Infallible;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        self.take_keys(layer, qkv.keys);
        self.take_queries(layer, qkv.queries);
        self.dense.attend(layer, positions, qkv, out)
    }
}

impl<'m> Reader<'m> {
    /// Reads with `decoder` what `profile` asks for.
    pub fn new(decoder: &'m Decoder, profile: &Profile) -> Self {
        let config = decoder.config();
        let streams = profile.streams(config);
        let compute = decoder.compute().clone();
        let attention = Watched {
            dense: Dense::new(config, compute, KvFormat::Bf16, Visible::All, profile.run),
            keys: vec![Vec::new(); streams.len()],
            streams,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            width: Profile::width(config),
            queries: None,
        };
        Self {
            decoder,
            profile: profile.clone(),
            attention,
            scratch: Scratch::new(),
            hidden: Vec::new(),
            keys: Vec::new(),
            encoded: Vec::new(),
        }
    }

    /// The streams that [`Reader::read`] fills, in their order.
    pub fn streams(&self) -> &[KeyStream] {
        &self.attention.streams
    }

    /// Read one run of at most [`Profile::run`] tokens and append its keys to `rows`, one buffer for each stream:
    /// whole panels of [`Profile::PANEL`] tokens, the last one filled up with zeros.
    pub fn read(&mut self, tokens: &[u32], rows: &mut [Vec<u8>]) {
        assert!(tokens.len() <= self.profile.run, "{} tokens are more than a run", tokens.len());
        assert_eq!(rows.len(), self.attention.streams.len(), "a buffer for every stream");
        self.pass(tokens);
        let pool = self.decoder.compute().pool();
        let width = self.attention.width;
        let row_bytes = DType::Q8_0.row_bytes(width).expect("whole blocks");
        for (keys, rows) in self.attention.keys.iter_mut().zip(rows) {
            std::mem::swap(&mut self.keys, keys);
            keys.clear();
            self.encoded.resize(tokens.len() * row_bytes, 0);
            block::encode_q8_0(&self.keys, &mut self.encoded);
            let matrix = Matrix::new(DType::Q8_0, tokens.len(), width, &self.encoded);
            let packed = PackedMatrix::pack(pool, matrix.expect("a row for every token"));
            rows.extend_from_slice(packed.panels_bytes());
        }
    }

    /// The queries of a question.
    pub fn queries(&mut self, question: &[u32]) -> Queries {
        let decoder = self.decoder;
        let config = decoder.config();
        let (heads, head_dim) = (config.heads, config.head_dim);
        self.attention.queries = Some(vec![Vec::new(); self.profile.layers()]);
        self.pass(question);
        for keys in &mut self.attention.keys {
            keys.clear();
        }
        let mut layers = self.attention.queries.take().unwrap_or_default();
        let mut rotation = Rotation::new(&config.rope, self.profile.run);
        let distance = self.profile.distance as i64;
        let (cos, sin) = rotation.at(distance..distance + 1);
        let (cos, sin) = (cos.repeat(question.len()), sin.repeat(question.len()));
        for queries in layers.iter_mut().filter(|queries| !queries.is_empty()) {
            decoder.compute().rope(queries, heads, head_dim, &cos, &sin);
        }
        let width = Profile::width(config);
        let one = |head: &super::Head| {
            let mut all = Vec::with_capacity(question.len() * width);
            for row in layers[head.layer].chunks_exact(heads * head_dim) {
                all.extend_from_slice(&row[head.head * head_dim..][..head_dim]);
                all.resize(all.len().next_multiple_of(width), 0.0);
            }
            all
        };
        Queries { heads: self.profile.heads.iter().map(one).collect(), tokens: question.len() }
    }

    /// Run the lowest layers over one sequence; of the last, only the projections.
    fn pass(&mut self, tokens: &[u32]) {
        let Self { decoder, attention, scratch, hidden, .. } = self;
        attention.dense.reset();
        let last = self.profile.layers() - 1;
        for (index, tokens) in tokens.chunks(PREFILL_TOKENS).enumerate() {
            let first = index * PREFILL_TOKENS;
            decoder.embed(tokens, hidden);
            let Ok(()) = decoder.run_layers(0..last, first..first + tokens.len(), hidden, attention, scratch);
            if attention.queries.is_some() {
                let qkv = decoder.project_qkv(last, hidden, scratch);
                attention.take_queries(last, qkv.queries);
            } else {
                let keys = decoder.project_keys(last, hidden, scratch);
                attention.take_keys(last, keys);
            }
        }
    }
}
