//! Files of weights to a decoder: tokens in, logits out, attention left to the caller.
//!
//! ```text
//! path ─► Checkpoint (Gguf | Folder) ─► Config      what the file says of itself, by the table in `families`
//!                    │ Weights                       names and shapes, zero copy from the mapping
//!                    ▼
//!                 Decoder ── forward(tokens, first, attention, scratch) ─► logits
//!                    │ per layer: norm, q k v
//!                    ▼
//!                 Attention (Dense here; a memory elsewhere)
//! ```
//!
//! * Files are hostile. Every length, offset and count is checked against the file before it is used, all shapes
//!   are settled when a [`Decoder`] is made, and after that a forward pass can fail only where its attention can.
//! * A [`Decoder`] is immutable and holds no keys or values; [`Scratch`] is what one caller reuses, and the
//!   attention is what one sequence keeps.
//! * Families are data: one table, one layer. What is not in the table is refused by name.
//! * Rotary embeddings use one convention, halves; rows stored in pairs are reordered when they are packed.
#![deny(unsafe_code)]
mod attention;
mod checkpoint;
mod config;
mod decoder;
mod error;
mod families;
#[doc(hidden)]
pub mod fuzzing;
pub mod gguf;
mod layer;
mod mapping;
mod rope;
mod safetensors;
mod weights;

pub use attention::{Attention, Dense, Qkv, Visible};
pub use checkpoint::Checkpoint;
pub use config::{Config, Rope, RopeScaling};
pub use decoder::{Decoder, PREFILL_TOKENS, Scratch};
pub use error::Error;
pub use families::families;
pub use gguf::Gguf;
pub use rope::Rotation;
pub use safetensors::Folder;
pub use weights::{RowOrder, Tensor, Weights};
