//! Byte-pair encoding: adjacent tokens are joined, the best-ranked pair first, until none is left.
//!
//! A text costs about as much as its different words: every word is merged once a call and remembered. Within a
//! word of n symbols merging is O(n log n) by a heap, or for the short words that most are, a scan that is
//! faster than any heap.

use super::words::Words;
use crate::{Error, TokenId};
use foldhash::fast::FixedState;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// No token: a byte that the vocabulary lacks. It never merges and leaves nothing behind.
pub(super) const NONE: TokenId = TokenId::MAX;

/// Words with at most this many symbols are merged by scanning.
const SHORT: usize = 48;

/// Pairs of tokens, their rank and what they become.
#[derive(Debug, Default)]
pub(super) struct Merges {
    pairs: HashMap<(TokenId, TokenId), (u32, TokenId), FixedState>,
}

impl Merges {
    pub(super) fn with_capacity(pairs: usize) -> Self {
        Self { pairs: HashMap::with_capacity_and_hasher(pairs, FixedState::default()) }
    }

    /// Adds a pair at the next rank; the first of equal pairs counts.
    pub(super) fn push(
        &mut self,
        pair: (TokenId, TokenId),
        rank: usize,
        merged: TokenId,
    ) -> Result<(), Error> {
        let rank = u32::try_from(rank)
            .map_err(|_| Error::Vocabulary { what: "more merges than 32 bits count:", index: rank })?;
        self.pairs.entry(pair).or_insert((rank, merged));
        Ok(())
    }

    fn get(&self, left: TokenId, right: TokenId) -> Option<(u32, TokenId)> {
        self.pairs.get(&(left, right)).copied()
    }

    /// Merges a word in place. `symbols` are its smallest parts with their lengths in bytes.
    pub(super) fn merge(&self, symbols: &mut Vec<(TokenId, u32)>) {
        if symbols.len() <= SHORT { self.merge_short(symbols) } else { self.merge_long(symbols) }
    }

    fn merge_short(&self, symbols: &mut Vec<(TokenId, u32)>) {
        const NEVER: (u32, TokenId) = (u32::MAX, NONE);
        let mut ranks = [NEVER; SHORT];
        let rank = |symbols: &[(TokenId, u32)], at: usize| match symbols.get(at..at + 2) {
            Some(&[(left, _), (right, _)]) => self.get(left, right).unwrap_or(NEVER),
            _ => NEVER,
        };
        for at in 0..symbols.len() {
            ranks[at] = rank(symbols, at);
        }
        loop {
            let count = symbols.len();
            let Some((at, &(best, merged))) =
                ranks[..count].iter().enumerate().min_by_key(|&(at, &(rank, _))| (rank, at))
            else {
                return;
            };
            if best == u32::MAX {
                return;
            }
            symbols[at] = (merged, symbols[at].1 + symbols[at + 1].1);
            symbols.remove(at + 1);
            ranks.copy_within(at + 2..count, at + 1);
            ranks[at] = rank(symbols, at);
            if at > 0 {
                ranks[at - 1] = rank(symbols, at - 1);
            }
        }
    }

    fn merge_long(&self, symbols: &mut Vec<(TokenId, u32)>) {
        // A list linked through indices; a swallowed symbol has length 0.
        const END: usize = usize::MAX;
        let count = symbols.len();
        let mut next: Vec<usize> = (1..=count).map(|i| if i == count { END } else { i }).collect();
        let mut previous: Vec<usize> = (0..count).map(|i| i.checked_sub(1).unwrap_or(END)).collect();
        let mut heap = BinaryHeap::with_capacity(count);
        let candidate = |symbols: &[(TokenId, u32)], left: usize, right: usize| {
            let pair = (symbols[left].0, symbols[right].0);
            self.get(pair.0, pair.1).map(|(rank, merged)| Reverse((rank, left, right, pair, merged)))
        };
        for left in 0..count - 1 {
            heap.extend(candidate(symbols, left, left + 1));
        }
        while let Some(Reverse((_, left, right, pair, merged))) = heap.pop() {
            let stale = symbols[left].1 == 0
                || symbols[right].1 == 0
                || next[left] != right
                || (symbols[left].0, symbols[right].0) != pair;
            if stale {
                continue;
            }
            symbols[left] = (merged, symbols[left].1 + symbols[right].1);
            symbols[right].1 = 0;
            next[left] = next[right];
            if next[left] != END {
                previous[next[left]] = left;
                heap.extend(candidate(symbols, left, next[left]));
            }
            if previous[left] != END {
                heap.extend(candidate(symbols, previous[left], left));
            }
        }
        symbols.retain(|&(_, length)| length > 0);
    }
}

/// Byte-level BPE of one vocabulary.
#[derive(Debug)]
pub(super) struct ByteLevelBpe {
    pub(super) splitter: super::split::Splitter,
    pub(super) merges: Merges,
    /// The token of each single byte, or [`NONE`].
    pub(super) bytes: [TokenId; 256],
    /// Words taken whole before any merging, by their bytes; empty if the family merges always.
    pub(super) whole: HashMap<Box<[u8]>, TokenId, FixedState>,
}

impl ByteLevelBpe {
    /// Calls `token` with the id and length in bytes of each token of `text`.
    pub(super) fn encode(&self, text: &str, mut token: impl FnMut(TokenId, usize)) {
        let mut words = Words::default();
        self.splitter.split(text, |start, end| {
            words.encode(&text[start..end], |word, symbols| self.word(word, symbols), &mut token);
        });
    }

    fn word(&self, word: &str, symbols: &mut Vec<(TokenId, u32)>) {
        if let Some(&id) = self.whole.get(word.as_bytes()) {
            symbols.push((id, word.len() as u32));
            return;
        }
        symbols.extend(word.bytes().map(|byte| (self.bytes[usize::from(byte)], 1)));
        self.merges.merge(symbols);
    }
}

/// The printable characters by which GPT-2 writes bytes, inverted: `Ġ` is 0x20.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// A token's text in GPT-2's writing to its bytes; `None` if a character is not of that writing.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte_of).collect()
}
