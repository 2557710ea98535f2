//! 512-bit vectors: AVX-512 F, BW, DQ, VL and VNNI (Ice Lake, Zen 4 and later).
mod matmul;

use crate::Kernels;
use crate::activations::{Operand, Quantise};
use crate::matmul::Matmul;

/// Proof that this machine has AVX-512 F, BW, DQ, VL and VNNI, and everything [`super::avx2`] asks for.
#[derive(Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token, if the CPU and the system allow it.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: Avx512 = Avx512(());
        let found = super::avx2::Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(&TOKEN)
    }
}

impl Kernels for Avx512 {
    fn name(&self) -> &'static str {
        "avx512"
    }

    fn operand(&self) -> Operand {
        Operand::Bytes
    }

    fn quantise(&self, block: &mut Quantise<'_>) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn compiled_for_this_set(block: &mut Quantise<'_>) {
            block.bytes();
        }
        // SAFETY: the token proves the instructions.
        unsafe { compiled_for_this_set(block) }
    }

    fn matmul(&self, task: Matmul<'_>) {
        // SAFETY: the token proves the instructions.
        unsafe { matmul::matmul(task) }
    }
}
