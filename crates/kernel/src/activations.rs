//! The right-hand side of the products.
//!
//! A row of activations is kept as f32, for floating-point weights, and in fixed point, for quantised ones. With
//! one scale per 32 numbers,
//! ```text
//! Exact:  x ≈ scale · a,   |a| ≤ 32639 = 127·256 + 127,   a = 256 · high + low,   both signed bytes
//! Fast:   x ≈ scale · a,   |a| ≤ 127,   and so in Coarse, where a scale may serve 64 numbers
//! ```
//! so a product of quantised weights is exact integer arithmetic within every group: two byte products (Exact) or
//! one (Fast). Exact rounds an activation by at most max|x| / 65278 over its group: bf16 rounds by up to |x| / 512.
use crate::aligned::Aligned;
use crate::block::{CHUNK, Format};
use crate::pool::Pieces;
use crate::{Kernels, PackedMatrix, room};
use std::ops::Range;

/// How closely a product follows f32 arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Activations keep at least 15 bits: the weights' own quality.
    #[default]
    Exact,
    /// Activations are rounded to 8 bits a group of 32: the quality other CPU engines have, twice as fast.
    Fast,
    /// Activations to 8 bits a group of at most 64 numbers and, if the instruction set gains by it, weights to 8 bits
    /// a row: for reading many tokens for what only has to be found again. A single token gains nothing.
    Coarse,
}

impl Precision {
    /// The largest integer a group's largest activation becomes.
    pub(crate) const fn limit(self) -> f32 {
        match self {
            Self::Exact => 32639.0,
            Self::Fast | Self::Coarse => 127.0,
        }
    }
}

/// What rows are taken in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Intake {
    /// How closely products follow f32 arithmetic.
    pub precision: Precision,
    /// Whether the rows are kept unrounded too: floating-point weights want them so.
    pub unrounded: bool,
}

impl Intake {
    /// For products with these weights and no others.
    pub fn meeting(precision: Precision, weights: &[&PackedMatrix]) -> Self {
        Self { precision, unrounded: weights.iter().any(|weights| Format::of(weights.dtype()).is_none()) }
    }
}

/// For products with any weights.
impl From<Precision> for Intake {
    fn from(precision: Precision) -> Self {
        Self { precision, unrounded: true }
    }
}

/// Numbers that share a scale in the form [`Operand::Spans`].
pub(crate) const SPAN: usize = 64;

/// Tokens of one block of activations: within a block, the tokens' numbers for one chunk of 32 lie together.
pub(crate) const TOKENS: usize = 16;

/// The form in which a kernel set takes fixed-point activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operand {
    /// Not at all: everything is multiplied in f32.
    #[default]
    Float,
    /// Signed bytes: `high[32] low[32]` for Exact, `high[32]` for Fast, each in the order of k.
    Bytes,
    /// 16-bit integers `a[32]` in the order of k.
    Words,
    /// Signed bytes `a[64]` in the order of k, one scale for all of them, for Coarse only. A row is filled up with
    /// zeros to a whole number of spans.
    Spans,
}

impl Operand {
    /// Numbers that share a scale.
    pub(crate) const fn span(self) -> usize {
        if matches!(self, Self::Spans) { SPAN } else { CHUNK }
    }
}

/// What the tokens of a chunk need besides their integers.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(16))]
pub(crate) struct Group {
    /// Of the fixed point.
    pub(crate) scale: f32,
    /// `−Σ a` over the chunk, its first and its second half; of a span, `−128 · Σ a` and nothing else.
    pub(crate) minus_sum: [i32; 3],
}

impl Group {
    /// Of a scale and a chunk's integers.
    #[inline(always)]
    fn of(scale: f32, a: &[i32; CHUNK]) -> Self {
        let sum = |a: &[i32]| a.iter().fold(0_i32, |sum, &a| sum.wrapping_add(a));
        Self::new(scale, sum(&a[..CHUNK / 2]), sum(&a[CHUNK / 2..]))
    }

    /// Of a scale and the sums over the first and the second half.
    #[inline(always)]
    pub(crate) fn new(scale: f32, first: i32, second: i32) -> Self {
        let minus = i32::wrapping_neg;
        Self { scale, minus_sum: [minus(first.wrapping_add(second)), minus(first), minus(second)] }
    }
}

/// Rows of activations `[tokens, cols]`, in the forms the kernels want them. A buffer to be reused: it keeps its
/// allocations.
#[derive(Debug, Default)]
pub struct Activations {
    tokens: usize,
    cols: usize,
    precision: Precision,
    operand: Operand,
    /// Whether `values` are there.
    unrounded: bool,
    values: Vec<f32>,
    integers: Aligned,
    groups: Vec<Group>,
}

/// Fixed-point activations of one block of up to [`TOKENS`] tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// Tokens in the block.
    pub(crate) tokens: usize,
    /// `[cols / span, tokens]` records of [`Activations::record`] bytes.
    pub(crate) integers: &'a [u8],
    /// `[cols / span, tokens]`.
    pub(crate) groups: &'a [Group],
}

impl Activations {
    /// Empty, with nothing allocated.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows.
    #[inline]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Numbers in a row.
    #[inline]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the rows were rounded.
    #[inline]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The rows unrounded, `[tokens, cols]`.
    #[inline]
    pub(crate) fn values(&self) -> &[f32] {
        assert!(self.unrounded, "rows that meet floating-point weights are taken in unrounded too");
        &self.values[..self.tokens * self.cols]
    }

    /// The form of the integers.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX-512 asks"))]
    #[inline]
    pub(crate) fn operand(&self) -> Operand {
        self.operand
    }

    /// Bytes of the integers of one token in one chunk or span.
    #[inline]
    pub(crate) fn record(&self) -> usize {
        match (self.operand, self.precision) {
            (Operand::Float, _) => 0,
            (Operand::Bytes, Precision::Fast | Precision::Coarse) => CHUNK,
            (Operand::Spans, _) => SPAN,
            (Operand::Bytes, Precision::Exact) | (Operand::Words, _) => 2 * CHUNK,
        }
    }

    /// The block whose first token is `block · TOKENS`.
    #[inline]
    pub(crate) fn block(&self, block: usize) -> Block<'_> {
        let chunks = self.cols.div_ceil(self.operand.span());
        let first = block * TOKENS;
        let tokens = TOKENS.min(self.tokens - first);
        let records = first * chunks..(first + tokens) * chunks;
        let bytes = records.start * self.record()..records.end * self.record();
        Block { tokens, integers: &self.integers.as_slice()[bytes], groups: &self.groups[records] }
    }

    /// Make room for `[tokens, cols]`.
    pub(crate) fn reshape(&mut self, intake: Intake, operand: Operand, tokens: usize, cols: usize) {
        let operand = if cols.is_multiple_of(CHUNK) { operand } else { Operand::Float };
        (self.tokens, self.cols, self.precision, self.operand) = (tokens, cols, intake.precision, operand);
        self.unrounded = intake.unrounded || operand == Operand::Float;
        // Growing only: rows of two widths that take turns would fill the difference with zeros each time.
        if self.unrounded && self.values.len() < tokens * cols {
            self.values.resize(tokens * cols, 0.0);
        }
        if operand != Operand::Float {
            let records = tokens * cols.div_ceil(operand.span());
            self.integers.grow(records * self.record());
            if self.groups.len() < records {
                self.groups.resize(records, Group::default());
            }
        }
    }

    /// Blocks of [`TOKENS`] rows.
    #[inline]
    pub(crate) fn blocks(&self) -> usize {
        self.tokens.div_ceil(TOKENS)
    }

    /// The parts that blocks are written through, several at once.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        let (precision, operand, record) = (self.precision, self.operand, self.record());
        Writer {
            tokens: self.tokens,
            cols: self.cols,
            precision,
            operand,
            record,
            unrounded: self.unrounded,
            values: Pieces::new(&mut self.values),
            integers: Pieces::new(self.integers.as_mut_slice()),
            groups: Pieces::new(&mut self.groups),
        }
    }
}

/// Activations while they are taken in.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    tokens: usize,
    cols: usize,
    precision: Precision,
    operand: Operand,
    record: usize,
    unrounded: bool,
    values: Pieces<'a, f32>,
    integers: Pieces<'a, u8>,
    groups: Pieces<'a, Group>,
}

impl Writer<'_> {
    /// The tokens of block `block`.
    fn tokens(&self, block: usize) -> Range<usize> {
        block * TOKENS..self.tokens.min((block + 1) * TOKENS)
    }

    /// Take in the rows of one block from all rows `values`.
    ///
    /// # Safety
    /// No two calls for the same block at once.
    pub(crate) unsafe fn block(&self, kernels: &dyn Kernels, block: usize, values: &[f32]) {
        let tokens = self.tokens(block);
        let values = &values[tokens.start * self.cols..tokens.end * self.cols];
        // SAFETY: all columns of one block; the caller promises that nobody else is at it.
        unsafe { self.columns(kernels, block, 0..self.cols, values) }
    }

    /// Take in the rows of one block as `fill(token, row)` writes them.
    ///
    /// # Safety
    /// No two calls for the same block at once.
    pub(crate) unsafe fn filled(
        &self,
        kernels: &dyn Kernels,
        block: usize,
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        let (tokens, cols) = (self.tokens(block), self.cols);
        room::lend(tokens.len() * cols, |rows| {
            for (token, row) in tokens.zip(rows.chunks_exact_mut(cols)) {
                fill(token, row);
            }
            // SAFETY: as in `block`.
            unsafe { self.columns(kernels, block, 0..cols, rows) }
        });
    }

    /// Take in some columns of one block, `values` being `[tokens, columns]`: whole spans, but for the last of a row.
    ///
    /// # Safety
    /// No two calls for the same block and column at once.
    pub(crate) unsafe fn columns(
        &self,
        kernels: &dyn Kernels,
        block: usize,
        columns: Range<usize>,
        values: &[f32],
    ) {
        let (first, count) = (self.tokens(block).start, self.tokens(block).len());
        assert_eq!(values.len(), count * columns.len(), "rows of a block");
        if self.unrounded {
            for (token, row) in (first..).zip(values.chunks_exact(columns.len())) {
                // SAFETY: the block's own row and columns; the caller promises that nobody else is at them.
                let place = unsafe { self.values.get(token * self.cols + columns.start, row.len()) };
                place.copy_from_slice(row);
            }
        }
        if self.operand == Operand::Float {
            return;
        }
        let span = self.operand.span();
        assert!(columns.start.is_multiple_of(span), "columns from a span's beginning");
        assert!(columns.end.is_multiple_of(span) || columns.end == self.cols, "columns to a span's end");
        let start = first * self.cols.div_ceil(span) + columns.start / span * count;
        let len = columns.len().div_ceil(span) * count;
        // SAFETY: as above; the records of a block stand span by span.
        let (integers, groups) = unsafe {
            (self.integers.get(start * self.record, len * self.record), self.groups.get(start, len))
        };
        kernels.quantise(&mut Quantise {
            tokens: count,
            values,
            precision: self.precision,
            operand: self.operand,
            integers,
            groups,
        });
    }
}

/// One block to be brought to fixed point.
#[derive(Debug)]
pub struct Quantise<'a> {
    tokens: usize,
    values: &'a [f32],
    precision: Precision,
    operand: Operand,
    integers: &'a mut [u8],
    groups: &'a mut [Group],
}

impl Quantise<'_> {
    /// How closely.
    #[inline]
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// In which form.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX-512 asks"))]
    #[inline]
    pub(crate) fn operand(&self) -> Operand {
        self.operand
    }

    /// Fill the block in the form [`Operand::Spans`], by `record` of one token's numbers in one span.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX-512 asks"))]
    #[inline(always)]
    pub(crate) fn spans(&mut self, record: impl Fn(&[f32; SPAN], &mut [u8; SPAN]) -> Group) {
        let (tokens, cols) = (self.tokens, self.values.len() / self.tokens);
        let records = self.integers.as_chunks_mut::<SPAN>().0;
        for (token, row) in self.values.chunks_exact(cols).enumerate() {
            let mut places = records.iter_mut().zip(self.groups.iter_mut()).skip(token).step_by(tokens);
            let (spans, rest) = row.as_chunks::<SPAN>();
            for (x, (bytes, group)) in spans.iter().zip(&mut places) {
                *group = record(x, bytes);
            }
            if let Some((bytes, group)) = places.next() {
                let mut x = [0.0; SPAN];
                x[..rest.len()].copy_from_slice(rest);
                *group = record(&x, bytes);
            }
        }
    }

    /// Fill the block in the form [`Operand::Bytes`]. Written once and compiled for every instruction set.
    #[cfg_attr(target_arch = "x86_64", expect(dead_code, reason = "AVX-512 has its own"))]
    #[inline(always)]
    pub(crate) fn bytes(&mut self) {
        match self.precision() {
            Precision::Exact => self.each::<{ 2 * CHUNK }>(|x, out| {
                let (scale, a) = fixed_point(Precision::Exact.limit(), x);
                let (high, low) = out.split_at_mut(CHUNK);
                for ((a, high), low) in a.iter().zip(high).zip(low) {
                    // The low byte of `a` is `low`; what is left when it counts as signed is `high`.
                    (*high, *low) = ((a.wrapping_add(128) >> 8) as u8, *a as u8);
                }
                Group::of(scale, &a)
            }),
            Precision::Fast | Precision::Coarse => self.each::<CHUNK>(|x, out| {
                let (scale, a) = fixed_point(Precision::Fast.limit(), x);
                for (a, out) in a.iter().zip(out) {
                    *out = *a as u8;
                }
                Group::of(scale, &a)
            }),
        }
    }

    /// Fill the block in the form [`Operand::Words`].
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "the form AVX2 takes"))]
    #[inline(always)]
    pub(crate) fn words(&mut self) {
        let limit = self.precision().limit();
        self.each::<{ 2 * CHUNK }>(|x, out| {
            let (scale, a) = fixed_point(limit, x);
            for (a, out) in a.iter().zip(out.as_chunks_mut::<2>().0) {
                *out = (*a as i16).to_le_bytes();
            }
            Group::of(scale, &a)
        });
    }

    /// Fill the block, records of `RECORD` bytes, by `record` of one token's numbers in one chunk.
    #[inline(always)]
    pub(crate) fn each<const RECORD: usize>(
        &mut self,
        record: impl Fn(&[f32; CHUNK], &mut [u8; RECORD]) -> Group,
    ) {
        let (tokens, cols) = (self.tokens, self.values.len() / self.tokens);
        let records = self.integers.as_chunks_mut::<RECORD>().0;
        for (token, row) in self.values.chunks_exact(cols).enumerate() {
            let places = records.iter_mut().zip(self.groups.iter_mut()).skip(token).step_by(tokens);
            for (x, (bytes, group)) in row.as_chunks::<CHUNK>().0.iter().zip(places) {
                *group = record(x, bytes);
            }
        }
    }
}

/// `scale` and `a` with `x ≈ scale · a` and `|a| ≤ limit`.
#[inline(always)]
fn fixed_point(limit: f32, x: &[f32; CHUNK]) -> (f32, [i32; CHUNK]) {
    // Magnitudes order like their bits, and integers have a vector maximum that f32's rules on NaN would cost.
    let max = f32::from_bits(x.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff)));
    // Below this the reciprocal would overflow. A NaN or an infinity reaches the products through the scale.
    let inverse = if max < 1e-30 { 0.0 } else { limit / max };
    // Adding 1.5 · 2²³ leaves the number, rounded half to even, in the low bits of the sum.
    let mut a = [0; CHUNK];
    for (a, x) in a.iter_mut().zip(x) {
        *a = ((x * inverse + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4b40_0000);
    }
    (max * (1.0 / limit), a)
}
