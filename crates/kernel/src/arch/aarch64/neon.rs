//! 128-bit vectors: NEON, which every 64-bit Arm has, with or without its byte dot products.
//!
//! Element-wise operations and the softmax are the portable ones: NEON is what compilers make of them here.
mod matmul;

use crate::activations::{Operand, Quantise};
use crate::arch::scalar;
use crate::attention::{Mix, Scores, Weights};
use crate::matmul::Matmul;
use crate::{Kernels, Precision};
use std::arch::is_aarch64_feature_detected;

/// Proof that this machine has NEON.
#[derive(Debug)]
pub(crate) struct Neon(());

/// Proof that this machine has NEON and byte dot products (`FEAT_DotProd`: nearly every core since 2018).
#[derive(Debug)]
pub(crate) struct Dotprod(());

impl Neon {
    /// The token, if the CPU and the system allow it.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: Neon = Neon(());
        is_aarch64_feature_detected!("neon").then_some(&TOKEN)
    }
}

impl Dotprod {
    /// The token, if the CPU and the system allow it.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: Dotprod = Dotprod(());
        (Neon::detect().is_some() && is_aarch64_feature_detected!("dotprod")).then_some(&TOKEN)
    }
}

macro_rules! kernels {
    ($set:ident, $name:literal, $matmul:ident) => {
        impl Kernels for $set {
            fn name(&self) -> &'static str {
                $name
            }

            fn operand(&self, _precision: Precision) -> Operand {
                Operand::Bytes
            }

            fn quantise(&self, block: &mut Quantise<'_>) {
                block.bytes();
            }

            fn matmul(&self, task: Matmul<'_>) {
                // SAFETY: the token proves the instructions.
                unsafe { matmul::$matmul(task) }
            }

            fn scores(&self, call: &mut Scores<'_>) {
                scalar::attention::scores::<true>(call);
            }

            fn weights(&self, call: &mut Weights<'_>) {
                scalar::attention::weights(call);
            }

            fn mix(&self, call: &mut Mix<'_>) {
                scalar::attention::mix::<true>(call);
            }
        }
    };
}
kernels!(Neon, "neon", with_multiplications);
kernels!(Dotprod, "dotprod", with_dot_products);
