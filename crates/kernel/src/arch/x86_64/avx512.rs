//! 512-bit vectors: AVX-512 F, BW, DQ, VL and VNNI (Ice Lake, Zen 4 and later).
mod attention;
mod bytes;
mod ceilings;
pub(super) mod matmul;
mod ops;
mod quantise;
mod quantised;

use crate::activations::{Operand, Quantise};
use crate::arch::scalar;
use crate::attention::{Mix, Scores, Weights};
use crate::ceilings::Arithmetic;
use crate::matmul::Matmul;
use crate::quantised::{DequantiseHead, QuantiseHead};
use crate::{Kernels, KvFormat, Precision};

/// Proof that this machine has AVX-512 F, BW, DQ, VL and VNNI, and everything [`super::avx2`] asks for.
#[derive(Debug)]
pub(crate) struct Avx512(());

/// For [`super::amx`], which asks for everything this set needs.
pub(super) static TOKEN: Avx512 = Avx512(());

impl Avx512 {
    /// The token, if the CPU and the system allow it.
    pub(crate) fn detect() -> Option<&'static Self> {
        let found = super::avx2::Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        found.then_some(&TOKEN)
    }

    /// The token of the narrower set, for what this one lacks.
    fn narrow() -> &'static super::avx2::Avx2 {
        super::avx2::Avx2::detect().expect("detected together with this set")
    }
}

impl Kernels for Avx512 {
    fn name(&self) -> &'static str {
        "avx512"
    }

    fn operand(&self, precision: Precision) -> Operand {
        match precision {
            Precision::Exact | Precision::Fast => Operand::Bytes,
            Precision::Coarse => Operand::Spans,
        }
    }

    fn quantise(&self, block: &mut Quantise<'_>) {
        // SAFETY: the token proves the instructions.
        unsafe { quantise::quantise(block) }
    }

    fn matmul(&self, task: Matmul<'_>) {
        // SAFETY: the token proves the instructions.
        unsafe { if bytes::serves(&task) { bytes::matmul(task) } else { matmul::matmul(task) } }
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
        attention::pack_pairs(self, x, factor, words);
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

    fn quantise_kv(&self, head: &mut QuantiseHead<'_>) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn compiled_for_this_set(head: &mut QuantiseHead<'_>) {
            scalar::quantised::quantise_head(head);
        }
        // SAFETY: the token proves the instructions.
        unsafe { compiled_for_this_set(head) }
    }

    fn dequantise_kv(&self, head: &mut DequantiseHead<'_>) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn compiled_for_this_set(head: &mut DequantiseHead<'_>) {
            scalar::quantised::dequantise_head(head);
        }
        if head.format == KvFormat::Bf16 {
            // SAFETY: the token proves the instructions.
            scalar::quantised::with_keys(head.form.head_dim, |keys| unsafe {
                quantised::dequantise_head(head, keys);
            });
        } else {
            // SAFETY: the token proves the instructions.
            unsafe { compiled_for_this_set(head) }
        }
    }

    fn burn(&self, arithmetic: Arithmetic, rounds: usize) -> Option<usize> {
        // SAFETY: the token proves the instructions.
        unsafe { ceilings::burn(arithmetic, rounds) }
    }
}
