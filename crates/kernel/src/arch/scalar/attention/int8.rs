//! Attention to keys and values of 8 bits ([`crate::KvFormat::Int8`]) in portable Rust: the meaning.
//!
//! ```text
//! for a few rows × one line of sixteen lanes:
//!     for each step: sum[row][lane] += left[row, step] · right[step][lane]           pairs, 16 by 8 bits, exact in 32
//! ```
//!
//! A step's products are below 2^23, 16 steps of keys' are below 2^27, and the 64 of a block's values below 2^29.
use super::{STRIP, greater, halves, mask, rows};
use crate::arch::scalar::exp::exp2;
use crate::attention::{Mix, Scores, Weights};
use crate::kv::int8::{GROUP, HALF, QUERY_PASS, scale, scale_words};
use crate::lines::LINE;
use crate::{BLOCK_TOKENS, KvFormat};

/// Rows whose sums stay in registers.
const ROWS: usize = 4;

/// The greatest integer of a row's weights.
pub(crate) const GREATEST: f32 = 32_767.0;

/// Sixteen scales.
#[inline(always)]
pub(crate) fn scales(words: &[u32]) -> [f32; LINE] {
    std::array::from_fn(|lane| scale(words, lane))
}

/// `sums[r][lane] = Σ_step left[r · ROW + step · STEP] · right[step · stride ..][lane]`.
#[inline(always)]
fn product<const R: usize, const STEP: usize, const ROW: usize>(
    left: &[u32],
    right: &[u32],
    stride: usize,
    steps: usize,
) -> [[i32; LINE]; R] {
    let mut sums = [[0; LINE]; R];
    let left = &left[..=(R - 1) * ROW + (steps - 1) * STEP];
    for (step, right) in right.chunks(stride).take(steps).enumerate() {
        let Some(line) = right.first_chunk::<HALF>() else { break };
        let (mut first, mut second) = ([0; LINE], [0; LINE]);
        for lane in 0..LINE {
            let pair = line[lane / 2] >> (16 * (lane % 2));
            (first[lane], second[lane]) = (i32::from(pair as i8), i32::from((pair >> 8) as i8));
        }
        for r in 0..R {
            let word = left[r * ROW + step * STEP];
            let (a, b) = (i32::from(word as i16), i32::from((word >> 16) as i16));
            for lane in 0..LINE {
                sums[r][lane] += a * first[lane] + b * second[lane];
            }
        }
    }
    sums
}

/// `sums[r][lane] += Σ_step left[step · STRIP + r] · right[step][lane]`, four bytes each: of the left side signed, of the
/// right side not.
#[inline(always)]
fn bytes<const R: usize>(sums: &mut [[i32; LINE]; R], left: &[u32], right: &[[u32; LINE]]) {
    for (step, line) in right.iter().enumerate() {
        for part in 0..4 {
            let shift = 8 * part;
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = i32::from((left[step * STRIP + r] >> shift) as i8);
                for lane in 0..LINE {
                    sums[lane] += a * (line[lane] >> shift & 0xff) as i32;
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn scores(s: &mut Scores<'_>) {
    let width = s.width;
    let unit = if s.low { 1.0 / 256.0 } else { 1.0 };
    for first in (0..s.rows).step_by(ROWS) {
        for (group, keys) in s.keys.chunks_exact(KvFormat::Int8.group_words(width)).enumerate() {
            let (all_scales, codes) = keys.split_at(scale_words(width));
            let out = &mut s.out[first * BLOCK_TOKENS + group * LINE..];
            rows!(ROWS.min(s.rows - first), [1 2 3 4], {
                let mut all = [[0.0; LINE]; R];
                for (part, codes) in codes.as_chunks::<LINE>().0.chunks(GROUP / 4).enumerate() {
                    let scale = scales(&all_scales[(1 + part) * HALF..]);
                    let high = &s.queries[part * 2 * QUERY_PASS * STRIP + first..];
                    let low = &high[QUERY_PASS * STRIP..];
                    let mut sums: [[i32; LINE]; R] = std::array::from_fn(|r| [high[r] as i32; LINE]);
                    bytes(&mut sums, &high[STRIP..], codes);
                    if s.low {
                        for (r, sums) in sums.iter_mut().enumerate() {
                            *sums = sums.map(|sum| (sum << 8) + low[r] as i32);
                        }
                        bytes(&mut sums, &low[STRIP..], codes);
                    }
                    for (all, sums) in all.iter_mut().zip(&sums) {
                        for lane in 0..LINE {
                            all[lane] += sums[lane] as f32 * scale[lane];
                        }
                    }
                }
                for (r, all) in all.iter().enumerate() {
                    for (out, score) in out[r * BLOCK_TOKENS..][..LINE].iter_mut().zip(all) {
                        *out = score * (s.units[first + r] * unit);
                    }
                }
            });
        }
    }
}

/// A row's weights in one block, relative to the greatest among them, times the values' scales, relative to the greatest
/// of those that it sees: integers whatever the other blocks hold.
#[inline(always)]
pub(super) fn weights(w: &mut Weights<'_>) {
    for (row, &seen) in w.seen.iter().enumerate() {
        let (mut scores, mut scale) =
            ([[0.0; LINE]; BLOCK_TOKENS / LINE], [[0.0; LINE]; BLOCK_TOKENS / LINE]);
        let (mut max, mut greatest) = ([f32::NEG_INFINITY; LINE], [0.0; LINE]);
        let lines = w.scores[row * BLOCK_TOKENS..][..BLOCK_TOKENS].as_chunks::<LINE>().0;
        for group in w.groups.clone() {
            scores[group] = mask(&lines[group], group, seen);
            scale[group] = scales(&w.keys[group * w.group_words..]);
            for lane in 0..LINE {
                max[lane] = greater(max[lane], scores[group][lane]);
                let seen = if scores[group][lane] == f32::NEG_INFINITY { 0.0 } else { scale[group][lane] };
                greatest[lane] = greater(greatest[lane], seen);
            }
        }
        let (max, greatest) = (halves(max, greater), halves(greatest, greater));
        let (old, new) = (w.max[row], greater(w.max[row], max));
        // Nothing seen: any finite number will do, every weight is 0.
        let [origin, all] = [max, new].map(|max| if max == f32::NEG_INFINITY { 0.0 } else { max });
        let [rescale, here] = exp2([old - all, max - all]);
        let inverse = if greatest > 0.0 { GREATEST / greatest } else { 0.0 };
        let mut sum = [0.0; LINE];
        let out = w.out[row * BLOCK_TOKENS..][..BLOCK_TOKENS].as_chunks_mut::<HALF>().0;
        for group in w.groups.clone() {
            let mut lanes = scores[group];
            for lane in 0..LINE {
                lanes[lane] -= origin;
            }
            lanes = exp2(lanes);
            for lane in 0..LINE {
                sum[lane] += lanes[lane];
                // Added to one and a half times 2^23, the nearest integer stands in the lowest bits.
                lanes[lane] = lanes[lane] * (scale[group][lane] * inverse) + 12_582_912.0;
            }
            for (out, [first, second]) in out[group].iter_mut().zip(lanes.as_chunks::<2>().0) {
                *out = first.to_bits() & 0xffff | second.to_bits() << 16;
            }
        }
        w.max[row] = new;
        w.sum[row] = w.sum[row] * rescale + halves(sum, |a, b| a + b) * here;
        w.rescale[row] = rescale;
        w.units[row] = greatest * (1.0 / GREATEST) * here;
    }
}

#[inline(always)]
pub(super) fn mix(m: &mut Mix<'_>) {
    let stride = m.lines * HALF;
    let steps = m.values.len() / stride;
    for first in (0..m.rows).step_by(ROWS) {
        let weights = &m.weights[first * BLOCK_TOKENS..];
        for line in 0..m.lines {
            let values = &m.values[line * HALF..];
            let out = &mut m.out[first * m.width + line * LINE..];
            rows!(ROWS.min(m.rows - first), [1 2 3 4], {
                let sums = product::<R, 1, BLOCK_TOKENS>(weights, values, stride, steps);
                for (r, sums) in sums.iter().enumerate() {
                    let (rescale, unit) = (m.rescale[first + r], m.units[first + r]);
                    for (out, sum) in out[r * m.width..][..LINE].iter_mut().zip(sums) {
                        *out = *out * rescale + *sum as f32 * unit;
                    }
                }
            });
        }
    }
}
