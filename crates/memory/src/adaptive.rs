//! Adaptive attention: a model attends to what a memory holds of far text, as much of it as matters.
//!
//! ```text
//! far text   blocks of 128 tokens, layer by layer: keys (not rotated, without their bias) and values   FarBlocks
//!            and of each block and KV head a summary (k', b'):  q·k' / √d + b' ≈ ln Σ e^(q·k / √d)      Summarizer
//! ```
//! [`FarBlocks`] is where the blocks come from: [`RamBlocks`] keeps them as they were pushed and is what every other
//! implementation is compared with.
mod far;
mod summary;

pub use far::{FarBlock, FarBlocks, RamBlocks};
pub use summary::{PRIOR_DISTANCE, Summarizer};
