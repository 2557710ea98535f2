//! Keys and values in few bits: how a block of them lies on disk, and the way back into attention.
//!
//! ```text
//! a block, for each KV head:
//!     keys    scales [dim]  (minima [dim])  codes [dim][128 tokens]                  per channel, over the tokens
//!     values  scales [128][groups]  (minima [128][groups])  codes [128][groups][32]  per token, groups of 32 numbers
//! ```
//! Keys have channels that are large for every token, values have not: a scale each for what is alike costs least
//! (Liu et al., *KIVI*, 2024). 8 bits: `x ≈ scale · code`, codes from -127 to 127. 4 bits: `x ≈ minimum + scale ·
//! code`, codes from 0 to 15, two to a byte: of 32 codes in a row, the first sixteen are the low halves. Scales and
//! minima are bf16, little-endian, rounded so that the codes still cover everything.
//!
//! Keys are stored unrotated and without a bias that the layer adds to all of them: [`Compute::dequantise_kv`] adds
//! and rotates on the way into a [`KvBlock`], so that a block can stand at another position each time.
use crate::kv::{BLOCK_TOKENS, KvBlock};
use crate::lines::LINE;
use crate::{Compute, KvFormat};

/// Values that share a scale.
pub(crate) const GROUP: usize = 32;

/// Bits of a stored number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KvBits {
    /// A byte, around 0.
    Eight,
    /// Half a byte, above a minimum.
    Four,
}

impl KvBits {
    /// 8 or 4.
    pub const fn count(self) -> usize {
        match self {
            Self::Eight => 8,
            Self::Four => 4,
        }
    }

    /// Bytes of the scale, and the minimum if there is one, of numbers coded together.
    const fn range_bytes(self) -> usize {
        match self {
            Self::Eight => 2,
            Self::Four => 4,
        }
    }

    /// Bytes of `numbers` codes.
    pub(crate) const fn code_bytes(self, numbers: usize) -> usize {
        numbers * self.count() / 8
    }
}

/// The form of quantised blocks of one layer: [`BLOCK_TOKENS`] tokens, all KV heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KvQuantisation {
    /// Bits of a key's number.
    pub keys: KvBits,
    /// Bits of a value's number.
    pub values: KvBits,
    /// KV heads.
    pub kv_heads: usize,
    /// Numbers in one head's key or value.
    pub head_dim: usize,
}

impl KvQuantisation {
    /// Bytes of one block, whether or not all its tokens are there.
    pub const fn bytes(&self) -> usize {
        self.kv_heads * self.head_bytes()
    }

    const fn head_bytes(&self) -> usize {
        self.key_bytes() + self.value_bytes()
    }

    /// Bytes of one head's keys.
    const fn key_bytes(&self) -> usize {
        self.head_dim * (self.keys.range_bytes() + self.keys.code_bytes(BLOCK_TOKENS))
    }

    /// Bytes of one head's values.
    const fn value_bytes(&self) -> usize {
        let groups = BLOCK_TOKENS * self.head_dim.div_ceil(GROUP);
        groups * (self.values.range_bytes() + self.values.code_bytes(GROUP))
    }

    /// Numbers in one token's keys.
    const fn row(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// What one head's bytes mean: the definition. `keys` and `values` begin at the head's first number and have
    /// `row` numbers from one of the block's first tokens to the next.
    fn decode_head(&self, bytes: &[u8], row: usize, keys: &mut [f32], values: &mut [f32]) {
        let (dim, groups) = (self.head_dim, self.head_dim.div_ceil(GROUP));
        let (key_bytes, value_bytes) = bytes.split_at(self.key_bytes());
        let (ranges, codes) = Ranges::split(self.keys, key_bytes, dim);
        for (channel, codes) in codes.chunks_exact(self.keys.code_bytes(BLOCK_TOKENS)).enumerate() {
            let (scale, minimum) = ranges.of(channel);
            for (token, number) in keys[channel..].iter_mut().step_by(row).enumerate() {
                *number = code(self.keys, codes, token) * scale + minimum;
            }
        }
        let (ranges, codes) = Ranges::split(self.values, value_bytes, BLOCK_TOKENS * groups);
        let mut codes = codes.chunks_exact(self.values.code_bytes(GROUP)).enumerate();
        for value in values.chunks_mut(row) {
            for (numbers, (group, codes)) in value[..dim].chunks_mut(GROUP).zip(&mut codes) {
                let (scale, minimum) = ranges.of(group);
                for (index, number) in numbers.iter_mut().enumerate() {
                    *number = code(self.values, codes, index) * scale + minimum;
                }
            }
        }
    }

    /// The keys and values of the first tokens of a block, `[tokens, kv_heads, head_dim]` each, as they are stored:
    /// keys unrotated and without bias.
    ///
    /// # Panics
    /// If there are more tokens than a block has, or `bytes` is not one block.
    pub fn decode(&self, bytes: &[u8], keys: &mut [f32], values: &mut [f32]) {
        assert_eq!(bytes.len(), self.bytes(), "bytes of a block");
        let tokens = self.tokens(keys, values);
        assert!(tokens <= BLOCK_TOKENS, "{tokens} tokens of a block");
        if tokens == 0 {
            return;
        }
        for (head, bytes) in bytes.chunks_exact(self.head_bytes()).enumerate() {
            let first = head * self.head_dim;
            self.decode_head(bytes, self.row(), &mut keys[first..], &mut values[first..]);
        }
    }

    fn tokens(&self, keys: &[f32], values: &[f32]) -> usize {
        assert_eq!(keys.len(), values.len(), "as many keys as values");
        assert!(
            keys.len().is_multiple_of(self.row()),
            "{} numbers are no rows of {}",
            keys.len(),
            self.row()
        );
        keys.len() / self.row()
    }
}

/// Code `index` of a run of codes: of 8 bits signed, of 4 from 0 to 15.
fn code(bits: KvBits, codes: &[u8], index: usize) -> f32 {
    match bits {
        KvBits::Eight => f32::from(codes[index] as i8),
        KvBits::Four => {
            let byte = codes[index / GROUP * LINE + index % LINE];
            f32::from(if index % GROUP < LINE { byte & 15 } else { byte >> 4 })
        }
    }
}

/// The upper half of an f32.
#[inline(always)]
pub(crate) fn bf16(bytes: &[u8], index: usize) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]])) << 16)
}

/// Scales and minima.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranges<'a> {
    pub(crate) scales: &'a [u8],
    /// Empty where there are none.
    pub(crate) minima: &'a [u8],
}

impl<'a> Ranges<'a> {
    /// `count` scales, as many minima if these bits have them, and the codes behind.
    pub(crate) fn split(bits: KvBits, bytes: &'a [u8], count: usize) -> (Self, &'a [u8]) {
        let (ranges, codes) = bytes.split_at(count * bits.range_bytes());
        let (scales, minima) = ranges.split_at(2 * count);
        (Self { scales, minima }, codes)
    }

    /// Scale and minimum of a range; the minimum is 0 where there is none.
    fn of(&self, range: usize) -> (f32, f32) {
        let minimum = if self.minima.is_empty() { 0.0 } else { bf16(self.minima, range) };
        (bf16(self.scales, range), minimum)
    }
}

/// The angles by which the tokens of one block are rotated, laid out as blocks of keys are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BlockAngles {
    /// `[angles][128]`.
    cos: Vec<f32>,
    /// `[angles][128]`.
    sin: Vec<f32>,
}

impl BlockAngles {
    /// From cosines and sines as [`Compute::rope`] takes them, `[tokens, angles]` each, of at most a block's tokens.
    ///
    /// # Panics
    /// If these are no rows of `angles` numbers, or more than a block's.
    pub fn new(angles: usize, cos: &[f32], sin: &[f32]) -> Self {
        assert_eq!(cos.len(), sin.len(), "as many sines as cosines");
        assert!(angles > 0 && cos.len().is_multiple_of(angles), "{} are no rows of {angles}", cos.len());
        assert!(cos.len() <= angles * BLOCK_TOKENS, "{} tokens of a block", cos.len() / angles);
        let turned = |rows: &[f32]| {
            let mut turned = vec![0.0; angles * BLOCK_TOKENS];
            for (token, row) in rows.chunks_exact(angles).enumerate() {
                for (angle, number) in row.iter().enumerate() {
                    turned[angle * BLOCK_TOKENS + token] = *number;
                }
            }
            turned
        };
        Self { cos: turned(cos), sin: turned(sin) }
    }
}

/// One block on its way back into attention.
#[derive(Debug, Clone, Copy)]
pub struct Dequantise<'a> {
    /// [`KvQuantisation::bytes`] of them.
    pub bytes: &'a [u8],
    /// `[kv_heads, head_dim]`, added to every key.
    pub key_bias: Option<&'a [f32]>,
    /// By how much each token is rotated afterwards; unrotated if absent.
    pub angles: Option<&'a BlockAngles>,
}

/// One head of one block to be brought into few bits.
#[derive(Debug)]
pub struct QuantiseHead<'a> {
    pub(crate) form: KvQuantisation,
    /// Numbers from one token to the next.
    pub(crate) row: usize,
    /// Tokens that there are.
    pub(crate) tokens: usize,
    /// From the head's first number on, `[tokens][row]` as far as `head_dim` reaches.
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    /// The head's keys in the block.
    pub(crate) key_bytes: &'a mut [u8],
    /// The head's values in the block.
    pub(crate) value_bytes: &'a mut [u8],
}

/// One head of one block to be brought into the form that attention multiplies.
#[derive(Debug)]
pub struct DequantiseHead<'a> {
    pub(crate) form: KvQuantisation,
    pub(crate) format: KvFormat,
    pub(crate) key_ranges: Ranges<'a>,
    /// `[dim][128]`.
    pub(crate) key_codes: &'a [u8],
    pub(crate) value_ranges: Ranges<'a>,
    /// `[128][groups][32]`.
    pub(crate) value_codes: &'a [u8],
    /// `[head_dim]`, or empty.
    pub(crate) key_bias: &'a [f32],
    /// `[angles][128]`, or empty.
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
    /// The head's keys and, behind them, values, as [`KvBlock`] lays them out.
    pub(crate) words: &'a mut [u32],
}

impl Compute {
    /// Bring keys (unrotated, without bias) and values, `[tokens, kv_heads, head_dim]` each, finite, into few bits:
    /// `bytes` receives block after block, the last one perhaps with tokens that are not there.
    ///
    /// # Panics
    /// If `bytes` is not as many blocks as the tokens need.
    pub fn quantise_kv(&self, form: &KvQuantisation, keys: &[f32], values: &[f32], bytes: &mut [u8]) {
        let tokens = form.tokens(keys, values);
        assert_eq!(bytes.len(), tokens.div_ceil(BLOCK_TOKENS) * form.bytes(), "bytes of the blocks");
        let (row, dim) = (form.row(), form.head_dim);
        self.pool().chunks_mut(bytes, form.head_bytes(), &|index, bytes| {
            let (block, head) = (index / form.kv_heads, index % form.kv_heads);
            let first = block * BLOCK_TOKENS;
            let tokens = BLOCK_TOKENS.min(tokens - first);
            let start = first * row + head * dim;
            let numbers = start..start + (tokens - 1) * row + dim;
            let (key_bytes, value_bytes) = bytes.split_at_mut(form.key_bytes());
            self.kernels().quantise_kv(&mut QuantiseHead {
                form: *form,
                row,
                tokens,
                keys: &keys[numbers.clone()],
                values: &values[numbers],
                key_bytes,
                value_bytes,
            });
        });
    }

    /// Bring quantised blocks back, each into the block of the same number: bit for bit what
    /// [`KvQuantisation::decode`], adding the bias, [`Compute::rope`] and [`KvBlock::write`] make of them.
    ///
    /// # Panics
    /// If there are not as many blocks, or one has another shape, or is of [`KvFormat::Int8`]: rounding twice helps nobody.
    pub fn dequantise_kv(&self, form: &KvQuantisation, from: &[Dequantise<'_>], to: &mut [KvBlock]) {
        assert_eq!(from.len(), to.len(), "as many blocks as there are to fill");
        for (from, to) in from.iter().zip(to.iter()) {
            assert_eq!(from.bytes.len(), form.bytes(), "bytes of a block");
            assert_eq!(
                (to.kv_heads(), to.head_dim()),
                (form.kv_heads, form.head_dim),
                "the shape of a block"
            );
            assert!(to.format() != KvFormat::Int8, "a block of 8 bits takes no numbers of few bits");
            assert!(from.key_bias.is_none_or(|bias| bias.len() == form.row()), "a bias for every key");
            let angles = from.angles.map_or(0, |angles| angles.cos.len() / BLOCK_TOKENS);
            assert!(2 * angles <= form.head_dim, "{angles} angles for heads of {}", form.head_dim);
        }
        self.pool().chunks_mut(to, 1, &|index, to| {
            for head in 0..form.kv_heads {
                self.dequantise_head(form, &from[index], head, &mut to[0]);
            }
        });
    }

    fn dequantise_head(&self, form: &KvQuantisation, from: &Dequantise<'_>, head: usize, to: &mut KvBlock) {
        let bytes = &from.bytes[head * form.head_bytes()..][..form.head_bytes()];
        let (key_bytes, value_bytes) = bytes.split_at(form.key_bytes());
        let (key_ranges, key_codes) = Ranges::split(form.keys, key_bytes, form.head_dim);
        let groups = BLOCK_TOKENS * form.head_dim.div_ceil(GROUP);
        let (value_ranges, value_codes) = Ranges::split(form.values, value_bytes, groups);
        self.kernels().dequantise_kv(&mut DequantiseHead {
            form: *form,
            format: to.format(),
            key_ranges,
            key_codes,
            value_ranges,
            value_codes,
            key_bias: from.key_bias.map_or(&[], |bias| &bias[head * form.head_dim..][..form.head_dim]),
            cos: from.angles.map_or(&[], |angles| &angles.cos),
            sin: from.angles.map_or(&[], |angles| &angles.sin),
            words: to.head_mut(head),
        });
    }
}
