//! Attention with vectors of 512 bits and products of bf16 pairs (AVX-512 BF16).
//!
//! Both products are one loop. A word is one f32 or a pair of bf16; a line is sixteen words:
//!
//! ```text
//! R rows × N lines of sums stay in registers, R · N ≤ 24 of 32
//! for each step:
//!     b[n] = load right[step][n]                                      N loads
//!     for each row: a = broadcast left[row, step]                     R loads of one word
//!                   sums[row][n] += a · b[n]                          R · N products: fma or vdpbf16ps
//! ```
//!
//! Zen 4 and Sapphire Rapids finish one product of 512 bits of bf16 pairs a cycle, so a step of 12 × 2 takes 24
//! cycles and 14 loads: the aim is the full rate. The softmax takes about 15 operations for sixteen scores, next
//! to `head_dim` products: a fifth of the time at 64, a tenth at 128.
//!
//! Without AVX-512 BF16 (before Cooper Lake and Zen 4) the loops for 256 bits are taken instead.
mod int8;

use super::Avx512;
use crate::arch::scalar::attention::instance;
use crate::arch::scalar::exp::EXP2;
use crate::arch::x86_64::avx2;
use crate::attention::{Mix, STRIP, Scores, Weights};
use crate::lines::LINE;
use crate::{BLOCK_TOKENS, KvFormat};
use std::arch::x86_64::*;

/// Whether the functions below may run: the token proves all but one of their features.
fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

pub(super) fn scores(_: &Avx512, s: &mut Scores<'_>) {
    let (steps, group_words) = (s.format.query_words(s.width), s.format.group_words(s.width));
    let groups = s.keys.len() / group_words;
    assert!(s.rows <= STRIP && s.queries.len() == steps * STRIP, "a strip of queries");
    assert!(s.out.len() >= (STRIP - 1) * BLOCK_TOKENS + groups * LINE, "room for a strip of scores");
    if s.format == KvFormat::Int8 {
        assert!(s.width.is_multiple_of(LINE) && s.units.len() == s.rows, "a strip of integers");
        // SAFETY: the token proves the features; the sizes have been checked, for all rows of a strip.
        unsafe { int8::scores(s, group_words) }
    } else if has_bf16() {
        // SAFETY: the features are there; the sizes have been checked, for all rows of a strip.
        unsafe { scores_512(s, steps, groups) }
    } else {
        avx2::attention::scores(Avx512::narrow(), s);
    }
}

pub(super) fn weights(_: &Avx512, w: &mut Weights<'_>) {
    let rows = w.seen.len();
    assert!(rows <= STRIP && w.max.len() == rows && w.sum.len() == rows, "a strip of rows");
    assert!(w.scores.len().min(w.out.len()) >= rows * BLOCK_TOKENS, "a strip of scores");
    assert!(w.groups.start.is_multiple_of(2) && w.groups.end.is_multiple_of(2), "groups in pairs");
    assert!(w.groups.end * LINE <= BLOCK_TOKENS, "groups of one block");
    if w.format == KvFormat::Int8 {
        assert!(w.groups.end * w.group_words <= w.keys.len(), "scales for every group");
        // SAFETY: the token proves the features; the sizes have been checked.
        unsafe { int8::weights(w) }
    } else if has_bf16() {
        // SAFETY: the features are there; the sizes have been checked.
        unsafe {
            if w.format == KvFormat::Bf16 {
                weights_512::<true>(w);
            } else {
                weights_512::<false>(w);
            }
        }
    } else {
        avx2::attention::weights(Avx512::narrow(), w);
    }
}

pub(super) fn mix(_: &Avx512, m: &mut Mix<'_>) {
    let steps = m.values.len() / (m.lines * m.format.line());
    assert!(m.rows <= STRIP && m.lines * LINE <= m.width, "a strip of rows");
    assert!(m.weights.len() >= (STRIP - 1) * BLOCK_TOKENS + steps, "a strip of weights");
    assert!(m.out.len() >= (STRIP - 1) * m.width + m.lines * LINE, "room for a strip of results");
    if m.format == KvFormat::Int8 {
        assert!(steps.is_multiple_of(2), "groups of tokens");
        // SAFETY: the token proves the features; the sizes have been checked, for all rows of a strip.
        unsafe { int8::mix(m, steps) }
    } else if has_bf16() {
        // SAFETY: the features are there; the sizes have been checked, for all rows of a strip.
        unsafe { mix_512(m, steps) }
    } else {
        avx2::attention::mix(Avx512::narrow(), m);
    }
}

pub(super) fn pack_pairs(token: &Avx512, x: &[f32], factor: f32, words: &mut [u32]) {
    if has_bf16() && words.len() == x.len() / 2 && x.len().is_multiple_of(2 * LINE) {
        // SAFETY: the features are there; the sizes have been checked.
        unsafe { pack_512(x, factor, words) }
    } else {
        super::ops::pack_pairs(token, x, factor, words);
    }
}

pub(super) fn pack_query(_: &Avx512, x: &[f32], factor: f32, words: &mut [u32]) -> (f32, bool) {
    assert!(words.len() >= KvFormat::Int8.query_words(x.len().next_multiple_of(LINE)), "words of a query");
    // SAFETY: the token proves the features; the size has been checked.
    unsafe { int8::pack_query(x, factor, words) }
}

/// # Safety
/// As checked by [`pack_pairs`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pack_512(x: &[f32], factor: f32, words: &mut [u32]) {
    let factor = _mm512_set1_ps(factor);
    for (x, words) in x.as_chunks::<{ 2 * LINE }>().0.iter().zip(words.as_chunks_mut::<LINE>().0) {
        // SAFETY: two lines of numbers become one of pairs.
        unsafe {
            let low = _mm512_mul_ps(_mm512_loadu_ps(x.as_ptr()), factor);
            let high = _mm512_mul_ps(_mm512_loadu_ps(x.as_ptr().add(LINE)), factor);
            let packed = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(words.as_mut_ptr().cast(), packed);
        }
    }
}

/// `sums[r][n] = start[r][n] + Σ_step left[r · ROW + step · STEP] · right[step · stride + n · apart ..][..16]`.
///
/// # Safety
/// All of these must lie in the memory behind the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn product<const BF16: bool, const R: usize, const N: usize, const ROW: usize, const STEP: usize>(
    mut sums: [[__m512; N]; R],
    mut left: *const u32,
    (mut right, mut ahead): (*const u32, *const u32),
    (stride, apart): (usize, usize),
    steps: usize,
) -> [[__m512; N]; R] {
    for _ in 0..steps {
        for n in 0..N {
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(n * apart).cast());
        }
        let mut lines = [_mm512_setzero_si512(); N];
        for n in 0..N {
            // SAFETY: the caller's promise.
            lines[n] = unsafe { _mm512_loadu_si512(right.add(n * apart).cast()) };
        }
        for r in 0..R {
            // SAFETY: the caller's promise.
            let word = _mm512_set1_epi32(unsafe { *left.add(r * ROW) } as i32);
            for n in 0..N {
                sums[r][n] = if BF16 {
                    _mm512_dpbf16_ps(sums[r][n], bits(word), bits(lines[n]))
                } else {
                    _mm512_fmadd_ps(_mm512_castsi512_ps(word), _mm512_castsi512_ps(lines[n]), sums[r][n])
                };
            }
        }
        left = left.wrapping_add(STEP);
        right = right.wrapping_add(stride);
        ahead = ahead.wrapping_add(stride);
    }
    sums
}

/// The same 512 bits as pairs of bf16.
#[inline]
#[target_feature(enable = "avx512f")]
fn bits(line: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits of plain numbers.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(line) }
}

/// # Safety
/// As checked by [`scores`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn scores_512(s: &mut Scores<'_>, steps: usize, groups: usize) {
    let (queries, out) = (s.queries.as_ptr(), s.out.as_mut_ptr());
    let (keys, ahead) = (s.keys, s.ahead);
    let at = |group: usize| {
        let keys = keys[group * steps * LINE..].as_ptr();
        (keys, ahead.pair(group / 2, group * steps * LINE, keys))
    };
    instance!(s.format, s.rows, [1 2 3 4 6 8 12], {
        let mut group = 0;
        // SAFETY: groups stay below `groups`, and the caller vouches for a whole strip of rows.
        unsafe {
            while R <= 6 && group + 4 <= groups {
                score::<BF16, R, 4>(queries, at(group), out.add(group * LINE), steps);
                group += 4;
            }
            while group + 2 <= groups {
                score::<BF16, R, 2>(queries, at(group), out.add(group * LINE), steps);
                group += 2;
            }
            if group < groups {
                score::<BF16, R, 1>(queries, at(group), out.add(group * LINE), steps);
            }
        }
    });
}

/// `N` groups of keys.
///
/// # Safety
/// `R` rows of queries and scores and `N` groups of keys must lie behind the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn score<const BF16: bool, const R: usize, const N: usize>(
    queries: *const u32,
    keys: (*const u32, *const u32),
    out: *mut f32,
    steps: usize,
) {
    let zero = [[_mm512_setzero_ps(); N]; R];
    // SAFETY: the caller's promise.
    unsafe {
        let sums = product::<BF16, R, N, 1, STRIP>(zero, queries, keys, (LINE, steps * LINE), steps);
        for r in 0..R {
            for n in 0..N {
                _mm512_storeu_ps(out.add(r * BLOCK_TOKENS + n * LINE), sums[r][n]);
            }
        }
    }
}

/// # Safety
/// As checked by [`mix`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn mix_512(m: &mut Mix<'_>, steps: usize) {
    let (weights, out) = (m.weights.as_ptr(), m.out.as_mut_ptr());
    let (values, ahead) = (m.values, m.ahead);
    let at = |line: usize| {
        let values = values[line * LINE..].as_ptr();
        (values, ahead.pair(line / 2, line * LINE, values))
    };
    let shape = (m.lines * LINE, m.width, steps);
    instance!(m.format, m.rows, [1 2 3 4 6 8 12], {
        let mut line = 0;
        // SAFETY: lines stay below `lines`, and the caller vouches for a whole strip of rows.
        unsafe {
            while R <= 6 && line + 4 <= m.lines {
                update::<BF16, R, 4>(weights, at(line), m.rescale, out.add(line * LINE), shape);
                line += 4;
            }
            while line + 2 <= m.lines {
                update::<BF16, R, 2>(weights, at(line), m.rescale, out.add(line * LINE), shape);
                line += 2;
            }
            if line < m.lines {
                update::<BF16, R, 1>(weights, at(line), m.rescale, out.add(line * LINE), shape);
            }
        }
    });
}

/// `N` lines of values.
///
/// # Safety
/// `R` rows of weights and results and `N` lines of each step of values must lie behind the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn update<const BF16: bool, const R: usize, const N: usize>(
    weights: *const u32,
    values: (*const u32, *const u32),
    rescale: &[f32; STRIP],
    out: *mut f32,
    (stride, width, steps): (usize, usize, usize),
) {
    let mut sums = [[_mm512_setzero_ps(); N]; R];
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..R {
            let scale = _mm512_set1_ps(rescale[r]);
            for n in 0..N {
                sums[r][n] = _mm512_mul_ps(_mm512_loadu_ps(out.add(r * width + n * LINE)), scale);
            }
        }
        let sums = product::<BF16, R, N, BLOCK_TOKENS, 1>(sums, weights, values, (stride, LINE), steps);
        for r in 0..R {
            for n in 0..N {
                _mm512_storeu_ps(out.add(r * width + n * LINE), sums[r][n]);
            }
        }
    }
}

/// # Safety
/// As checked by [`weights`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn weights_512<const BF16: bool>(w: &mut Weights<'_>) {
    let none = _mm512_set1_ps(f32::NEG_INFINITY);
    let ones = _mm512_set1_epi32(0x3f80_3f80);
    for (row, &(start, end)) in w.seen.iter().enumerate() {
        // SAFETY: the row's scores and weights of `groups` lie in the strips.
        unsafe {
            let scores = w.scores.as_ptr().add(row * BLOCK_TOKENS);
            let weights = w.out.as_mut_ptr().add(row * BLOCK_TOKENS);
            let whole = start <= w.groups.start * LINE && w.groups.end * LINE <= end;
            let mut max = [none; 2];
            for group in w.groups.clone() {
                let mask = if whole { !0 } else { mask(group, start, end) };
                let line = _mm512_mask_loadu_ps(none, mask, scores.add(group * LINE));
                max[group % 2] = _mm512_max_ps(max[group % 2], line);
            }
            let old = w.max[row];
            let new = _mm512_reduce_max_ps(_mm512_max_ps(max[0], max[1])).max(old);
            // Nothing seen so far: any finite number will do, every weight is 0.
            let origin = _mm512_set1_ps(if new == f32::NEG_INFINITY { 0.0 } else { new });
            // Most blocks bring no new maximum: then the exponential is exactly 1.
            let rescale = match old {
                f32::NEG_INFINITY => 0.0,
                _ if new > old => _mm512_cvtss_f32(exp2(_mm512_set1_ps(old - new))),
                _ => 1.0,
            };
            let mut sum = _mm512_setzero_ps();
            for group in w.groups.clone().step_by(2) {
                let mut pair = [_mm512_setzero_ps(); 2];
                for (half, line) in pair.iter_mut().enumerate() {
                    let mask = if whole { !0 } else { mask(group + half, start, end) };
                    let score = _mm512_loadu_ps(scores.add((group + half) * LINE));
                    *line = _mm512_maskz_mov_ps(mask, exp2(_mm512_sub_ps(score, origin)));
                }
                if BF16 {
                    let packed = _mm512_cvtne2ps_pbh(pair[1], pair[0]);
                    _mm512_storeu_si512(
                        weights.add(group * LINE / 2).cast(),
                        std::mem::transmute::<__m512bh, __m512i>(packed),
                    );
                    sum = _mm512_dpbf16_ps(sum, packed, bits(ones));
                } else {
                    for (half, &line) in pair.iter().enumerate() {
                        _mm512_storeu_ps(weights.add((group + half) * LINE).cast(), line);
                        sum = _mm512_add_ps(sum, line);
                    }
                }
            }
            w.max[row] = new;
            w.sum[row] = w.sum[row] * rescale + _mm512_reduce_add_ps(sum);
            w.rescale[row] = rescale;
        }
    }
}

/// Which of sixteen tokens lie in `start..end`.
#[inline]
fn mask(group: usize, start: usize, end: usize) -> __mmask16 {
    let below = |token: usize| (1_u32 << token.saturating_sub(group * LINE).min(LINE)) - 1;
    (below(end) & !below(start)) as __mmask16
}

/// `2^x` for finite `x ≤ 0`.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp2(x: __m512) -> __m512 {
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let f = _mm512_sub_ps(x, n);
    let mut p = _mm512_set1_ps(EXP2[0]);
    for coefficient in &EXP2[1..] {
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(*coefficient));
    }
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0));
    _mm512_scalef_ps(p, n)
}
