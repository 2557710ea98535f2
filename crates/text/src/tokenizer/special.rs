//! Tokens that are found in a text before anything else is: control tokens and a vocabulary's own additions.

use super::Special;
use crate::{Error, Span, TokenId};
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;

/// One token that stands for its own name.
#[derive(Debug, Clone)]
pub(super) struct SpecialToken {
    pub(super) text: String,
    pub(super) id: TokenId,
    /// Found only under [`Special::Parse`].
    pub(super) control: bool,
    /// Swallows white space before it.
    pub(super) strip_left: bool,
    /// Swallows white space after it.
    pub(super) strip_right: bool,
}

/// Finds the leftmost, then longest special token, as the tokenizers library does.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    tokens: Vec<SpecialToken>,
    by_name: HashMap<String, TokenId>,
    /// All tokens, and those that are not control tokens (as indices into `tokens`).
    all: Option<AhoCorasick>,
    plain: Option<(AhoCorasick, Vec<usize>)>,
    longest: usize,
}

impl SpecialTokens {
    pub(super) fn new(mut tokens: Vec<SpecialToken>) -> Result<Self, Error> {
        tokens.retain(|token| !token.text.is_empty());
        let plain: Vec<usize> = (0..tokens.len()).filter(|&i| !tokens[i].control).collect();
        let all = automaton(tokens.iter().map(|token| token.text.as_str()))?;
        let plain = automaton(plain.iter().map(|&i| tokens[i].text.as_str()))?.map(|found| (found, plain));
        let longest = tokens.iter().map(|token| token.text.len()).max().unwrap_or(0);
        let by_name = tokens.iter().rev().map(|token| (token.text.clone(), token.id)).collect();
        Ok(Self { tokens, by_name, all, plain, longest })
    }

    pub(super) fn id(&self, name: &str) -> Option<TokenId> {
        self.by_name.get(name).copied()
    }

    /// Calls `part` for each special token (with its id) and each stretch of ordinary text, in order. What lies
    /// in or across one of the ranges `quoted`, ascending, is no special token.
    pub(super) fn fragments(
        &self,
        text: &str,
        special: Special,
        quoted: &[Span],
        mut part: impl FnMut(usize, usize, Option<TokenId>),
    ) {
        let automaton = match special {
            Special::Parse => self.all.as_ref(),
            Special::Text => self.plain.as_ref().map(|(automaton, _)| automaton),
        };
        let mut at = 0;
        if let Some(automaton) = automaton {
            for found in automaton.find_iter(text) {
                let index = found.pattern().as_usize();
                let token = match (special, &self.plain) {
                    (Special::Text, Some((_, plain))) => &self.tokens[plain[index]],
                    _ => &self.tokens[index],
                };
                if found.start() < at {
                    continue; // swallowed by a token that strips what follows it
                }
                let next = quoted.partition_point(|span| span.end <= found.start());
                if token.control && quoted.get(next).is_some_and(|span| span.start < found.end()) {
                    continue;
                }
                let (mut start, mut end) = (found.start(), found.end());
                if token.strip_left {
                    start = at + text[at..start].trim_end().len();
                }
                if token.strip_right {
                    end = text.len() - text[end..].trim_start().len();
                }
                if start > at {
                    part(at, start, None);
                }
                part(start, end, Some(token.id));
                at = end;
            }
        }
        if at < text.len() {
            part(at, text.len(), None);
        }
    }

    /// Calls `found` with the range of each control token in `text`.
    pub(super) fn controls(&self, text: &str, mut found: impl FnMut(Span)) {
        let Some(automaton) = &self.all else { return };
        for token in automaton.find_iter(text) {
            if self.tokens[token.pattern().as_usize()].control {
                found(Span { start: token.start(), end: token.end() });
            }
        }
    }

    /// Whether a special token of any kind may lie across `at`.
    pub(super) fn may_cross(&self, text: &str, at: usize) -> bool {
        let Some(automaton) = &self.all else { return false };
        let mut start = at.saturating_sub(self.longest);
        let mut end = (at + self.longest).min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        while !text.is_char_boundary(end) {
            end += 1;
        }
        automaton.is_match(&text[start..end])
    }
}

fn automaton<'a>(names: impl Iterator<Item = &'a str>) -> Result<Option<AhoCorasick>, Error> {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return Ok(None);
    }
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(&names)
        .map(Some)
        .map_err(|_| Error::Vocabulary { what: "special tokens too many or too long:", index: names.len() })
}
