//! Attention with vectors of 256 bits: the portable loops, compiled for them.
//!
//! ```text
//! four rows × one line = eight sums in registers; a line of bf16 is unpacked once for four rows:
//!     2 loads + 4 shifts and masks + 4 · (1 broadcast + 2 unpacks + 4 fma)     of a pair of steps
//! ```
//!
//! Aim: 16 fma in 10 cycles, 80 % of two a cycle, for bf16; all of it for f32.
use super::Avx2;
use crate::arch::scalar::attention as portable;
use crate::attention::{Mix, Scores, Weights};

pub(in crate::arch::x86_64) fn scores(_: &Avx2, scores: &mut Scores<'_>) {
    #[target_feature(enable = "avx2,fma")]
    fn compiled(scores: &mut Scores<'_>) {
        portable::scores::<true>(scores);
    }
    // SAFETY: the token proves AVX2 and FMA.
    unsafe { compiled(scores) }
}

pub(in crate::arch::x86_64) fn weights(_: &Avx2, weights: &mut Weights<'_>) {
    #[target_feature(enable = "avx2,fma")]
    fn compiled(weights: &mut Weights<'_>) {
        portable::weights(weights);
    }
    // SAFETY: the token proves AVX2 and FMA.
    unsafe { compiled(weights) }
}

pub(in crate::arch::x86_64) fn mix(_: &Avx2, mix: &mut Mix<'_>) {
    #[target_feature(enable = "avx2,fma")]
    fn compiled(mix: &mut Mix<'_>) {
        portable::mix::<true>(mix);
    }
    // SAFETY: the token proves AVX2 and FMA.
    unsafe { compiled(mix) }
}
