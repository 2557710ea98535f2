//! Activations to fixed point: largest magnitude, one division, round, split into bytes, add up.
use crate::Precision;
use crate::activations::{Group, Operand, Quantise, SPAN};
use crate::block::CHUNK;
use std::arch::x86_64::*;

/// Fill a block in the form of [`Operand::Bytes`] or [`Operand::Spans`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn quantise(block: &mut Quantise<'_>) {
    if block.operand() == Operand::Spans {
        return block.spans(|x, out| span(x, out));
    }
    match block.precision() {
        Precision::Exact => block.each::<{ 2 * CHUNK }>(|x, out| {
            let (scale, a) = fixed_point(Precision::Exact.limit(), x);
            // The low byte of `a` is `low`; what is left when it counts as signed is `high`.
            let high = a.map(|a| _mm512_srai_epi32::<8>(_mm512_add_epi32(a, _mm512_set1_epi32(128))));
            let (high_out, low_out) = out.split_at_mut(CHUNK);
            store(high, high_out);
            store(a, low_out);
            group(scale, a)
        }),
        Precision::Fast | Precision::Coarse => block.each::<CHUNK>(|x, out| {
            let (scale, a) = fixed_point(Precision::Fast.limit(), x);
            store(a, out);
            group(scale, a)
        }),
    }
}

/// `scale` and `a` with `x ≈ scale · a` and `|a| ≤ limit`, as [`crate::activations`] defines them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn fixed_point(limit: f32, x: &[f32; CHUNK]) -> (f32, [__m512i; 2]) {
    // SAFETY: 32 numbers.
    let x = unsafe { [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16))] };
    let [first, second] = x.map(|x| _mm512_castps_si512(_mm512_abs_ps(x)));
    // Magnitudes order like their bits, NaN highest.
    let max = f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(first, second)));
    let inverse = _mm512_set1_ps(if max < 1e-30 { 0.0 } else { limit / max });
    (max * (1.0 / limit), x.map(|x| _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse))))
}

/// The low bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn store([first, second]: [__m512i; 2], out: &mut [u8]) {
    assert!(out.len() == CHUNK, "32 bytes");
    // SAFETY: the length is asserted.
    unsafe {
        _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(first));
        _mm_storeu_si128(out.as_mut_ptr().add(16).cast(), _mm512_cvtepi32_epi8(second));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn group(scale: f32, [first, second]: [__m512i; 2]) -> Group {
    Group::new(scale, _mm512_reduce_add_epi32(first), _mm512_reduce_add_epi32(second))
}

/// One span, as [`Operand::Spans`] has it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn span(x: &[f32; SPAN], out: &mut [u8; SPAN]) -> Group {
    let limit = Precision::Coarse.limit();
    // SAFETY: 64 numbers.
    let x = unsafe {
        let x = x.as_ptr();
        [
            _mm512_loadu_ps(x),
            _mm512_loadu_ps(x.add(16)),
            _mm512_loadu_ps(x.add(32)),
            _mm512_loadu_ps(x.add(48)),
        ]
    };
    // Loops, no closures: `map` over an array would not be inlined here.
    let mut max = _mm512_setzero_si512();
    for x in x {
        max = _mm512_max_epu32(max, _mm512_castps_si512(_mm512_abs_ps(x)));
    }
    let max = f32::from_bits(_mm512_reduce_max_epu32(max));
    let inverse = _mm512_set1_ps(if max < 1e-30 { 0.0 } else { limit / max });
    let mut sum = _mm512_setzero_si512();
    for (x, out) in x.into_iter().zip(out.as_chunks_mut::<16>().0) {
        let a = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
        sum = _mm512_add_epi32(sum, a);
        // SAFETY: 16 bytes.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(a)) };
    }
    Group { scale: max * (1.0 / limit), minus_sum: [_mm512_reduce_add_epi32(sum).wrapping_mul(-128), 0, 0] }
}
