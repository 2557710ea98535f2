//! The products and the softmax of attention in portable Rust, for compilers to vectorise.
//!
//! ```text
//! for a few rows × one line of sixteen lanes:
//!     for each step: acc[row][lane] += left[row, step] · right[step][lane]
//! ```
//!
//! `FUSED` asks for fused multiplication, for sets that have it; without it the function is plain arithmetic on
//! any machine.
pub(crate) mod int8;

use super::exp::exp2;
use crate::attention::{Mix, STRIP, Scores, Weights};
use crate::kv::round_bf16;
use crate::lines::LINE;
use crate::{BLOCK_TOKENS, KvFormat};

/// Rows whose sums stay in registers, with sixteen of 256 bits.
const ROWS: usize = 4;

/// A word as `[first, second]` number; F32 has no second.
#[inline(always)]
fn parts(word: u32) -> [f32; 2] {
    [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)]
}

#[inline(always)]
fn multiply<const FUSED: bool>(a: f32, b: f32, sum: f32) -> f32 {
    if FUSED { a.mul_add(b, sum) } else { a * b + sum }
}

/// `sums[r][lane] = Σ_step left[r · row + step · STEP] · right[step · stride + lane]`.
#[inline(always)]
fn product<const FUSED: bool, const BF16: bool, const R: usize, const STEP: usize, const ROW: usize>(
    left: &[u32],
    right: &[u32],
    stride: usize,
    steps: usize,
) -> [[f32; LINE]; R] {
    let mut sums = [[0.0; LINE]; R];
    let left = &left[..=(R - 1) * ROW + (steps - 1) * STEP];
    for (step, right) in right.chunks(stride).take(steps).enumerate() {
        let Some(line) = right.first_chunk::<LINE>() else { break };
        for r in 0..R {
            let word = left[r * ROW + step * STEP];
            if BF16 {
                let [a, b] = parts(word);
                for lane in 0..LINE {
                    let [x, y] = parts(line[lane]);
                    sums[r][lane] = multiply::<FUSED>(b, y, multiply::<FUSED>(a, x, sums[r][lane]));
                }
            } else {
                let a = f32::from_bits(word);
                for lane in 0..LINE {
                    sums[r][lane] = multiply::<FUSED>(a, f32::from_bits(line[lane]), sums[r][lane]);
                }
            }
        }
    }
    sums
}

/// Choose the instance of a product by the format and by the number of rows, rounded up to one that there is.
macro_rules! instance {
    ($format:expr, $rows:expr, [$($count:literal)*], $body:expr) => {
        match ($format, $rows) {
            $((KvFormat::F32, ..=$count) => { const BF16: bool = false; const R: usize = $count; $body })*
            $((KvFormat::Bf16, ..=$count) => { const BF16: bool = true; const R: usize = $count; $body })*
            (format, rows) => unreachable!("{rows} rows in a product of {format:?}"),
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use instance;

/// Choose the instance of a product by the number of rows alone, rounded up to one that there is.
macro_rules! rows {
    ($rows:expr, [$($count:literal)*], $body:expr) => {
        match $rows {
            $(..=$count => { const R: usize = $count; $body })*
            rows => unreachable!("{rows} rows in a product"),
        }
    };
}
pub(crate) use rows;

#[inline(always)]
pub(crate) fn scores<const FUSED: bool>(s: &mut Scores<'_>) {
    if s.format == KvFormat::Int8 {
        return int8::scores(s);
    }
    let steps = s.queries.len() / STRIP;
    for first in (0..s.rows).step_by(ROWS) {
        for (group, keys) in s.keys.chunks_exact(steps * LINE).enumerate() {
            let queries = &s.queries[first..];
            let out = &mut s.out[first * BLOCK_TOKENS + group * LINE..];
            instance!(s.format, ROWS.min(s.rows - first), [1 2 3 4], {
                store(product::<FUSED, BF16, R, STRIP, 1>(queries, keys, LINE, steps), out);
            });
        }
    }
}

#[inline(always)]
fn store<const R: usize>(sums: [[f32; LINE]; R], out: &mut [f32]) {
    for (r, sums) in sums.iter().enumerate() {
        out[r * BLOCK_TOKENS..][..LINE].copy_from_slice(sums);
    }
}

#[inline(always)]
pub(crate) fn mix<const FUSED: bool>(m: &mut Mix<'_>) {
    if m.format == KvFormat::Int8 {
        return int8::mix(m);
    }
    let stride = m.lines * LINE;
    let steps = m.values.len() / stride;
    for first in (0..m.rows).step_by(ROWS) {
        let weights = &m.weights[first * BLOCK_TOKENS..];
        for line in 0..m.lines {
            let values = &m.values[line * LINE..];
            let out = &mut m.out[first * m.width + line * LINE..];
            let (scale, width) = (&m.rescale[first..], m.width);
            instance!(m.format, ROWS.min(m.rows - first), [1 2 3 4], {
                update(product::<FUSED, BF16, R, 1, BLOCK_TOKENS>(weights, values, stride, steps), scale, out, width);
            });
        }
    }
}

#[inline(always)]
fn update<const R: usize>(sums: [[f32; LINE]; R], rescale: &[f32], out: &mut [f32], width: usize) {
    for (r, sums) in sums.iter().enumerate() {
        for (out, sum) in out[r * width..][..LINE].iter_mut().zip(sums) {
            *out = *out * rescale[r] + sum;
        }
    }
}

#[inline(always)]
pub(crate) fn weights(w: &mut Weights<'_>) {
    if w.format == KvFormat::Int8 {
        return int8::weights(w);
    }
    let (first, end) = (w.groups.start * LINE, w.groups.end * LINE);
    for (row, &seen) in w.seen.iter().enumerate() {
        let mut scores = [0.0; BLOCK_TOKENS];
        let mut max = [f32::NEG_INFINITY; LINE];
        let lines = w.scores[row * BLOCK_TOKENS + first..row * BLOCK_TOKENS + end].as_chunks::<LINE>().0;
        for ((group, line), masked) in w.groups.clone().zip(lines).zip(scores.as_chunks_mut::<LINE>().0) {
            *masked = mask(line, group, seen);
            for lane in 0..LINE {
                max[lane] = greater(max[lane], masked[lane]);
            }
        }
        let old = w.max[row];
        let new = greater(old, halves(max, greater));
        // Nothing seen so far: any finite number will do, every weight is 0.
        let origin = if new == f32::NEG_INFINITY { 0.0 } else { new };
        let rescale = exp2([old - origin])[0];
        let mut sum = [0.0; LINE];
        let out = &mut w.out[row * BLOCK_TOKENS..][..BLOCK_TOKENS];
        for (group, line) in w.groups.clone().zip(scores.as_chunks::<LINE>().0) {
            let mut lanes = *line;
            for lane in 0..LINE {
                lanes[lane] -= origin;
            }
            lanes = exp2(lanes);
            match w.format {
                KvFormat::F32 => {
                    for (out, weight) in out[group * LINE..][..LINE].iter_mut().zip(&lanes) {
                        *out = weight.to_bits();
                    }
                }
                KvFormat::Bf16 => {
                    for lane in 0..LINE {
                        lanes[lane] = f32::from_bits(round_bf16(lanes[lane]) << 16);
                    }
                    let out = &mut out[group * LINE / 2..][..LINE / 2];
                    for (out, pair) in out.iter_mut().zip(lanes.as_chunks::<2>().0) {
                        *out = pair[0].to_bits() >> 16 | pair[1].to_bits();
                    }
                }
                KvFormat::Int8 => unreachable!("weighed by itself"),
            }
            for lane in 0..LINE {
                sum[lane] += lanes[lane];
            }
        }
        w.max[row] = new;
        w.sum[row] = w.sum[row] * rescale + halves(sum, |a, b| a + b);
        w.rescale[row] = rescale;
    }
}

/// What a row does not see becomes `-∞`.
#[inline(always)]
fn mask(scores: &[f32; LINE], group: usize, (start, end): (usize, usize)) -> [f32; LINE] {
    // Below the start the difference wraps around to a great number.
    let (before, seen) = ((group * LINE).wrapping_sub(start) as u32, (end - start) as u32);
    let mut masked = *scores;
    for lane in 0..LINE {
        let inside = before.wrapping_add(lane as u32) < seen;
        masked[lane] = if inside { scores[lane] } else { f32::NEG_INFINITY };
    }
    masked
}

/// The greater number, as one instruction.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// All lanes combined, the upper half with the lower, and so on.
#[inline(always)]
fn halves(mut lanes: [f32; LINE], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LINE / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}
