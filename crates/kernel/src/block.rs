//! What the stored bytes mean.
//!
//! Every quantised format stores unsigned integers `u` and a few scales, at one of two levels:
//! ```text
//! one level,  blocks of 32:   value = d · (u − offset)               or   d · u + m
//! two levels, blocks of 256:  value = (d · scale[g]) · (u − offset)  or   (d · scale[g]) · u − (m · min[g])
//! ```
//! with `g` the number's group of 16 or 32 in the block, `d` and `m` half precision, `scale` and `min` small
//! integers. `split` takes a block apart, `Format` says which of the four it is, and both [`decode`] and the
//! packing of matrices start from there: no other place knows where a bit lies in a file.
use crate::DType;
use half::{bf16, f16};

/// Numbers that share one step of the products: quantised rows are whole numbers of chunks.
pub(crate) const CHUNK: usize = 32;

/// How a quantised format's integers become numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// Bits an integer takes in packed panels: 4, 6 or 8.
    pub(crate) bits: usize,
    /// Bits an integer takes in the file: 2 to 8.
    pub(crate) stored_bits: u32,
    /// Groups in a chunk: 1 (of 32 numbers) or 2 (of 16).
    pub(crate) groups: usize,
    /// Chunks in a block: 1 (one level of scales) or 8 (two levels).
    pub(crate) chunks: usize,
    /// What is subtracted from the integers: 0 or a power of two.
    pub(crate) offset: i32,
    /// Whether groups have a minimum.
    pub(crate) minimum: bool,
}

impl Format {
    /// The format of a quantised type, `None` for floats.
    #[inline]
    pub(crate) const fn of(dtype: DType) -> Option<Self> {
        let (stored_bits, bits, groups, chunks, offset) = match dtype {
            DType::F32 | DType::F16 | DType::BF16 => return None,
            DType::Q4_0 => (4, 4, 1, 1, 8),
            DType::Q4_1 => (4, 4, 1, 1, 0),
            DType::Q5_0 => (5, 6, 1, 1, 16),
            DType::Q5_1 => (5, 6, 1, 1, 0),
            DType::Q8_0 => (8, 8, 1, 1, 128),
            DType::Q2_K => (2, 4, 2, 8, 0),
            DType::Q3_K => (3, 4, 2, 8, 4),
            DType::Q4_K => (4, 4, 1, 8, 0),
            DType::Q5_K => (5, 6, 1, 8, 0),
            DType::Q6_K => (6, 6, 2, 8, 32),
        };
        Some(Self { stored_bits, bits, groups, chunks, offset, minimum: offset == 0 })
    }

    /// Numbers in a group.
    #[inline]
    pub(crate) const fn group_len(self) -> usize {
        CHUNK / self.groups
    }

    /// Whether groups have integer scales of their own under the block's.
    #[inline]
    pub(crate) const fn two_level(self) -> bool {
        self.chunks > 1
    }

    /// Scale and minimum of one group: `value = scale · (u − offset) + minimum`, rounded after every step.
    #[inline(always)]
    pub(crate) fn group(self, d: f32, m: f32, scale: i8, min: i8) -> (f32, f32) {
        if self.two_level() { (d * f32::from(scale), -(m * f32::from(min))) } else { (d, m) }
    }

    /// One number of a group.
    #[inline(always)]
    pub(crate) fn value(self, (scale, minimum): (f32, f32), u: u8) -> f32 {
        let product = scale * (i32::from(u) - self.offset) as f32;
        if self.minimum { product + minimum } else { product }
    }
}

/// One block taken apart.
#[derive(Debug)]
pub(crate) struct Block {
    /// The integers, in order; as many as the format's blocks hold.
    pub(crate) u: [u8; 256],
    /// Bits of the half-precision scale.
    pub(crate) d: u16,
    /// Bits of the half-precision minimum, or of the minima's scale.
    pub(crate) m: u16,
    /// Scales of the groups (two levels only).
    pub(crate) scales: [i8; 16],
    /// Minima of the groups (two levels only).
    pub(crate) mins: [i8; 16],
}

impl Block {
    pub(crate) const fn new() -> Self {
        Self { u: [0; 256], d: 0, m: 0, scales: [0; 16], mins: [0; 16] }
    }
}

/// Read `bytes`, a whole number of blocks, as `values`. This function *defines* the formats.
pub fn decode(dtype: DType, bytes: &[u8], values: &mut [f32]) {
    assert_eq!(Some(bytes.len()), dtype.row_bytes(values.len()), "{}: bytes of the row", dtype.name());
    let Some(format) = Format::of(dtype) else {
        decode_floats(dtype, bytes, values);
        return;
    };
    let mut block = Block::new();
    for (bytes, values) in
        bytes.chunks_exact(dtype.block_bytes()).zip(values.chunks_exact_mut(dtype.block_len()))
    {
        split(dtype, bytes, &mut block);
        let (d, m) = (f16::from_bits(block.d).to_f32(), f16::from_bits(block.m).to_f32());
        let len = format.group_len();
        for (g, (values, u)) in values.chunks_exact_mut(len).zip(block.u.chunks_exact(len)).enumerate() {
            let group = format.group(d, m, block.scales[g], block.mins[g]);
            for (value, &u) in values.iter_mut().zip(u) {
                *value = format.value(group, u);
            }
        }
    }
}

/// The unquantised types.
pub(crate) fn decode_floats(dtype: DType, bytes: &[u8], values: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (v, b) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *v = f32::from_le_bytes(*b);
            }
        }
        DType::F16 => {
            for (v, b) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *v = f16::from_le_bytes(*b).to_f32();
            }
        }
        DType::BF16 => {
            for (v, b) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *v = bf16::from_le_bytes(*b).to_f32();
            }
        }
        _ => unreachable!("{} is quantised", dtype.name()),
    }
}

/// Take one block of a quantised type apart.
#[inline]
pub(crate) fn split(dtype: DType, bytes: &[u8], block: &mut Block) {
    match dtype {
        DType::Q4_0 => {
            block.d = half_at(bytes, 0);
            nibbles(&bytes[2..18], &mut block.u[..32]);
        }
        DType::Q4_1 => {
            (block.d, block.m) = (half_at(bytes, 0), half_at(bytes, 2));
            nibbles(&bytes[4..20], &mut block.u[..32]);
        }
        DType::Q5_0 => {
            block.d = half_at(bytes, 0);
            nibbles(&bytes[6..22], &mut block.u[..32]);
            fifth_bits(&bytes[2..6], &mut block.u[..32]);
        }
        DType::Q5_1 => {
            (block.d, block.m) = (half_at(bytes, 0), half_at(bytes, 2));
            nibbles(&bytes[8..24], &mut block.u[..32]);
            fifth_bits(&bytes[4..8], &mut block.u[..32]);
        }
        DType::Q8_0 => {
            block.d = half_at(bytes, 0);
            for (u, q) in block.u[..32].iter_mut().zip(&bytes[2..34]) {
                *u = q ^ 0x80; // the signed byte plus 128
            }
        }
        DType::Q2_K => {
            (block.d, block.m) = (half_at(bytes, 80), half_at(bytes, 82));
            for g in 0..16 {
                (block.scales[g], block.mins[g]) = ((bytes[g] & 15) as i8, (bytes[g] >> 4) as i8);
            }
            crumbs(&bytes[16..80], &mut block.u);
        }
        DType::Q3_K => {
            block.d = half_at(bytes, 108);
            let packed = &bytes[96..108];
            for g in 0..16 {
                let low = packed[g % 8] >> (4 * (g / 8)) & 15;
                let high = packed[8 + g % 4] >> (2 * (g / 4)) & 3;
                block.scales[g] = (low | high << 4) as i8 - 32;
            }
            crumbs(&bytes[32..96], &mut block.u);
            for (bit, u) in block.u.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for (u, mask) in u.iter_mut().zip(&bytes[..32]) {
                    *u |= (mask >> bit & 1) << 2;
                }
            }
        }
        DType::Q4_K => {
            (block.d, block.m) = (half_at(bytes, 0), half_at(bytes, 2));
            six_bit_scales(&bytes[4..16], block);
            for (q, u) in bytes[16..144].as_chunks::<32>().0.iter().zip(block.u.as_chunks_mut::<64>().0) {
                nibbles(q, u);
            }
        }
        DType::Q5_K => {
            (block.d, block.m) = (half_at(bytes, 0), half_at(bytes, 2));
            six_bit_scales(&bytes[4..16], block);
            for (q, u) in bytes[48..176].as_chunks::<32>().0.iter().zip(block.u.as_chunks_mut::<64>().0) {
                nibbles(q, u);
            }
            for (bit, u) in block.u.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for (u, mask) in u.iter_mut().zip(&bytes[16..48]) {
                    *u |= (mask >> bit & 1) << 4;
                }
            }
        }
        DType::Q6_K => {
            block.d = half_at(bytes, 208);
            for (scale, byte) in block.scales.iter_mut().zip(&bytes[192..208]) {
                *scale = *byte as i8;
            }
            crumbs(&bytes[128..192], &mut block.u);
            for (q, u) in bytes[..128].as_chunks::<64>().0.iter().zip(block.u.as_chunks_mut::<128>().0) {
                let (low, high) = u.split_at_mut(64);
                for ((q, low), high) in q.iter().zip(low).zip(high) {
                    *low = *low << 4 | q & 15;
                    *high = *high << 4 | q >> 4;
                }
            }
        }
        DType::F32 | DType::F16 | DType::BF16 => unreachable!("{} has no blocks", dtype.name()),
    }
}

#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// First all low halves of the bytes, then all high halves.
#[inline(always)]
fn nibbles(bytes: &[u8], u: &mut [u8]) {
    let (low, high) = u.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// Of each 32 bytes, first all lowest pairs of bits, then the next pairs, to the highest.
#[inline(always)]
fn crumbs(bytes: &[u8], u: &mut [u8; 256]) {
    for (bytes, u) in bytes.as_chunks::<32>().0.iter().zip(u.as_chunks_mut::<128>().0) {
        for (pair, u) in u.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (u, byte) in u.iter_mut().zip(bytes) {
                *u = byte >> (2 * pair) & 3;
            }
        }
    }
}

/// Bit `i` of the little-endian word is bit 4 of integer `i`.
#[inline(always)]
fn fifth_bits(bytes: &[u8], u: &mut [u8]) {
    for (i, u) in u.iter_mut().enumerate() {
        *u |= (bytes[i / 8] >> (i % 8) & 1) << 4;
    }
}

/// Eight 6-bit scales and eight 6-bit minima in twelve bytes: the first four of each lie in the low six bits of
/// bytes 0–3 and 4–7; the others have their low halves in bytes 8–11 and their upper two bits atop the first.
#[inline(always)]
fn six_bit_scales(bytes: &[u8], block: &mut Block) {
    for g in 0..4 {
        let (scale, min, low) = (bytes[g], bytes[g + 4], bytes[g + 8]);
        block.scales[g] = (scale & 63) as i8;
        block.mins[g] = (min & 63) as i8;
        block.scales[g + 4] = (low & 15 | scale >> 2 & 0x30) as i8;
        block.mins[g + 4] = (low >> 4 | min >> 2 & 0x30) as i8;
    }
}

/// Write `values`, a whole number of blocks, as `Q8_0`: 32 signed bytes and one scale, the largest magnitude of the
/// block being 127 steps. The error of each number is at most half a step, and half a unit in the last place of
/// the half-precision scale.
pub fn encode_q8_0(values: &[f32], bytes: &mut [u8]) {
    assert_eq!(Some(bytes.len()), DType::Q8_0.row_bytes(values.len()), "bytes of the row");
    for (values, block) in values.as_chunks::<32>().0.iter().zip(bytes.as_chunks_mut::<34>().0) {
        let max = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
        let d = f16::from_f32(max / 127.0);
        let inverse = if d.to_f32() == 0.0 { 0.0 } else { 1.0 / d.to_f32() };
        block[..2].copy_from_slice(&d.to_le_bytes());
        for (byte, value) in block[2..].iter_mut().zip(values) {
            *byte = (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8;
        }
    }
}
