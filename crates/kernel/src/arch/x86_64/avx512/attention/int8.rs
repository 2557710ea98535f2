//! Attention to keys and values of 8 bits with vectors of 512 bits and products of integers (AVX-512 VNNI).
//!
//! ```text
//! scores, for each step of four numbers:
//!     b[n] = load right[step][n]                                      N loads
//!     for each row: sums[row][n] += broadcast left[row, step] · b[n]  R · N products: vpdpbusd
//!     where queries have low bytes: the same again
//!     for every 32 numbers: times the keys' scales, added up in f32   3 to 5 operations instead of a product
//! values, for each step of two tokens:
//!     b[n] = load half a line of right[step][n], signs extended       N loads, N conversions, for all rows
//!     for each row: sums[row][n] += broadcast left[row, step] · b[n]  R · N products: vpdpwssd
//! ```
//!
//! Both products are as fast as `vdpbf16ps`: scores take half as many as with bf16, values as many.
use super::{exp2, mask};
use crate::BLOCK_TOKENS;
use crate::arch::scalar::attention::int8::GREATEST;
use crate::arch::scalar::attention::rows;
use crate::attention::{Mix, STRIP, Scores, Weights};
use crate::kv::int8::{GROUP, HALF, QUERY_PASS, needs_low, scale_words};
use crate::lines::LINE;
use std::arch::x86_64::*;

/// # Safety
/// As checked by [`super::pack_query`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn pack_query(x: &[f32], factor: f32, words: &mut [u32]) -> (f32, bool) {
    // Sixteen numbers, or what there is of them.
    let line = |at: usize| {
        let count = x.len().saturating_sub(at).min(LINE);
        // SAFETY: no more than there is.
        unsafe { _mm512_maskz_loadu_ps(((1_u32 << count) - 1) as __mmask16, x.as_ptr().wrapping_add(at)) }
    };
    let (mut greatest, mut total) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    for at in (0..x.len()).step_by(LINE) {
        let sizes = _mm512_abs_ps(line(at));
        (greatest, total) = (_mm512_max_ps(greatest, sizes), _mm512_add_ps(total, sizes));
    }
    let greatest = _mm512_reduce_max_ps(greatest);
    let low = needs_low(greatest, _mm512_reduce_add_ps(total), x.len());
    // Of what is so small the inverse is no number, and the whole nothing.
    let inverse = _mm512_set1_ps(if greatest < 1e-30 { 0.0 } else { 127.0 / greatest });
    let groups = words.chunks_exact_mut(2 * QUERY_PASS);
    for (at, words) in (0..x.len()).step_by(GROUP).zip(groups) {
        let scaled = [at, at + LINE].map(|at| _mm512_mul_ps(line(at), inverse));
        let high = scaled.map(|scaled| _mm512_cvtps_epi32(scaled));
        let rest = [0, 1].map(|half| {
            if low {
                let rest = _mm512_sub_ps(scaled[half], _mm512_cvtepi32_ps(high[half]));
                let rest = _mm512_cvtps_epi32(_mm512_mul_ps(rest, _mm512_set1_ps(256.0)));
                _mm512_min_epi32(rest, _mm512_set1_epi32(127))
            } else {
                _mm512_setzero_si512()
            }
        });
        for (integers, words) in [high, rest].into_iter().zip(words.as_chunks_mut::<QUERY_PASS>().0) {
            words[0] = (-128 * _mm512_reduce_add_epi32(_mm512_add_epi32(integers[0], integers[1]))) as u32;
            for (integers, words) in integers.into_iter().zip(words[1..].as_chunks_mut::<4>().0) {
                // SAFETY: sixteen bytes are four words.
                unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(integers)) };
            }
        }
    }
    (greatest * (1.0 / 127.0) * factor, low)
}

/// `sums[r][n] = Σ_step left[r · ROW + step · STEP] · right[step · stride + n · apart ..][..8]`. Of what lies ahead, one
/// step of two `n` is one line.
///
/// # Safety
/// All of these must lie in the memory behind the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn product<const R: usize, const N: usize, const ROW: usize, const STEP: usize>(
    mut left: *const u32,
    (mut right, mut ahead): (*const u32, *const u32),
    (stride, apart): (usize, usize),
    steps: usize,
) -> [[__m512i; N]; R] {
    let mut sums = [[_mm512_setzero_si512(); N]; R];
    for _ in 0..steps {
        let mut lines = [_mm512_setzero_si512(); N];
        for n in 0..N {
            if n % 2 == 0 {
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(n * apart).cast());
            }
            // SAFETY: the caller's promise.
            lines[n] = _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(right.add(n * apart).cast()) });
        }
        for r in 0..R {
            // SAFETY: the caller's promise.
            let word = _mm512_set1_epi32(unsafe { *left.add(r * ROW) } as i32);
            for n in 0..N {
                sums[r][n] = _mm512_dpwssd_epi32(sums[r][n], word, lines[n]);
            }
        }
        left = left.wrapping_add(STEP);
        right = right.wrapping_add(stride);
        ahead = ahead.wrapping_add(stride);
    }
    sums
}

/// Sixteen scales.
///
/// # Safety
/// They must lie behind the pointer.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn scales(words: *const u32) -> __m512 {
    // SAFETY: the caller's promise.
    let halves = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(words.cast()) });
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
}

/// `sums[r][n] += Σ_step left[step · STRIP + r] · right[step][n · apart ..][..16]`, four bytes each, of which the left side's
/// are signed.
///
/// # Safety
/// All of these must lie in the memory behind the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn bytes<const R: usize, const N: usize>(
    mut sums: [[__m512i; N]; R],
    mut left: *const u32,
    (mut right, mut ahead): (*const u32, *const u32),
    apart: usize,
    steps: usize,
) -> [[__m512i; N]; R] {
    for _ in 0..steps {
        let mut lines = [_mm512_setzero_si512(); N];
        for n in 0..N {
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(n * apart).cast());
            // SAFETY: the caller's promise.
            lines[n] = unsafe { _mm512_loadu_si512(right.add(n * apart).cast()) };
        }
        for r in 0..R {
            // SAFETY: the caller's promise.
            let word = _mm512_set1_epi32(unsafe { *left.add(r) } as i32);
            for n in 0..N {
                sums[r][n] = _mm512_dpbusd_epi32(sums[r][n], lines[n], word);
            }
        }
        left = left.wrapping_add(STRIP);
        right = right.wrapping_add(LINE);
        ahead = ahead.wrapping_add(LINE);
    }
    sums
}

/// The sizes of a call.
#[derive(Clone, Copy)]
struct Keys {
    width: usize,
    /// Words of sixteen tokens' keys.
    group: usize,
    /// Whether queries have low bytes.
    low: bool,
}

/// # Safety
/// As checked by [`super::scores`]; `group_words` is that of the format.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn scores(s: &mut Scores<'_>, group_words: usize) {
    let (queries, units, out) = (s.queries.as_ptr(), s.units, s.out.as_mut_ptr());
    let (keys, ahead, groups) = (s.keys, s.ahead, s.keys.len() / group_words);
    let at = |group: usize| {
        let keys = keys[group * group_words..].as_ptr();
        (keys, ahead.pair(group / 2, group * group_words, keys))
    };
    let shape = Keys { width: s.width, group: group_words, low: s.low };
    let unit = if s.low { 1.0 / 256.0 } else { 1.0 };
    rows!(s.rows, [1 2 3 4 6 8 12], {
        // Rows that are computed for nothing get 0.
        let mut all = [0.0; R];
        all.iter_mut().zip(units).for_each(|(all, row)| *all = row * unit);
        let mut group = 0;
        // SAFETY: groups stay below `groups`, and the caller vouches for a whole strip of rows.
        unsafe {
            while R <= 6 && group + 4 <= groups {
                score::<R, 4>(queries, at(group), &all, out.add(group * LINE), shape);
                group += 4;
            }
            while group + 2 <= groups {
                score::<R, 2>(queries, at(group), &all, out.add(group * LINE), shape);
                group += 2;
            }
            if group < groups {
                score::<R, 1>(queries, at(group), &all, out.add(group * LINE), shape);
            }
        }
    });
}

/// `N` groups of keys.
///
/// # Safety
/// `R` rows of queries and scores and `N` groups of keys must lie behind the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn score<const R: usize, const N: usize>(
    queries: *const u32,
    (keys, ahead): (*const u32, *const u32),
    units: &[f32; R],
    out: *mut f32,
    shape: Keys,
) {
    let parts = shape.width.div_ceil(GROUP);
    let before = scale_words(shape.width);
    // SAFETY: the caller's promise, and that of the layouts: of keys, the scales, the values' first, then the codes; of
    // queries, for each 32 numbers high and low bytes, each with what their sums begin with.
    unsafe {
        for line in 0..before / LINE {
            for n in 0..N {
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(n * shape.group + line * LINE).cast());
            }
        }
        for part in 0..parts {
            let high = queries.add(part * 2 * QUERY_PASS * STRIP);
            let at = before + part * GROUP / 4 * LINE;
            let steps = (shape.width - part * GROUP).min(GROUP) / 4;
            let codes = keys.add(at);
            let mut sums = [[_mm512_setzero_si512(); N]; R];
            for r in 0..R {
                sums[r] = [_mm512_set1_epi32(*high.add(r) as i32); N];
            }
            sums = bytes(sums, high.add(STRIP), (codes, ahead.wrapping_add(at)), shape.group, steps);
            if shape.low {
                let low = high.add(QUERY_PASS * STRIP);
                for r in 0..R {
                    let begin = _mm512_set1_epi32(*low.add(r) as i32);
                    for n in 0..N {
                        sums[r][n] = _mm512_add_epi32(_mm512_slli_epi32::<8>(sums[r][n]), begin);
                    }
                }
                sums = bytes(sums, low.add(STRIP), (codes, codes), shape.group, steps);
            }
            let mut scale = [_mm512_setzero_ps(); N];
            for n in 0..N {
                scale[n] = scales(keys.add((1 + part) * HALF + n * shape.group));
            }
            for r in 0..R {
                for n in 0..N {
                    let out = out.add(r * BLOCK_TOKENS + n * LINE);
                    // What is summed up so far waits in the first cache: registers are for the integers.
                    let before = if part == 0 { _mm512_setzero_ps() } else { _mm512_loadu_ps(out) };
                    let mut sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][n]), scale[n], before);
                    if part + 1 == parts {
                        sum = _mm512_mul_ps(sum, _mm512_set1_ps(units[r]));
                    }
                    _mm512_storeu_ps(out, sum);
                }
            }
        }
    }
}

/// The values' scales of `groups` as far as tokens from `start` to `end` are seen, relative to the greatest of them, times
/// the greatest integer; and the greatest.
///
/// # Safety
/// Every group has its scales among the keys.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn relative(w: &Weights<'_>, (start, end): (usize, usize)) -> ([__m512; BLOCK_TOKENS / LINE], f32) {
    let mut all = [_mm512_setzero_ps(); BLOCK_TOKENS / LINE];
    let mut greatest = _mm512_setzero_ps();
    for group in w.groups.clone() {
        // SAFETY: the caller's promise.
        let scales = unsafe { scales(w.keys.as_ptr().add(group * w.group_words)) };
        all[group] = _mm512_maskz_mov_ps(mask(group, start, end), scales);
        greatest = _mm512_max_ps(greatest, all[group]);
    }
    let greatest = _mm512_reduce_max_ps(greatest);
    let inverse = _mm512_set1_ps(if greatest > 0.0 { GREATEST / greatest } else { 0.0 });
    for group in w.groups.clone() {
        all[group] = _mm512_mul_ps(all[group], inverse);
    }
    (all, greatest)
}

/// # Safety
/// As checked by [`super::weights`], and every group has its scales among the keys.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn weights(w: &mut Weights<'_>) {
    let none = _mm512_set1_ps(f32::NEG_INFINITY);
    // SAFETY: the caller's promise.
    let shared = unsafe { relative(w, (0, BLOCK_TOKENS)) };
    // The heads of a query see the same.
    let (mut own, mut of) = (shared, (0, BLOCK_TOKENS));
    for (row, &(start, end)) in w.seen.iter().enumerate() {
        // SAFETY: the row's scores and weights of `groups` lie in the strips, and the caller vouches for the scales.
        unsafe {
            let scores = w.scores.as_ptr().add(row * BLOCK_TOKENS);
            let weights = w.out.as_mut_ptr().add(row * BLOCK_TOKENS);
            let whole = start <= w.groups.start * LINE && w.groups.end * LINE <= end;
            let mask = |group| if whole { !0 } else { mask(group, start, end) };
            if !whole && of != (start, end) {
                (own, of) = (relative(w, (start, end)), (start, end));
            }
            let (scales, greatest) = if whole { &shared } else { &own };
            let mut max = [none; 2];
            for group in w.groups.clone() {
                let line = _mm512_mask_loadu_ps(none, mask(group), scores.add(group * LINE));
                max[group % 2] = _mm512_max_ps(max[group % 2], line);
            }
            let max = _mm512_reduce_max_ps(_mm512_max_ps(max[0], max[1]));
            let old = w.max[row];
            let new = max.max(old);
            // Most blocks bring no new maximum: then the exponential is exactly 1.
            let power = |max: f32| match max {
                f32::NEG_INFINITY => 0.0,
                _ if new > max => _mm512_cvtss_f32(exp2(_mm512_set1_ps(max - new))),
                _ => 1.0,
            };
            let (rescale, here) = (power(old), power(max));
            // Nothing seen: any finite number will do, every weight is 0.
            let origin = _mm512_set1_ps(if max == f32::NEG_INFINITY { 0.0 } else { max });
            let mut sum = _mm512_setzero_ps();
            for group in w.groups.clone() {
                let score = _mm512_loadu_ps(scores.add(group * LINE));
                let line = _mm512_maskz_mov_ps(mask(group), exp2(_mm512_sub_ps(score, origin)));
                sum = _mm512_add_ps(sum, line);
                let integers = _mm512_cvtps_epi32(_mm512_mul_ps(line, scales[group]));
                _mm256_storeu_si256(weights.add(group * HALF).cast(), _mm512_cvtepi32_epi16(integers));
            }
            w.max[row] = new;
            w.sum[row] = w.sum[row] * rescale + _mm512_reduce_add_ps(sum) * here;
            w.rescale[row] = rescale;
            w.units[row] = greatest * (1.0 / GREATEST) * here;
        }
    }
}

/// # Safety
/// As checked by [`super::mix`]; `steps` is that of the format.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn mix(m: &mut Mix<'_>, steps: usize) {
    let (weights, out) = (m.weights.as_ptr(), m.out.as_mut_ptr());
    let (values, ahead) = (m.values, m.ahead);
    let at = |line: usize| {
        let values = values[line * HALF..].as_ptr();
        (values, ahead.pair(line / 2, line * HALF, values))
    };
    let factors = (m.rescale, m.units);
    let shape = (m.lines * HALF, m.width, steps);
    rows!(m.rows, [1 2 3 4 6 8 12], {
        let mut line = 0;
        // SAFETY: lines stay below `lines`, and the caller vouches for a whole strip of rows.
        unsafe {
            while R <= 6 && line + 4 <= m.lines {
                update::<R, 4>(weights, at(line), factors, out.add(line * LINE), shape);
                line += 4;
            }
            while line + 2 <= m.lines {
                update::<R, 2>(weights, at(line), factors, out.add(line * LINE), shape);
                line += 2;
            }
            if line < m.lines {
                update::<R, 1>(weights, at(line), factors, out.add(line * LINE), shape);
            }
        }
    });
}

/// `N` lines of values.
///
/// # Safety
/// `R` rows of weights and results and `N` lines of each step of values must lie behind the pointers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn update<const R: usize, const N: usize>(
    weights: *const u32,
    values: (*const u32, *const u32),
    (rescale, units): (&[f32; STRIP], &[f32; STRIP]),
    out: *mut f32,
    (stride, width, steps): (usize, usize, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let sums = product::<R, N, BLOCK_TOKENS, 1>(weights, values, (stride, HALF), steps);
        for r in 0..R {
            let (rescale, unit) = (_mm512_set1_ps(rescale[r]), _mm512_set1_ps(units[r]));
            for n in 0..N {
                let out = out.add(r * width + n * LINE);
                let before = _mm512_mul_ps(_mm512_loadu_ps(out), rescale);
                _mm512_storeu_ps(out, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][n]), unit, before));
            }
        }
    }
}
