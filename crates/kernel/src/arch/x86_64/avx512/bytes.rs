//! Products of bytes with bytes (`vpdpbusd`), for Coarse: activations in spans of 64, weights rounded to a row's scale.
//!
//! A scale for every 32 weights costs three f32 steps beside every eight products, on the same two pipes. Where
//! activations are rounded to 8 bits anyway, weights may be too: with one scale for a row, it is applied once at the
//! end, and what is left beside sixteen products is one step for the scale of a span.
//! ```text
//! for each panel of 16 rows:
//!     step[row] = the largest magnitude that the row's scales and minima allow / 127       known since packing
//!     w[k][row] = round(value / step) + 128, a byte                          once for all tokens of the task
//!     for each block of 16 tokens:
//!         for each span of 64 k:
//!             sum[token] = Σ_i vpdpbusd(w[i], broadcast(a[i])) − 128 · Σ a   16
//!             acc[token] += f32(sum) · scale[token]                          1
//!         out[token] = acc[token] · step
//! ```
//! Rounding is done in 16-bit integers with 6 bits behind the point: a weight is off by at most 0.53 steps. The sums
//! of all sixteen tokens stay in registers, and a broadcast rides on its product, so nothing else is left to do.
use super::matmul::{Head, quads};
use crate::activations::{Block, Operand, SPAN, TOKENS};
use crate::aligned::Aligned;
use crate::block::Format;
use crate::matmul::Matmul;
use crate::packed::PANEL;
use crate::{DType, PackedMatrix};
use std::arch::x86_64::*;
use std::cell::RefCell;

/// Bits behind the point while weights are rounded.
const FRACTION: u32 = 6;

/// Bytes of a span of one panel.
const SPAN_BYTES: usize = SPAN * PANEL;

thread_local! {
    /// The bytes of one panel.
    static PANEL_BYTES: RefCell<Aligned> = RefCell::default();
}

/// Whether this is a product for the functions below.
pub(super) fn serves(task: &Matmul<'_>) -> bool {
    task.activations.operand() == Operand::Spans && Format::of(task.weights.dtype()).is_some()
}

/// The products of one task.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
pub(super) fn matmul(mut task: Matmul<'_>) {
    PANEL_BYTES.with_borrow_mut(|bytes| {
        let spans = task.weights.cols().div_ceil(SPAN);
        bytes.grow(spans * SPAN_BYTES);
        for panel in task.panels.clone() {
            let step = convert(task.weights, panel, bytes.as_mut_slice());
            let columns = task.columns(panel);
            let mask = (1_u32 << columns.len()).wrapping_sub(1) as u16;
            for (index, block) in task.blocks.clone().enumerate() {
                let x = task.activations.block(block);
                assert!(x.groups.len() == spans * x.tokens, "a group for every span and token");
                assert!(x.integers.len() == x.groups.len() * SPAN, "integers for every group");
                let mut token = 0;
                macro_rules! tokens {
                    ($($count:literal)*) => {$(
                        while x.tokens - token >= $count {
                            // SAFETY: `token + count` is within the block, whose sizes have been checked, and the
                            // panel has as many spans.
                            let sums = unsafe { product::<$count>(bytes.as_slice(), x, token, spans) };
                            for (t, sum) in sums.into_iter().enumerate() {
                                let row = index * TOKENS + token + t;
                                let out = &mut task.out.row(row)[columns.clone()];
                                // SAFETY: the mask lets through as many numbers as `out` has.
                                unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, _mm512_mul_ps(sum, step)) };
                            }
                            token += $count;
                        }
                    )*};
                }
                tokens!(16 4 1);
            }
        }
    });
}

/// `N` tokens from `token` on times a converted panel, without the rows' scales.
///
/// # Safety
/// `bytes` has `spans` spans, and the block as many of `token + N` tokens.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn product<const N: usize>(bytes: &[u8], x: Block<'_>, token: usize, spans: usize) -> [__m512; N] {
    let mut acc = [_mm512_setzero_ps(); N];
    for span in 0..spans {
        let first = span * x.tokens + token;
        // SAFETY: the caller's promise, for all pointers of this loop.
        unsafe {
            let w = bytes.as_ptr().add(span * SPAN_BYTES);
            let a = x.integers.as_ptr().add(first * SPAN);
            let groups = x.groups.as_ptr().add(first);
            let mut sums = [_mm512_setzero_si512(); N];
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_set1_epi32((*groups.add(t)).minus_sum[0]);
            }
            for i in 0..SPAN / 4 {
                let w = _mm512_load_si512(w.add(i * 64).cast());
                for (t, sum) in sums.iter_mut().enumerate() {
                    let a = a.add(t * SPAN + 4 * i).cast::<i32>().read_unaligned();
                    *sum = _mm512_dpbusd_epi32(*sum, w, _mm512_set1_epi32(a));
                }
            }
            for (t, (acc, sum)) in acc.iter_mut().zip(sums).enumerate() {
                let scale = _mm512_set1_ps((*groups.add(t)).scale);
                *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, *acc);
            }
        }
    }
    acc
}

/// Write the bytes of a panel; returns the rows' steps.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
fn convert(weights: &PackedMatrix, panel: usize, bytes: &mut [u8]) -> __m512 {
    macro_rules! with {
        ($dtype:ident) => {
            convert_quantised::<{ DType::$dtype as usize }>(
                weights.panel(panel),
                &weights.limits(panel),
                bytes,
            )
        };
    }
    match weights.dtype() {
        DType::F32 | DType::F16 | DType::BF16 => unreachable!("floats are not rounded"),
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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
fn convert_quantised<const DTYPE: usize>(panel: &[u8], limits: &[f32; PANEL], bytes: &mut [u8]) -> __m512 {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let stored = format.stored_bits;
    let lowest = _mm512_set1_ps((-format.offset) as f32);
    // SAFETY: 16 numbers.
    let most = unsafe { _mm512_loadu_ps(limits.as_ptr()) };
    let some = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(most, _mm512_set1_ps(1e-30));
    let inverse = _mm512_maskz_div_ps(some, _mm512_set1_ps(127.0), most);
    let fixed = _mm512_mul_ps(inverse, _mm512_set1_ps((1 << FRACTION) as f32));
    // Numbers of both halves of a lane, from 32-bit integers.
    let twice = _mm512_broadcast_i32x4(_mm_set_epi32(0x0d0c_0d0c, 0x0908_0908, 0x0504_0504, 0x0100_0100));
    let slope = _mm512_mul_ps(fixed, _mm512_set1_ps((1 << stored) as f32));
    let half = _mm512_set1_ps(((128 << FRACTION) + (1 << FRACTION) / 2) as f32);
    let mut out = bytes.as_chunks_mut::<64>().0.iter_mut();
    for block in panel.chunks_exact(format.panel_block()) {
        let head = Head::read::<DTYPE>(block);
        for chunk in 0..format.chunks {
            let scales = head.chunk::<DTYPE>(block, chunk);
            let quads = quads::<DTYPE>(&block[format.quads(chunk)..format.quads(chunk + 1)]);
            for g in 0..format.groups {
                let d = _mm512_mul_ps(scales.d[g], slope);
                let d = _mm512_shuffle_epi8(_mm512_cvtps_epi32(d), twice);
                let origin = _mm512_fmsub_ps(lowest, scales.d[g], scales.minus_m[g]);
                let origin = _mm512_fmadd_ps(origin, fixed, half);
                let origin = _mm512_shuffle_epi8(_mm512_cvtps_epi32(origin), twice);
                for quad in &quads[g * 8 / format.groups..(g + 1) * 8 / format.groups] {
                    let Some(out) = out.next() else { break };
                    // SAFETY: 64 bytes.
                    unsafe {
                        _mm512_storeu_si512(out.as_mut_ptr().cast(), rounded::<DTYPE>(*quad, d, origin));
                    }
                }
            }
        }
    }
    _mm512_mul_ps(most, _mm512_set1_ps(1.0 / 127.0))
}

/// `u · d + origin` for each byte `u`, to whole numbers: `d` and `origin` are 16-bit numbers for each pair of bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounded<const DTYPE: usize>(quad: __m512i, d: __m512i, origin: __m512i) -> __m512i {
    let format = const { Format::of(DType::ALL[DTYPE]).expect("a quantised type") };
    let stored = format.stored_bits;
    // The integers at the upper end of 15 bits, so that a product with `d` keeps its upper half.
    let mask = _mm512_set1_epi16((((1 << stored) - 1) << (15 - stored)) as i16);
    let even = _mm512_sll_epi16(quad, _mm_cvtsi32_si128(15 - stored as i32));
    let odd = if stored < 7 {
        _mm512_sll_epi16(quad, _mm_cvtsi32_si128(7 - stored as i32))
    } else {
        _mm512_srl_epi16(quad, _mm_cvtsi32_si128(stored as i32 - 7))
    };
    // No closure: `map` over an array would not be inlined here.
    let even = _mm512_add_epi16(_mm512_mulhrs_epi16(_mm512_and_si512(even, mask), d), origin);
    let odd = _mm512_add_epi16(_mm512_mulhrs_epi16(_mm512_and_si512(odd, mask), d), origin);
    let odd = _mm512_slli_epi16::<{ 8 - FRACTION }>(odd);
    let even = _mm512_srli_epi16::<FRACTION>(even);
    _mm512_mask_blend_epi8(0xaaaa_aaaa_aaaa_aaaa, even, odd)
}
