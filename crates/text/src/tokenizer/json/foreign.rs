//! The tokenizers library behind our interface, for every kind of tokenizer that is not our own.

use super::{FILE, broken};
use crate::{Error, Span, TokenId};

/// A tokenizer of the library, without truncation, padding and control tokens.
#[derive(Debug)]
pub(in crate::tokenizer) struct Foreign {
    tokenizer: tokenizers::Tokenizer,
    /// Ids of control tokens, ascending: no text may become one, whatever the file says.
    control: Vec<TokenId>,
}

impl Foreign {
    pub(super) fn new(json: &[u8], control: Vec<TokenId>) -> Result<Self, Error> {
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(|error| broken(FILE, error))?;
        tokenizer.with_truncation(None).map_err(|error| broken(FILE, error))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        Ok(Self { tokenizer, control })
    }

    /// Calls `token` for each token of `text`, which holds no control token.
    ///
    /// The library fails only on vocabularies without the pieces or the unknown token that a text needs; that
    /// text then has no tokens.
    pub(in crate::tokenizer) fn encode(&self, text: &str, mut token: impl FnMut(TokenId, Span)) {
        if let Ok(encoding) = self.tokenizer.encode(text, false) {
            for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
                if self.control.binary_search(&id).is_err() {
                    token(id, Span { start, end });
                }
            }
        }
    }
}
