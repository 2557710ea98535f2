//! Everything so far, or everything within a window: the oracle, and the right choice for short contexts.
use super::balance::Balance;
use super::{Attention, Qkv};
use crate::config::Config;
use crate::layer::resize;
use crate::rope::Rotation;
use longleaf_kernel::{Attend, BLOCK_TOKENS, Compute, KvBlock, KvFormat, KvView, SEGMENT};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Which earlier tokens a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visible {
    /// All of them (or as many as the model's own sliding window allows).
    #[default]
    All,
    /// The first ones of the sequence and the nearest ones, at their own positions (Xiao et al., 2024). What
    /// leaves the window is dropped, so that memory does not grow with the sequence.
    Local {
        /// How many of the first tokens.
        sinks: usize,
        /// How many of the nearest ones, the query's own included; at least 1.
        window: usize,
    },
}

/// The keys and values of one sequence, attended to without choice. A clone goes on from there by itself.
#[derive(Debug, Clone)]
pub struct Dense {
    compute: Arc<Compute>,
    format: KvFormat,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rotation: Rotation,
    layers: Box<[Layer]>,
    /// Blocks that were dropped, to be used again.
    spare: Vec<KvBlock>,
    /// `[tokens, heads, head_dim]`, rotated.
    queries: Vec<f32>,
    /// `[tokens, kv_heads, head_dim]`, rotated.
    keys: Vec<f32>,
    /// Only its allocation is kept.
    views: Vec<KvView<'static>>,
}

/// One layer's keys and values: the sinks in blocks of their own, then block after block.
#[derive(Debug, Clone)]
struct Layer {
    sinks: usize,
    /// `i64::MAX` for everything.
    window: i64,
    sink_blocks: Vec<KvBlock>,
    /// Block `b` holds tokens `sinks + (first + b) · BLOCK_TOKENS` onwards.
    blocks: VecDeque<KvBlock>,
    first: usize,
    /// Tokens taken in.
    len: usize,
    /// Not known before the first tokens come with their bias; 8 bits only.
    balance: OnceLock<Option<Balance>>,
}

impl Dense {
    /// Nothing read yet. `length` is how long the sequence may become, prompt and answer; it only matters to
    /// models with dynamic NTK scaling (see [`Rotation::new`]).
    pub fn new(
        config: &Config,
        compute: Arc<Compute>,
        format: KvFormat,
        visible: Visible,
        length: usize,
    ) -> Self {
        let layer = |sliding: &Option<usize>| {
            let own = sliding.map_or(i64::MAX, |window| window as i64);
            let (sinks, window) = match visible {
                Visible::All => (0, own),
                Visible::Local { sinks, window } => {
                    (sinks, own.min(i64::try_from(window).unwrap_or(i64::MAX)))
                }
            };
            assert!(window > 0, "a window of {window} tokens");
            let (sink_blocks, blocks) = (Vec::new(), VecDeque::new());
            Layer { sinks, window, sink_blocks, blocks, first: 0, len: 0, balance: OnceLock::new() }
        };
        Self {
            compute,
            format,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            rotation: Rotation::new(&config.rope, length),
            layers: config.sliding.iter().map(layer).collect(),
            spare: Vec::new(),
            queries: Vec::new(),
            keys: Vec::new(),
            views: Vec::new(),
        }
    }

    /// Tokens taken in (by the first layer, which is ahead of the others only within a forward pass).
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Nothing read yet?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the keys and values in memory.
    pub fn bytes(&self) -> usize {
        let blocks = self.layers.iter().flat_map(|layer| layer.sink_blocks.iter().chain(&layer.blocks));
        blocks.chain(&self.spare).map(KvBlock::bytes).sum()
    }

    /// Forget all but the first `len` tokens, as when the next prompt begins like the last one. Returns how many
    /// tokens are left: `len`, or 0 where a window has dropped what the next token would have to see.
    pub fn truncate(&mut self, len: usize) -> usize {
        let whole = self.layers.iter().all(|layer| len >= layer.len || layer.keeps(len));
        let len = if whole { len.min(self.len()) } else { 0 };
        for layer in &mut self.layers {
            layer.truncate(len, &mut self.spare);
        }
        len
    }

    /// Forget everything, keep the allocations.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// Allocate for `tokens` more tokens now, so that taking them in one by one allocates nothing.
    pub fn reserve(&mut self, tokens: usize) {
        let mut blocks = 0;
        for layer in &mut self.layers {
            let more = layer
                .blocks_for(layer.len + tokens)
                .saturating_sub(layer.sink_blocks.len() + layer.blocks.len());
            layer.blocks.reserve(more);
            blocks += more;
        }
        self.spare.reserve(blocks);
        while self.spare.len() < blocks {
            self.spare.push(KvBlock::new(self.format, self.kv_heads, self.head_dim));
        }
        let most = self.layers.iter().map(|layer| layer.blocks_for(layer.len + tokens)).max().unwrap_or(0);
        let most = most + 2 * SEGMENT;
        self.views.reserve(most.saturating_sub(self.views.len()));
    }
}

impl Layer {
    /// Blocks that hold `len` tokens, without what a window drops.
    fn blocks_for(&self, len: usize) -> usize {
        let (sinks, rest) = (self.sinks.min(len), len.saturating_sub(self.sinks));
        let kept = rest.div_ceil(BLOCK_TOKENS);
        let limit = usize::try_from(self.window).unwrap_or(usize::MAX).div_ceil(BLOCK_TOKENS);
        sinks.div_ceil(BLOCK_TOKENS) + kept.min(limit.saturating_add(1))
    }

    /// Whether everything that token `len` sees is still there.
    fn keeps(&self, len: usize) -> bool {
        let seen = (len as i64 + 1).saturating_sub(self.window).max(self.sinks as i64) as usize;
        len <= self.sinks || self.first == 0 || seen >= self.sinks + self.first * BLOCK_TOKENS
    }

    fn truncate(&mut self, len: usize, spare: &mut Vec<KvBlock>) {
        if len >= self.len {
            return;
        }
        let rest = len.saturating_sub(self.sinks).div_ceil(BLOCK_TOKENS);
        while self.first + self.blocks.len() > rest && !self.blocks.is_empty() {
            spare.extend(self.blocks.pop_back());
        }
        if self.blocks.is_empty() {
            self.first = rest;
        }
        let sinks = len.min(self.sinks).div_ceil(BLOCK_TOKENS);
        spare.extend(self.sink_blocks.drain(sinks.min(self.sink_blocks.len())..));
        self.len = len;
    }

    /// Give back the blocks that no token from `self.len` on sees.
    fn drop_unseen(&mut self, spare: &mut Vec<KvBlock>) {
        let seen = (self.len as i64 + 1).saturating_sub(self.window);
        while self.blocks.len() > 1 && ((self.sinks + (self.first + 1) * BLOCK_TOKENS) as i64) <= seen {
            spare.extend(self.blocks.pop_front());
            self.first += 1;
        }
    }

    /// Blocks for `len` tokens.
    fn grow(&mut self, len: usize, new: &mut dyn FnMut() -> KvBlock) {
        while self.sink_blocks.len() * BLOCK_TOKENS < self.sinks.min(len) {
            self.sink_blocks.push(new());
        }
        while self.sinks + (self.first + self.blocks.len()) * BLOCK_TOKENS < len {
            self.blocks.push_back(new());
        }
    }

    /// Store keys and values, `[tokens, row]` each, of the tokens at `positions`, block by block in parallel.
    fn write(
        &mut self,
        compute: &Compute,
        positions: Range<usize>,
        row: usize,
        (keys, values): (&[f32], &[f32]),
    ) {
        // The tokens of `positions` that lie in the block of tokens from `start` to `end`.
        let write = |block: &mut KvBlock, start: usize, end: usize| {
            let (from, to) = (start.max(positions.start), end.min(positions.end));
            if from < to {
                let numbers = (from - positions.start) * row..(to - positions.start) * row;
                block.write(from - start, &keys[numbers.clone()], &values[numbers]);
            }
        };
        let sinks = self.sinks;
        for (index, block) in self.sink_blocks.iter_mut().enumerate() {
            write(block, index * BLOCK_TOKENS, sinks.min((index + 1) * BLOCK_TOKENS));
        }
        let touched = positions.start.saturating_sub(sinks) / BLOCK_TOKENS - self.first;
        if touched < self.blocks.len() {
            let start = sinks + (self.first + touched) * BLOCK_TOKENS;
            let blocks = &mut self.blocks.make_contiguous()[touched..];
            compute.pool().chunks_mut(blocks, 1, &|index, block| {
                let start = start + index * BLOCK_TOKENS;
                write(&mut block[0], start, start + BLOCK_TOKENS);
            });
        }
    }

    /// What the queries from position `start` on see, in the order of the sequence. Attention sums in segments of
    /// [`SEGMENT`] views counted from the first, so empty views keep every block at its place within a segment,
    /// however many before it were dropped.
    fn views(&self, start: usize) -> impl Iterator<Item = KvView<'_>> {
        let offset = move |token: usize| token as i64 - start as i64;
        let sinks = self.sink_blocks.iter().enumerate().map(move |(i, block)| {
            let first = i * BLOCK_TOKENS;
            let len = (self.sinks.min(self.len) - first).min(BLOCK_TOKENS);
            KvView { block, len, offset: offset(first), window: i64::MAX }
        });
        let rest = self.blocks.iter().enumerate().map(move |(i, block)| {
            let first = self.sinks + (self.first + i) * BLOCK_TOKENS;
            KvView {
                block,
                len: (self.len - first).min(BLOCK_TOKENS),
                offset: offset(first),
                window: self.window,
            }
        });
        let missing = self.sink_blocks.len().next_multiple_of(SEGMENT) - self.sink_blocks.len();
        let empty = self.blocks.front().map(|block| KvView { block, len: 0, offset: 0, window: 0 });
        let padding =
            empty.into_iter().flat_map(move |view| std::iter::repeat_n(view, missing + self.first % SEGMENT));
        sinks.chain(padding).chain(rest)
    }
}

/// Rows of heads, with a bias added if there is one, rotated, and multiplied with factors if there are any; `row` numbers
/// for each token. Copying and rotating at once reads them from memory once.
fn rotated(
    compute: &Compute,
    head_dim: usize,
    (from, bias): (&[f32], Option<&[f32]>),
    (cos, sin, factors): (&[f32], &[f32], Option<&[f32]>),
    to: &mut Vec<f32>,
    row: usize,
) {
    /// Tokens in a task.
    const TOKENS: usize = 32;
    resize(to, from.len());
    let half = cos.len() * row / from.len().max(1);
    compute.pool().chunks_mut(to, TOKENS * row, &|piece, to| {
        let first = piece * TOKENS;
        to.copy_from_slice(&from[first * row..][..to.len()]);
        for (token, row) in (first..).zip(to.chunks_exact_mut(row)) {
            if let Some(bias) = bias {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
            let angles = token * half..(token + 1) * half;
            compute.kernels().rope(row, head_dim, &cos[angles.clone()], &sin[angles]);
            if let Some(factors) = factors {
                row.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
            }
        }
    });
}

/// An empty list of another lifetime in the same allocation (collecting in place keeps it).
fn recycle<'a>(views: Vec<KvView<'_>>) -> Vec<KvView<'a>> {
    let mut views = views;
    views.clear();
    views.into_iter().map(|_| -> KvView<'a> { unreachable!("the list is empty") }).collect()
}

impl Attention for Dense {
    type Error = Infallible;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        let (heads, kv_heads, dim) = (self.heads, self.kv_heads, self.head_dim);
        let (layer, row) = (&mut self.layers[layer], kv_heads * dim);
        assert_eq!(positions.start, layer.len, "tokens come one after another");
        assert_eq!(qkv.keys.len(), positions.len() * row, "keys for every position");

        let (cos, sin) = self.rotation.at(positions.start as i64..positions.end as i64);
        let tokens = positions.len().max(1);
        // Without tokens there are no angles to count.
        let bias = qkv.key_bias.filter(|_| self.format == KvFormat::Int8 && !positions.is_empty());
        let balance = bias.and_then(|bias| {
            let new = || Balance::new(bias, heads, kv_heads, cos.len() / tokens);
            layer.balance.get_or_init(new).as_ref()
        });
        let rotate = |from: &[f32], bias: Option<&[f32]>, factors: Option<&[f32]>, to: &mut Vec<f32>| {
            rotated(&self.compute, dim, (from, bias), (cos, sin, factors), to, from.len() / tokens);
        };
        let [of_queries, of_keys] = match balance {
            Some(Balance { queries, keys, .. }) => [Some(&**queries), Some(&**keys)],
            None => [None, None],
        };
        rotate(qkv.queries, None, of_queries, &mut self.queries);
        rotate(qkv.keys, qkv.key_bias, of_keys, &mut self.keys);

        let format = balance.map_or(self.format, |balance| balance.format);
        let spare = &mut self.spare;
        layer.grow(positions.end, &mut || match spare.iter().rposition(|block| block.format() == format) {
            Some(found) => spare.swap_remove(found),
            None => KvBlock::new(format, kv_heads, dim),
        });
        layer.write(&self.compute, positions.clone(), row, (&self.keys, qkv.values));
        layer.len = positions.end;

        let mut views = recycle(std::mem::take(&mut self.views));
        views.extend(layer.views(positions.start));
        let scale = 1.0 / (dim as f32).sqrt();
        self.compute.attend(&Attend { queries: &self.queries, heads, views: &views, scale }, out, None);
        self.views = recycle(views);
        layer.drop_unseen(&mut self.spare);
        Ok(())
    }
}
