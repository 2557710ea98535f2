//! Sentences worded as examples are: who asks may know how what is looked for is said.
//!
//! A novel says *Mary* in hundreds of places, a note that Mary moved to the office in few; asked *Where is Mary?*, neither
//! the words nor how probable a passage makes the question tells them apart, but an example does (*John went to the
//! garden.*).
//!
//! ```text
//! question ─► all sentences with one of its rarer words ─► those most like an example in their words
//!          ─► those that the examples make more probable, a token, than they are without
//!          ─► the names in them, asked about in their turn ─► … ─► of all steps' sentences those that belong together
//! ```
//! *Likeness* is what two sentences have in common of their wording ([`likeness`](super::likeness)). *Gain* is
//! what the examples do for a sentence, `(ln P(sentence | examples) - ln P(sentence)) / tokens`, the mirror of how
//! passages are ranked by the question. Each counts as a share of the best that a sentence has; either may fail alone
//! (*Mary took the milk there* after examples of going; models that expect the examples' own names), both together
//! seldom do. In the end a sentence is judged beside all that were found: as like as it is to the one of them, or of
//! the examples, that it is most like. *Mary took the milk there* then is like *Mary took the apple there*, and a
//! sentence of the novel that happens to speak of milk is like none (`docs/experiments.md`).
use super::chain;
use super::likeness::Pieces;
use super::sentence::{normal, unwrapped, words, written};
use super::{Asking, Located, Passage, Rarity, Sought, Stage, Timings};
use crate::memory::Memory;
use crate::scoring::Beginning;
use crate::{Error, Model};
use longleaf_kernel::Precision;
use longleaf_model::Decoder;
use longleaf_text::{Special, TokenId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

/// Sentences of a step that are read, unless the asker says how many.
const MOST: usize = 16;
/// A word that is less rare than this share of the question's rarest tells nothing.
const RARE: f64 = 0.4;
/// A sentence is at least this share as like an example as the one with the same word that is most.
const LIKE: f64 = 0.35;
/// A sentence has at least this share of the words that the shortest example has.
const SHORT: f64 = 0.5;
/// So many of the sentences most like an example are ranked by the model,
const RANKED: usize = 64;
/// so many side by side, until none among those is worth reading.
const SIDE_BY_SIDE: usize = 16;
/// The mean of both shares of a sentence that is worth reading, at least.
const WORTH: f64 = 0.6;
/// The same beside all that was found, of a sentence that belongs to them.
const TOGETHER: f64 = 0.42;
/// A gain that counts fully, in nats a token, if there is no better one.
const GAIN: f64 = 1.0;

/// A sentence that may be one of those looked for.
#[derive(Debug)]
struct Sentence {
    /// Which of the question's telling words it has.
    told: Vec<bool>,
    likeness: f64,
    gain: f64,
    passage: Passage,
}

impl Sentence {
    /// The rarest telling word that it has.
    fn rarest(&self) -> Option<usize> {
        self.told.iter().position(|told| *told)
    }
}

impl Memory<'_> {
    /// What is worded as an example, of all steps; the memory's view is there.
    pub(super) fn seek_alike(
        &mut self,
        question: &str,
        asking: &Asking,
        mut timings: Timings,
        stage: &mut dyn FnMut(Stage),
    ) -> Result<Sought, Error> {
        let most = asking.passages.unwrap_or(MOST);
        let decoder = self.model.decoder().clone().with_precision(Precision::Fast);
        let start = Instant::now();
        let ranking = asking.stages.rerank.then(|| Ranking::new(self.model, &decoder, &asking.like));
        timings.rerank_s += start.elapsed().as_secs_f64();
        let mut all: Vec<Sentence> = Vec::new();
        // Where sentences are worded alike a name says enough.
        let trail = chain::follow(question, asking.hops, true, |question| {
            stage(Stage::Locate);
            let start = Instant::now();
            let rarity = self.rarity(question)?;
            let mut found = self.alike(question, &asking.like, &rarity)?;
            timings.locate_s += start.elapsed().as_secs_f64();
            let located = Instant::now();
            if let Some(ranking) = &ranking {
                found = ranking.ranked(found, stage);
                timings.rerank_s += located.elapsed().as_secs_f64();
            }
            let telling = telling(question, &rarity);
            // The sort is stable: of those with as many of the question's words the surest.
            found.sort_by_key(|one| Reverse(one.told.iter().filter(|told| **told).count()));
            if asking.hops > 0 {
                found = leading(&telling, found);
            }
            found.truncate(most);
            let excerpts = found.iter().map(|sentence| sentence.passage.excerpt()).collect();
            for one in found {
                match all.iter_mut().find(|known| known.passage.overlaps(&one.passage)) {
                    Some(known) => known.likeness = known.likeness.max(one.likeness),
                    None => all.push(one),
                }
            }
            Ok::<_, Error>(excerpts)
        })?;
        if asking.stages.rerank {
            all = together(all);
        }
        let passages: Vec<Passage> = all.into_iter().map(|sentence| sentence.passage).collect();
        let view = self.view.as_ref().expect("made before");
        let located = Located { total: view.finder.blocks().len(), ..Located::default() };
        let near = passages.len();
        let rarity = Rarity::default();
        Ok(Sought { passages, rarity, near, found: near > 0, confidence: 0.0, located, timings, trail })
    }

    /// The sentences that have a telling word of the question, those that are most like an example first.
    fn alike(&self, question: &str, like: &[String], rarity: &Rarity) -> Result<Vec<Sentence>, Error> {
        let examples: Vec<Pieces> =
            like.iter().map(|example| Pieces::of(example, &BTreeSet::new())).collect();
        let words = like.iter().map(|example| written(example).count()).filter(|words| *words > 0);
        let shortest = SHORT * words.min().unwrap_or(0) as f64;
        let telling = telling(question, rarity);
        // All have one of these: that says nothing of their wording.
        let given: BTreeSet<String> = telling.iter().map(|(word, _)| normal(word)).collect();
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
                let told = told(text, &telling);
                let place = (around.section, around.start + range.start);
                // Passages overlap.
                let short = (written(text).count() as f64) < shortest;
                if short || !told.contains(&true) || found.contains_key(&place) {
                    continue;
                }
                let pieces = Pieces::of(text, &given);
                let likeness = examples.iter().map(|example| pieces.likeness(example)).fold(0.0, f64::max);
                found.insert(place, Sentence { told, likeness, gain: 0.0, passage: around.piece(range) });
            }
        }
        let mut found: Vec<Sentence> = found.into_values().collect();
        let mut best = BTreeMap::<Option<usize>, f64>::new();
        for one in &found {
            let known = best.entry(one.rarest()).or_default();
            *known = known.max(one.likeness);
        }
        found.retain(|one| one.likeness > 0.0 && one.likeness >= LIKE * best[&one.rarest()]);
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

/// Which of the telling words a sentence has.
fn told(sentence: &str, telling: &[(&str, f64)]) -> Vec<bool> {
    let there = words(sentence);
    telling.iter().map(|(word, _)| there.contains(&normal(word))).collect()
}

/// Of sentences none of which has all telling words of a question, those with the first that any has: questions name
/// first what they are about (*Where was the milk before the hallway?*), and names that stand beside it lead to the rest.
fn leading(telling: &[(&str, f64)], mut found: Vec<Sentence>) -> Vec<Sentence> {
    if found.iter().any(|one| !one.told.contains(&false)) {
        return found;
    }
    let mut order: Vec<usize> = (0..telling.len()).collect();
    order.sort_by_key(|word| telling[*word].0.as_ptr());
    if let Some(first) = order.into_iter().find(|word| found.iter().any(|one| one.told[*word])) {
        found.retain(|one| one.told[first]);
    }
    found
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

/// Those whose share is at least this, the greatest first.
fn at_least(least: f64, found: Vec<Sentence>) -> Vec<Sentence> {
    let mut scored: Vec<(f64, Sentence)> = shares(&found).into_iter().zip(found).collect();
    scored.retain(|(share, _)| *share >= least);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().map(|(_, sentence)| sentence).collect()
}

/// Of what all steps found, the sentences that belong together, the surest first.
fn together(mut found: Vec<Sentence>) -> Vec<Sentence> {
    let pieces: Vec<Pieces> =
        found.iter().map(|one| Pieces::of(&one.passage.text, &BTreeSet::new())).collect();
    for (at, one) in found.iter_mut().enumerate() {
        let others = pieces.iter().enumerate().filter(|(other, _)| *other != at);
        let nearest = others.map(|(_, other)| pieces[at].likeness(other)).fold(0.0, f64::max);
        one.likeness = one.likeness.max(nearest);
    }
    at_least(TOGETHER, found)
}

/// What the model makes of sentences, after examples that it has read.
struct Ranking<'m> {
    model: &'m Model,
    /// After the examples, and as if nothing stood before: what else did would count as an example.
    beginnings: [Beginning<'m>; 2],
}

impl<'m> Ranking<'m> {
    fn new(model: &'m Model, decoder: &'m Decoder, examples: &[String]) -> Self {
        let start = model.tokenizer().bos().map_or_else(|| model.plain_prompt("\n"), |bos| vec![bos]);
        let mut with = start.clone();
        let examples: Vec<&str> = examples.iter().map(|example| example.trim()).collect();
        with.extend(tokens(model, &examples.join(" "), model.config().window / 2));
        Self { model, beginnings: [with, start].map(|tokens| Beginning::read(decoder, &tokens)) }
    }

    /// Those of [`alike`](Memory::alike) that are worth reading, best first.
    fn ranked(&self, mut found: Vec<Sentence>, stage: &mut dyn FnMut(Stage)) -> Vec<Sentence> {
        found.truncate(RANKED);
        let of = found.len();
        let mut done = 0;
        while done < of {
            stage(Stage::Rerank(done, of));
            let until = of.min(done + SIDE_BY_SIDE);
            let most = self.model.config().window / 4;
            let sequences: Vec<Vec<TokenId>> =
                found[done..until].iter().map(|one| tokens(self.model, &one.passage.text, most)).collect();
            let [after, alone] = self.beginnings.each_ref().map(|beginning| beginning.log_probs(&sequences));
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
        at_least(WORTH, found)
    }
}

/// The tokens of a sentence behind others.
fn tokens(model: &Model, text: &str, most: usize) -> Vec<TokenId> {
    let mut tokens = model.tokenizer().encode(&format!(" {text}"), Special::Text);
    tokens.truncate(most);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(told("Mary left the bedroom.", &telling), [true, true]);
        assert_eq!(told("It was out.", &telling), [false, false]);
        assert_eq!(told("So was Mary.", &telling), [false, true]);
    }

    fn sentence(text: &str, likeness: f64, gain: f64) -> Sentence {
        Sentence { told: vec![true], likeness, gain, passage: Passage::of(0, text, 0.0) }
    }

    fn texts(found: &[Sentence]) -> Vec<&str> {
        found.iter().map(|one| one.passage.text.as_str()).collect()
    }

    #[test]
    fn a_question_is_about_what_it_names_first() {
        let (milk, hall) = ("Mary got the milk.", "John went to the hallway.");
        let question = "Where was the milk before the hallway?";
        let at = |word: &str| &question[question.find(word).unwrap()..][..word.len()];
        let telling = [(at("hallway"), 4.0), (at("milk"), 3.0)];
        let one = |text| Sentence { told: told(text, &telling), ..sentence(text, 0.5, 1.0) };
        let found = |texts: &[&'static str]| texts.iter().copied().map(one).collect::<Vec<_>>();
        assert_eq!(texts(&leading(&telling, found(&[hall, milk]))), [milk]);
        assert_eq!(texts(&leading(&telling, found(&[hall]))), [hall], "what is there");
        let both = "The milk stands in the hallway.";
        assert_eq!(texts(&leading(&telling, found(&[hall, both]))), [hall, both]);
        assert!(leading(&telling, Vec::new()).is_empty());
    }

    #[test]
    fn what_is_found_belongs_together() {
        let found = vec![
            // Examples said this in another way,
            sentence("John grabbed the football there.", 0.23, 0.8),
            sentence("John journeyed to the office.", 0.7, 2.0),
            sentence("John went back to the garden.", 0.7, 1.8),
            // and this is like nothing else.
            sentence("It was a football this time good solid leather.", 0.19, 0.9),
        ];
        let kept = together(found);
        let expected = [
            "John journeyed to the office.",
            "John went back to the garden.",
            "John grabbed the football there.",
        ];
        assert_eq!(texts(&kept), expected);
        assert_eq!(together(vec![sentence("Alone.", 0.2, 0.1)]).len(), 1);
    }

    #[test]
    fn shares_are_of_the_best() {
        let found = [sentence("A", 0.8, 4.0), sentence("B", 0.4, -2.0), sentence("C", 0.2, 1.0)];
        assert_eq!(shares(&found), [1.0, 0.25, 0.25]);
        assert_eq!(shares(&found[2..]), [1.0]);
        assert_eq!(shares(&[sentence("A", 0.4, 0.5)]), [0.75], "a small gain is no whole one");
    }

    #[test]
    fn closing_quotes_are_no_part_of_the_next_sentence() {
        let text = "\"Where?\" Mary went home.";
        assert_eq!(&text[without_closing(text, 8..text.len())], "Mary went home.");
        assert_eq!(&text[without_closing(text, 0..7)], "\"Where?");
    }
}
