//! Attention while reading: a stride over itself, a window before it, and the first tokens of the section.
use super::coder::Coder;
use super::{Layout, Stride};
use longleaf_kernel::{Attend, BLOCK_TOKENS, BlockAngles, Compute, Dequantise, KvBlock, KvFormat, KvView};
use longleaf_model::{Attention, Config, Qkv, Rotation};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

/// The keys and values that a stride sees, and what of it is kept.
#[derive(Debug)]
pub(super) struct Window {
    compute: Arc<Compute>,
    layout: Layout,
    stride: Stride,
    heads: usize,
    rotation: Rotation,
    coder: Coder,
    layers: Box<[Layer]>,
    /// Spare blocks, all layers'.
    spare: Vec<KvBlock>,
    /// Where in the section the stride begins.
    start: usize,
    /// Angles of the stride's blocks at their true positions.
    angles: Vec<BlockAngles>,
    /// Of the sinks where they stand for this stride; none while they stand where they were.
    sink_angles: Option<BlockAngles>,
    /// `[tokens, heads, head_dim]`, rotated.
    queries: Vec<f32>,
    /// `[tokens, kv_heads, head_dim]`, rotated.
    keys: Vec<f32>,
    /// What is kept of the stride, `[block][layer]`.
    blocks: Vec<u8>,
    /// The same of the blocks' summaries.
    summaries: Vec<u8>,
}

/// One layer's part of it.
#[derive(Debug, Default)]
struct Layer {
    /// How far back a query of this layer sees by itself; `i64::MAX` for no limit.
    sliding: i64,
    /// The section's first block, in few bits.
    first: Vec<u8>,
    /// The sinks, where they stand for this stride.
    sinks: Option<KvBlock>,
    /// What stands before the stride.
    before: VecDeque<KvBlock>,
    /// The stride itself, as far as it is read.
    own: VecDeque<KvBlock>,
}

impl Window {
    pub(super) fn new(config: &Config, compute: Arc<Compute>, layout: Layout, stride: Stride) -> Self {
        assert!(
            stride.tokens > 0
                && stride.tokens.is_multiple_of(BLOCK_TOKENS)
                && stride.window.is_multiple_of(BLOCK_TOKENS)
                && stride.sinks <= BLOCK_TOKENS,
            "whole blocks: {stride:?}"
        );
        let length = stride.tokens + stride.window + stride.sinks;
        let layer = |sliding: &Option<usize>| {
            let sliding = sliding.map_or(i64::MAX, |window| window as i64);
            Layer { sliding, ..Layer::default() }
        };
        Self {
            layout,
            stride,
            heads: config.heads,
            rotation: Rotation::new(&config.rope, length),
            coder: Coder::new(config, Arc::clone(&compute), layout, length),
            layers: config.sliding.iter().map(layer).collect(),
            compute,
            spare: Vec::new(),
            start: 0,
            angles: Vec::new(),
            sink_angles: None,
            queries: Vec::new(),
            keys: Vec::new(),
            blocks: Vec::new(),
            summaries: Vec::new(),
        }
    }

    /// Forget the section before.
    pub(super) fn reset(&mut self) {
        let Self { layers, spare, .. } = self;
        for layer in layers {
            spare.extend(
                layer.sinks.take().into_iter().chain(layer.before.drain(..)).chain(layer.own.drain(..)),
            );
            layer.first.clear();
        }
        self.start = 0;
    }

    /// Which blocks of the section a stride that begins at token `start` has to know: those of the window.
    pub(super) fn needed(&self, start: usize) -> Range<usize> {
        start.saturating_sub(self.stride.window) / BLOCK_TOKENS..start / BLOCK_TOKENS
    }

    /// Stand at token `start` of a section, the beginning of a stride, given its first block and those
    /// [`Window::needed`], `[block][layer]` rows each. `key_bias` is that of each layer.
    pub(super) fn resume<'b>(
        &mut self,
        start: usize,
        first: &[u8],
        before: &[u8],
        key_bias: &dyn Fn(usize) -> Option<&'b [f32]>,
    ) {
        self.reset();
        let (row, needed) = (self.layout.form.bytes(), self.needed(start));
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.first.extend_from_slice(first.get(index * row..(index + 1) * row).unwrap_or_default());
        }
        let angles: Vec<BlockAngles> = needed.map(|block| block_angles(&mut self.rotation, block)).collect();
        for index in 0..self.layers.len() {
            if before.is_empty() {
                break;
            }
            let rows = before.chunks_exact(row).skip(index).step_by(self.layout.layers);
            let key_bias = key_bias(index);
            let from: Vec<Dequantise<'_>> = rows
                .zip(&angles)
                .map(|(bytes, angles)| Dequantise { bytes, key_bias, angles: Some(angles) })
                .collect();
            let mut blocks: Vec<KvBlock> = from.iter().map(|_| self.block()).collect();
            self.compute.dequantise_kv(&self.layout.form, &from, &mut blocks);
            self.layers[index].before.extend(blocks);
        }
        self.start = start;
    }

    /// Go on to the stride of `tokens` tokens that begins at token `start`: what was its own is before it now.
    pub(super) fn begin(&mut self, start: usize, tokens: usize) {
        self.start = start;
        let keep = self.stride.window / BLOCK_TOKENS;
        for layer in &mut self.layers {
            layer.before.extend(layer.own.drain(..));
            let gone = layer.before.len().saturating_sub(keep);
            self.spare.extend(layer.before.drain(..gone));
            self.spare.extend(layer.sinks.take());
        }
        let first = start / BLOCK_TOKENS;
        let blocks = first..first + self.stride.tokens / BLOCK_TOKENS;
        self.angles = blocks.map(|block| block_angles(&mut self.rotation, block)).collect();
        // Sinks that have left the window follow it.
        let sinks = self.stride.sinks;
        self.sink_angles = (sinks > 0 && self.stride.moved(start)).then(|| {
            let from = (start - self.stride.window - sinks) as i64;
            let dim = self.rotation.frequencies().len();
            let (cos, sin) = self.rotation.at(from..from + BLOCK_TOKENS as i64);
            BlockAngles::new(dim, cos, sin)
        });
        self.coder.reserve(tokens, &mut self.blocks, &mut self.summaries);
    }

    /// What is kept of the stride: its blocks and summaries.
    pub(super) fn take(&mut self, blocks: &mut Vec<u8>, summaries: &mut Vec<u8>) {
        blocks.append(&mut self.blocks);
        summaries.append(&mut self.summaries);
    }

    fn block(&mut self) -> KvBlock {
        let form = &self.layout.form;
        self.spare.pop().unwrap_or_else(|| KvBlock::new(KvFormat::Bf16, form.kv_heads, form.head_dim))
    }

    /// The sinks of a layer, where they stand for this stride.
    fn place_sinks(&mut self, layer: usize, key_bias: Option<&[f32]>) {
        if self.sink_angles.is_some() && self.layers[layer].sinks.is_none() {
            let mut block = self.block();
            let from =
                Dequantise { bytes: &self.layers[layer].first, key_bias, angles: self.sink_angles.as_ref() };
            self.compute.dequantise_kv(&self.layout.form, &[from], std::slice::from_mut(&mut block));
            self.layers[layer].sinks = Some(block);
        }
    }

    /// Keep keys and values of the tokens at `positions` in few bits; whole blocks of them are seen so from now on.
    pub(super) fn keep(&mut self, layer: usize, positions: Range<usize>, qkv: Qkv<'_>) {
        let mut places = self.coder.places(&mut self.blocks, &mut self.summaries);
        let first = (positions.start - self.start) / BLOCK_TOKENS;
        let places = &mut places[first..first + positions.len().div_ceil(BLOCK_TOKENS)];
        self.coder.keep(layer, &qkv, places);
        let row = self.layout.form.bytes();
        let coded = layer * row..(layer + 1) * row;
        let state = &mut self.layers[layer];
        if positions.start == 0 {
            state.first.clear();
            state.first.extend_from_slice(&places[0].block[coded.clone()]);
        }
        // A stride that is cut short is the last one of its section: nobody sees it again.
        let whole = positions.len() / BLOCK_TOKENS;
        let from: Vec<Dequantise<'_>> = places[..whole]
            .iter()
            .zip(&self.angles[first..])
            .map(|(place, angles)| Dequantise {
                bytes: &place.block[coded.clone()],
                key_bias: qkv.key_bias,
                angles: Some(angles),
            })
            .collect();
        let own = state.own.make_contiguous();
        if !own.is_empty() {
            self.compute.dequantise_kv(&self.layout.form, &from, &mut own[first..first + whole]);
        }
    }
}

/// The angles of a section's block where it stands.
fn block_angles(rotation: &mut Rotation, block: usize) -> BlockAngles {
    let (start, angles) = ((block * BLOCK_TOKENS) as i64, rotation.frequencies().len());
    let (cos, sin) = rotation.at(start..start + BLOCK_TOKENS as i64);
    BlockAngles::new(angles, cos, sin)
}

impl Attention for Window {
    type Error = Infallible;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        let form = self.layout.form;
        let (dim, width) = (form.head_dim, form.kv_heads * form.head_dim);
        let offset = |position: usize| position as i64 - positions.start as i64;
        self.place_sinks(layer, qkv.key_bias);

        let (cos, sin) = self.rotation.at(positions.start as i64..positions.end as i64);
        let copy = |to: &mut Vec<f32>, from: &[f32]| {
            to.clear();
            to.extend_from_slice(from);
        };
        copy(&mut self.queries, qkv.queries);
        self.compute.rope(&mut self.queries, self.heads, dim, cos, sin);
        copy(&mut self.keys, qkv.keys);
        if let Some(bias) = qkv.key_bias {
            for key in self.keys.chunks_exact_mut(width) {
                key.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        }
        self.compute.rope(&mut self.keys, form.kv_heads, dim, cos, sin);

        let first = (positions.start - self.start) / BLOCK_TOKENS;
        let end = (positions.end - self.start).div_ceil(BLOCK_TOKENS);
        while self.layers[layer].own.len() < end {
            let block = self.block();
            self.layers[layer].own.push_back(block);
        }
        let state = &mut self.layers[layer];
        let (keys, numbers) = (&self.keys, BLOCK_TOKENS * width);
        self.compute.pool().chunks_mut(&mut state.own.make_contiguous()[first..], 1, &|index, block| {
            let range = index * numbers..keys.len().min((index + 1) * numbers);
            block[0].write(0, &keys[range.clone()], &qkv.values[range]);
        });

        let far = self.start - state.before.len() * BLOCK_TOKENS;
        let sinks = state.sinks.iter().map(|block| {
            let offset = offset(far) - self.stride.sinks as i64;
            KvView { block, len: self.stride.sinks, offset, window: state.sliding }
        });
        let window = if self.stride.moved(self.start) { self.stride.window as i64 } else { i64::MAX };
        let window = window.min(state.sliding);
        let rest = state.before.iter().chain(&state.own).enumerate().map(|(index, block)| {
            let at = far + index * BLOCK_TOKENS;
            KvView { block, len: BLOCK_TOKENS.min(positions.end - at), offset: offset(at), window }
        });
        let views: Vec<KvView<'_>> = sinks.chain(rest).collect();
        let scale = 1.0 / (dim as f32).sqrt();
        self.compute.attend(
            &Attend { queries: &self.queries, heads: self.heads, views: &views, scale },
            out,
            None,
        );
        self.keep(layer, positions, qkv);
        Ok(())
    }
}
