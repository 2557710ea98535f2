//! Sentences worded as examples are: who asks may know how what is looked for is said.
//!
//! A novel says *Mary* in hundreds of places, a note that Mary moved to the office in few; asked *Where is Mary?*, neither
//! the words nor how probable a passage makes the question tells them apart, but an example does (*John went to the
//! garden.*).
//!
//! ```text
//! question ─► all sentences with one of its rarer words ─► those most like an example in their words
//!          ─► those that the examples make more probable, a token, than they are without
//! ```
//! *Likeness* is what two sentences have in common of their words and pairs of neighbouring words, the beginning and
//! the end of a sentence counting as words: Dice's coefficient, `2 · shared / (all of one + all of the other)`. *Gain* is
//! what the examples do for a sentence, `(ln P(sentence | examples) - ln P(sentence)) / tokens`, the mirror of how
//! passages are ranked by the question. Each counts as a share of the best that a sentence has; either may fail alone
//! (*Mary took the milk there* after examples of going; models that expect the examples' own names), both together
//! seldom do (`docs/experiments.md`).
use super::chain::{self, Trail};
use super::sentence::{normal, unwrapped, words, written};
use super::{Asking, Located, Passage, Rarity, Sought, Stage, Timings};
use crate::memory::Memory;
use crate::scoring::Beginning;
use crate::{Error, Model};
use longleaf_kernel::Precision;
use longleaf_text::{Special, TokenId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

/// Sentences that are read, unless the asker says how many.
pub(super) const MOST: usize = 16;
/// A word that is less rare than this share of the question's rarest tells nothing.
const RARE: f64 = 0.4;
/// A sentence is at least this share as like an example as the one with the same word that is most.
const LIKE: f64 = 0.35;
/// A sentence has at least this share of the words that the shortest example has.
const SHORT: f64 = 0.5;
/// So many of the sentences most like an example are ranked by the model,
const RANKED: usize = 64;
/// so many side by side, until none among those is worth reading.
const TOGETHER: usize = 16;
/// The mean of both shares of a sentence that is worth reading, at least.
const WORTH: f64 = 0.6;
/// A gain that counts fully, in nats a token, if there is no better one.
const GAIN: f64 = 1.0;

/// A sentence that may be one of those looked for.
#[derive(Debug)]
struct Sentence {
    /// Which of the question's telling words it has, the rarest of them.
    word: usize,
    likeness: f64,
    gain: f64,
    passage: Passage,
}

impl Memory<'_> {
    /// What is worded as an example; the memory's view is there.
    pub(super) fn seek_alike(
        &mut self,
        question: &str,
        asking: &Asking,
        mut timings: Timings,
        stage: &mut dyn FnMut(Stage),
    ) -> Result<Sought, Error> {
        stage(Stage::Locate);
        let start = Instant::now();
        let rarity = self.rarity(question)?;
        let mut found = self.alike(question, &asking.like, &rarity)?;
        timings.locate_s = start.elapsed().as_secs_f64();
        if asking.stages.rerank {
            found = ranked(self.model, &asking.like, found, stage);
            timings.rerank_s = start.elapsed().as_secs_f64() - timings.locate_s;
        }
        let passages: Vec<Passage> = found.into_iter().map(|sentence| sentence.passage).collect();
        let near = passages.len().min(asking.passages.unwrap_or(MOST));
        let view = self.view.as_ref().expect("made before");
        let located = Located { total: view.finder.blocks().len(), ..Located::default() };
        let (found, confidence, trail) = (near > 0, 0.0, Trail::default());
        Ok(Sought { passages, rarity, near, found, confidence, located, timings, trail })
    }

    /// The sentences that have a telling word of the question, those that are most like an example first.
    fn alike(&self, question: &str, like: &[String], rarity: &Rarity) -> Result<Vec<Sentence>, Error> {
        let examples: Vec<BTreeMap<String, usize>> =
            like.iter().map(|example| pieces(example)).filter(|pieces| !pieces.is_empty()).collect();
        let words = like.iter().map(|example| written(example).count()).filter(|words| *words > 0);
        let shortest = SHORT * words.min().unwrap_or(0) as f64;
        let telling = telling(question, rarity);
        let view = self.view.as_ref().expect("made before");
        let mut blocks = BTreeSet::new();
        for (word, _) in &telling {
            let hits = view.lexical.search(&self.store, word, usize::MAX)?;
            blocks.extend(hits.into_iter().map(|(block, _)| block));
        }
        let mut found = BTreeMap::new();
        for block in blocks {
            let around = self.passage(block)?;
            for range in unwrapped(&around.text) {
                let range = without_closing(&around.text, range);
                let text = &around.text[range.clone()];
                let Some(word) = weightiest(text, &telling) else { continue };
                let place = (around.section, around.start + range.start);
                // Passages overlap.
                if (written(text).count() as f64) < shortest || found.contains_key(&place) {
                    continue;
                }
                let pieces = pieces(text);
                let likeness = examples.iter().map(|example| dice(&pieces, example)).fold(0.0, f64::max);
                found.insert(place, Sentence { word, likeness, gain: 0.0, passage: around.piece(range) });
            }
        }
        let mut found: Vec<Sentence> = found.into_values().collect();
        let mut best = BTreeMap::<usize, f64>::new();
        for one in &found {
            let known = best.entry(one.word).or_default();
            *known = known.max(one.likeness);
        }
        found.retain(|one| one.likeness > 0.0 && one.likeness >= LIKE * best[&one.word]);
        // The sort is stable: of equals the one that stands first.
        found.sort_by(|a, b| b.likeness.total_cmp(&a.likeness));
        Ok(found)
    }
}

/// The question's words that say what it is about, those that the memory has, as they are written; the rarest first.
fn telling<'q>(question: &'q str, rarity: &Rarity) -> Vec<(&'q str, f64)> {
    let known = |word: &'q str| Some((word, rarity.known(word)?));
    let mut words: Vec<(&str, f64)> = chain::words(question).filter_map(known).collect();
    words.sort_by(|a, b| b.1.total_cmp(&a.1));
    let rarest = words.first().map_or(0.0, |(_, rarity)| *rarity);
    words.retain(|(_, rarity)| *rarity >= RARE * rarest);
    words
}

/// The place of the rarest telling word that a sentence has.
fn weightiest(sentence: &str, telling: &[(&str, f64)]) -> Option<usize> {
    let there = words(sentence);
    telling.iter().position(|(word, _)| there.contains(&normal(word)))
}

/// Closing quotes and brackets belong to the sentence before.
fn without_closing(text: &str, range: Range<usize>) -> Range<usize> {
    let closing = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
    let rest = text[range.clone()].trim_start_matches(closing);
    let start = range.end - rest.trim_start().len();
    if rest.starts_with(char::is_whitespace) { start..range.end } else { range }
}

/// For each sentence the mean of what shares it has of the best likeness and of the best gain.
fn shares(found: &[Sentence]) -> Vec<f64> {
    let best = |of: fn(&Sentence) -> f64| found.iter().map(of).fold(0.0, f64::max);
    let (likeness, gain) = (best(|one| one.likeness), best(|one| one.gain).max(GAIN));
    let share = |one: &Sentence| f64::midpoint(one.likeness / likeness, (one.gain / gain).max(0.0));
    found.iter().map(share).collect()
}

/// Those of [`alike`](Memory::alike) that are worth reading, best first.
fn ranked(
    model: &Model,
    examples: &[String],
    mut found: Vec<Sentence>,
    stage: &mut dyn FnMut(Stage),
) -> Vec<Sentence> {
    let decoder = model.decoder().clone().with_precision(Precision::Fast);
    let window = model.config().window;
    let tokens = |text: &str, most: usize| -> Vec<TokenId> {
        let mut tokens: Vec<TokenId> = model.tokenizer().encode(text, Special::Text);
        tokens.truncate(most);
        tokens
    };
    // As if nothing stood before them: what else did would count as an example.
    let start = model.tokenizer().bos().map_or_else(|| model.plain_prompt("\n"), |bos| vec![bos]);
    let mut with = start.clone();
    let examples: Vec<&str> = examples.iter().map(|example| example.trim()).collect();
    with.extend(tokens(&format!(" {}", examples.join(" ")), window / 2));
    let beginnings = [with, start].map(|tokens| Beginning::read(&decoder, &tokens));
    found.truncate(RANKED);
    let of = found.len();
    let mut done = 0;
    while done < of {
        stage(Stage::Rerank(done, of));
        let until = of.min(done + TOGETHER);
        let sequences: Vec<Vec<TokenId>> = found[done..until]
            .iter()
            .map(|one| tokens(&format!(" {}", one.passage.text), window / 4))
            .collect();
        let [after, alone] = beginnings.each_ref().map(|beginning| beginning.log_probs(&sequences));
        for (sentence, (after, alone)) in found[done..until].iter_mut().zip(after.iter().zip(&alone)) {
            let gain = after.iter().sum::<f64>() - alone.iter().sum::<f64>();
            sentence.gain = gain / after.len().max(1) as f64;
        }
        if !shares(&found[..until])[done..].iter().any(|share| *share >= WORTH) {
            found.truncate(until);
            break;
        }
        done = until;
    }
    let mut scored: Vec<(f64, Sentence)> = shares(&found).into_iter().zip(found).collect();
    scored.retain(|(share, _)| *share >= WORTH);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().map(|(_, sentence)| sentence).collect()
}

/// The words of a sentence and its pairs of neighbouring words, each with how often it is there; nothing of a
/// sentence without words.
fn pieces(sentence: &str) -> BTreeMap<String, usize> {
    let mut words: Vec<String> = written(sentence).map(normal).collect();
    let mut pieces = BTreeMap::new();
    if words.is_empty() {
        return pieces;
    }
    words.insert(0, "^".to_owned());
    words.push("$".to_owned());
    let pairs = words.windows(2).map(|pair| pair.join(" "));
    for piece in pairs.chain(words.iter().cloned()) {
        *pieces.entry(piece).or_default() += 1;
    }
    pieces
}

/// Dice's coefficient of two bags.
fn dice(a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>) -> f64 {
    let shared: usize =
        a.iter().map(|(piece, count)| b.get(piece).map_or(0, |other| *other.min(count))).sum();
    let all: usize = a.values().chain(b.values()).sum();
    2.0 * shared as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_is_a_matter_of_wording() {
        let like = |a: &str, b: &str| dice(&pieces(a), &pieces(b));
        assert!((like("Mary went home.", "Mary went home") - 1.0).abs() < 1e-12);
        // ^ went to the $, went to, to the: 7 of 13 and 13.
        let other = like("Mary went to the office.", "John went to the garden.");
        assert!((other - 2.0 * 7.0 / 26.0).abs() < 1e-12, "{other}");
        assert!(
            other > like("Mary, who had gone to bed, went to the door again.", "John went to the garden.")
        );
        assert!(pieces(" ... ").is_empty());
        assert!(dice(&pieces(""), &pieces("")) < f64::EPSILON);
    }

    #[test]
    fn what_a_question_is_about_are_its_rarer_words() {
        let rarity =
            Rarity::new([("where", 2.3), ("befor", 1.2), ("mari", 3.3), ("bedroom", 4.6), ("appl", 9.0)]);
        let words =
            |question| telling(question, &rarity).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
        assert_eq!(words("Where was Mary before the bedroom?"), ["bedroom", "Mary"]);
        assert_eq!(words("Where is Mary's apple?"), ["apple"]);
        assert!(words("Who?").is_empty());
        let telling = telling("Where was Mary before the bedroom?", &rarity);
        assert_eq!(weightiest("Mary left the bedroom.", &telling), Some(0));
        assert_eq!(weightiest("It was out.", &telling), None);
        assert_eq!(weightiest("So was Mary.", &telling), Some(1));
    }

    #[test]
    fn shares_are_of_the_best() {
        let sentence =
            |word, likeness, gain| Sentence { word, likeness, gain, passage: Passage::of(0, "A", 0.0) };
        let found = [sentence(0, 0.8, 4.0), sentence(0, 0.4, -2.0), sentence(1, 0.2, 1.0)];
        assert_eq!(shares(&found), [1.0, 0.25, 0.25]);
        assert_eq!(shares(&found[2..]), [1.0]);
        assert_eq!(shares(&[sentence(0, 0.4, 0.5)]), [0.75], "a small gain is no whole one");
    }

    #[test]
    fn closing_quotes_are_no_part_of_the_next_sentence() {
        let text = "\"Where?\" Mary went home.";
        assert_eq!(&text[without_closing(text, 8..text.len())], "Mary went home.");
        assert_eq!(&text[without_closing(text, 0..7)], "\"Where?");
    }
}
