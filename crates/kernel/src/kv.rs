//! Keys and values of a run of tokens, laid out to be attended to.
pub(crate) mod int8;

use crate::lines::{LINE, Lines};

/// Tokens in one block of keys and values.
pub const BLOCK_TOKENS: usize = 128;

/// Numbers of a value whose lines lie together, per token: four lines of sixteen.
pub(crate) const CHUNK: usize = 64;

/// The number format of keys and values that attention multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvFormat {
    /// Full precision, for reference and for tiny models.
    F32,
    /// 8 bits of mantissa: half the memory, and the format fast products take.
    #[default]
    Bf16,
    /// Integers of 8 bits, half the memory again: keys with a scale for every 32 numbers of a head, values with one for
    /// each token and head. Queries are rounded to 8 bits a head, those of uneven numbers to 16, weights to 16 bits a
    /// block; sums of integers are exact.
    Int8,
}

impl KvFormat {
    /// How many numbers of a product's left side share a word of 32 bits: a product takes one word at a time.
    pub(crate) const fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 | Self::Int8 => 2,
        }
    }

    /// Size in memory of a block of so many KV heads of `head_dim` numbers.
    pub const fn block_bytes(self, kv_heads: usize, head_dim: usize) -> usize {
        let width = head_dim.next_multiple_of(LINE);
        let keys = BLOCK_TOKENS / LINE * self.group_words(width);
        4 * kv_heads * (keys + self.value_words(BLOCK_TOKENS, width))
    }

    /// Words of a query of `width` numbers.
    pub(crate) const fn query_words(self, width: usize) -> usize {
        match self {
            Self::F32 | Self::Bf16 => width / self.per_word(),
            Self::Int8 => int8::query_words(width),
        }
    }

    /// Words of what that is multiplied with, sixteen lanes of the right side, keys or values.
    pub(crate) const fn line(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 => LINE,
            Self::Int8 => LINE / 2,
        }
    }

    /// Words of sixteen tokens' keys of one head, `width` numbers each, with the scales that lie among them.
    pub(crate) const fn group_words(self, width: usize) -> usize {
        let numbers = width / self.per_word() * self.line();
        match self {
            Self::F32 | Self::Bf16 => numbers,
            Self::Int8 => numbers + int8::scale_words(width),
        }
    }

    /// Words of the values of so many of a block's tokens, `width` numbers each.
    pub(crate) const fn value_words(self, tokens: usize, width: usize) -> usize {
        tokens / self.per_word() * width / LINE * self.line()
    }
}

/// The nearest bf16 of a finite number, ties to even, as the low 16 bits.
#[inline(always)]
pub(crate) fn round_bf16(number: f32) -> u32 {
    let bits = number.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16
}

/// Keys and values of up to [`BLOCK_TOKENS`] tokens of one layer, for all its KV heads. Keys are rotated already.
///
/// Layout, with a *word* of 32 bits holding one f32 or two bf16 (the lower half first), and `width` the head
/// dimension rounded up to a multiple of 16:
///
/// ```text
/// per head:  keys   [tokens / 16][width / per_word][16 tokens]        a word: neighbours along the head
///            values [width / 64][tokens / per_word][≤ 4][16 numbers]  a word: neighbours along the tokens
/// ```
///
/// so that both products of attention are the same loop: broadcast one word of the left side, multiply with
/// whole lines of the right side, read in order. Words of 8 bits hold four or two pairs, and scales lie before the
/// keys (`kv/int8.rs`).
#[derive(Debug, Clone)]
pub struct KvBlock {
    format: KvFormat,
    kv_heads: usize,
    head_dim: usize,
    lines: Lines,
}

impl KvBlock {
    /// A block of zeros. Any `head_dim` will do; multiples of 16 waste nothing.
    pub fn new(format: KvFormat, kv_heads: usize, head_dim: usize) -> Self {
        assert!(kv_heads > 0 && head_dim > 0, "{kv_heads} heads of {head_dim} numbers");
        let lines = Lines::zeroed(format.block_bytes(kv_heads, head_dim) / 4);
        Self { format, kv_heads, head_dim, lines }
    }

    /// Set everything to 0. A block may also be filled again without: what lies beyond a view's `len` is not seen.
    pub fn clear(&mut self) {
        self.lines.words_mut().fill(0);
    }

    /// The number format.
    pub fn format(&self) -> KvFormat {
        self.format
    }

    /// KV heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Numbers in one head's key or value.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        self.lines.words().len() * 4
    }

    /// Numbers kept of a key or a value.
    pub(crate) fn width(&self) -> usize {
        self.head_dim.next_multiple_of(LINE)
    }

    /// Words of one head's keys.
    fn key_side(&self) -> usize {
        BLOCK_TOKENS / LINE * self.format.group_words(self.width())
    }

    /// Words of one head's keys and values.
    fn head_words(&self) -> usize {
        self.key_side() + self.format.value_words(BLOCK_TOKENS, self.width())
    }

    /// One head's keys, `[tokens / 16][width / per_word][16]`.
    pub(crate) fn keys(&self, head: usize) -> &[u32] {
        &self.lines.words()[head * self.head_words()..][..self.key_side()]
    }

    /// One head's values, `[width / 64]` chunks of `[tokens / per_word][≤ 4][16]`.
    pub(crate) fn values(&self, head: usize) -> &[u32] {
        &self.lines.words()[head * self.head_words()..][self.key_side()..self.head_words()]
    }

    /// One head's keys and, behind them, values, to be written.
    pub(crate) fn head_mut(&mut self, head: usize) -> &mut [u32] {
        let words = self.head_words();
        &mut self.lines.words_mut()[head * words..][..words]
    }

    /// The word of a key, among its head's keys.
    fn key_word(&self, token: usize, index: usize) -> usize {
        let steps = self.width() / self.format.per_word();
        (token / LINE * steps + index / self.format.per_word()) * LINE + token % LINE
    }

    /// The word of a value, among its head's values.
    fn value_word(&self, token: usize, index: usize) -> usize {
        let (chunk, per_word) = (index / CHUNK * CHUNK, self.format.per_word());
        let row = CHUNK.min(self.width() - chunk);
        chunk * BLOCK_TOKENS / per_word + token / per_word * row + index % CHUNK
    }

    /// Store tokens `first..first + n` of the block. `keys` and `values` are `[n, kv_heads, head_dim]`, finite.
    pub fn write(&mut self, first: usize, keys: &[f32], values: &[f32]) {
        let row = self.kv_heads * self.head_dim;
        assert_eq!(keys.len(), values.len(), "as many keys as values");
        assert!(keys.len().is_multiple_of(row), "{} numbers are no rows of {row}", keys.len());
        let tokens = keys.len() / row;
        assert!(first + tokens <= BLOCK_TOKENS, "tokens {first} to {} of a block", first + tokens);
        let (dim, kv_heads) = (self.head_dim, self.kv_heads);
        for (index, (key, value)) in keys.chunks_exact(dim).zip(values.chunks_exact(dim)).enumerate() {
            let (token, head) = (first + index / kv_heads, index % kv_heads);
            match self.format {
                KvFormat::F32 | KvFormat::Bf16 => self.write_words(token, head, key, value),
                KvFormat::Int8 => int8::write(self.head_mut(head), token, key, value),
            }
        }
    }

    /// Store a token's key and value of one head in a format without scales.
    fn write_words(&mut self, token: usize, head: usize, key: &[f32], value: &[f32]) {
        let (format, dim, side) = (self.format, self.head_dim, self.key_side());
        let key_word = self.key_word(token, 0);
        for chunk in (0..dim).step_by(CHUNK) {
            let value = &value[chunk..dim.min(chunk + CHUNK)];
            let at = side + self.value_word(token, chunk);
            let words = &mut self.head_mut(head)[at..][..value.len()];
            if format == KvFormat::F32 {
                for (word, &number) in words.iter_mut().zip(value) {
                    *word = number.to_bits();
                }
            } else {
                let shift = 16 * (token as u32 % 2);
                let others = 0xffff_0000 >> shift;
                for (word, &number) in words.iter_mut().zip(value) {
                    *word = *word & others | round_bf16(number) << shift;
                }
            }
        }
        let words = self.head_mut(head)[key_word..].iter_mut().step_by(LINE);
        if format == KvFormat::F32 {
            words.zip(key).for_each(|(word, number)| *word = number.to_bits());
        } else {
            words.zip(key.chunks(2)).for_each(|(word, pair)| *word = pack_bf16(pair));
        }
    }

    /// The stored key of one token and head, `[head_dim]`, as attention sees it.
    pub fn read_key(&self, token: usize, head: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.head_dim, "numbers in a key");
        let keys = self.keys(head);
        for (index, out) in out.iter_mut().enumerate() {
            *out = match self.format {
                KvFormat::F32 => f32::from_bits(keys[self.key_word(token, index)]),
                KvFormat::Bf16 => half(keys[self.key_word(token, index)], index % 2),
                KvFormat::Int8 => int8::key(keys, self.width(), token, index),
            };
        }
    }

    /// The stored value of one token and head, `[head_dim]`, as attention sees it.
    pub fn read_value(&self, token: usize, head: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.head_dim, "numbers in a value");
        let values = self.values(head);
        for (index, out) in out.iter_mut().enumerate() {
            *out = match self.format {
                KvFormat::F32 => f32::from_bits(values[self.value_word(token, index)]),
                KvFormat::Bf16 => half(values[self.value_word(token, index)], token % 2),
                KvFormat::Int8 => int8::value(self.keys(head), values, self.width(), token, index),
            };
        }
    }
}

/// The lower or the upper bf16 of a word.
#[inline(always)]
pub(crate) fn half(word: u32, part: usize) -> f32 {
    f32::from_bits(word >> (16 * part) << 16)
}

/// One or two numbers as a word of bf16.
pub(crate) fn pack_bf16(pair: &[f32]) -> u32 {
    round_bf16(pair[0]) | pair.get(1).map_or(0, |&second| round_bf16(second) << 16)
}

/// A block as one call to attention sees it.
///
/// Token `j` of the block (`j < len`) lies `i - (offset + j)` tokens before query `i` of the call; it is attended
/// to if that distance is at least 0 and less than `window`. Far blocks have a very negative `offset` and the
/// window `i64::MAX`.
#[derive(Debug, Clone, Copy)]
pub struct KvView<'a> {
    /// The keys and values.
    pub block: &'a KvBlock,
    /// How many of its tokens are filled.
    pub len: usize,
    /// Position of its first token relative to the call's first query.
    pub offset: i64,
    /// How far back it is seen; `i64::MAX` for no limit.
    pub window: i64,
}

impl KvView<'_> {
    /// The tokens of the block that query `query` attends to: always a run.
    pub(crate) fn seen(&self, query: usize) -> (usize, usize) {
        let distance = (query as i64).saturating_sub(self.offset);
        if distance < 0 {
            return (0, 0);
        }
        let end = self.len.min(usize::try_from(distance.saturating_add(1)).unwrap_or(usize::MAX));
        let start = match self.window {
            i64::MAX => 0,
            window => usize::try_from((distance - window.max(0)).saturating_add(1)).unwrap_or(0),
        };
        if start < end { (start, end) } else { (0, 0) }
    }
}

/// One call to attention: every query over the same views, each as far as its mask allows.
///
/// For query `i` and head `h` (KV head `h / (heads / kv_heads)`):
/// `out[i, h] = Σ_j softmax_j(scale · q[i, h]·k[j]) · v[j]`.
///
/// A sum runs over the views in order, in segments of [`SEGMENT`](crate::SEGMENT) views counted from the first:
/// the same views give a query the same bits, whatever other queries share the call.
#[derive(Debug, Clone, Copy)]
pub struct Attend<'a> {
    /// `[tokens, heads, head_dim]`, rotated.
    pub queries: &'a [f32],
    /// Query heads.
    pub heads: usize,
    /// What to attend to, in the order of the sums. All blocks have the same shape and format.
    pub views: &'a [KvView<'a>],
    /// Usually `head_dim^-1/2`.
    pub scale: f32,
}
