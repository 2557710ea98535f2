//! Blocks and summaries as they are kept.
use super::Layout;
use crate::adaptive::Summarizer;
use longleaf_kernel::{BLOCK_TOKENS, Compute};
use longleaf_model::{Config, Qkv};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Brings keys and values to few bits and makes summaries, on many threads at once.
#[derive(Debug)]
pub(super) struct Coder {
    compute: Arc<Compute>,
    layout: Layout,
    query: usize,
    /// What no thread has at the moment.
    spare: Mutex<Vec<(Summarizer, Vec<f32>)>>,
    /// What others are made from.
    model: Summarizer,
}

/// Where one block of all layers goes.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// `[layer]` rows of [`Layout::form`].
    pub(super) block: &'a mut [u8],
    /// `[layer]` rows of summaries.
    pub(super) summary: &'a mut [u8],
}

impl Coder {
    pub(super) fn new(config: &Config, compute: Arc<Compute>, layout: Layout, length: usize) -> Self {
        let model = Summarizer::new(config, Arc::clone(&compute), length);
        Self { compute, layout, query: config.query_size(), spare: Mutex::default(), model }
    }

    /// Bytes of one block of all layers, and of its summaries.
    fn sizes(&self) -> (usize, usize) {
        (self.layout.block_bytes(), 4 * self.layout.layers * self.layout.summary)
    }

    /// Make room for the blocks of `tokens` tokens.
    pub(super) fn reserve(&self, tokens: usize, blocks: &mut Vec<u8>, summaries: &mut Vec<u8>) {
        let (block, summary) = self.sizes();
        blocks.resize(tokens.div_ceil(BLOCK_TOKENS) * block, 0);
        summaries.resize(tokens.div_ceil(BLOCK_TOKENS) * summary, 0);
    }

    /// That room, block by block.
    pub(super) fn places<'a>(&self, blocks: &'a mut [u8], summaries: &'a mut [u8]) -> Vec<Place<'a>> {
        let (block, summary) = self.sizes();
        let places = blocks.chunks_exact_mut(block).zip(summaries.chunks_exact_mut(summary));
        places.map(|(block, summary)| Place { block, summary }).collect()
    }

    /// Keep one layer's projections of some blocks, the first of them at `places[0]`; as many blocks as there are rows.
    pub(super) fn keep(&self, layer: usize, qkv: &Qkv<'_>, places: &mut [Place<'_>]) {
        self.compute.pool().chunks_mut(places, 1, &|index, place| {
            self.keep_block(layer, index * BLOCK_TOKENS, qkv, &mut place[0]);
        });
    }

    /// The block that begins at row `first` of the projections.
    fn keep_block(&self, layer: usize, first: usize, qkv: &Qkv<'_>, place: &mut Place<'_>) {
        let form = &self.layout.form;
        let width = form.kv_heads * form.head_dim;
        let end = (qkv.keys.len() / width).min(first + BLOCK_TOKENS);
        let of = |rows: Range<usize>, width: usize| rows.start * width..rows.end * width;
        let (keys, values) = (&qkv.keys[of(first..end, width)], &qkv.values[of(first..end, width)]);
        let queries = &qkv.queries[of(first..end, self.query)];
        let row = form.bytes();
        self.compute.quantise_kv(form, keys, values, &mut place.block[layer * row..][..row]);

        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = spare().pop();
        let (mut summarizer, mut numbers) = lent.unwrap_or_else(|| (self.model.clone(), Vec::new()));
        numbers.clear();
        summarizer.summarize(queries, keys, qkv.key_bias, &mut numbers);
        let row = 4 * self.layout.summary;
        let out = place.summary[layer * row..][..row].as_chunks_mut::<4>().0;
        for (out, number) in out.iter_mut().zip(&numbers) {
            *out = number.to_le_bytes();
        }
        spare().push((summarizer, numbers));
    }
}
