//! WordPiece, as BERT has it: lower case, no accents, words at white space and punctuation, each spelled by the
//! longest pieces from the left or not at all.

use super::class::{MARK, PUNCTUATION, SPACE, SYMBOL, class};
use crate::{Span, TokenId};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization;

/// A vocabulary of words and continuations.
#[derive(Debug)]
pub(super) struct WordPiece {
    /// Pieces that begin a word.
    pub(super) starts: HashMap<Box<str>, TokenId, FixedState>,
    /// Pieces that go on with one.
    pub(super) continuations: HashMap<Box<str>, TokenId, FixedState>,
    pub(super) unknown: TokenId,
    /// Bytes of the longest piece.
    pub(super) longest: usize,
}

/// A word in normal form; for each of its characters, where it ends in the word and came from in the text.
#[derive(Debug, Default)]
struct Word {
    text: String,
    characters: Vec<(usize, Span)>,
}

impl WordPiece {
    /// Calls `token` for each token of `text`.
    pub(super) fn encode(&self, text: &str, mut token: impl FnMut(TokenId, Span)) {
        let mut word = Word::default();
        for (at, original) in text.char_indices() {
            let span = Span { start: at, end: at + original.len_utf8() };
            // Decomposition apart from its neighbours differs from the whole's only in the order of marks, all
            // of which are dropped.
            for c in std::iter::once(original).nfd() {
                let kind = class(c);
                if kind & SPACE != 0 {
                    self.finish(&mut word, &mut token);
                } else if c == '\0'
                    || c == '\u{fffd}'
                    || is_control(c)
                    || kind & MARK != 0 && is_nonspacing(c)
                {
                    // dropped
                } else if kind & PUNCTUATION != 0 || (c.is_ascii() && kind & SYMBOL != 0) || is_ideograph(c) {
                    self.finish(&mut word, &mut token);
                    word.push(c, span);
                    self.finish(&mut word, &mut token);
                } else {
                    for lower in c.to_lowercase() {
                        word.push(lower, span);
                    }
                }
            }
        }
        self.finish(&mut word, &mut token);
    }

    fn finish(&self, word: &mut Word, token: &mut impl FnMut(TokenId, Span)) {
        let Some(&(_, last)) = word.characters.last() else { return };
        let first = word.characters[0].1;
        let mut tokens = Vec::new();
        let (mut at, mut pieces) = (0, &self.starts);
        while at < word.characters.len() {
            let start = if at == 0 { 0 } else { word.characters[at - 1].0 };
            let longest = (at..word.characters.len())
                .take_while(|&end| word.characters[end].0 - start <= self.longest)
                .filter_map(|end| Some((end, *pieces.get(&word.text[start..word.characters[end].0])?)))
                .last();
            let Some((end, id)) = longest else {
                tokens = vec![(self.unknown, Span { start: first.start, end: last.end })];
                break;
            };
            tokens.push((id, Span { start: word.characters[at].1.start, end: word.characters[end].1.end }));
            (at, pieces) = (end + 1, &self.continuations);
        }
        for (id, span) in tokens {
            token(id, span);
        }
        word.text.clear();
        word.characters.clear();
    }
}

impl Word {
    fn push(&mut self, c: char, span: Span) {
        self.text.push(c);
        self.characters.push((self.text.len(), span));
    }
}

fn is_control(c: char) -> bool {
    use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};
    c.general_category_group() == GeneralCategoryGroup::Other
}

fn is_nonspacing(c: char) -> bool {
    use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
    c.general_category() == GeneralCategory::NonspacingMark
}

/// The blocks of Chinese characters that BERT writes one token each.
fn is_ideograph(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x2_0000..=0x2_a6df
            | 0x2_a700..=0x2_b73f
            | 0x2_b740..=0x2_b81f
            | 0x2_b920..=0x2_ceaf
            | 0xf900..=0xfaff
            | 0x2_f800..=0x2_fa1f
    )
}
