//! The table of operations for one instruction set.
use crate::activations::{Operand, Quantise};
use crate::arch::{self, scalar};
use crate::attention::{Mix, Scores, Weights};
use crate::ceilings::{Arithmetic, burn_f32};
use crate::matmul::Matmul;
use crate::quantised::{DequantiseHead, QuantiseHead};
use crate::{KvFormat, Precision};
use std::fmt::Debug;
use std::sync::OnceLock;

/// Everything an instruction set may do faster than plain Rust. The defaults are the scalar versions, and they
/// are the meaning. No method knows of threads.
pub trait Kernels: Sync + Debug {
    /// Name for logs, benches and the override flag.
    fn name(&self) -> &'static str;

    /// The form of fixed-point activations that [`Kernels::matmul`] takes.
    fn operand(&self, _precision: Precision) -> Operand {
        Operand::Float
    }

    /// Bring one block of activations to fixed point. Not called if [`Kernels::operand`] is `Float`.
    fn quantise(&self, _block: &mut Quantise<'_>) {}

    /// `out[t, r] = Σ_k weights[r, k] · activations[t, k]` for some panels and some blocks of tokens. For any
    /// cutting into tasks every output has the same bits.
    fn matmul(&self, task: Matmul<'_>) {
        task.scalar();
    }

    /// Whether [`Kernels::scores`] takes queries row by row, `[STRIP][steps]`, rather than `[steps][STRIP]`.
    fn query_rows(&self, _format: KvFormat) -> bool {
        false
    }

    /// Scores of queries and keys.
    fn scores(&self, scores: &mut Scores<'_>) {
        scalar::attention::scores::<false>(scores);
    }

    /// Softmax weights from scores.
    fn weights(&self, weights: &mut Weights<'_>) {
        scalar::attention::weights(weights);
    }

    /// Values by weights.
    fn mix(&self, mix: &mut Mix<'_>) {
        scalar::attention::mix::<false>(mix);
    }

    /// `x = a · x + b · y`.
    fn blend(&self, x: &mut [f32], a: f32, y: &[f32], b: f32) {
        scalar::ops::blend(x, a, y, b);
    }

    /// `out = factor · x`.
    fn scale(&self, x: &[f32], factor: f32, out: &mut [f32]) {
        scalar::ops::scale(x, factor, out);
    }

    /// `factor · x` as pairs of bf16, the first of a pair in the lower half; what is left of `words` becomes 0.
    fn pack_pairs(&self, x: &[f32], factor: f32, words: &mut [u32]) {
        scalar::ops::pack_pairs(x, factor, words);
    }

    /// `factor · x`, a query for [`KvFormat::Int8`]: what one unit of its high bytes stands for, and whether it has low
    /// bytes. `words` are for a head of `x.len()` numbers, rounded up to a multiple of 16.
    fn pack_query(&self, x: &[f32], factor: f32, words: &mut [u32]) -> (f32, bool) {
        scalar::ops::pack_query(x, factor, words)
    }

    /// One row of [`crate::Compute::rms_norm`].
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        scalar::ops::rms_norm(x, weight, eps, out);
    }

    /// One row of [`crate::Compute::layer_norm`].
    fn layer_norm(&self, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        scalar::ops::layer_norm(x, weight, bias, eps);
    }

    /// [`crate::Compute::gelu`].
    fn gelu(&self, x: &mut [f32]) {
        scalar::ops::gelu(x);
    }

    /// [`crate::Compute::swiglu`].
    fn swiglu(&self, gate: &mut [f32], up: &[f32]) {
        scalar::ops::swiglu(gate, up);
    }

    /// [`crate::Compute::add`].
    fn add(&self, x: &mut [f32], y: &[f32]) {
        scalar::ops::add(x, y);
    }

    /// `ln Σ_i e^(scale · x[i])`.
    fn log_mass(&self, x: &[f32], scale: f32) -> f32 {
        scalar::ops::log_mass(x, scale)
    }

    /// One row of [`crate::Compute::rope`].
    fn rope(&self, row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
        scalar::ops::rope(row, head_dim, cos, sin);
    }

    /// [`crate::Compute::quantise_kv`], one head of one block.
    fn quantise_kv(&self, head: &mut QuantiseHead<'_>) {
        scalar::quantised::quantise_head(head);
    }

    /// [`crate::Compute::dequantise_kv`], one head of one block.
    fn dequantise_kv(&self, head: &mut DequantiseHead<'_>) {
        scalar::quantised::dequantise_head(head);
    }

    /// Run `rounds` rounds of independent multiply-adds from registers; how many operations one round is, or
    /// `None` if the set has no such instruction. For [`crate::ceilings`].
    fn burn(&self, arithmetic: Arithmetic, rounds: usize) -> Option<usize> {
        (arithmetic == Arithmetic::F32).then(|| burn_f32(rounds))
    }
}

/// Every kernel set this machine can run, fastest first, `scalar` last.
pub fn supported() -> Vec<&'static dyn Kernels> {
    let mut sets: Vec<&'static dyn Kernels> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use arch::x86_64::{avx2::Avx2, avx512::Avx512};
        #[cfg(target_os = "linux")]
        if let Some(token) = arch::x86_64::amx::Amx::detect() {
            sets.push(token);
        }
        if let Some(token) = Avx512::detect() {
            sets.push(token);
        }
        if let Some(token) = Avx2::detect() {
            sets.push(token);
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use arch::aarch64::neon::{Dotprod, Neon};
        if let Some(token) = Dotprod::detect() {
            sets.push(token);
        }
        if let Some(token) = Neon::detect() {
            sets.push(token);
        }
    }
    sets.push(&scalar::Scalar);
    sets
}

/// The fastest set, found once.
pub fn best() -> &'static dyn Kernels {
    static BEST: OnceLock<&'static dyn Kernels> = OnceLock::new();
    *BEST.get_or_init(|| supported()[0])
}

/// The set of that name, if this machine can run it.
pub fn by_name(name: &str) -> Option<&'static dyn Kernels> {
    supported().into_iter().find(|kernels| kernels.name() == name)
}

/// The set for AMX whether or not this machine has AMX, if it has the AVX-512 that goes with it: for tests that
/// emulate the instructions.
///
/// # Safety
/// Something answers AMX instructions in this process.
#[doc(hidden)]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub unsafe fn amx_unchecked() -> Option<&'static dyn Kernels> {
    // SAFETY: the caller's promise.
    let token = unsafe { arch::x86_64::amx::Amx::unchecked() }?;
    Some(token)
}
