//! The seam between a model and what it attends to.
mod balance;
mod batch;
mod dense;

pub use batch::Batch;
pub use dense::{Dense, Visible};

use std::fmt::Debug;
use std::ops::Range;

/// What one layer hands to attention for one run of tokens.
#[derive(Debug, Clone, Copy)]
pub struct Qkv<'a> {
    /// `[tokens, heads, head_dim]`, not yet rotated.
    pub queries: &'a [f32],
    /// `[tokens, kv_heads, head_dim]`, not yet rotated, and **without** [`Qkv::key_bias`].
    pub keys: &'a [f32],
    /// `[tokens, kv_heads, head_dim]`.
    pub values: &'a [f32],
    /// `[kv_heads, head_dim]`: what the layer adds to every key before rotation, if it has such a bias. It comes
    /// apart because it can be huge (Qwen2): whoever stores keys in few bits stores them without it.
    pub key_bias: Option<&'a [f32]>,
}

/// What a model can attend to: everything so far (dense attention), or what a memory chooses.
///
/// Keys arrive unrotated and rotation belongs to the implementation, so that a block can stand at another
/// position in another prompt.
pub trait Attention: Debug {
    /// Why it may fail: only reading cold blocks can.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Take in the keys and values of the tokens at `positions`, then write the mixed values of every query,
    /// `[tokens, heads, head_dim]`, to `out`.
    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Self::Error>;
}
