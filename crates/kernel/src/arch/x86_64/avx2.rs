//! 256-bit vectors: AVX2, FMA and F16C (2013 on).
use crate::Kernels;

/// Proof that this machine has AVX2, FMA and F16C.
#[derive(Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token, if the CPU and the system allow it.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: Avx2 = Avx2(());
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        found.then_some(&TOKEN)
    }
}

impl Kernels for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }
}
