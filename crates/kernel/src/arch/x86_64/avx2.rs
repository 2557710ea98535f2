//! 256-bit vectors: AVX2, FMA and F16C (2013 on).
pub(super) mod attention;
mod ceilings;
mod matmul;
mod ops;

use crate::activations::{Operand, Quantise};
use crate::arch::scalar;
use crate::attention::{Mix, Scores, Weights};
use crate::ceilings::Arithmetic;
use crate::matmul::Matmul;
use crate::quantised::{DequantiseHead, QuantiseHead};
use crate::{Kernels, Precision};

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

    fn scores(&self, scores: &mut Scores<'_>) {
        attention::scores(self, scores);
    }

    fn weights(&self, weights: &mut Weights<'_>) {
        attention::weights(self, weights);
    }

    fn mix(&self, mix: &mut Mix<'_>) {
        attention::mix(self, mix);
    }

    fn blend(&self, x: &mut [f32], a: f32, y: &[f32], b: f32) {
        ops::blend(self, x, a, y, b);
    }

    fn scale(&self, x: &[f32], factor: f32, out: &mut [f32]) {
        ops::scale(self, x, factor, out);
    }

    fn pack_pairs(&self, x: &[f32], factor: f32, words: &mut [u32]) {
        ops::pack_pairs(self, x, factor, words);
    }

    fn pack_query(&self, x: &[f32], factor: f32, words: &mut [u32]) -> (f32, bool) {
        attention::pack_query(self, x, factor, words)
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        ops::rms_norm(self, x, weight, eps, out);
    }

    fn layer_norm(&self, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        ops::layer_norm(self, x, weight, bias, eps);
    }

    fn gelu(&self, x: &mut [f32]) {
        ops::gelu(self, x);
    }

    fn swiglu(&self, gate: &mut [f32], up: &[f32]) {
        ops::swiglu(self, gate, up);
    }

    fn add(&self, x: &mut [f32], y: &[f32]) {
        ops::add(self, x, y);
    }

    fn log_mass(&self, x: &[f32], scale: f32) -> f32 {
        ops::log_mass(self, x, scale)
    }

    fn rope(&self, row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
        ops::rope(self, row, head_dim, cos, sin);
    }

    fn operand(&self, _precision: Precision) -> Operand {
        Operand::Words
    }

    fn quantise(&self, block: &mut Quantise<'_>) {
        #[target_feature(enable = "avx2,fma")]
        fn compiled_for_this_set(block: &mut Quantise<'_>) {
            block.words();
        }
        // SAFETY: the token proves the instructions.
        unsafe { compiled_for_this_set(block) }
    }

    fn matmul(&self, task: Matmul<'_>) {
        // SAFETY: the token proves the instructions.
        unsafe { matmul::matmul(task) }
    }

    fn quantise_kv(&self, head: &mut QuantiseHead<'_>) {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled_for_this_set(head: &mut QuantiseHead<'_>) {
            scalar::quantised::quantise_head(head);
        }
        // SAFETY: the token proves the instructions.
        unsafe { compiled_for_this_set(head) }
    }

    fn dequantise_kv(&self, head: &mut DequantiseHead<'_>) {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled_for_this_set(head: &mut DequantiseHead<'_>) {
            scalar::quantised::dequantise_head(head);
        }
        // SAFETY: the token proves the instructions.
        unsafe { compiled_for_this_set(head) }
    }

    fn burn(&self, arithmetic: Arithmetic, rounds: usize) -> Option<usize> {
        // SAFETY: the token proves the instructions.
        unsafe { ceilings::burn(arithmetic, rounds) }
    }
}
