//! [`longleaf_model::Attention`] over sinks, far blocks and a local window.
use super::angles::Place;
use super::choice::{Estimates, Unread};
use super::index::{Exact, Index, Tangents};
use super::place::{FAR, Placed, Placer};
use super::runs::Runs;
use super::{Budget, FarBlock, FarBlocks, Positions, RamBlocks, Settings, Statistics, Summarizer};
use crate::Error;
use longleaf_kernel::{Attend, BLOCK_TOKENS, Compute, KvBlock, KvFormat, KvView};
use longleaf_model::{Attention, Config, Qkv};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The latest queries choose for the run that follows them.
const CHOOSERS: usize = 16;
/// Of a question, so many of its last tokens choose.
const QUESTION: usize = 64;

/// One sequence that attends to its own past and to far text read before it.
///
/// Behind the sinks the sequence is cut into runs of [`BLOCK_TOKENS`] tokens. A run's choice of far blocks is made
/// when its first token comes, by that token's queries and those just before it: it depends on nothing later, so any
/// cut of the sequence into calls gives the same bits. What leaves the local window becomes far text itself.
///
/// In layers with a sliding window nothing is chosen: they see the sinks and the local window as far as theirs goes.
#[derive(Debug)]
pub struct Adaptive<F> {
    pub(super) settings: Settings,
    pub(super) runs: Runs,
    /// So many far blocks may be read, unless they keep their place.
    pub(super) room: usize,
    /// Far blocks stand where they stand in the text.
    pub(super) in_place: bool,
    pub(super) placer: Placer,
    summarizer: Summarizer,
    pub(super) index: Box<dyn Index + Send>,
    pub(super) far: F,
    pub(super) own: RamBlocks,
    pub(super) layers: Box<[Layer]>,
    pub(super) statistics: Statistics,
    pub(super) estimates: Estimates,
    /// `[tokens, heads, head_dim]`, rotated.
    queries: Vec<f32>,
    /// `[tokens, kv_heads, head_dim]`, rotated.
    keys: Vec<f32>,
    summary: Vec<f32>,
    /// Only its allocation is kept.
    views: Vec<KvView<'static>>,
}

/// One layer's part of the sequence.
#[derive(Debug)]
pub(super) struct Layer {
    /// Tokens taken in.
    pub(super) len: usize,
    /// How far back the layer itself sees; `i64::MAX` for everything.
    pub(super) sliding: i64,
    /// Keys and values of the sinks, not rotated.
    pub(super) sinks: FarBlock,
    pub(super) sink_block: Option<KvBlock>,
    /// Where they stand.
    pub(super) sink_place: i64,
    /// The local window: block `i` holds own block `first + i`, rotated to its own positions.
    local: VecDeque<KvBlock>,
    first: usize,
    /// The own block that is being filled, and its queries.
    open: FarBlock,
    open_queries: Vec<f32>,
    /// The latest queries, `[< CHOOSERS, heads, head_dim]`, not rotated.
    recent: Vec<f32>,
    /// Far blocks in the order of the text.
    pub(super) chosen: Vec<Placed>,
    /// What the latest choice that looked left unread.
    pub(super) unread: Option<Unread>,
    /// The first own block that the choice left to the local window.
    pub(super) local_from: usize,
    pin: Pin,
}

/// Whether the choice is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pin {
    /// For every run.
    Free,
    /// By the queries of the next call, and then kept.
    Next,
    /// Kept.
    Held,
}

impl<F: FarBlocks> Adaptive<F> {
    /// Nothing read yet but `far`. `length` is how long the sequence itself may become.
    ///
    /// # Panics
    /// If there are more sinks than a block holds, or a window of no blocks.
    pub fn new(
        config: &Config,
        compute: &Arc<Compute>,
        format: KvFormat,
        settings: Settings,
        far: F,
        length: usize,
    ) -> Self {
        let Settings { sinks, window, budget, .. } = settings;
        assert!(sinks <= BLOCK_TOKENS, "{sinks} sinks are more than a block");
        assert!(window > 0, "a window of no blocks");
        let most = (settings.share * config.window as f64) as usize;
        let fits = far.is_empty() && length <= config.window && settings.positions == Positions::Fitting;
        let index: Box<dyn Index + Send> =
            if settings.exact { Box::new(Exact) } else { Box::new(Tangents::default()) };
        let layer = |sliding: &Option<usize>| Layer::new(sliding.map_or(i64::MAX, |window| window as i64));
        Self {
            runs: Runs { sinks, window },
            room: most.saturating_sub(sinks + window * BLOCK_TOKENS) / BLOCK_TOKENS,
            in_place: budget == Budget::Unlimited || fits,
            settings,
            placer: Placer::new(config, Arc::clone(compute), format, length),
            summarizer: Summarizer::new(config, Arc::clone(compute), length),
            index,
            far,
            own: RamBlocks::new(format, config.layers, config.kv_size()),
            layers: config.sliding.iter().map(layer).collect(),
            statistics: Statistics::default(),
            estimates: Estimates::default(),
            queries: Vec::new(),
            keys: Vec::new(),
            summary: Vec::new(),
            views: Vec::new(),
        }
    }

    /// Tokens of the sequence taken in (by the first layer, which is ahead of the others only within a forward
    /// pass).
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Nothing taken in yet?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In every layer, let the queries of the next call choose, and keep what they chose until
    /// [`Adaptive::release`]: a question chooses for its whole answer. Meanwhile the local window grows, so that
    /// nothing of the answer is lost: sinks, chosen blocks and everything since must fit the trained window.
    pub fn pin(&mut self) {
        for layer in &mut self.layers {
            layer.pin = Pin::Next;
        }
    }

    /// From the next run on, every run chooses for itself again.
    pub fn release(&mut self) {
        for layer in &mut self.layers {
            layer.pin = Pin::Free;
        }
    }

    /// Forget the sequence, and what was chosen for it; the far text stays.
    pub fn reset(&mut self) {
        let Self { placer, layers, .. } = self;
        for layer in layers {
            let chosen = layer.chosen.drain(..).map(|placed| placed.kv);
            for block in chosen.chain(layer.local.drain(..)).chain(layer.sink_block.take()) {
                placer.give_back(block);
            }
            *layer = Layer::new(layer.sliding);
        }
        self.own.clear();
        self.statistics = Statistics::default();
    }

    /// What was chosen so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// What the latest choice in a layer left unread, if it looked.
    pub fn unread(&self, layer: usize) -> Option<&Unread> {
        self.layers[layer].unread.as_ref()
    }

    /// The far text read before.
    pub fn far(&self) -> &F {
        &self.far
    }

    /// The far blocks that each layer attends to at present, those of the far text read before first.
    pub fn chosen(&self) -> impl Iterator<Item = Vec<usize>> {
        self.layers.iter().map(|layer| layer.chosen.iter().map(|placed| placed.block).collect())
    }

    /// How many far blocks may be read at once, unless they keep their place.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The tokens that are sinks.
    pub fn sinks(&self) -> usize {
        self.runs.sinks
    }

    /// Take in keys and values: rotated into the local window, and as they are into what will be far.
    fn store(&mut self, layer: usize, positions: Range<usize>, qkv: Qkv<'_>) {
        let Self { runs, placer, summarizer, own, layers, summary, .. } = self;
        let (sinks, state) = (runs.sinks, &mut layers[layer]);
        let (row, query_row) = (placer.kv_heads * placer.head_dim, placer.heads * placer.head_dim);
        placer.rotate(*runs, positions.start, (qkv.keys, qkv.key_bias), row, &mut self.keys);
        let keys = &self.keys;
        let numbers = |tokens: &Range<usize>, row: usize| {
            (tokens.start - positions.start) * row..(tokens.end - positions.start) * row
        };

        let early = positions.start..positions.end.min(sinks);
        if !early.is_empty() {
            let range = numbers(&early, row);
            state.sinks.keys.extend_from_slice(&qkv.keys[range.clone()]);
            state.sinks.values.extend_from_slice(&qkv.values[range.clone()]);
            let block = state.sink_block.get_or_insert_with(|| placer.block());
            block.write(early.start, &keys[range.clone()], &qkv.values[range]);
        }
        state.len = positions.end;
        let late = positions.start.max(sinks)..positions.end;
        if late.is_empty() {
            return;
        }

        let (begin, end) = ((late.start - sinks) / BLOCK_TOKENS, (late.end - sinks).div_ceil(BLOCK_TOKENS));
        while state.first + state.local.len() < end {
            state.local.push_back(placer.block());
        }
        let blocks = &mut state.local.make_contiguous()[begin - state.first..end - state.first];
        placer.compute.pool().chunks_mut(blocks, 1, &|index, block| {
            let start = runs.block_start(begin + index);
            let tokens = start.max(late.start)..(start + BLOCK_TOKENS).min(late.end);
            let range = numbers(&tokens, row);
            block[0].write(tokens.start - start, &keys[range.clone()], &qkv.values[range]);
        });
        for tokens in runs.cut(late) {
            let range = numbers(&tokens, row);
            state.open.keys.extend_from_slice(&qkv.keys[range.clone()]);
            state.open.values.extend_from_slice(&qkv.values[range]);
            state.open_queries.extend_from_slice(&qkv.queries[numbers(&tokens, query_row)]);
            if state.open.keys.len() == BLOCK_TOKENS * row {
                let FarBlock { keys, values } = &mut state.open;
                summary.clear();
                summarizer.summarize(&state.open_queries, keys, qkv.key_bias, summary);
                own.push(layer, keys, values, summary);
                keys.clear();
                values.clear();
                state.open_queries.clear();
            }
        }
    }

    /// Attend to everything that the tokens at `positions`, of one run, see.
    fn read(&mut self, layer: usize, positions: Range<usize>, queries: &[f32], out: &mut [f32]) {
        let (sinks, foreign) = (self.runs.sinks, self.far.len());
        let (state, first) = (&self.layers[layer], positions.start as i64);
        let mut views = recycle(std::mem::take(&mut self.views));
        // In its place, far text read before stands before the sinks too.
        let before = state.chosen.partition_point(|placed| self.in_place && placed.block < foreign);
        let view = |placed: &'_ Placed| {
            let offset = match placed.place {
                Place::From(start) if self.in_place => start - first,
                _ => FAR,
            };
            (offset, placed.tokens)
        };
        let seen = |placed| {
            let (offset, len) = view(placed);
            KvView { block: &placed.kv, len, offset, window: state.sliding }
        };
        views.extend(state.chosen[..before].iter().map(seen));
        views.extend(state.sink_view(sinks, first));
        if positions.start >= sinks {
            views.extend(state.chosen[before..].iter().map(seen));
            views.extend(state.local_views(self.runs, state.local_from, first));
        }
        let attend = Attend { queries, heads: self.placer.heads, views: &views, scale: self.placer.scale };
        self.placer.compute.attend(&attend, out, None);
        self.views = recycle(views);
    }
}

impl Layer {
    fn new(sliding: i64) -> Self {
        Self {
            len: 0,
            sliding,
            sinks: FarBlock::default(),
            sink_block: None,
            sink_place: 0,
            local: VecDeque::new(),
            first: 0,
            open: FarBlock::default(),
            open_queries: Vec::new(),
            recent: Vec::new(),
            chosen: Vec::new(),
            unread: None,
            local_from: 0,
            pin: Pin::Free,
        }
    }

    /// The sinks, as the query at position `first` sees them.
    pub(super) fn sink_view(&self, sinks: usize, first: i64) -> Option<KvView<'_>> {
        let (len, offset) = (sinks.min(self.len), self.sink_place - first);
        Some(KvView { block: self.sink_block.as_ref()?, len, offset, window: self.sliding })
    }

    /// The local window from own block `from` on, as the query at position `first` sees it.
    pub(super) fn local_views(
        &self,
        runs: Runs,
        from: usize,
        first: i64,
    ) -> impl Iterator<Item = KvView<'_>> {
        let blocks = self.local.iter().enumerate().skip(from.saturating_sub(self.first));
        blocks.map_while(move |(index, block)| {
            let start = runs.block_start(self.first + index);
            let len = self.len.checked_sub(start).filter(|len| *len > 0)?.min(BLOCK_TOKENS);
            Some(KvView { block, len, offset: start as i64 - first, window: self.sliding })
        })
    }

    /// Keep the latest queries.
    fn remember(&mut self, queries: &[f32], row: usize) {
        let most = (CHOOSERS - 1) * row;
        let latest = &queries[queries.len().saturating_sub(most)..];
        let over = (self.recent.len() + latest.len()).saturating_sub(most);
        self.recent.drain(..over);
        self.recent.extend_from_slice(latest);
    }
}

/// An empty list of another lifetime in the same allocation (collecting in place keeps it).
fn recycle<'a>(views: Vec<KvView<'_>>) -> Vec<KvView<'a>> {
    let mut views = views;
    views.clear();
    views.into_iter().map(|_| -> KvView<'a> { unreachable!("the list is empty") }).collect()
}

impl<F: FarBlocks> Attention for Adaptive<F> {
    type Error = Error;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        assert_eq!(positions.start, self.layers[layer].len, "tokens come one after another");
        let (runs, row) = (self.runs, self.placer.heads * self.placer.head_dim);
        assert_eq!(qkv.queries.len(), positions.len() * row, "queries for every position");
        self.store(layer, positions.clone(), qkv);
        self.placer.rotate(runs, positions.start, (qkv.queries, None), row, &mut self.queries);
        let queries = std::mem::take(&mut self.queries);

        if self.layers[layer].pin == Pin::Next {
            let choosers = &qkv.queries[positions.len().saturating_sub(QUESTION) * row..];
            self.choose(layer, runs.start(positions.start), choosers, positions.end - 1, qkv.key_bias)?;
            self.layers[layer].pin = Pin::Held;
        }
        for run in runs.cut(positions.clone()) {
            let own = (run.start - positions.start) * row..(run.end - positions.start) * row;
            let begins = run.start == runs.start(run.start);
            if begins && self.layers[layer].pin == Pin::Free {
                let mut choosers = std::mem::take(&mut self.layers[layer].recent);
                choosers.extend_from_slice(&qkv.queries[own.start..own.start + row]);
                self.choose(layer, run.start, &choosers, run.start, qkv.key_bias)?;
                choosers.truncate(choosers.len() - row);
                self.layers[layer].recent = choosers;
            }
            self.read(layer, run, &queries[own.clone()], &mut out[own.clone()]);
            self.layers[layer].remember(&qkv.queries[own], row);
        }
        self.queries = queries;

        // What no later token sees, unless the choice is kept.
        let state = &mut self.layers[layer];
        let from = runs.local(runs.start(positions.end));
        while state.pin == Pin::Free && state.first < from {
            state.local.pop_front().into_iter().for_each(|block| self.placer.give_back(block));
            state.first += 1;
        }
        Ok(())
    }
}
