//! Bytes to tokens and back, chat templates, documents with byte spans.
#![forbid(unsafe_code)]

/// A token's number in its vocabulary.
pub type TokenId = u32;
