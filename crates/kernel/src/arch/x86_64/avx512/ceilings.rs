//! Peaks: independent chains of one instruction, as many as hide its latency.
use crate::ceilings::Arithmetic;
use std::arch::x86_64::*;
use std::hint::black_box;

/// Independent sums.
const CHAINS: usize = 16;

/// See [`crate::Kernels::burn`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn burn(arithmetic: Arithmetic, rounds: usize) -> Option<usize> {
    match arithmetic {
        Arithmetic::F32 => {
            let factor = black_box(_mm512_set1_ps(0.5));
            let mut sums = black_box([factor; CHAINS]);
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, factor, factor);
                }
            }
            black_box(sums);
            Some(2 * 16 * CHAINS)
        }
        Arithmetic::Int8 => {
            let factor = black_box(_mm512_set1_epi8(3));
            let mut sums = black_box([factor; CHAINS]);
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm512_dpbusd_epi32(*sum, factor, factor);
                }
            }
            black_box(sums);
            Some(2 * 64 * CHAINS)
        }
        Arithmetic::Bf16 if is_x86_feature_detected!("avx512bf16") => {
            // SAFETY: just detected.
            Some(unsafe { burn_bf16(rounds) })
        }
        Arithmetic::Bf16 => None,
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn burn_bf16(rounds: usize) -> usize {
    // SAFETY: the types are both 512 bits, of which any pattern is a value.
    let factor = unsafe { std::mem::transmute::<__m512i, __m512bh>(black_box(_mm512_set1_epi16(0x3f00))) };
    let mut sums = black_box([_mm512_setzero_ps(); CHAINS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, factor, factor);
        }
    }
    black_box(sums);
    2 * 32 * CHAINS
}
