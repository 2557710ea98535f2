//! A memory of words already encoded: most of a text is words it has said before.

use crate::TokenId;
use foldhash::fast::FixedState;
use std::collections::HashMap;

/// Longer words are rare and seldom repeat.
const LONGEST: usize = 48;
/// Beyond this many words nothing more is remembered: about 4 MiB.
const MOST: usize = 1 << 16;

/// Words of one text and their tokens, one after another in one buffer.
#[derive(Debug, Default)]
pub(super) struct Words<'a> {
    known: HashMap<&'a str, (u32, u32), FixedState>,
    tokens: Vec<(TokenId, u32)>,
    scratch: Vec<(TokenId, u32)>,
}

impl<'a> Words<'a> {
    /// Calls `token` for each token of `word`, computing them by `merge` the first time.
    pub(super) fn encode(
        &mut self,
        word: &'a str,
        merge: impl FnOnce(&str, &mut Vec<(TokenId, u32)>),
        token: &mut impl FnMut(TokenId, usize),
    ) {
        if let Some(&(start, end)) = self.known.get(word) {
            for &(id, length) in &self.tokens[start as usize..end as usize] {
                token(id, length as usize);
            }
            return;
        }
        self.scratch.clear();
        merge(word, &mut self.scratch);
        for &(id, length) in &self.scratch {
            token(id, length as usize);
        }
        if word.len() <= LONGEST && self.known.len() < MOST {
            let start = self.tokens.len() as u32;
            self.tokens.extend_from_slice(&self.scratch);
            self.known.insert(word, (start, self.tokens.len() as u32));
        }
    }
}
