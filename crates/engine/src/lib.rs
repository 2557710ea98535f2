//! The library people use: models by name, sampling, answers.
//!
//! * [`Library`]: a model's name to files on this machine ([`registry`] lists the known ones).
//! * [`Model`]: weights, tokenizer and chat template; [`Session`]: one sequence on it, which answers a [`Request`].
//! * [`Memory`]: documents of any length on disk, and answers from them with citations.
//! * [`Embedder`]: texts to vectors that are near where meanings are.
//! * [`Sampler`]: logits to a token, the same ones for the same seed.
//! * [`passages`]: short texts ranked by words and meaning.
//! * [`needle`]: facts hidden in long texts, to see whether they are found.
//! * [`scoring`]: how probable a model finds a text.
//! * [`Error`], whose [`kind`](Error::kind) says what a caller can do about it.
#![forbid(unsafe_code)]
mod attending;
pub mod embedder;
mod error;
pub mod memory;
mod model;
pub mod needle;
pub mod passages;
pub mod pull;
pub mod registry;
pub mod sampler;
pub mod scoring;
mod session;
pub mod speed;
mod stop;
mod vocabulary;
mod wording;

pub use attending::Attending;
pub use embedder::Embedder;
pub use error::{Error, ErrorKind};
pub use longleaf_kernel as kernel;
pub use longleaf_memory as store;
pub use longleaf_memory::adaptive;
pub use longleaf_model::Visible;
pub use longleaf_text::{Document, Message, Role, Special, TokenId};
pub use memory::Memory;
pub use model::Model;
pub use pull::{Library, Location, PullEvent, Sources};
pub use sampler::{Sampler, Sampling};
pub use session::{Answer, FinishReason, Progress, Request, Session};
pub use stop::StopStrings;
pub use wording::Wording;
