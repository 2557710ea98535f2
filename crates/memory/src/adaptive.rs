//! Adaptive attention: a model attends to what a memory holds of far text, as much of it as matters.
//!
//! ```text
//! far text   blocks of 128 tokens, layer by layer: keys (not rotated, without their bias) and values   FarBlocks
//!            and of each block and KV head a summary (k', b'):  q·k' / √d + b' ≈ ln Σ e^(q·k / √d)      Summarizer
//!
//! for each layer, for each run of queries (or once for a question, then pinned):
//!     l   = log mass of sinks and local window under the queries that choose
//!     m_b = estimated log mass of every far block                                                     index.rs
//!     read blocks in descending order of their share of Σ e^m                                        choice.rs
//!         until what is left is below ε of it, or there is no more room
//!     look at a random sample of what is left, exactly: a bound on its mass; beyond ε of all that is read? read
//!         twice as many
//! attend to   sinks ‖ far blocks in document order ‖ local window
//! ```
//! [`FarBlocks`] is where the blocks come from: [`RamBlocks`] keeps them as they were pushed and is what every other
//! implementation is compared with. [`Adaptive`] with [`Budget::Unlimited`] is dense attention, bit for bit if the
//! sinks are a whole block.
mod angles;
mod attention;
mod choice;
mod choosing;
mod far;
mod index;
mod place;
mod runs;
mod settings;
mod sources;
mod summary;

pub use attention::Adaptive;
pub use choice::Unread;
pub use far::{FarBlock, FarBlocks, RamBlocks};
pub use settings::{Positions, Settings, Statistics};
pub use summary::{PRIOR_DISTANCE, Summarizer};

/// How much of the far text is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// So many blocks.
    Blocks(usize),
    /// Blocks until those that are not read have at most this share of the far attention, by estimate, the mean over
    /// the heads and queries that choose.
    Mass(f64),
    /// All, at their true positions, however far: dense attention.
    Unlimited,
}
