//! Attention with vectors of 256 bits.
//!
//! A line of sixteen words is two vectors. bf16 is unpacked to f32 on the way: the first number of a word by a
//! shift, the second by a mask.
//!
//! ```text
//! 4 rows × 1 line: eight sums stay in registers
//! for each step:
//!     x, y = unpack right[step]                                  2 loads, 2 shifts, 2 masks
//!     for each row: a, b = unpack broadcast left[row, step]      1 load, 1 shift, 1 mask
//!                   sums[row] += a · x;  sums[row] += b · y      4 fma
//! ```
//!
//! 16 fma and 18 other operations a step of bf16, 8 and 6 of f32: the aim is 80 % of two fma a cycle.
mod int8;

use super::Avx2;
use crate::arch::scalar;
use crate::arch::scalar::attention::instance;
use crate::arch::scalar::exp::EXP2;
use crate::attention::{Mix, STRIP, Scores, Weights};
use crate::lines::LINE;
use crate::{BLOCK_TOKENS, KvFormat};
use std::arch::x86_64::*;

/// Rows whose sums stay in registers.
const ROWS: usize = 4;

pub(in crate::arch::x86_64) fn scores(_: &Avx2, s: &mut Scores<'_>) {
    let (steps, group_words) = (s.format.query_words(s.width), s.format.group_words(s.width));
    let groups = s.keys.len() / group_words;
    assert!(s.rows <= STRIP && s.queries.len() == steps * STRIP, "a strip of queries");
    assert!(s.out.len() >= (STRIP - 1) * BLOCK_TOKENS + groups * LINE, "room for a strip of scores");
    assert!(s.width.is_multiple_of(LINE), "whole lines");
    // SAFETY: the token proves AVX2 and FMA; the sizes have been checked, for all rows of a strip.
    unsafe {
        match s.format {
            KvFormat::F32 | KvFormat::Bf16 => scores_256(s, steps, groups),
            KvFormat::Int8 => int8::scores(s, group_words),
        }
    }
}

/// # Safety
/// As checked by [`scores`].
#[target_feature(enable = "avx2,fma")]
unsafe fn scores_256(s: &mut Scores<'_>, steps: usize, groups: usize) {
    for first in (0..s.rows).step_by(ROWS) {
        for group in 0..groups {
            let keys = s.keys[group * steps * LINE..].as_ptr();
            let out = s.out[first * BLOCK_TOKENS + group * LINE..].as_mut_ptr();
            let queries = s.queries[first..].as_ptr();
            instance!(s.format, ROWS.min(s.rows - first), [1 2 3 4], {
                // SAFETY: `R` rows from `first` lie in the strips of queries and
                // scores; the group is one of the keys.
                unsafe {
                    let zero = [[_mm256_setzero_ps(); 2]; R];
                    let sums = product::<BF16, R, 1, STRIP>(zero, queries, keys, LINE, steps);
                    store(sums, out, BLOCK_TOKENS);
                }
            });
        }
    }
}

pub(in crate::arch::x86_64) fn mix(_: &Avx2, m: &mut Mix<'_>) {
    let stride = m.lines * LINE;
    let steps = m.values.len() / (m.lines * m.format.line());
    assert!(m.rows <= STRIP && stride <= m.width, "a strip of rows");
    assert!(m.weights.len() >= (STRIP - 1) * BLOCK_TOKENS + steps, "a strip of weights");
    assert!(m.out.len() >= (STRIP - 1) * m.width + stride, "room for a strip of results");
    // SAFETY: the token proves AVX2 and FMA; the sizes have been checked, for all rows of a strip.
    unsafe {
        match m.format {
            KvFormat::F32 | KvFormat::Bf16 => mix_256(m, stride, steps),
            KvFormat::Int8 => int8::mix(m, steps),
        }
    }
}

/// # Safety
/// As checked by [`mix`].
#[target_feature(enable = "avx2,fma")]
unsafe fn mix_256(m: &mut Mix<'_>, stride: usize, steps: usize) {
    for first in (0..m.rows).step_by(ROWS) {
        for line in 0..m.lines {
            let values = m.values[line * LINE..].as_ptr();
            let out = m.out[first * m.width + line * LINE..].as_mut_ptr();
            let weights = m.weights[first * BLOCK_TOKENS..].as_ptr();
            instance!(m.format, ROWS.min(m.rows - first), [1 2 3 4], {
                // SAFETY: `R` rows from `first` lie in the strips of weights and
                // results; the line is one of each step of the values.
                unsafe {
                    let sums = load::<R>(out, m.width, &m.rescale[first..]);
                    let sums = product::<BF16, R, BLOCK_TOKENS, 1>(sums, weights, values, stride, steps);
                    store(sums, out, m.width);
                }
            });
        }
    }
}

pub(super) fn pack_query(_: &Avx2, x: &[f32], factor: f32, words: &mut [u32]) -> (f32, bool) {
    #[target_feature(enable = "avx2")]
    fn compiled_for_this_set(x: &[f32], factor: f32, words: &mut [u32]) -> (f32, bool) {
        scalar::ops::pack_query(x, factor, words)
    }
    // SAFETY: the token proves the instructions.
    unsafe { compiled_for_this_set(x, factor, words) }
}

pub(in crate::arch::x86_64) fn weights(_: &Avx2, w: &mut Weights<'_>) {
    let rows = w.seen.len();
    assert!(rows <= STRIP && w.max.len() == rows && w.sum.len() == rows, "a strip of rows");
    assert!(w.scores.len().min(w.out.len()) >= rows * BLOCK_TOKENS, "a strip of scores");
    assert!(w.groups.end * LINE <= BLOCK_TOKENS, "groups of one block");
    assert!(
        w.format != KvFormat::Int8 || w.groups.end * w.group_words <= w.keys.len(),
        "scales for every group"
    );
    // SAFETY: the token proves AVX2 and FMA; the sizes have been checked.
    unsafe {
        match w.format {
            KvFormat::F32 => weights_256::<false>(w),
            KvFormat::Bf16 => weights_256::<true>(w),
            KvFormat::Int8 => int8::weights(w),
        }
    }
}

/// # Safety
/// As checked by [`weights`].
#[target_feature(enable = "avx2,fma")]
unsafe fn weights_256<const BF16: bool>(w: &mut Weights<'_>) {
    for (row, &seen) in w.seen.iter().enumerate() {
        let scores = w.scores[row * BLOCK_TOKENS..].as_ptr();
        let out = w.out[row * BLOCK_TOKENS..].as_mut_ptr();
        let whole = seen.0 <= w.groups.start * LINE && w.groups.end * LINE <= seen.1;
        let score = |token: usize| {
            // SAFETY: the row's scores of `groups` lie in the strip.
            let scores = unsafe { _mm256_loadu_ps(scores.add(token)) };
            if whole { scores } else { mask(scores, token, seen) }
        };
        let mut max = _mm256_set1_ps(f32::NEG_INFINITY);
        for token in (w.groups.start * LINE..w.groups.end * LINE).step_by(8) {
            max = _mm256_max_ps(max, score(token));
        }
        let old = w.max[row];
        let new = halves(max, |a, b| _mm_max_ps(a, b)).max(old);
        // Nothing seen so far: any finite number will do, every weight is 0.
        let origin = _mm256_set1_ps(if new == f32::NEG_INFINITY { 0.0 } else { new });
        let rescale = _mm256_cvtss_f32(exp2(_mm256_sub_ps(_mm256_set1_ps(old), origin)));
        let mut sum = [_mm256_setzero_ps(); 2];
        for token in (w.groups.start * LINE..w.groups.end * LINE).step_by(LINE) {
            let line = [token, token + 8].map(|token| exp2(_mm256_sub_ps(score(token), origin)));
            // SAFETY: the row's weights of `groups` lie in the strip.
            let line = unsafe {
                if BF16 {
                    let [low, high] = line.map(|weights| round_bf16(weights));
                    // Packing takes four words of each in turn: bring them in order.
                    let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
                    _mm256_storeu_si256(out.add(token / 2).cast(), pairs);
                    [low, high].map(|words| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)))
                } else {
                    _mm256_storeu_ps(out.add(token).cast(), line[0]);
                    _mm256_storeu_ps(out.add(token + 8).cast(), line[1]);
                    line
                }
            };
            sum = [_mm256_add_ps(sum[0], line[0]), _mm256_add_ps(sum[1], line[1])];
        }
        w.max[row] = new;
        w.sum[row] = w.sum[row] * rescale + halves(_mm256_add_ps(sum[0], sum[1]), |a, b| _mm_add_ps(a, b));
        w.rescale[row] = rescale;
    }
}

/// What lies outside `start..end` becomes `-∞`.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(scores: __m256, token: usize, (start, end): (usize, usize)) -> __m256 {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let tokens = _mm256_add_epi32(_mm256_set1_epi32(token as i32), lanes);
    let early = _mm256_cmpgt_epi32(_mm256_set1_epi32(start as i32), tokens);
    let seen = _mm256_andnot_si256(early, _mm256_cmpgt_epi32(_mm256_set1_epi32(end as i32), tokens));
    _mm256_blendv_ps(_mm256_set1_ps(f32::NEG_INFINITY), scores, _mm256_castsi256_ps(seen))
}

/// All lanes combined, the upper half with the lower, and so on.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(lanes: __m256, combine: impl Fn(__m128, __m128) -> __m128) -> f32 {
    let four = combine(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = combine(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(combine(two, _mm_movehdup_ps(two)))
}

/// The nearest bf16 of finite numbers, as the low halves of words.
#[inline]
#[target_feature(enable = "avx2")]
fn round_bf16(numbers: __m256) -> __m256i {
    let bits = _mm256_castps_si256(numbers);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half))
}

/// `2^x` for `x ≤ 0`; 0 below -127, `-∞` included.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn exp2(x: __m256) -> __m256 {
    let x = _mm256_max_ps(x, _mm256_set1_ps(-127.0));
    let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let f = _mm256_sub_ps(x, n);
    let mut p = _mm256_set1_ps(EXP2[0]);
    for coefficient in &EXP2[1..] {
        p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(*coefficient));
    }
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0));
    let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
    _mm256_mul_ps(p, _mm256_castsi256_ps(power))
}

/// `sums[r] + Σ_step left[r · ROW + step · STEP] · right[step · stride ..][..16]`.
///
/// # Safety
/// All of these must lie in the memory behind the pointers.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn product<const BF16: bool, const R: usize, const ROW: usize, const STEP: usize>(
    mut sums: [[__m256; 2]; R],
    mut left: *const u32,
    mut right: *const u32,
    stride: usize,
    steps: usize,
) -> [[__m256; 2]; R] {
    for _ in 0..steps {
        // SAFETY: the caller's promise.
        let line =
            unsafe { [_mm256_loadu_si256(right.cast()), _mm256_loadu_si256(right.add(LINE / 2).cast())] };
        let [low, high] = line.map(|half| unpack::<BF16>(half));
        for r in 0..R {
            // SAFETY: the caller's promise.
            let [a, b] = unpack::<BF16>(_mm256_set1_epi32(unsafe { *left.add(r * ROW) } as i32));
            sums[r] = [_mm256_fmadd_ps(a, low[0], sums[r][0]), _mm256_fmadd_ps(a, high[0], sums[r][1])];
            if BF16 {
                sums[r] = [_mm256_fmadd_ps(b, low[1], sums[r][0]), _mm256_fmadd_ps(b, high[1], sums[r][1])];
            }
        }
        left = left.wrapping_add(STEP);
        right = right.wrapping_add(stride);
    }
    sums
}

/// The first and the second numbers of eight words; f32 has no second.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack<const BF16: bool>(words: __m256i) -> [__m256; 2] {
    if BF16 {
        let second = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32));
        [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(second)]
    } else {
        [_mm256_castsi256_ps(words), _mm256_setzero_ps()]
    }
}

/// `R` lines of sums, `width` apart, each times its scale.
///
/// # Safety
/// They must lie in the memory behind the pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load<const R: usize>(out: *const f32, width: usize, scale: &[f32]) -> [[__m256; 2]; R] {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for r in 0..R {
        for half in 0..2 {
            // SAFETY: the caller's promise.
            let old = unsafe { _mm256_loadu_ps(out.add(r * width + half * LINE / 2)) };
            sums[r][half] = _mm256_mul_ps(old, _mm256_set1_ps(scale[r]));
        }
    }
    sums
}

/// Write `R` lines of sums, `width` apart.
///
/// # Safety
/// They must lie in the memory behind the pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store<const R: usize>(sums: [[__m256; 2]; R], out: *mut f32, width: usize) {
    for r in 0..R {
        for half in 0..2 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(out.add(r * width + half * LINE / 2), sums[r][half]) };
        }
    }
}
