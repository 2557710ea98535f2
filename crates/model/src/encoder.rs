//! The transformer that looks both ways (Devlin et al., *BERT*, 2019): tokens in, one vector for each out.
//!
//! ```text
//! x = norm(word + position + type)
//! per layer:  x = norm(x + output · attention(query · x + b, key · x, value · x) + b)
//!             x = norm(x + down · gelu(up · x + b) + b)
//! ```
//! Many short sequences go through one pass: their tokens share the products, and each sequence attends to itself
//! alone. What comes out for a sequence does not depend on the others, bit for bit.
mod config;
mod layer;

pub use config::EncoderConfig;

use crate::error::Error;
use crate::layer::resize;
use crate::safetensors::Folder;
use layer::{Layer, Loader, Norm};
use longleaf_kernel::{
    Activations, Attend, BLOCK_TOKENS, Compute, KvBlock, KvFormat, KvView, PackedMatrix, Precision, Product,
};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// In what form weights are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// As the file has them.
    #[default]
    Stored,
    /// Rounded to 8 bits, with a scale for every 32 of a row: a quarter of the memory of f32 and a fraction of its time.
    Bytes,
}

/// The weights of an encoder, ready to be multiplied. Immutable, shared by all threads.
#[derive(Debug)]
pub struct Encoder {
    config: EncoderConfig,
    compute: Arc<Compute>,
    precision: Precision,
    words: PackedMatrix,
    /// `[positions, hidden]`: from the first position that is used on, the embedding of the type added.
    positions: Box<[f32]>,
    norm: Norm,
    layers: Box<[Layer]>,
}

/// The buffers of forward passes, reused from one to the next.
#[derive(Debug, Default)]
pub struct EncoderScratch {
    /// `[tokens, hidden]`, the residual stream.
    hidden: Vec<f32>,
    /// `[tokens, hidden]`, what is added to it.
    change: Vec<f32>,
    activations: Activations,
    /// `[tokens, heads, head_dim]` each.
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mixed: Vec<f32>,
    /// `[tokens, intermediate]`
    wide: Vec<f32>,
    /// Blocks of keys and values, as many as the longest passes needed, in this format.
    blocks: Vec<KvBlock>,
    /// The buffers of threads that take slices, while none does.
    spare: Vec<Self>,
}

impl EncoderScratch {
    /// Nothing allocated yet.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Tokens in a slice, at most, unless one sequence has more: what a layer makes of them stays in a core's second-level
/// cache.
const SLICE: usize = 128;

/// Rows of element-wise work in a task: some hundred kilobytes.
const ROWS: usize = 32;

impl Encoder {
    /// Load the encoder in the folder `path`: `config.json` and safetensors.
    ///
    /// # Errors
    /// Whatever is wrong with the files; see [`Error`].
    pub fn load(path: &Path, packing: Packing, compute: &Arc<Compute>) -> Result<Self, Error> {
        Self::from_folder(&Folder::open(path)?, packing, compute)
    }

    /// Load from an open folder.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Unsupported`] for what the configuration says, [`Error::Missing`] or
    /// [`Error::Shape`] for the first tensor that is not as it says.
    pub fn from_folder(folder: &Folder, packing: Packing, compute: &Arc<Compute>) -> Result<Self, Error> {
        let config =
            EncoderConfig::from_hugging_face(&folder.path().join("config.json"), folder.config_json())?;
        let prefix = config.prefix(|name| folder.tensor(name))?;
        let loader = Loader { folder, compute, packing, prefix };
        let hidden = config.hidden_size;
        let words = loader.matrix("embeddings.word_embeddings.weight", config.vocab_size, hidden)?;
        let all = loader.numbers("embeddings.position_embeddings.weight", &[config.positions, hidden])?;
        let types = loader.numbers("embeddings.token_type_embeddings.weight", &[config.types, hidden])?;
        let mut positions: Box<[f32]> = all[config.first_position * hidden..].into();
        for row in positions.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&types).for_each(|(x, t)| *x += t);
        }
        let norm = loader.norm("embeddings.LayerNorm", hidden)?;
        let layers =
            (0..config.layers).map(|layer| Layer::load(loader, &config, layer)).collect::<Result<_, _>>()?;
        let precision = Precision::default();
        Ok(Self { config, compute: Arc::clone(compute), precision, words, positions, norm, layers })
    }

    /// The same encoder with other arithmetic. With [`Precision::Fast`] keys and values are bf16 too.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// What the model is.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The kernels and threads it runs on.
    pub fn compute(&self) -> &Arc<Compute> {
        &self.compute
    }

    /// Size of the weights in memory.
    pub fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        self.words.bytes() + size_of_val(&*self.positions) + layers
    }

    /// The vectors of all tokens of some sequences, one sequence after the other, `[tokens, hidden]`.
    ///
    /// Sequences make slices, and a thread takes one slice through all layers; of too few for that all threads share
    /// every operation.
    ///
    /// # Panics
    /// If a sequence is longer than the [window](EncoderConfig::window) or a token is not below the vocabulary size.
    pub fn forward<'s>(&self, sequences: &[&[u32]], scratch: &'s mut EncoderScratch) -> &'s [f32] {
        let slices = slices(sequences);
        let pool = self.compute.pool();
        if slices.len() < pool.threads().max(2) {
            self.pass(sequences, scratch);
            return &scratch.hidden;
        }
        let width = self.config.hidden_size;
        let EncoderScratch { hidden, spare, .. } = scratch;
        resize(hidden, sequences.iter().map(|sequence| sequence.len()).sum::<usize>() * width);
        let (mut outs, mut rest) = (Vec::new(), &mut hidden[..]);
        for slice in slices {
            let sequences = &sequences[slice];
            let tokens: usize = sequences.iter().map(|sequence| sequence.len()).sum();
            let (out, others) = rest.split_at_mut(tokens * width);
            outs.push((sequences, out));
            rest = others;
        }
        let buffers = Mutex::new(std::mem::take(spare));
        let free = || buffers.lock().unwrap_or_else(PoisonError::into_inner);
        pool.chunks_mut(&mut outs, 1, &|_, slice| {
            let (sequences, out) = &mut slice[0];
            let mut scratch = free().pop().unwrap_or_default();
            self.pass(sequences, &mut scratch);
            out.copy_from_slice(&scratch.hidden);
            free().push(scratch);
        });
        *spare = buffers.into_inner().unwrap_or_else(PoisonError::into_inner);
        hidden
    }

    /// All layers over some sequences, whose vectors are then in `scratch.hidden`.
    fn pass(&self, sequences: &[&[u32]], scratch: &mut EncoderScratch) {
        self.embed(sequences, scratch);
        for layer in &self.layers {
            self.attention(layer, sequences, scratch);
            self.feed_forward(layer, scratch);
        }
    }

    fn embed(&self, sequences: &[&[u32]], scratch: &mut EncoderScratch) {
        let (hidden, window) = (self.config.hidden_size, self.config.window());
        let mut tokens = Vec::new();
        for sequence in sequences {
            assert!(sequence.len() <= window, "{} tokens in a window of {window}", sequence.len());
            tokens.extend(sequence.iter().copied().zip(0..));
        }
        resize(&mut scratch.hidden, tokens.len() * hidden);
        self.compute.pool().chunks_mut(&mut scratch.hidden, ROWS * hidden, &|index, rows| {
            for ((token, position), row) in tokens[index * ROWS..].iter().zip(rows.chunks_exact_mut(hidden)) {
                let vocab = self.config.vocab_size;
                assert!((*token as usize) < vocab, "token {token} of a vocabulary of {vocab}");
                self.words.decode_row(*token as usize, row);
                let position: usize = *position;
                self.compute.kernels().add(row, &self.positions[position * hidden..][..hidden]);
                self.normed(&self.norm, row);
            }
        });
    }

    fn normed(&self, norm: &Norm, row: &mut [f32]) {
        self.compute.kernels().layer_norm(row, &norm.weight, &norm.bias, self.config.norm_eps);
    }

    /// Attention and what surrounds it.
    fn attention(&self, layer: &Layer, sequences: &[&[u32]], scratch: &mut EncoderScratch) {
        let compute = &*self.compute;
        let EncoderScratch { hidden, activations, queries, keys, values, mixed, .. } = scratch;
        let width = self.config.hidden_size;
        compute.prepare(self.precision, width, hidden, activations);
        for buffer in [&mut *queries, keys, values, mixed] {
            resize(buffer, hidden.len());
        }
        compute.matmul(
            activations,
            &mut [
                Product { weights: &layer.query, out: queries },
                Product { weights: &layer.key, out: keys },
                Product { weights: &layer.value, out: values },
            ],
        );
        compute.pool().chunks_mut(queries, ROWS * width, &|_, rows| {
            rows.chunks_exact_mut(width).for_each(|row| compute.kernels().add(row, &layer.query_bias));
        });
        self.attend(sequences, scratch);
        compute.prepare(self.precision, width, &scratch.mixed, &mut scratch.activations);
        self.add_product(&layer.output, &layer.output_bias, &layer.attention_norm, scratch);
    }

    /// Every sequence's queries over its own keys and values, all of them.
    fn attend(&self, sequences: &[&[u32]], scratch: &mut EncoderScratch) {
        let (compute, heads, dim) = (&*self.compute, self.config.heads, self.config.head_dim());
        let width = self.config.hidden_size;
        let format = match self.precision {
            Precision::Exact => KvFormat::F32,
            Precision::Fast | Precision::Coarse => KvFormat::Bf16,
        };
        let EncoderScratch { blocks, queries, keys, values, mixed, .. } = scratch;
        let shape = (format, heads, dim);
        blocks.retain(|block| (block.format(), block.kv_heads(), block.head_dim()) == shape);
        // The tokens of each block, and of each sequence its blocks.
        let (mut pieces, mut owned, mut first) = (Vec::new(), Vec::new(), 0);
        for sequence in sequences {
            let end = first + sequence.len();
            let start = pieces.len();
            pieces.extend((first..end).step_by(BLOCK_TOKENS).map(|at| at..end.min(at + BLOCK_TOKENS)));
            owned.push((first..end, start..pieces.len()));
            first = end;
        }
        while blocks.len() < pieces.len() {
            blocks.push(KvBlock::new(format, heads, dim));
        }
        compute.pool().chunks_mut(&mut blocks[..pieces.len()], 1, &|index, block| {
            let tokens = pieces[index].start * width..pieces[index].end * width;
            block[0].write(0, &keys[tokens.clone()], &values[tokens]);
        });
        let blocks = &blocks[..];
        // A block that lies its own length before the first query is seen whole by every one.
        let view = |piece: usize| KvView {
            block: &blocks[piece],
            len: pieces[piece].len(),
            offset: -(BLOCK_TOKENS as i64),
            window: i64::MAX,
        };
        let (mut outs, mut rest) = (Vec::new(), &mut mixed[..]);
        for (tokens, pieces) in owned {
            let (out, others) = rest.split_at_mut(tokens.len() * width);
            outs.push((tokens, pieces, out));
            rest = others;
        }
        let scale = 1.0 / (dim as f32).sqrt();
        let queries = &queries[..];
        let one = |(tokens, pieces, out): &mut (Range<usize>, Range<usize>, &mut [f32])| {
            let views: Vec<_> = pieces.clone().map(view).collect();
            let queries = &queries[tokens.start * width..tokens.end * width];
            compute.attend(&Attend { queries, heads, views: &views, scale }, out, None);
        };
        if outs.len() >= 2 * compute.pool().threads() {
            compute.pool().chunks_mut(&mut outs, 1, &|_, out| one(&mut out[0]));
        } else {
            outs.iter_mut().for_each(one);
        }
    }

    fn feed_forward(&self, layer: &Layer, scratch: &mut EncoderScratch) {
        let compute = &*self.compute;
        let (hidden, wide) = (self.config.hidden_size, self.config.intermediate_size);
        let EncoderScratch { hidden: rows, activations, wide: up, .. } = scratch;
        compute.prepare(self.precision, hidden, rows, activations);
        resize(up, rows.len() / hidden * wide);
        compute.matmul(activations, &mut [Product { weights: &layer.up, out: up }]);
        compute.pool().chunks_mut(up, ROWS * wide, &|_, rows| {
            for row in rows.chunks_exact_mut(wide) {
                compute.kernels().add(row, &layer.up_bias);
                compute.kernels().gelu(row);
            }
        });
        compute.prepare(self.precision, wide, up, activations);
        self.add_product(&layer.down, &layer.down_bias, &layer.feed_forward_norm, scratch);
    }

    /// `hidden = norm(hidden + weights · activations + bias)`.
    fn add_product(&self, weights: &PackedMatrix, bias: &[f32], norm: &Norm, scratch: &mut EncoderScratch) {
        let compute = &*self.compute;
        let EncoderScratch { hidden, change, activations, .. } = scratch;
        let width = self.config.hidden_size;
        resize(change, hidden.len());
        compute.matmul(activations, &mut [Product { weights, out: change }]);
        compute.pool().chunks_mut(hidden, ROWS * width, &|index, rows| {
            let change = &change[index * ROWS * width..];
            for (row, change) in rows.chunks_exact_mut(width).zip(change.chunks_exact(width)) {
                compute.kernels().add(row, change);
                compute.kernels().add(row, bias);
                self.normed(norm, row);
            }
        });
    }
}

/// Runs of sequences that together have at most [`SLICE`] tokens, or are one.
fn slices(sequences: &[&[u32]]) -> Vec<Range<usize>> {
    let (mut slices, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (index, sequence) in sequences.iter().enumerate() {
        if index > start && tokens + sequence.len() > SLICE {
            slices.push(start..index);
            (start, tokens) = (index, 0);
        }
        tokens += sequence.len();
    }
    if start < sequences.len() {
        slices.push(start..sequences.len());
    }
    slices
}
