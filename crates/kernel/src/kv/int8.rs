//! Keys and values in 8 bits: how one head of a block lies, and how numbers become codes.
//!
//! ```text
//! keys    [tokens / 16]:  value scales [16 tokens], key scales [width / 32][16 tokens], up to the end of a line,
//!                         codes [width / 4][16 tokens][4 along the head], 128 more each
//! values  [width / 64][tokens / 2][≤ 4][16 numbers][2 tokens]                                              codes
//! ```
//!
//! Sixteen scales are bf16, two to a word. All of them lie where the keys are read, in order, so that nothing has to be
//! fetched from a place of its own.
//!
//! A number is `scale · code` with a code from -127 to 127. A key has a scale for every 32 numbers; a value has one for
//! all of a head, so that it can be multiplied into the token's weight and the sum over tokens is one of integers.
//!
//! The other side of the products (`Kernels::pack_query`, `Kernels::weights`):
//!
//! ```text
//! queries  [width / 32]: high bytes: -128 · their sum, [8 steps][4]; low bytes alike        a step: 4 along the head
//! weights  [tokens / 2][2]                                                                    integers of 16 bits
//! ```
//!
//! A query's integer is `256 · high + low`, both signed. Most have high bytes alone; those with few great numbers beside
//! many small ones have both. Keys' codes are kept without a sign since products of bytes want one side so
//! (`vpdpbusd`); the sums begin with what makes up for it.
use super::{BLOCK_TOKENS, CHUNK, half};
use crate::lines::LINE;

/// Numbers of a key that share a scale.
pub(crate) const GROUP: usize = 32;

/// Words of sixteen scales, or of sixteen pairs of a value's codes.
pub(crate) const HALF: usize = LINE / 2;

/// Words of the high bytes of a query's group, and of the low ones.
pub(crate) const QUERY_PASS: usize = 1 + GROUP / 4;

/// Words of a query.
pub(crate) const fn query_words(width: usize) -> usize {
    width.div_ceil(GROUP) * 2 * QUERY_PASS
}

/// Words of all scales of sixteen tokens, values' and keys'.
pub(crate) const fn scale_words(width: usize) -> usize {
    ((1 + width.div_ceil(GROUP)) * HALF).next_multiple_of(LINE)
}

/// Words of sixteen tokens' keys.
const fn group_words(width: usize) -> usize {
    super::KvFormat::Int8.group_words(width)
}

/// Whether a query needs low bytes, from its greatest number, the sum of all `count` and no signs: if it is more than
/// sixteen times what is usual, a byte has no more than three bits and a sign for that.
#[inline(always)]
pub(crate) fn needs_low(greatest: f32, total: f32, count: usize) -> bool {
    greatest * count as f32 > 16.0 * total
}

/// The scale of lane `lane` of sixteen.
#[inline(always)]
pub(crate) fn scale(words: &[u32], lane: usize) -> f32 {
    half(words[lane / 2], lane % 2)
}

/// Store a token's key and value in its head's words.
pub(super) fn write(head: &mut [u32], token: usize, key: &[f32], value: &[f32]) {
    let width = key.len().next_multiple_of(LINE);
    let (keys, values) = head.split_at_mut(BLOCK_TOKENS / LINE * group_words(width));
    let keys = &mut keys[token / LINE * group_words(width)..][..group_words(width)];
    let (lane, shift) = (token % LINE / 2, 16 * (token as u32 % 2));
    let put = |word: &mut u32, half: u32| *word = *word & 0xffff_0000 >> shift | half << shift;

    let (scale, inverse) = range(value);
    put(&mut keys[lane], scale);
    let (shift, others) = (8 * (token as u32 % 2), 0xff00_ff00 >> (8 * (token as u32 % 2)));
    for (index, chunk) in value.chunks(CHUNK).enumerate() {
        let row = CHUNK.min(width - index * CHUNK) / 2;
        let words = &mut values[index * CHUNK / 2 * BLOCK_TOKENS / 2 + token / 2 * row..][..row];
        let (pairs, last) = chunk.as_chunks::<2>();
        for (word, pair) in words.iter_mut().zip(pairs) {
            *word = *word & others | (code(pair[0], inverse) | code(pair[1], inverse) << 16) << shift;
        }
        if let [last] = last {
            words[pairs.len()] = words[pairs.len()] & others | code(*last, inverse) << shift;
        }
    }
    let (scales, codes) = keys.split_at_mut(scale_words(width));
    let mut codes = codes[token % LINE..].iter_mut().step_by(LINE);
    for (numbers, scales) in key.chunks(GROUP).zip(scales[HALF..].chunks_mut(HALF)) {
        let (scale, inverse) = range(numbers);
        put(&mut scales[lane], scale);
        for (four, word) in numbers.chunks(4).zip(&mut codes) {
            *word = four.iter().rev().fold(0, |word, number| word << 8 | code(*number, inverse) ^ 0x80);
        }
    }
}

/// The scale for numbers, as bf16, and codes to a unit. It is rounded up, so that codes still cover everything.
#[inline(always)]
fn range(numbers: &[f32]) -> (u32, f32) {
    let mut greatest = [0.0_f32; 8];
    let (eights, rest) = numbers.as_chunks::<8>();
    for eight in eights {
        for lane in 0..8 {
            greatest[lane] =
                if eight[lane].abs() > greatest[lane] { eight[lane].abs() } else { greatest[lane] };
        }
    }
    let greatest = rest.iter().map(|number| number.abs()).chain(greatest).fold(0.0, f32::max);
    // Numbers so small are nothing beside any others, and their inverse is no number.
    if greatest < 1e-30 {
        return (0, 0.0);
    }
    let scale = (greatest * (1.0 / 127.0)).to_bits().wrapping_add(0xffff) >> 16;
    (scale, 1.0 / f32::from_bits(scale << 16))
}

/// The nearest code, ties to even, as a byte. Added to one and a half times 2^23, a small number's nearest integer stands
/// in the lowest bits: a vector's worth at a time on any machine.
#[inline(always)]
fn code(number: f32, inverse: f32) -> u32 {
    (number * inverse + 12_582_912.0).to_bits() & 0xff
}

/// The signed byte `byte` of a word.
fn byte(word: u32, byte: usize) -> f32 {
    f32::from((word >> (8 * byte)) as u8 as i8)
}

/// Number `index` of a stored key.
pub(super) fn key(keys: &[u32], width: usize, token: usize, index: usize) -> f32 {
    let (scales, codes) = keys[token / LINE * group_words(width)..].split_at(scale_words(width));
    let word = codes[index / 4 * LINE + token % LINE] ^ 0x8080_8080;
    byte(word, index % 4) * scale(&scales[(1 + index / GROUP) * HALF..], token % LINE)
}

/// Number `index` of a stored value.
pub(super) fn value(keys: &[u32], values: &[u32], width: usize, token: usize, index: usize) -> f32 {
    let chunk = index / CHUNK * CHUNK;
    let row = CHUNK.min(width - chunk) / 2;
    let word = values[chunk / 2 * BLOCK_TOKENS / 2 + token / 2 * row + index % CHUNK / 2];
    let scales = &keys[token / LINE * group_words(width)..];
    byte(word, 2 * (index % 2) + token % 2) * scale(scales, token % LINE)
}
