//! Bytes to tokens and back, chat templates, documents with byte spans.
//!
//! * [`Tokenizer`]: text to token ids and back, from a GGUF's metadata ([`GgufVocabulary`]) or a Hugging Face
//!   `tokenizer.json`. Every token knows the bytes it came from, which is what citations stand on.
//! * [`Special`]: whether the text may contain control tokens. Prompts made by a template may; documents and
//!   whatever a user typed must not, or a file could end its own turn and speak as the system.
//! * [`DecodeStream`]: ids to text as they come, never half a character.
//! * [`ChatTemplate`]: messages to a prompt, by the model's own Jinja template.
//! * [`Document`]: a file's bytes as text, with the way back to the bytes.
//!
//! This crate depends on no other of the workspace, reads no file and starts no thread.
//!
//! ```
//! use longleaf_text::{GgufVocabulary, Special, Tokenizer};
//! let vocabulary = GgufVocabulary {
//!     model: "gpt2".into(),
//!     pre: Some("gpt-2".into()),
//!     tokens: ["a", "b", "Ġ", "ab", "Ġab"].map(String::from).to_vec(),
//!     merges: ["a b", "Ġ ab"].map(String::from).to_vec(),
//!     ..GgufVocabulary::default()
//! };
//! let tokenizer = Tokenizer::from_gguf(vocabulary)?;
//! let ids = tokenizer.encode("ab ab", Special::Text);
//! assert_eq!(ids, [3, 4]);
//! assert_eq!(tokenizer.decode(&ids), "ab ab");
//! # Ok::<(), longleaf_text::Error>(())
//! ```
#![forbid(unsafe_code)]

mod decode;
mod document;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod section;
mod template;
mod tokenizer;
mod vocabulary;

pub use decode::DecodeStream;
pub use document::{Document, Span};
pub use error::Error;
pub use section::sections;
pub use template::{ChatTemplate, Message, Role};
pub use tokenizer::{Encoding, Special, Tokenizer};
pub use vocabulary::{GgufVocabulary, TokenId};
