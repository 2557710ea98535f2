//! Attention to keys and values of 8 bits with vectors of 256 bits.
//!
//! ```text
//! 4 rows × 1 line: eight sums stay in registers
//! scores, for each step of four numbers:
//!     x, y = right[step], every other byte as 16 bits                          2 loads, 2 masks, 2 shifts
//!     for each row: sums[row] += left[row, step] · (x, y), bytes apart         1 load, 3 shifts, 4 vpmaddwd, 4 additions
//! values, for each step of two tokens:
//!     x = right[step], signs extended                                          2 loads
//!     for each row: sums[row] += broadcast left[row, step] · x                 1 load, 2 vpmaddwd, 2 additions
//! ```
//!
//! Two pairs' products are added exactly: they are below 2^23.
use super::{exp2, halves, mask};
use crate::BLOCK_TOKENS;
use crate::arch::scalar::attention::int8::GREATEST;
use crate::arch::scalar::attention::rows;
use crate::attention::{Mix, STRIP, Scores, Weights};
use crate::kv::int8::{GROUP, HALF, QUERY_PASS, scale_words};
use crate::lines::LINE;
use std::arch::x86_64::*;

/// Rows whose sums stay in registers.
const ROWS: usize = 4;

/// `sums[r] = Σ_step left[r · ROW + step · STEP] · right[step · stride ..][..8]`.
///
/// # Safety
/// All of these must lie in the memory behind the pointers.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn product<const R: usize, const ROW: usize, const STEP: usize>(
    mut left: *const u32,
    mut right: *const u32,
    stride: usize,
    steps: usize,
) -> [[__m256i; 2]; R] {
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    for _ in 0..steps {
        // SAFETY: the caller's promise.
        let line = unsafe {
            [
                _mm256_cvtepi8_epi16(_mm_loadu_si128(right.cast())),
                _mm256_cvtepi8_epi16(_mm_loadu_si128(right.add(HALF / 2).cast())),
            ]
        };
        for r in 0..R {
            // SAFETY: the caller's promise.
            let word = _mm256_set1_epi32(unsafe { *left.add(r * ROW) } as i32);
            for half in 0..2 {
                sums[r][half] = _mm256_add_epi32(sums[r][half], _mm256_madd_epi16(word, line[half]));
            }
        }
        left = left.wrapping_add(STEP);
        right = right.wrapping_add(stride);
    }
    sums
}

/// Eight scales.
///
/// # Safety
/// They must lie behind the pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn scales(words: *const u32) -> __m256 {
    // SAFETY: the caller's promise.
    let halves = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(words.cast()) });
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
}

/// `sums[r] += Σ_step left[step · STRIP + r] · right[step][..16]`, four bytes each, of which the left side's are signed.
///
/// # Safety
/// All of these must lie in the memory behind the pointers.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn bytes<const R: usize>(
    mut sums: [[__m256i; 2]; R],
    mut left: *const u32,
    mut right: *const u32,
    steps: usize,
) -> [[__m256i; 2]; R] {
    let low = _mm256_set1_epi16(0xff);
    for _ in 0..steps {
        // The first and third, and the second and fourth bytes, as pairs of 16 bits.
        // SAFETY: the caller's promise.
        let line = unsafe { [0, LINE / 2].map(|half| _mm256_loadu_si256(right.add(half).cast())) };
        let line = line.map(|half| [_mm256_and_si256(half, low), _mm256_srli_epi16::<8>(half)]);
        for r in 0..R {
            // SAFETY: the caller's promise.
            let word = _mm256_set1_epi32(unsafe { *left.add(r) } as i32);
            let word = [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(word)), _mm256_srai_epi16::<8>(word)];
            for half in 0..2 {
                let products = [0, 1].map(|part| _mm256_madd_epi16(word[part], line[half][part]));
                let both = _mm256_add_epi32(products[0], products[1]);
                sums[r][half] = _mm256_add_epi32(sums[r][half], both);
            }
        }
        left = left.wrapping_add(STRIP);
        right = right.wrapping_add(LINE);
    }
    sums
}

/// # Safety
/// As checked by [`super::scores`]; `group_words` is that of the format.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn scores(s: &mut Scores<'_>, group_words: usize) {
    let before = scale_words(s.width);
    let parts = s.width.div_ceil(GROUP);
    let unit = if s.low { 1.0 / 256.0 } else { 1.0 };
    for first in (0..s.rows).step_by(ROWS) {
        for (group, keys) in s.keys.chunks_exact(group_words).enumerate() {
            let out = s.out[first * BLOCK_TOKENS + group * LINE..].as_mut_ptr();
            rows!(ROWS.min(s.rows - first), [1 2 3 4], {
                let mut all = [[_mm256_setzero_ps(); 2]; R];
                for part in 0..parts {
                    // SAFETY: `R` rows from `first` lie in the strip of queries: for each 32 numbers high and low bytes,
                    // each with what their sums begin with. A group of keys is scales, the values' first, and codes.
                    unsafe {
                        let high = s.queries.as_ptr().add(part * 2 * QUERY_PASS * STRIP + first);
                        let codes = keys.as_ptr().add(before + part * GROUP / 4 * LINE);
                        let steps = (s.width - part * GROUP).min(GROUP) / 4;
                        let mut sums = [[_mm256_setzero_si256(); 2]; R];
                        for r in 0..R {
                            sums[r] = [_mm256_set1_epi32(*high.add(r) as i32); 2];
                        }
                        sums = bytes(sums, high.add(STRIP), codes, steps);
                        if s.low {
                            let low = high.add(QUERY_PASS * STRIP);
                            for r in 0..R {
                                let begin = _mm256_set1_epi32(*low.add(r) as i32);
                                sums[r] = sums[r]
                                    .map(|sum| _mm256_add_epi32(_mm256_slli_epi32::<8>(sum), begin));
                            }
                            sums = bytes(sums, low.add(STRIP), codes, steps);
                        }
                        let scale = keys.as_ptr().add((1 + part) * HALF);
                        let scale = [scales(scale), scales(scale.add(HALF / 2))];
                        for r in 0..R {
                            for half in 0..2 {
                                let sum = _mm256_cvtepi32_ps(sums[r][half]);
                                all[r][half] = _mm256_fmadd_ps(sum, scale[half], all[r][half]);
                            }
                        }
                    }
                }
                for r in 0..R {
                    let unit = _mm256_set1_ps(s.units[first + r] * unit);
                    for half in 0..2 {
                        // SAFETY: `R` rows from `first` lie in the strip of scores.
                        unsafe {
                            let out = out.add(r * BLOCK_TOKENS + half * LINE / 2);
                            _mm256_storeu_ps(out, _mm256_mul_ps(all[r][half], unit));
                        }
                    }
                }
            });
        }
    }
}

/// # Safety
/// As checked by [`super::weights`], and every group has its scales among the keys.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn weights(w: &mut Weights<'_>) {
    for (row, &seen) in w.seen.iter().enumerate() {
        let scores = w.scores[row * BLOCK_TOKENS..].as_ptr();
        let out = w.out[row * BLOCK_TOKENS..].as_mut_ptr();
        let whole = seen.0 <= w.groups.start * LINE && w.groups.end * LINE <= seen.1;
        let score = |token: usize| {
            // SAFETY: the row's scores of `groups` lie in the strip.
            let scores = unsafe { _mm256_loadu_ps(scores.add(token)) };
            if whole { scores } else { mask(scores, token, seen) }
        };
        let tokens = w.groups.start * LINE..w.groups.end * LINE;
        let (mut max, mut greatest) = (_mm256_set1_ps(f32::NEG_INFINITY), _mm256_setzero_ps());
        let mut scale = [_mm256_setzero_ps(); BLOCK_TOKENS / 8];
        for token in tokens.clone().step_by(8) {
            let score = score(token);
            max = _mm256_max_ps(max, score);
            let at = token / LINE * w.group_words + token % LINE / 2;
            // SAFETY: the caller's promise.
            scale[token / 8] = unsafe { scales(w.keys.as_ptr().add(at)) };
            let seen = _mm256_cmp_ps::<_CMP_NEQ_UQ>(score, _mm256_set1_ps(f32::NEG_INFINITY));
            greatest = _mm256_max_ps(greatest, _mm256_and_ps(seen, scale[token / 8]));
        }
        let max = halves(max, |a, b| _mm_max_ps(a, b));
        let greatest = halves(greatest, |a, b| _mm_max_ps(a, b));
        let (old, new) = (w.max[row], max.max(w.max[row]));
        // Nothing seen: any finite number will do, every weight is 0.
        let [origin, all] = [max, new].map(|max| if max == f32::NEG_INFINITY { 0.0 } else { max });
        let [rescale, here] = [old, max].map(|max| _mm256_cvtss_f32(exp2(_mm256_set1_ps(max - all))));
        let inverse = _mm256_set1_ps(if greatest > 0.0 { GREATEST / greatest } else { 0.0 });
        let mut sum = [_mm256_setzero_ps(); 2];
        for token in tokens.step_by(LINE) {
            let line =
                [token, token + 8].map(|token| exp2(_mm256_sub_ps(score(token), _mm256_set1_ps(origin))));
            sum = [_mm256_add_ps(sum[0], line[0]), _mm256_add_ps(sum[1], line[1])];
            let [low, high] = [0, 1].map(|half| {
                let scale = _mm256_mul_ps(scale[token / 8 + half], inverse);
                _mm256_cvtps_epi32(_mm256_mul_ps(line[half], scale))
            });
            // Packing takes four integers of each in turn: bring them in order.
            let pairs = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            // SAFETY: the row's weights of `groups` lie in the strip.
            unsafe { _mm256_storeu_si256(out.add(token / 2).cast(), pairs) };
        }
        let sum = halves(_mm256_add_ps(sum[0], sum[1]), |a, b| _mm_add_ps(a, b));
        w.max[row] = new;
        w.sum[row] = w.sum[row] * rescale + sum * here;
        w.rescale[row] = rescale;
        w.units[row] = greatest * (1.0 / GREATEST) * here;
    }
}

/// # Safety
/// As checked by [`super::mix`]; `steps` is that of the format.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn mix(m: &mut Mix<'_>, steps: usize) {
    let stride = m.lines * HALF;
    for first in (0..m.rows).step_by(ROWS) {
        for line in 0..m.lines {
            let values = m.values[line * HALF..].as_ptr();
            let out = m.out[first * m.width + line * LINE..].as_mut_ptr();
            let weights = m.weights[first * BLOCK_TOKENS..].as_ptr();
            rows!(ROWS.min(m.rows - first), [1 2 3 4], {
                // SAFETY: `R` rows from `first` lie in the strips of weights and results; the line is one of each step
                // of the values.
                unsafe {
                    let sums = product::<R, BLOCK_TOKENS, 1>(weights, values, stride, steps);
                    for r in 0..R {
                        let rescale = _mm256_set1_ps(m.rescale[first + r]);
                        let unit = _mm256_set1_ps(m.units[first + r]);
                        for half in 0..2 {
                            let out = out.add(r * m.width + half * LINE / 2);
                            let before = _mm256_mul_ps(_mm256_loadu_ps(out), rescale);
                            let sum = _mm256_cvtepi32_ps(sums[r][half]);
                            _mm256_storeu_ps(out, _mm256_fmadd_ps(sum, unit, before));
                        }
                    }
                }
            });
        }
    }
}
