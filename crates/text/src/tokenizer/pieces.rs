//! Vocabularies of characters and their joins, in SentencePiece's tradition: a space is written `▁`, there is no
//! rule where words end, and what the vocabulary cannot spell falls back to byte tokens.
//!
//! As no rule cuts the text, merging could run over all of it. But a token is only ever made if it is in the
//! vocabulary: where no token holds the character left of a space together with that space, the text may be cut
//! before the space without changing anything, and the words can be remembered. Which characters those are is
//! found when the vocabulary is loaded; in most vocabularies, nearly all.

use super::bpe::{Merges, NONE};
use super::words::Words;
use crate::{Span, TokenId};
use foldhash::fast::FixedState;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// A vocabulary with `▁` for spaces.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Tokens by their text, with spaces for `▁`.
    pub(super) ids: HashMap<Box<str>, TokenId, FixedState>,
    pub(super) order: Order,
    /// Tokens of single bytes, or [`NONE`].
    pub(super) bytes: [TokenId; 256],
    pub(super) unknown: Option<TokenId>,
    /// A space is put before text that begins the input or follows a control token.
    pub(super) space_prefix: bool,
    /// Line ends never join other text, and a run of them that is a token is taken whole.
    pub(super) lines: bool,
    pub(super) binders: HashSet<char, FixedState>,
}

/// Which pair is joined first.
#[derive(Debug)]
pub(super) enum Order {
    /// The pair whose join has the highest score; indexed by token.
    Scores(Vec<f32>),
    /// The pair that stands first in a list.
    Merges(Merges),
}

/// Characters that some token holds directly before a space.
pub(super) fn binders<'a>(tokens: impl Iterator<Item = &'a str>) -> HashSet<char, FixedState> {
    let mut binders = HashSet::default();
    for token in tokens {
        let mut last = ' ';
        for c in token.chars() {
            if c == ' ' && last != ' ' {
                binders.insert(last);
            }
            last = c;
        }
    }
    binders
}

impl Pieces {
    pub(super) fn adds_space(&self) -> bool {
        self.space_prefix
    }

    pub(super) fn splits_after(&self, c: char) -> bool {
        !self.binders.contains(&c)
    }

    /// Calls `token` for each token of `text`.
    pub(super) fn encode(&self, text: &str, after_special: bool, mut token: impl FnMut(TokenId, Span)) {
        let mut words = Words::default();
        let mut start = 0;
        let mut emit = |id, length| {
            let end = start + length;
            if id != NONE {
                token(id, Span { start, end });
            }
            start = end;
        };
        let mut rest = text;
        if self.space_prefix && after_special && !text.is_empty() {
            // The first word has a space before it that is not in the text: its own length is one less.
            let end = self.word_end(text);
            let mut symbols = Vec::new();
            self.word(&format!(" {}", &text[..end]), &mut symbols);
            let mut added = 1;
            for (id, length) in symbols {
                emit(id, length as usize - added);
                added = 0;
            }
            rest = &text[end..];
        }
        while !rest.is_empty() {
            let (word, after) = rest.split_at(self.word_end(rest));
            words.encode(word, |word, symbols| self.word(word, symbols), &mut emit);
            rest = after;
        }
    }

    /// Length of the first stretch of `text` that merges with nothing after it.
    fn word_end(&self, text: &str) -> usize {
        let mut last = None;
        for (at, c) in text.char_indices() {
            if let Some(last) = last {
                let space = matches!(c, ' ' | '▁') && !matches!(last, ' ' | '▁');
                if (space && self.splits_after(last)) || (self.lines && (last == '\n') != (c == '\n')) {
                    return at;
                }
            }
            last = Some(c);
        }
        text.len()
    }

    /// Tokens of one word with their lengths in bytes of `word`.
    fn word(&self, word: &str, symbols: &mut Vec<(TokenId, u32)>) {
        if self.lines
            && word.starts_with('\n')
            && let Some(&id) = self.ids.get(word)
        {
            symbols.push((id, word.len() as u32));
            return;
        }
        // A `▁` in the text is a space to the vocabulary.
        let spaced;
        let spelled = if word.contains('▁') {
            spaced = word.replace('▁', " ");
            &spaced
        } else {
            word
        };
        match &self.order {
            Order::Merges(merges) => {
                let mut buffer = [0; 4];
                for (c, raw) in spelled.chars().zip(word.chars()) {
                    self.character(c.encode_utf8(&mut buffer), raw.len_utf8(), symbols);
                }
                merges.merge(symbols);
            }
            Order::Scores(scores) => {
                let mut raw = word.chars();
                for piece in self.join_by_score(spelled, scores) {
                    let length: usize = raw.by_ref().take(piece.chars().count()).map(char::len_utf8).sum();
                    self.character(piece, length, symbols);
                }
            }
        }
    }

    /// A piece's token, or its bytes', or the unknown token.
    fn character(&self, piece: &str, raw_length: usize, symbols: &mut Vec<(TokenId, u32)>) {
        if let Some(&id) = self.ids.get(piece) {
            symbols.push((id, raw_length as u32));
            return;
        }
        let complete = piece.bytes().all(|byte| self.bytes[usize::from(byte)] != NONE);
        if complete && piece.len() == raw_length {
            symbols.extend(piece.bytes().map(|byte| (self.bytes[usize::from(byte)], 1)));
        } else {
            symbols.push((self.unknown.unwrap_or(NONE), raw_length as u32));
        }
    }

    /// Joins neighbours, the pair with the best score first and the leftmost of equals, until no join is a token.
    fn join_by_score<'a>(&self, word: &'a str, scores: &[f32]) -> Vec<&'a str> {
        const END: usize = usize::MAX;
        let mut starts: Vec<usize> = word.char_indices().map(|(at, _)| at).collect();
        let count = starts.len();
        starts.push(word.len());
        let mut ends: Vec<usize> = starts[1..].to_vec();
        let mut next: Vec<usize> = (1..=count).map(|i| if i == count { END } else { i }).collect();
        let mut previous: Vec<usize> = (0..count).map(|i| i.checked_sub(1).unwrap_or(END)).collect();
        let mut heap = BinaryHeap::new();
        let candidate = |start: usize, end: usize, left: usize, right: usize| {
            let score = scores[*self.ids.get(&word[start..end])? as usize];
            Some((Score(score), Reverse(left), right, end))
        };
        for left in 1..count {
            heap.extend(candidate(starts[left - 1], ends[left], left - 1, left));
        }
        while let Some((_, Reverse(left), right, end)) = heap.pop() {
            let gone = |at: usize| ends[at] == starts[at];
            if gone(left) || gone(right) || ends[left] != starts[right] || ends[right] != end {
                continue;
            }
            ends[left] = end;
            ends[right] = starts[right];
            next[left] = next[right];
            if next[left] != END {
                previous[next[left]] = left;
                heap.extend(candidate(starts[left], ends[next[left]], left, next[left]));
            }
            if previous[left] != END {
                heap.extend(candidate(starts[previous[left]], end, previous[left], left));
            }
        }
        (0..count).filter(|&at| ends[at] > starts[at]).map(|at| &word[starts[at]..ends[at]]).collect()
    }
}

/// A score with a total order; scores are finite, which loading checks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Score(f32);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
