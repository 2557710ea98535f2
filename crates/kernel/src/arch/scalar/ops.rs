//! Element-wise operations, written once for all instruction sets.
//!
//! Each is a loop over [`LANES`] independent lanes without fused multiplications, so that compiling it for wider
//! vectors changes the speed and not one bit of the result. They are bound by memory or by division.
use super::exp::exp2;
use crate::kv::{int8, round_bf16};
use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// Partial sums of a reduction; also what the loops are unrolled to.
const LANES: usize = 16;

/// Σ term(x), lane by lane and then in halves.
#[inline(always)]
fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for i in 0..LANES {
            lanes[i] += term(x[i]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += term(*x);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = 1.0 / (sum(x, |x| x * x) / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

#[inline(always)]
pub(crate) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let scale = 1.0 / (sum(x, |x| (x - mean) * (x - mean)) / count + eps).sqrt();
    for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
        *x = (*x - mean) * scale * weight + bias;
    }
}

#[inline(always)]
pub(crate) fn gelu(x: &mut [f32]) {
    let (whole, last) = x.as_chunks_mut::<LANES>();
    for x in whole {
        *x = gelu_lanes(x);
    }
    let mut rest = [0.0; LANES];
    rest[..last.len()].copy_from_slice(last);
    last.copy_from_slice(&gelu_lanes(&rest)[..last.len()]);
}

/// `x · Φ(x) = max(x, 0) - |x| / 2 · erfc(|x| / √2)`, with `erfc(z) ≈ (a₁t + … + a₅t⁵) · e^-z²`, `t = 1 / (1 + pz)`,
/// which is wrong by at most 1.5e-7 (Abramowitz and Stegun, 1964, 7.1.26).
#[inline(always)]
fn gelu_lanes(x: &[f32; LANES]) -> [f32; LANES] {
    const P: f32 = 0.327_591_1;
    const A: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    // Beyond this nothing is left of the tail, and infinities would make no number of it.
    const MOST: f32 = 16.0;
    let (mut size, mut exponents) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        size[i] = if x[i].abs() > MOST { MOST } else { x[i].abs() };
        exponents[i] = size[i] * size[i] * (-0.5 * LOG2_E);
    }
    let exp = exp2(exponents);
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        let t = 1.0 / (1.0 + P * FRAC_1_SQRT_2 * size[i]);
        let mut erfc = A[0];
        erfc = erfc * t + A[1];
        erfc = erfc * t + A[2];
        erfc = erfc * t + A[3];
        erfc = erfc * t + A[4];
        let tail = 0.5 * size[i] * (erfc * t) * exp[i];
        out[i] = (if x[i] > 0.0 { x[i] } else { 0.0 }) - tail;
    }
    out
}

#[inline(always)]
pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) {
    let (gates, last_gates) = gate.as_chunks_mut::<LANES>();
    let (ups, last_ups) = up.as_chunks::<LANES>();
    for (gate, up) in gates.iter_mut().zip(ups) {
        *gate = swiglu_lanes(gate, up);
    }
    let (mut gate, mut up) = ([0.0; LANES], [0.0; LANES]);
    gate[..last_gates.len()].copy_from_slice(last_gates);
    up[..last_ups.len()].copy_from_slice(last_ups);
    last_gates.copy_from_slice(&swiglu_lanes(&gate, &up)[..last_gates.len()]);
}

#[inline(always)]
fn swiglu_lanes(gate: &[f32; LANES], up: &[f32; LANES]) -> [f32; LANES] {
    let exp = exp2(gate.map(|x| x * -LOG2_E));
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        out[i] = gate[i] / (1.0 + exp[i]) * up[i];
    }
    out
}

#[inline(always)]
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[inline(always)]
pub(crate) fn blend(x: &mut [f32], a: f32, y: &[f32], b: f32) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = *x * a + y * b;
    }
}

/// `ln Σ e^(scale · x)`; `-∞` for no numbers.
#[inline(always)]
pub(crate) fn log_mass(x: &[f32], scale: f32) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let mut most = last;
    for x in whole {
        for i in 0..LANES {
            most[i] = if x[i] > most[i] { x[i] } else { most[i] };
        }
    }
    let max = most.iter().fold(f32::NEG_INFINITY, |max, x| max.max(*x));
    if max == f32::NEG_INFINITY {
        return max;
    }
    let factor = scale * LOG2_E;
    let mut sums = [0.0; LANES];
    for x in whole.iter().chain(std::iter::once(&last)) {
        let mut shifted = [0.0; LANES];
        for i in 0..LANES {
            shifted[i] = (x[i] - max) * factor;
        }
        let exp = exp2(shifted);
        for i in 0..LANES {
            sums[i] += exp[i];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    scale * max + sums[0].ln()
}

#[inline(always)]
pub(crate) fn scale(x: &[f32], factor: f32, out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = x * factor;
    }
}

#[inline(always)]
pub(crate) fn pack_pairs(x: &[f32], factor: f32, words: &mut [u32]) {
    let (pairs, last) = x.as_chunks::<2>();
    for (word, pair) in words.iter_mut().zip(pairs) {
        *word = round_bf16(pair[0] * factor) | round_bf16(pair[1] * factor) << 16;
    }
    if let [last] = last {
        words[pairs.len()] = round_bf16(last * factor);
    }
    words[x.len().div_ceil(2)..].fill(0);
}

#[inline(always)]
pub(crate) fn pack_query(x: &[f32], factor: f32, words: &mut [u32]) -> (f32, bool) {
    let (mut greatest, mut total) = ([0.0_f32; 16], [0.0_f32; 16]);
    for line in x.chunks(16) {
        for (lane, x) in line.iter().enumerate() {
            greatest[lane] = if x.abs() > greatest[lane] { x.abs() } else { greatest[lane] };
            total[lane] += x.abs();
        }
    }
    let greatest = greatest.into_iter().fold(0.0, f32::max);
    let low = int8::needs_low(greatest, total.iter().sum(), x.len());
    // Of what is so small the inverse is no number, and the whole nothing.
    let inverse = if greatest < 1e-30 { 0.0 } else { 127.0 / greatest };
    // Added to one and a half times 2^23, the nearest integer stands in the lowest bits.
    let integer = |x: f32| (x + 12_582_912.0).to_bits() as i32 - 0x4b40_0000;
    for (x, words) in x.chunks(int8::GROUP).zip(words.chunks_exact_mut(2 * int8::QUERY_PASS)) {
        let (mut high, mut rest) = ([0_i32; int8::GROUP], [0_i32; int8::GROUP]);
        for ((x, high), rest) in x.iter().zip(&mut high).zip(&mut rest) {
            *high = integer(x * inverse);
            *rest = if low { integer((x * inverse - *high as f32) * 256.0).min(127) } else { 0 };
        }
        for (bytes, words) in [high, rest].iter().zip(words.chunks_exact_mut(int8::QUERY_PASS)) {
            words[0] = (-128 * bytes.iter().sum::<i32>()) as u32;
            for (word, four) in words[1..].iter_mut().zip(bytes.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(four.map(|byte| byte as u8));
            }
        }
    }
    (greatest * (1.0 / 127.0) * factor, low)
}

/// One token's heads.
#[inline(always)]
pub(crate) fn rope(row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for head in row.chunks_exact_mut(head_dim) {
        let (low, rest) = head.split_at_mut(half);
        for (((low, high), cos), sin) in low.iter_mut().zip(rest).zip(cos).zip(sin) {
            (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
        }
    }
}

/// The operations for one instruction set: the same source, compiled with the set's features, behind its token.
#[cfg(target_arch = "x86_64")]
macro_rules! compile {
    ($token:ty, $features:literal) => {
        compile! { $token, $features,
            blend(x: &mut [f32], a: f32, y: &[f32], b: f32),
            scale(x: &[f32], factor: f32, out: &mut [f32]),
            pack_pairs(x: &[f32], factor: f32, words: &mut [u32]),
            rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]),
            layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32),
            gelu(x: &mut [f32]),
            swiglu(gate: &mut [f32], up: &[f32]),
            add(x: &mut [f32], y: &[f32]),
            log_mass(x: &[f32], scale: f32) -> f32,
            rope(row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]),
        }
    };
    ($token:ty, $features:literal, $($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?,)*) => {$(
        pub(super) fn $name(_: &$token, $($argument: $type),*) $(-> $result)? {
            #[target_feature(enable = $features)]
            fn compiled($($argument: $type),*) $(-> $result)? {
                $crate::arch::scalar::ops::$name($($argument),*)
            }
            // SAFETY: the token proves the features.
            unsafe { compiled($($argument),*) }
        }
    )*};
}
#[cfg(target_arch = "x86_64")]
pub(crate) use compile;
