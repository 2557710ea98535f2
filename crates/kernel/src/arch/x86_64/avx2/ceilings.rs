//! Peaks: independent chains of one instruction, as many as hide its latency.
use crate::ceilings::Arithmetic;
use std::arch::x86_64::*;
use std::hint::black_box;

/// Independent sums.
const CHAINS: usize = 12;

/// See [`crate::Kernels::burn`]. The integer product of this set takes 16-bit words.
#[target_feature(enable = "avx2,fma")]
pub(super) fn burn(arithmetic: Arithmetic, rounds: usize) -> Option<usize> {
    match arithmetic {
        Arithmetic::F32 => {
            let factor = black_box(_mm256_set1_ps(0.5));
            let mut sums = black_box([factor; CHAINS]);
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, factor, factor);
                }
            }
            black_box(sums);
            Some(2 * 8 * CHAINS)
        }
        Arithmetic::Int8 => {
            let factor = black_box(_mm256_set1_epi16(3));
            let mut sums = black_box([factor; CHAINS]);
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*sum, factor));
                }
            }
            black_box(sums);
            Some(2 * 16 * CHAINS)
        }
        Arithmetic::Bf16 => None,
    }
}
