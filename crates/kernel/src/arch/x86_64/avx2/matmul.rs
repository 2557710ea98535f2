//! Products with 16-bit multiply-adds (`vpmaddwd`).
//!
//! ```text
//! for each block of 16 tokens, each panel of 16 rows:
//!     for each chunk of 32 k:
//!         w = the chunk's integers less the offset, as 16-bit words          1 KiB on the stack, shared by all tokens
//!         d, m = the groups' scales and minima, as f32
//!         for each token, for each quad i:
//!             sums[0..4] += vpmaddwd(w[i][0..4], broadcast(a[i]))            32 · (multiply + add)
//!         part = d · f32(horizontal sums) (+ m · Σ a);  acc[token] += part · scale[token]
//! ```
//! Byte products (`vpmaddubsw`) would saturate at 8-bit weights and need two passes for activations of 16 bits;
//! words take every format and both precisions in one. The integers, and the order of the f32 steps that follow,
//! are those of the AVX-512 set: so are the results, bit for bit.
//!
//! A word register holds 4 k of 4 rows, and `vpunpck` takes rows 0, 1 and 4, 5 (then 2, 3 and 6, 7) of eight; the
//! horizontal addition of such a pair brings the rows back in order.
use crate::DType;
use crate::activations::{Block, Group, TOKENS};
use crate::block::{CHUNK, Format};
use crate::matmul::Matmul;
use crate::packed::PANEL;
use std::arch::x86_64::*;

/// A panel's outputs of one token: rows 0–7 and 8–15.
type Sums = [__m256; 2];

/// Tokens that share a load of weights.
const STEP: usize = 2;

/// A chunk's integers as words: `[quad][half of the panel][vpunpcklbw, vpunpckhbw]`.
type Words = [[[__m256i; 2]; 2]; 8];

/// The products of one task.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn matmul(mut task: Matmul<'_>) {
    let mut acc = [[_mm256_setzero_ps(); 2]; TOKENS];
    for (index, block) in task.blocks.clone().enumerate() {
        for panel in task.panels.clone() {
            let tokens = product(&task, panel, block, &mut acc);
            let columns = task.columns(panel);
            for (token, acc) in acc[..tokens].iter().enumerate() {
                let mut sums = [0.0; PANEL];
                // SAFETY: 16 numbers.
                unsafe {
                    _mm256_storeu_ps(sums.as_mut_ptr(), acc[0]);
                    _mm256_storeu_ps(sums.as_mut_ptr().add(8), acc[1]);
                }
                let out = &mut task.out.row(index * TOKENS + token)[columns.clone()];
                out.copy_from_slice(&sums[..columns.len()]);
            }
        }
    }
}

/// One panel times one block; how many tokens it has.
#[target_feature(enable = "avx2,fma,f16c")]
fn product(task: &Matmul<'_>, panel: usize, block: usize, acc: &mut [Sums; TOKENS]) -> usize {
    macro_rules! with {
        ($dtype:ident) => {{
            let x = task.activations.block(block);
            quantised::<{ DType::$dtype as usize }>(task.weights.panel(panel), x, acc);
            x.tokens
        }};
    }
    match task.weights.dtype() {
        DType::F32 => floats::<{ DType::F32 as usize }>(task, panel, block, acc),
        DType::F16 => floats::<{ DType::F16 as usize }>(task, panel, block, acc),
        DType::BF16 => floats::<{ DType::BF16 as usize }>(task, panel, block, acc),
        DType::Q4_0 => with!(Q4_0),
        DType::Q4_1 => with!(Q4_1),
        DType::Q5_0 => with!(Q5_0),
        DType::Q5_1 => with!(Q5_1),
        DType::Q8_0 => with!(Q8_0),
        DType::Q2_K => with!(Q2_K),
        DType::Q3_K => with!(Q3_K),
        DType::Q4_K => with!(Q4_K),
        DType::Q5_K => with!(Q5_K),
        DType::Q6_K => with!(Q6_K),
    }
}

/// A panel of floats: `acc[token] += w[k] · broadcast(x[token, k])` in the order of k.
#[target_feature(enable = "avx2,fma,f16c")]
fn floats<const DTYPE: usize>(
    task: &Matmul<'_>,
    panel: usize,
    block: usize,
    acc: &mut [Sums; TOKENS],
) -> usize {
    /// Tokens at once: as many sums as hide the latency of the multiplier.
    const STEP: usize = 4;
    let (cols, size) = (task.weights.cols(), const { DType::ALL[DTYPE].block_bytes() });
    let (panel, first) = (task.weights.panel(panel), block * TOKENS);
    let tokens = TOKENS.min(task.activations.tokens() - first);
    let x = &task.activations.values()[first * cols..(first + tokens) * cols];
    assert!(panel.len() == cols * PANEL * size && x.len() == tokens * cols, "a panel and its activations");
    // SAFETY: `k < cols` and `half < 2`, so that the 8 numbers lie in the panel.
    let weight = |k: usize, half: usize| unsafe {
        let at = panel.as_ptr().add((k * PANEL + 8 * half) * size);
        match const { DType::ALL[DTYPE] } {
            DType::F32 => _mm256_loadu_ps(at.cast()),
            DType::F16 => _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
            _ => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(
                at.cast(),
            )))),
        }
    };
    let mut token = 0;
    while token + STEP <= tokens {
        let mut sums = [[_mm256_setzero_ps(); 2]; STEP];
        for k in 0..cols {
            let w = [weight(k, 0), weight(k, 1)];
            for (t, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `token + t < tokens` and `k < cols`.
                let x = _mm256_set1_ps(unsafe { *x.get_unchecked((token + t) * cols + k) });
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm256_fmadd_ps(w, x, *sum);
                }
            }
        }
        acc[token..token + STEP].copy_from_slice(&sums);
        token += STEP;
    }
    for (acc, x) in acc[token..tokens].iter_mut().zip(x[token * cols..].chunks_exact(cols)) {
        *acc = [_mm256_setzero_ps(); 2];
        for (k, &x) in x.iter().enumerate() {
            for (half, acc) in acc.iter_mut().enumerate() {
                *acc = _mm256_fmadd_ps(weight(k, half), _mm256_set1_ps(x), *acc);
            }
        }
    }
    tokens
}

/// A panel of a quantised type.
#[target_feature(enable = "avx2,fma,f16c")]
fn quantised<const DTYPE: usize>(panel: &[u8], x: Block<'_>, acc: &mut [Sums; TOKENS]) {
    const RECORD: usize = 2 * CHUNK;
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let tokens = x.tokens;
    let blocks = panel.len() / format.panel_block();
    assert!(tokens <= TOKENS && blocks * format.panel_block() == panel.len(), "a panel of whole blocks");
    assert!(x.groups.len() == blocks * format.chunks * tokens, "a group for every chunk and token");
    assert!(x.integers.len() == x.groups.len() * RECORD, "integers for every group");
    acc[..tokens].fill([_mm256_setzero_ps(); 2]);
    let (mut integers, mut groups) = (x.integers.as_ptr(), x.groups.as_ptr());
    let mut w = [[[_mm256_setzero_si256(); 2]; 2]; 8];
    for block in panel.chunks_exact(format.panel_block()) {
        for chunk in 0..format.chunks {
            words::<DTYPE>(&block[format.quads(chunk)..format.quads(chunk + 1)], &mut w);
            let scales = scales::<DTYPE>(block, chunk);
            let mut token = 0;
            // SAFETY: as many records and groups as chunks times tokens, by the assertions above.
            unsafe {
                while token + STEP <= tokens {
                    let acc = acc[token..token + STEP].as_mut_array().expect("as many");
                    step::<DTYPE, STEP>(&w, &scales, integers, groups, acc);
                    (integers, groups) = (integers.add(STEP * RECORD), groups.add(STEP));
                    token += STEP;
                }
                for acc in &mut acc[token..tokens] {
                    step::<DTYPE, 1>(&w, &scales, integers, groups, std::array::from_mut(acc));
                    (integers, groups) = (integers.add(RECORD), groups.add(1));
                }
            }
        }
    }
}

/// `N` tokens and one chunk.
///
/// # Safety
/// `integers` and `groups` must be readable for `N` records and groups.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn step<const DTYPE: usize, const N: usize>(
    w: &Words,
    scales: &Scales,
    integers: *const u8,
    groups: *const Group,
    acc: &mut [Sums; N],
) {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let quads = 8 / format.groups;
    let mut part = [[_mm256_setzero_ps(); 2]; N];
    for g in 0..format.groups {
        let mut sums = [[[_mm256_setzero_si256(); 2]; 2]; N];
        for i in g * quads..(g + 1) * quads {
            for (token, sums) in sums.iter_mut().enumerate() {
                // SAFETY: a record has 8 quads of words; the caller promises N records.
                let a = unsafe {
                    _mm256_set1_epi64x(integers.add(token * 2 * CHUNK + 8 * i).cast::<i64>().read_unaligned())
                };
                for (sums, w) in sums.iter_mut().zip(&w[i]) {
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*w, a));
                    }
                }
            }
        }
        for token in 0..N {
            // SAFETY: the caller promises N groups. Two groups: the halves' sums; one: the whole one.
            let minus_sum =
                unsafe { (*groups.add(token)).minus_sum[if format.groups == 2 { 1 + g } else { 0 }] };
            let minus_sum = _mm256_set1_ps(minus_sum as f32);
            for half in 0..2 {
                let sum = _mm256_hadd_epi32(sums[token][half][0], sums[token][half][1]);
                let (sum, part) = (_mm256_cvtepi32_ps(sum), &mut part[token][half]);
                let d = scales.d[g][half];
                *part = if g == 0 { _mm256_mul_ps(sum, d) } else { _mm256_fmadd_ps(sum, d, *part) };
                if format.minimum {
                    *part = _mm256_fmadd_ps(minus_sum, scales.minus_m[g][half], *part);
                }
            }
        }
    }
    for token in 0..N {
        // SAFETY: the caller promises N groups.
        let scale = _mm256_set1_ps(unsafe { (*groups.add(token)).scale });
        for (acc, part) in acc[token].iter_mut().zip(part[token]) {
            *acc = _mm256_fmadd_ps(part, scale, *acc);
        }
    }
}

/// The scales of a chunk's groups: `value = d · (u − offset) − minus_m`.
struct Scales {
    d: [Sums; 2],
    minus_m: [Sums; 2],
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scales<const DTYPE: usize>(block: &[u8], chunk: usize) -> Scales {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    assert!(block.len() == format.panel_block() && chunk < format.chunks, "a chunk of a block");
    let zero = [_mm256_setzero_ps(); 2];
    let mut scales = Scales { d: [zero; 2], minus_m: [zero; 2] };
    for half in 0..2 {
        // SAFETY: a block begins with 16 half-precision numbers, and with 32 if it has minima; the sub-scales of
        // a chunk lie inside the block, 16 bytes each.
        unsafe {
            let float =
                |at: usize| _mm256_cvtph_ps(_mm_loadu_si128(block.as_ptr().add(at + 16 * half).cast()));
            let sub = |row: usize| {
                let at = block.as_ptr().add(format.sub_scales(chunk) + row * PANEL + 8 * half);
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast())))
            };
            let d = float(0);
            let m = if format.minimum { float(Format::MINIMA) } else { zero[0] };
            for g in 0..format.groups {
                if format.two_level() {
                    scales.d[g][half] = _mm256_mul_ps(d, sub(g));
                    if format.minimum {
                        scales.minus_m[g][half] = _mm256_mul_ps(m, sub(format.groups + g));
                    }
                } else {
                    scales.d[g][half] = d;
                    scales.minus_m[g][half] = _mm256_sub_ps(zero[0], m);
                }
            }
        }
    }
    scales
}

/// The integers of a chunk less the offset, as words.
#[inline]
#[target_feature(enable = "avx2")]
fn words<const DTYPE: usize>(bytes: &[u8], words: &mut Words) {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    assert!(bytes.len() == format.bits * 64, "a chunk");
    let (low, high) = (_mm256_set1_epi8(0x0f), _mm256_set1_epi8(0x30));
    let (zero, offset) = (_mm256_setzero_si256(), _mm256_set1_epi16(format.offset as i16));
    for half in 0..2 {
        // SAFETY: a chunk has `bits` lines of 64 bytes.
        let line = |i: usize| unsafe { _mm256_loadu_si256(bytes.as_ptr().add(64 * i + 32 * half).cast()) };
        for i in 0..8 {
            let mut u = match (format.bits, i / 4) {
                (8, _) => line(i),
                (_, 0) => _mm256_and_si256(line(i), low),
                _ => _mm256_and_si256(_mm256_srli_epi16::<4>(line(i - 4)), low),
            };
            if format.bits == 6 {
                let pairs = line(4 + i / 4);
                let pairs = match i % 4 {
                    0 => _mm256_slli_epi16::<4>(pairs),
                    1 => _mm256_slli_epi16::<2>(pairs),
                    2 => pairs,
                    _ => _mm256_srli_epi16::<2>(pairs),
                };
                u = _mm256_or_si256(u, _mm256_and_si256(pairs, high));
            }
            words[i][half] = [
                _mm256_sub_epi16(_mm256_unpacklo_epi8(u, zero), offset),
                _mm256_sub_epi16(_mm256_unpackhi_epi8(u, zero), offset),
            ];
        }
    }
}
