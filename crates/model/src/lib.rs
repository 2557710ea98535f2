//! Files of weights to a decoder: tokens in, logits out, attention left to the caller. And to an [`Encoder`]: tokens
//! in, a vector for each out.
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
//!
//! ```
//! use longleaf_kernel::{Compute, KvFormat};
//! use longleaf_model::{Decoder, Dense, Scratch, Visible};
//! use std::{path::Path, sync::Arc};
//!
//! # fn main() -> Result<(), longleaf_model::Error> {
//! let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/smollm2");
//! let compute = Arc::new(Compute::new(2));
//! let decoder = Decoder::load(&folder, &compute)?;
//! let mut dense = Dense::new(decoder.config(), compute, KvFormat::F32, Visible::All, 8);
//! let mut scratch = Scratch::new();
//! let Ok(logits) = decoder.forward(&[1, 2, 3], 0, &mut dense, &mut scratch);
//! assert_eq!(logits.len(), decoder.config().vocab_size);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]
mod attention;
mod checkpoint;
mod config;
mod decoder;
mod encoder;
mod error;
mod families;
#[doc(hidden)]
pub mod fuzzing;
pub mod gguf;
mod layer;
mod mapping;
mod rope;
mod rows;
mod safetensors;
mod weights;

pub use attention::{Attention, Batch, Dense, Qkv, Visible};
pub use checkpoint::Checkpoint;
pub use config::{Config, Rope, RopeScaling};
pub use decoder::{Decoder, PREFILL_TOKENS, Scratch};
pub use encoder::{Encoder, EncoderConfig, EncoderScratch, Packing};
pub use error::Error;
pub use families::families;
pub use gguf::Gguf;
pub use rope::Rotation;
pub use safetensors::Folder;
pub use weights::{RowOrder, Tensor, Weights};
