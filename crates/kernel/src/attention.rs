//! Attention over blocks of keys and values, cut into tiles of queries and segments of views.
//!
//! ```text
//! for each tile (a few queries × the query heads of one KV head), for each segment of views:
//!     max = -∞, sum = 0, out = 0
//!     for each block of the segment that a row of the tile sees:
//!         scores  = queries · keysᵀ                       product, 12 rows × 128 tokens at a time
//!         weights = 2^(scores - max'), rescale = 2^(max - max')            max' the new maximum
//!         sum     = sum · rescale + Σ weights             the weights as rounded for the product
//!         out     = out · rescale + weights · values      product
//!                   (Int8: weights times the values' scales, as integers of 16 bits below the greatest of the row
//!                   in this block; so fine that the sum is of the weights themselves)
//! fold the segments in order; out / sum
//! ```
//!
//! This is the online softmax of Milakov and Gimelshein (2018) in the blocking of Dao et al. (2022). Exponents
//! are to base 2: `log2 e` goes into the scale. A row's arithmetic depends on nothing but the row and the views:
//! tiles and threads only choose who computes it, so decode and prefill give the same bits.
use crate::kv::CHUNK;
use crate::lines::{LINE, Lines};
use crate::pool::Pieces;
use crate::{Attend, BLOCK_TOKENS, Kernels, KvBlock, KvFormat, KvView, Pool};
use std::cell::RefCell;
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

/// Views in a segment: each segment has a softmax of its own, and segments are folded in order. Decode gives the
/// segments of one query to several threads.
pub const SEGMENT: usize = 4;

/// Rows in one product: as many as leave the registers of AVX-512 room for two lines of the other side.
pub(crate) const STRIP: usize = 12;

/// Rows of a tile, if a query's heads allow: enough to read every block of keys from far memory rarely, few enough
/// to stay in the second cache.
const TILE_ROWS: usize = 48;

/// The words that the next block has where this product reads: to be fetched from far memory while it runs.
///
/// A block lies in pieces of a few pages, too short for the prefetchers of the machine. The strips of a tile read
/// the same block, so they share the fetching: this one takes pair `strip` of lines or groups of every `strips`.
#[derive(Debug, Clone, Copy)]
pub struct Ahead<'a> {
    /// As long as what is read, or empty.
    pub words: &'a [u32],
    /// The turn of this product.
    pub strip: usize,
    /// How many take turns.
    pub strips: usize,
}

impl<'a> Ahead<'a> {
    fn new(next: &'a [u32], read: Range<usize>, strip: usize, strips: usize) -> Self {
        Self { words: next.get(read).unwrap_or_default(), strip, strips }
    }

    /// Where to fetch while pair `pair` is read from `here`: if it is not our turn, what is near anyway.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "NEON and scalar Rust fetch nothing ahead")
    )]
    #[inline]
    pub(crate) fn pair(&self, pair: usize, offset: usize, here: *const u32) -> *const u32 {
        let ours = pair % self.strips == self.strip && !self.words.is_empty();
        if ours { self.words[offset..].as_ptr() } else { here }
    }
}

/// One product of up to [`STRIP`] rows of queries with groups of sixteen keys.
#[derive(Debug)]
pub struct Scores<'a> {
    /// The format of both sides.
    pub format: KvFormat,
    /// Rows in use.
    pub rows: usize,
    /// `[steps][STRIP]` words, or `[STRIP][steps]` if [`Kernels::query_rows`]; of Int8 as [`Kernels::pack_query`] makes them.
    pub queries: &'a [u32],
    /// `[groups][steps][16]` words, or what [`KvFormat::Int8`] makes of them.
    pub keys: &'a [u32],
    /// What to bring nearer meanwhile.
    pub ahead: Ahead<'a>,
    /// Int8: what one unit of the high bytes of each row's queries stands for.
    pub units: &'a [f32],
    /// Int8: whether any row has low bytes.
    pub low: bool,
    /// Numbers kept of a key.
    pub width: usize,
    /// `[STRIP][BLOCK_TOKENS]`; the first `16 · groups` of each row in use are overwritten.
    pub out: &'a mut [f32],
}

/// The softmax weights of up to [`STRIP`] rows over the groups of sixteen tokens `groups`, an even number from an
/// even start.
#[derive(Debug)]
pub struct Weights<'a> {
    /// The format of the weights.
    pub format: KvFormat,
    /// The groups that some row sees.
    pub groups: Range<usize>,
    /// For each row in use the tokens it sees.
    pub seen: &'a [(usize, usize)],
    /// `[STRIP][BLOCK_TOKENS]`, logarithms to base 2.
    pub scores: &'a [f32],
    /// Int8: the keys of the whole block, among which the values' scales lie.
    pub keys: &'a [u32],
    /// Int8: words of one group's keys.
    pub group_words: usize,
    /// `[STRIP][BLOCK_TOKENS]` words; `groups` are overwritten, with 0 where a row does not see.
    pub out: &'a mut [u32],
    /// The greatest score so far of each row, `-∞` for none; updated.
    pub max: &'a mut [f32],
    /// Σ 2^(score - max) of each row; updated.
    pub sum: &'a mut [f32],
    /// What each row's earlier sums must be multiplied with; overwritten.
    pub rescale: &'a mut [f32; STRIP],
    /// Int8: what one unit of each row's weights stands for; overwritten.
    pub units: &'a mut [f32; STRIP],
}

/// One product of up to [`STRIP`] rows of weights with values, added to what there is.
#[derive(Debug)]
pub struct Mix<'a> {
    /// The format of both sides.
    pub format: KvFormat,
    /// Rows in use.
    pub rows: usize,
    /// `[STRIP][BLOCK_TOKENS]` words, of which the first `steps` of each row count.
    pub weights: &'a [u32],
    /// `[steps][lines][16]` words, or half as many of Int8.
    pub values: &'a [u32],
    /// Lines of a step, at most 4.
    pub lines: usize,
    /// What to bring nearer meanwhile.
    pub ahead: Ahead<'a>,
    /// What is there already is multiplied with this first.
    pub rescale: &'a [f32; STRIP],
    /// Int8: what one unit of each row's weights stands for.
    pub units: &'a [f32; STRIP],
    /// Rows of `width` numbers, of which the first `16 · lines` are updated.
    pub out: &'a mut [f32],
    /// Distance of the rows of `out`.
    pub width: usize,
}

/// A thread's share of the work: some rows and what has been summed up for them. A buffer to be reused.
#[derive(Debug, Default)]
struct Tile {
    rows: usize,
    width: usize,
    /// `[strips]` of [`Scores::queries`].
    queries: Lines,
    /// One row of them, on the way.
    query: Lines,
    /// `[rows]`; Int8: what one unit of a row of them stands for, nothing for other formats.
    units: Vec<f32>,
    /// `[strips]`; Int8: whether any row has low bytes.
    low: Vec<bool>,
    /// `[strips · STRIP]`.
    seen: Vec<(usize, usize)>,
    scores: Lines,
    weights: Lines,
    segment: Sums,
    total: Sums,
}

/// Softmax sums of the rows of a tile.
#[derive(Debug, Default)]
struct Sums {
    width: usize,
    max: Vec<f32>,
    sum: Vec<f32>,
    /// `[rows, width]`.
    out: Lines,
}

thread_local! {
    static TILE: RefCell<Tile> = RefCell::default();
    /// Sums of segments that wait to be folded, of the calls this thread makes.
    static PARTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The sizes of one call.
#[derive(Debug, Clone, Copy)]
struct Shape {
    format: KvFormat,
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    width: usize,
    /// Query heads of one KV head.
    group: usize,
    /// Queries of a tile.
    tile: usize,
}

impl Shape {
    fn new(attend: &Attend<'_>, block: &KvBlock) -> Self {
        let (heads, kv_heads, dim) = (attend.heads, block.kv_heads(), block.head_dim());
        assert!(
            heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} query heads are no multiple of {kv_heads} KV heads"
        );
        assert!(
            attend.queries.len().is_multiple_of(heads * dim),
            "{} numbers are no queries of {heads} heads of {dim}",
            attend.queries.len()
        );
        for view in attend.views {
            let shape = (view.block.format(), view.block.kv_heads(), view.block.head_dim());
            assert_eq!(shape, (block.format(), kv_heads, dim), "blocks of one call have one shape");
            assert!(view.len <= BLOCK_TOKENS, "a view of {} tokens", view.len);
        }
        let group = heads / kv_heads;
        let (format, width, tokens) = (block.format(), block.width(), attend.queries.len() / (heads * dim));
        Self { format, tokens, heads, kv_heads, dim, width, group, tile: (TILE_ROWS / group).max(1) }
    }

    /// The queries of tile `tile`.
    fn tile(&self, tile: usize) -> Range<usize> {
        tile * self.tile..self.tokens.min((tile + 1) * self.tile)
    }
}

/// [`crate::Compute::attend`].
pub(crate) fn attend(
    kernels: &dyn Kernels,
    pool: &Pool,
    attend: &Attend<'_>,
    out: &mut [f32],
    mass: Option<&mut [f32]>,
) {
    assert_eq!(out.len(), attend.queries.len(), "attention's output");
    let Some(first) = attend.views.first() else {
        out.fill(0.0);
        if let Some(mass) = mass {
            mass.fill(f32::NEG_INFINITY);
        }
        return;
    };
    let shape = Shape::new(attend, first.block);
    if let Some(mass) = &mass {
        assert_eq!(mass.len(), shape.tokens * shape.heads, "attention's masses");
    }
    let result = Output { out: Pieces::new(out), mass: mass.map(Pieces::new) };
    let tiles = shape.tokens.div_ceil(shape.tile);
    let segments = attend.views.len().div_ceil(SEGMENT);
    let call = Call { kernels, attend, shape, result };
    if segments == 1 || tiles * shape.kv_heads >= 4 * pool.threads() {
        // The last tiles see the most: they come first.
        pool.run(tiles * shape.kv_heads, &|task| {
            call.whole(segments, shape.tile(tiles - 1 - task / shape.kv_heads), task % shape.kv_heads);
        });
    } else {
        PARTS.with_borrow_mut(|parts| call.in_parts(pool, tiles, segments, parts));
    }
}

struct Output<'a> {
    out: Pieces<'a, f32>,
    mass: Option<Pieces<'a, f32>>,
}

struct Call<'a> {
    kernels: &'a dyn Kernels,
    attend: &'a Attend<'a>,
    shape: Shape,
    result: Output<'a>,
}

impl Call<'_> {
    /// One tile over all views.
    fn whole(&self, segments: usize, tokens: Range<usize>, head: usize) {
        TILE.with_borrow_mut(|tile| {
            tile.load(self, tokens.clone(), head);
            tile.total.reset(tile.rows, tile.width);
            for segment in 0..segments {
                if tile.attend(self, segment..segments, tokens.clone(), head) {
                    for row in 0..tile.rows {
                        tile.total.fold(self.kernels, row, tile.segment.row(row));
                    }
                }
            }
            self.finish(&mut tile.total, tokens, head);
        });
    }

    /// Every segment of every tile by itself, then fold.
    fn in_parts(&self, pool: &Pool, tiles: usize, segments: usize, parts: &mut Vec<f32>) {
        let Shape { tile: most, group, kv_heads, width, .. } = self.shape;
        // Of each part: the maxima, the sums, the outputs.
        let rows = most.min(self.shape.tokens) * group;
        let part = rows * (2 + width);
        let needed = part * tiles * kv_heads * segments;
        if parts.len() < needed {
            parts.resize(needed, 0.0);
        }
        // A task is a run of segments, long so that blocks can be fetched ahead, short so that nobody waits long.
        let run = (tiles * kv_heads * segments / (6 * pool.threads())).clamp(1, segments);
        let runs = segments.div_ceil(run);
        let pieces = Pieces::new(&mut parts[..needed]);
        pool.run(tiles * kv_heads * runs, &|task| {
            let (unit, first) = (task / runs, task % runs * run);
            let (tokens, head) = (self.shape.tile(unit / kv_heads), unit % kv_heads);
            let last = segments.min(first + run);
            TILE.with_borrow_mut(|tile| {
                tile.load(self, tokens.clone(), head);
                for segment in first..last {
                    // SAFETY: a unit's segment belongs to one task.
                    let part = unsafe { pieces.get((unit * segments + segment) * part, part) };
                    let (maxima, rest) = part.split_at_mut(rows);
                    let (sums, outs) = rest.split_at_mut(rows);
                    if tile.attend(self, segment..last, tokens.clone(), head) {
                        maxima[..tile.rows].copy_from_slice(&tile.segment.max[..tile.rows]);
                        sums[..tile.rows].copy_from_slice(&tile.segment.sum[..tile.rows]);
                        let out = &tile.segment.out.numbers()[..tile.rows * width];
                        outs[..out.len()].copy_from_slice(out);
                    } else {
                        sums.fill(0.0);
                    }
                }
            });
        });
        TILE.with_borrow_mut(|tile| {
            for (index, parts) in parts[..needed].chunks_exact(part * segments).enumerate() {
                let (tokens, head) = (self.shape.tile(index / kv_heads), index % kv_heads);
                tile.total.reset(tokens.len() * group, width);
                for part in parts.chunks_exact(part) {
                    for row in 0..tokens.len() * group {
                        let out = &part[2 * rows + row * width..][..width];
                        tile.total.fold(self.kernels, row, (part[row], part[rows + row], out));
                    }
                }
                self.finish(&mut tile.total, tokens, head);
            }
        });
    }

    /// Write a tile's results.
    fn finish(&self, total: &mut Sums, tokens: Range<usize>, head: usize) {
        let Shape { dim, group, heads, .. } = self.shape;
        for (row, (token, member)) in
            tokens.flat_map(|token| (0..group).map(move |member| (token, member))).enumerate()
        {
            let (max, sum, sums) = total.row(row);
            let at = token * heads + head * group + member;
            // SAFETY: a query and head belong to one tile, and a tile is finished once.
            let out = unsafe { self.result.out.get(at * dim, dim) };
            let norm = if sum > 0.0 { 1.0 / sum } else { 0.0 };
            self.kernels.scale(sums, norm, out);
            if let Some(mass) = &self.result.mass {
                // SAFETY: as above.
                let mass = unsafe { mass.get(at, 1) };
                mass[0] = if sum > 0.0 { (max + sum.log2()) * LN_2 } else { f32::NEG_INFINITY };
            }
        }
    }
}

impl Sums {
    fn reset(&mut self, rows: usize, width: usize) {
        self.width = width;
        self.max.clear();
        self.max.resize(rows, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(rows, 0.0);
        self.out.reserve(rows * width);
        self.out.numbers_mut()[..rows * width].fill(0.0);
    }

    fn row(&self, row: usize) -> (f32, f32, &[f32]) {
        (self.max[row], self.sum[row], &self.out.numbers()[row * self.width..][..self.width])
    }

    /// Take in the sums of a later segment. A segment without any weight changes nothing.
    fn fold(&mut self, kernels: &dyn Kernels, row: usize, (max, sum, out): (f32, f32, &[f32])) {
        if sum > 0.0 {
            let both = max.max(self.max[row]);
            let (ours, theirs) = ((self.max[row] - both).exp2(), (max - both).exp2());
            self.max[row] = both;
            self.sum[row] = self.sum[row] * ours + sum * theirs;
            let at = row * self.width;
            kernels.blend(&mut self.out.numbers_mut()[at..at + self.width], ours, out, theirs);
        }
    }
}

impl Tile {
    /// Take in the queries of `tokens` for the query heads of KV head `head`, scaled.
    fn load(&mut self, call: &Call<'_>, tokens: Range<usize>, head: usize) {
        let Shape { format, dim, width, group, heads, .. } = call.shape;
        let (kernels, attend) = (call.kernels, call.attend);
        let steps = format.query_words(width);
        (self.rows, self.width) = (tokens.len() * group, width);
        self.queries.reserve(self.rows.div_ceil(STRIP) * steps * STRIP);
        self.query.reserve(steps);
        self.scores.reserve(STRIP * BLOCK_TOKENS);
        self.weights.reserve(STRIP * BLOCK_TOKENS);
        let (from_row, from_step) = if kernels.query_rows(format) { (steps, 1) } else { (1, STRIP) };
        let scale = attend.scale * LOG2_E;
        self.units.clear();
        self.low.clear();
        self.low.resize(self.rows.div_ceil(STRIP), false);
        let rows =
            tokens.flat_map(|token| (0..group).map(move |member| token * heads + head * group + member));
        for (row, at) in rows.enumerate() {
            let query = &attend.queries[at * dim..][..dim];
            let packed = &mut self.query.words_mut()[..steps];
            match format {
                KvFormat::F32 => {
                    packed.fill(0);
                    for (word, number) in packed.iter_mut().zip(query) {
                        *word = (number * scale).to_bits();
                    }
                }
                KvFormat::Bf16 => kernels.pack_pairs(query, scale, packed),
                KvFormat::Int8 => {
                    let (unit, low) = kernels.pack_query(query, scale, packed);
                    self.units.push(unit);
                    self.low[row / STRIP] |= low;
                }
            }
            let words = &mut self.queries.words_mut()[row / STRIP * steps * STRIP + row % STRIP * from_row..];
            for (step, word) in packed.iter().enumerate() {
                words[step * from_step] = *word;
            }
        }
    }

    /// The sums of the first of `segments`, the others being next; false if no row sees any of it.
    fn attend(&mut self, call: &Call<'_>, segments: Range<usize>, tokens: Range<usize>, head: usize) -> bool {
        let views = call.attend.views;
        let end = views.len().min(segments.end * SEGMENT);
        let mut any = false;
        for index in segments.start * SEGMENT..end.min((segments.start + 1) * SEGMENT) {
            let seen = |view: &KvView<'_>, token| {
                let (start, end) = view.seen(token);
                start < end
            };
            self.seen.clear();
            self.seen.extend(
                tokens
                    .clone()
                    .flat_map(|token| std::iter::repeat_n(views[index].seen(token), call.shape.group)),
            );
            if self.seen.iter().any(|(start, end)| start < end) {
                if !any {
                    self.segment.reset(self.rows.next_multiple_of(STRIP), self.width);
                    any = true;
                }
                let next = views[..end].get(index + 1).filter(|next| seen(next, tokens.end - 1));
                self.block(call.kernels, views[index].block, next.map(|next| next.block), head);
            }
        }
        any
    }

    /// Take in one block.
    fn block(&mut self, kernels: &dyn Kernels, block: &KvBlock, next: Option<&KvBlock>, head: usize) {
        let (format, width) = (block.format(), self.width);
        let (steps, group_words) = (format.query_words(width), format.group_words(width));
        let (keys, values) = (block.keys(head), block.values(head));
        let (next_keys, next_values) =
            next.map_or((&[][..], &[][..]), |next| (next.keys(head), next.values(head)));
        let strips = self.rows.div_ceil(STRIP);
        let (scores, weights) = (self.scores.numbers_mut(), self.weights.words_mut());
        for (strip, first) in (0..self.rows).step_by(STRIP).enumerate() {
            let end = self.rows.min(first + STRIP);
            let (rows, seen) = (end - first, &self.seen[first..end]);
            let Some(groups) = union(seen) else { continue };
            let read = groups.start * group_words..groups.end * group_words;
            kernels.scores(&mut Scores {
                format,
                rows,
                queries: &self.queries.words()[strip * steps * STRIP..][..steps * STRIP],
                keys: &keys[read.clone()],
                ahead: Ahead::new(next_keys, read, strip, strips),
                units: self.units.get(first..end).unwrap_or_default(),
                low: self.low[strip],
                width,
                out: &mut scores[groups.start * LINE..],
            });
            let (mut rescale, mut units) = ([0.0; STRIP], [0.0; STRIP]);
            kernels.weights(&mut Weights {
                format,
                groups: groups.clone(),
                seen,
                scores,
                keys,
                group_words,
                out: weights,
                max: &mut self.segment.max[first..end],
                sum: &mut self.segment.sum[first..end],
                rescale: &mut rescale,
                units: &mut units,
            });
            let tokens = groups.start * LINE..groups.end * LINE;
            for chunk in (0..width).step_by(CHUNK) {
                let row = CHUNK.min(width - chunk);
                let before = format.value_words(BLOCK_TOKENS, chunk);
                let word = |token: usize| before + format.value_words(token, row);
                let read = word(tokens.start)..word(tokens.end);
                kernels.mix(&mut Mix {
                    format,
                    rows,
                    weights: &weights[tokens.start / format.per_word()..],
                    values: &values[read.clone()],
                    lines: row / LINE,
                    ahead: Ahead::new(next_values, read, strip, strips),
                    rescale: &rescale,
                    units: &units,
                    out: &mut self.segment.out.numbers_mut()[first * width + chunk..],
                    width,
                });
            }
        }
    }
}

/// The groups of sixteen tokens that some row sees, in pairs of groups.
fn union(seen: &[(usize, usize)]) -> Option<Range<usize>> {
    let seen = || seen.iter().filter(|(start, end)| start < end);
    let start = seen().map(|(start, _)| *start).min()?;
    let end = seen().map(|(_, end)| *end).max()?;
    Some(start / (2 * LINE) * 2..end.div_ceil(2 * LINE) * 2)
}
