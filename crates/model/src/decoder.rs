//! The transformer: tokens in, logits out.
use crate::attention::{Attention, Qkv};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Error;
use crate::layer::{Arithmetic, Buffers, Layer, Packer, resize};
use crate::rows::{Rows, Slice};
use crate::weights::{Tensor, Weights};
use longleaf_kernel::{Compute, KvFormat, PackedMatrix, Precision, Product};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A forward pass takes in no more tokens than this at once: enough rows for every thread to have slices
/// of its own, few enough that what passes between slices and attention stays in the caches. Longer runs are cut;
/// results do not depend on it, but for a short last piece in Coarse ([`Decoder::with_precision`]).
pub const PREFILL_TOKENS: usize = 1024;

/// Tokens that make up for rounding all weights, as Coarse does: a pass of fewer is as fast or faster in Fast.
const COARSE_TOKENS: usize = 64;

/// Rows of logits computed at once where all are wanted (a row can be 600 kB).
const LOGIT_ROWS: usize = 32;

/// The weights of a decoder-only transformer, ready to be multiplied. Immutable, shared by all sequences; clones share
/// them too, so that one model can compute in two precisions.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: Config,
    compute: Arc<Compute>,
    precision: Precision,
    embedding: Arc<PackedMatrix>,
    layers: Arc<[Layer]>,
    final_norm: Arc<[f32]>,
    /// Absent where the embedding serves.
    head: Option<Arc<PackedMatrix>>,
}

/// The buffers of forward passes, reused from one to the next. One for each thread that runs passes.
#[derive(Debug, Default)]
pub struct Scratch {
    /// `[tokens, hidden]`, the residual stream.
    hidden: Vec<f32>,
    rows: Rows,
    /// `[rows, vocab]`
    logits: Vec<f32>,
}

impl Scratch {
    /// Nothing allocated yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Decoder {
    /// Load the model at `path`: a GGUF file, or a folder with `config.json` and safetensors.
    ///
    /// # Errors
    /// Whatever is wrong with the file; see [`Error`].
    pub fn load(path: &Path, compute: &Arc<Compute>) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(path)?;
        Self::from_weights(&checkpoint, checkpoint.config()?, compute)
    }

    /// Repack `weights`, whose shapes `config` states. The file is not needed afterwards; while loading, no more
    /// than one matrix is in memory twice.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Shape`] for the first tensor that is not as the configuration says.
    pub fn from_weights(
        weights: &dyn Weights,
        config: Config,
        compute: &Arc<Compute>,
    ) -> Result<Self, Error> {
        for (tensor, shape) in crate::weights::expected(&config) {
            weights.stored(tensor, &shape)?;
        }
        // The largest matrices first: twice in memory for a moment, they weigh least while nothing else is there.
        let mut packer = Packer { compute, config: &config, reordered: Vec::new() };
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let head =
            (!config.tied_head).then(|| packer.matrix(weights, Tensor::Head, vocab, hidden)).transpose()?;
        let embedding = packer.matrix(weights, Tensor::Embedding, vocab, hidden)?;
        let layers = (0..config.layers)
            .map(|layer| Layer::load(weights, &mut packer, layer))
            .collect::<Result<_, _>>()?;
        let final_norm = weights.vector(Tensor::FinalNorm, hidden)?.into();
        Ok(Self {
            compute: Arc::clone(compute),
            precision: Precision::default(),
            embedding: Arc::new(embedding),
            layers,
            final_norm,
            head: head.map(Arc::new),
            config,
        })
    }

    /// How closely products follow f32 arithmetic.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The format of keys and values that goes with the precision, for whoever attends to them as they are. Keeping them
    /// in 8 bits costs some tenths of a percent of perplexity at most (`docs/experiments.md`).
    pub fn kv_format(&self) -> KvFormat {
        match self.precision {
            Precision::Exact => KvFormat::Bf16,
            Precision::Fast | Precision::Coarse => KvFormat::Int8,
        }
    }

    /// The same decoder with other arithmetic. Only in [`Precision::Coarse`] do results depend on how a run of tokens is
    /// cut: a pass of fewer than 64 computes in [`Precision::Fast`], which for them is as fast or faster.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// What the model is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The kernels and threads it runs on.
    pub fn compute(&self) -> &Arc<Compute> {
        &self.compute
    }

    /// Size of the packed weights in memory.
    pub fn bytes(&self) -> usize {
        let head = self.head.as_ref().map_or(0, |head| head.bytes());
        self.embedding.bytes() + head + self.layers.iter().map(Layer::bytes).sum::<usize>()
    }

    /// Bytes of weights that a decode step reads: all but an embedding that is not the head too.
    pub fn step_bytes(&self) -> usize {
        if self.head.is_some() { self.bytes() - self.embedding.bytes() } else { self.bytes() }
    }

    /// `[kv_heads, head_dim]`: what must be added to this layer's keys before they are rotated (see
    /// [`Qkv::key_bias`]).
    pub fn key_bias(&self, layer: usize) -> Option<&[f32]> {
        self.layers[layer].separate_key_bias()
    }

    /// What a pass over so many `tokens` computes with. Few tokens do not make up for rounding all weights, so in Coarse
    /// they are computed in Fast. The tokens of the pass decide, not those of a slice, for slices depend on the threads.
    fn arithmetic(&self, tokens: usize) -> Arithmetic<'_> {
        let precision = match self.precision {
            Precision::Coarse if tokens < COARSE_TOKENS => Precision::Fast,
            other => other,
        };
        Arithmetic {
            compute: &self.compute,
            precision,
            eps: self.config.rms_eps,
            head_dim: self.config.head_dim,
        }
    }

    /// The embeddings of `tokens`, written to `hidden`, `[tokens, hidden]`.
    ///
    /// # Panics
    /// If a token is not below the vocabulary size, as in everything below.
    pub fn embed(&self, tokens: &[u32], hidden: &mut Vec<f32>) {
        let width = self.config.hidden_size;
        resize(hidden, tokens.len() * width);
        for (token, row) in tokens.iter().zip(hidden.chunks_exact_mut(width)) {
            let vocab = self.config.vocab_size;
            assert!((*token as usize) < vocab, "token {token} of a vocabulary of {vocab}");
            self.embedding.decode_row(*token as usize, row);
        }
    }

    /// Run some of the layers, one after another, over the tokens at `positions`, whose residual stream is
    /// `hidden`, `[tokens, hidden]`. A run of many tokens should come in pieces of [`PREFILL_TOKENS`].
    ///
    /// # Errors
    /// The attention's; `hidden` is then unfinished.
    pub fn run_layers<A: Attention + ?Sized>(
        &self,
        layers: Range<usize>,
        positions: Range<usize>,
        hidden: &mut [f32],
        attention: &mut A,
        scratch: &mut Scratch,
    ) -> Result<(), A::Error> {
        assert_eq!(hidden.len(), positions.len() * self.config.hidden_size, "a row for every position");
        let (end, rows) = (layers.end, &mut scratch.rows);
        if !layers.is_empty() {
            self.project(layers.start, hidden, rows);
        }
        for layer in layers {
            self.attend(layer, positions.clone(), attention, rows)?;
            self.finish(layer, Some(layer + 1).filter(|next| *next < end), hidden, rows);
        }
        Ok(())
    }

    /// What attention makes of the projections in `rows`.
    fn attend<A: Attention + ?Sized>(
        &self,
        layer: usize,
        positions: Range<usize>,
        attention: &mut A,
        rows: &mut Rows,
    ) -> Result<(), A::Error> {
        resize(&mut rows.mixed, rows.queries.len());
        let qkv = Qkv {
            queries: &rows.queries,
            keys: &rows.keys,
            values: &rows.values,
            key_bias: self.layers[layer].separate_key_bias(),
        };
        attention.attend(layer, positions, qkv, &mut rows.mixed)
    }

    /// Norm, queries, keys and values of one layer, slice by slice.
    fn project(&self, layer: usize, hidden: &[f32], rows: &mut Rows) {
        let (layer, width) = (&self.layers[layer], self.config.hidden_size);
        let tokens = hidden.len() / width;
        let on = self.arithmetic(tokens);
        rows.resize(&self.config, tokens);
        let cut = |len| hidden.chunks(len * width);
        rows.slices(&self.config, on, tokens, cut, |hidden, slice, buffers| {
            layer.project_qkv(on, hidden, slice.projected, buffers);
        });
    }

    /// What a layer does after attention, slice by slice, and the projections of the `next` one: a slice stays
    /// with its thread, and no thread waits for another in between.
    fn finish(&self, layer: usize, next: Option<usize>, hidden: &mut [f32], rows: &mut Rows) {
        let (layer, next) = (&self.layers[layer], next.map(|next| &self.layers[next]));
        let width = self.config.hidden_size;
        let tokens = hidden.len() / width;
        let on = self.arithmetic(tokens);
        let work = |hidden: &mut [f32], slice: Slice<'_>, buffers: &mut Buffers| {
            layer.finish(on, hidden, slice.mixed, buffers);
            if let Some(next) = next {
                next.project_qkv(on, hidden, slice.projected, buffers);
            }
        };
        rows.slices(&self.config, on, tokens, |len| hidden.chunks_mut(len * width), work);
    }

    /// Norm, queries, keys and values of one layer, and no more: what attention in that layer would be given for
    /// the residual stream `hidden`, `[tokens, hidden]`.
    pub fn project_qkv<'s>(&'s self, layer: usize, hidden: &[f32], scratch: &'s mut Scratch) -> Qkv<'s> {
        self.project(layer, hidden, &mut scratch.rows);
        let Rows { queries, keys, values, .. } = &scratch.rows;
        Qkv { queries, keys, values, key_bias: self.layers[layer].separate_key_bias() }
    }

    /// The keys alone, `[tokens, kv_heads, head_dim]`, as in [`Qkv::keys`].
    pub fn project_keys<'s>(&self, layer: usize, hidden: &[f32], scratch: &'s mut Scratch) -> &'s [f32] {
        let (layer, width) = (&self.layers[layer], self.config.hidden_size);
        let (tokens, rows) = (hidden.len() / width, &mut scratch.rows);
        let on = self.arithmetic(tokens);
        rows.resize(&self.config, tokens);
        let cut = |len| hidden.chunks(len * width);
        rows.slices(&self.config, on, tokens, cut, |hidden, slice, buffers| {
            layer.project_keys(on, hidden, slice.projected.keys, buffers);
        });
        &scratch.rows.keys
    }

    /// Final norm and head of the residual streams `hidden`, `[rows, hidden]`: `[rows, vocab]`.
    pub fn logits<'s>(&self, hidden: &[f32], scratch: &'s mut Scratch) -> &'s mut [f32] {
        let Scratch { rows, logits, .. } = scratch;
        let buffers = rows.buffers();
        let weights = self.head.as_ref().unwrap_or(&self.embedding);
        let rows = hidden.len() / self.config.hidden_size;
        self.arithmetic(rows).norm_rows(&self.final_norm, hidden, &[weights], buffers);
        resize(logits, rows * weights.rows());
        self.compute.matmul(&buffers.activations, &mut [Product { weights, out: logits }]);
        logits
    }

    /// Take in `tokens`, the first of them at position `first`, and return the logits after the last, `[vocab]`:
    /// prefill and decode alike. A decode step allocates nothing, if the attention does not.
    ///
    /// # Errors
    /// The attention's.
    ///
    /// # Panics
    /// If there are no tokens.
    pub fn forward<'s, A: Attention + ?Sized>(
        &self,
        tokens: &[u32],
        first: usize,
        attention: &mut A,
        scratch: &'s mut Scratch,
    ) -> Result<&'s mut [f32], A::Error> {
        assert!(!tokens.is_empty(), "a forward pass needs a token");
        let mut start = first;
        for chunk in tokens.chunks(PREFILL_TOKENS) {
            let end = start + chunk.len();
            let wanted = if end == first + tokens.len() { Wanted::Last } else { Wanted::None };
            self.run(chunk, start, wanted, attention, scratch)?;
            start = end;
        }
        let hidden = std::mem::take(&mut scratch.hidden);
        self.logits(&hidden, scratch);
        scratch.hidden = hidden;
        Ok(&mut scratch.logits)
    }

    /// Take in `tokens` without asking for logits.
    ///
    /// # Errors
    /// The attention's.
    pub fn read<A: Attention + ?Sized>(
        &self,
        tokens: &[u32],
        first: usize,
        attention: &mut A,
        scratch: &mut Scratch,
    ) -> Result<(), A::Error> {
        for (index, chunk) in tokens.chunks(PREFILL_TOKENS).enumerate() {
            self.run(chunk, first + index * PREFILL_TOKENS, Wanted::None, attention, scratch)?;
        }
        Ok(())
    }

    /// Take in `tokens` and call `each(position, logits)` after every one of them, in order, `logits` being
    /// `[vocab]`. Memory is bounded: 32 rows at a time.
    ///
    /// # Errors
    /// The attention's.
    pub fn forward_all<A: Attention + ?Sized>(
        &self,
        tokens: &[u32],
        first: usize,
        attention: &mut A,
        scratch: &mut Scratch,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), A::Error> {
        let mut position = first;
        for chunk in tokens.chunks(PREFILL_TOKENS) {
            self.run(chunk, position, Wanted::All, attention, scratch)?;
            let hidden = std::mem::take(&mut scratch.hidden);
            for rows in hidden.chunks(LOGIT_ROWS * self.config.hidden_size) {
                for logits in self.logits(rows, scratch).chunks_exact(self.config.vocab_size) {
                    each(position, logits);
                    position += 1;
                }
            }
            scratch.hidden = hidden;
        }
        Ok(())
    }

    /// Run all layers over one piece of at most [`PREFILL_TOKENS`], and leave the residual streams `wanted` in
    /// `scratch.hidden`. What the last layer does after attention is done for these rows only.
    fn run<A: Attention + ?Sized>(
        &self,
        tokens: &[u32],
        first: usize,
        wanted: Wanted,
        attention: &mut A,
        scratch: &mut Scratch,
    ) -> Result<(), A::Error> {
        let positions = first..first + tokens.len();
        let mut hidden = std::mem::take(&mut scratch.hidden);
        self.embed(tokens, &mut hidden);
        let result = self.run_pass(positions, wanted, &mut hidden, attention, &mut scratch.rows);
        scratch.hidden = hidden;
        result
    }

    fn run_pass<A: Attention + ?Sized>(
        &self,
        positions: Range<usize>,
        wanted: Wanted,
        hidden: &mut Vec<f32>,
        attention: &mut A,
        rows: &mut Rows,
    ) -> Result<(), A::Error> {
        let last = self.config.layers - 1;
        self.project(0, hidden, rows);
        for layer in 0..last {
            self.attend(layer, positions.clone(), attention, rows)?;
            self.finish(layer, Some(layer + 1), hidden, rows);
        }
        self.attend(last, positions, attention, rows)?;
        if wanted == Wanted::None {
            return Ok(());
        }
        if wanted == Wanted::Last {
            keep_last(hidden, self.config.hidden_size);
            keep_last(&mut rows.mixed, self.config.query_size());
        }
        self.finish(last, None, hidden, rows);
        Ok(())
    }
}

/// Which residual streams are wanted after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    None,
    Last,
    All,
}

/// The last row of `width` numbers alone.
fn keep_last(rows: &mut Vec<f32>, width: usize) {
    let start = rows.len() - width;
    rows.copy_within(start.., 0);
    rows.truncate(width);
}
