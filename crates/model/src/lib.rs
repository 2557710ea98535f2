//! Files of weights to a decoder: tokens in, logits out, attention left to the caller.
#![forbid(unsafe_code)]
mod attention;
pub use attention::{Attention, Qkv};
