//! Passages ranked anew, by how much of the question each of them explains.
//!
//! ```text
//! passage ─► its sentences that share most with the question ─► ln p(each token of the question | them)
//! gain    = ln P(question | passage) - ln P(question | no passage)
//! support = share of the question's words, each weighed by how surprising it is without a passage, that stand in the
//!           passage or that the passage makes likely; words side by side must have their support from one passage
//! rival   = gain of the best passage that is not read, as a share of -ln P(question | no passage); margin = how much
//!           more the best one explains
//! ```
//! Ranking by question likelihood: Sachan et al., *Improving Passage Retrieval with Zero-Shot Question Generation*,
//! 2022. All candidates go through the model side by side, in its fast precision: order and margins are the same.
//!
//! What is not there shows in two ways. Where nothing is alike, the best passage explains little: its gain, as much of it
//! as the support of that one passage is worth, is a few nats at most. Among look-alikes (other people's numbers) it
//! explains much, but so does a rival, and a word of the question is left without support: there support and margin
//! together must reach a level that rises with the rival. [`Ranking::confidence`] is the share that is reached of what
//! is asked for, the smaller of the two. (How both were found: `docs/experiments.md`.)
use super::{Passage, Rarity, Stage, sentence::sentences};
use crate::Model;
use crate::scoring::log_probs;
use longleaf_kernel::Precision;
use longleaf_memory::lexical::{Analysis, for_each_term};
use longleaf_text::{Special, TokenId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// About so many bytes of a passage are read for ranking: one fact, and what it stands in.
const WINDOW: usize = 280;
/// So many bytes before and after them are re-read with them.
const AROUND: usize = 160;
/// Candidates that are read side by side before it is asked whether more are needed.
const TOGETHER: usize = 6;
/// No more are needed if the best supports so much of the question,
const SURE: f64 = 0.8;
/// and is better by such a margin.
const CLEAR: f64 = 0.15;
/// A passage that supports so many nats of the question which those before it leave open is read beside them,
const MORE: f64 = 6.0;
/// if it explains, by itself, at least this share of what the best one does.
const NEARLY: f64 = 0.6;
/// Passages whose gain is so near to the best one's, in nats, are read beside it: either may be meant.
const DOUBT: f64 = 1.0;
/// A word less surprising than this, in nats, stands between phrases and is in none.
const EMPTY: f64 = 3.0;
/// What the best passage explains, times the share of the question that it supports, is at least so many nats.
const SUPPORTED: f64 = 4.0;
/// Of a long question the first tokens decide.
const QUESTION: usize = 256;

/// How passages were ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ranking {
    /// How many of the first are worth reading.
    pub near: usize,
    /// 1 or more if the memory holds something about the question.
    pub confidence: f64,
}

/// Order `passages`, which come as they were found, best first: at most `most` of them that together explain the
/// question, then the others by their gain. Those that overlap a better one are dropped, and those that need not be
/// looked at because the answer is clear.
pub(super) fn rerank(
    model: &Model,
    question: &str,
    rarity: &Rarity,
    passages: &mut Vec<Passage>,
    most: usize,
    stage: &mut dyn FnMut(Stage),
) -> Ranking {
    let decoder = model.decoder().clone().with_precision(Precision::Fast);
    let asked = Asked::new(model, question);
    let sequence = |text: &str| {
        let mut tokens = model.plain_prompt(&format!("Passage: {}\nQuestion:", text.trim()));
        tokens.truncate((model.config().window - asked.tokens.len()).max(1));
        let first = tokens.len();
        tokens.extend::<&[TokenId]>(&asked.tokens);
        (tokens, first)
    };
    let weights = weights(question, rarity);
    let of = passages.len();
    let mut scored: Vec<Explained> = Vec::new();
    let mut left = std::mem::take(passages).into_iter();
    stage(Stage::Rerank(0, of));
    let nothing = log_probs(&decoder, &[sequence("(empty)")]).pop().unwrap_or_default();
    let base: f64 = -nothing.iter().sum::<f64>();
    let phrases = asked.phrases(&nothing);
    loop {
        let batch: Vec<Passage> = left.by_ref().take(TOGETHER).collect();
        if batch.is_empty() {
            break;
        }
        let mut batch = batch;
        for passage in &mut batch {
            passage.core = window(&passage.text, &weights);
        }
        let windows: Vec<_> = batch.iter().map(|one| one.text[one.core.clone()].to_owned()).collect();
        let sequences: Vec<_> = windows.iter().map(|text| sequence(text)).collect();
        let found = log_probs(&decoder, &sequences);
        let open: Vec<_> =
            windows.iter().zip(&found).map(|(text, after)| open(&phrases, text, after)).collect();
        for ((mut passage, after), open) in batch.into_iter().zip(found).zip(open) {
            passage.gain = after.iter().sum::<f64>() + base;
            scored.push(Explained { passage, open });
        }
        // The sort is stable: of equals the one found first.
        scored.sort_by(|a, b| b.passage.gain.total_cmp(&a.passage.gain));
        stage(Stage::Rerank(scored.len(), of));
        let next = scored.iter().skip(1).find(|other| !other.passage.overlaps(&scored[0].passage));
        let margin = next.map_or(f64::INFINITY, |next| scored[0].passage.gain - next.passage.gain);
        let clear = support(&phrases, &scored[0].open) >= SURE && margin >= CLEAR * base;
        if clear && scored.len() >= most {
            break;
        }
    }
    let mut kept: Vec<Explained> = Vec::new();
    for one in scored {
        if !kept.iter().any(|better| better.passage.overlaps(&one.passage)) {
            kept.push(one);
        }
    }
    if kept.is_empty() {
        return Ranking { near: 0, confidence: 0.0 };
    }
    let alone = support(&phrases, &kept[0].open);
    let (near, open) = choose(&mut kept, most);
    let rival = kept[near..].iter().map(|one| one.passage.gain).fold(0.0, f64::max);
    let margin = (kept[0].passage.gain - rival).max(0.0) / base.max(1.0);
    let supported = alone * kept[0].passage.gain / SUPPORTED;
    let confidence = supported.min((support(&phrases, &open) + margin) / level(rival / base.max(1.0)));
    passages.extend(kept.into_iter().map(|one| one.passage));
    Ranking { near, confidence }
}

/// Keep of a passage what was ranked and the sentences next to it: small models answer from what else there is.
pub(super) fn narrow(passage: &mut Passage) {
    let (from, to) = (passage.core.start.saturating_sub(AROUND), passage.core.end + AROUND);
    let near = pieces(&passage.text).filter(|piece| from <= piece.start && piece.end <= to);
    let (mut start, mut end) = (passage.core.start, passage.core.end);
    for piece in near {
        (start, end) = (start.min(piece.start), end.max(piece.end));
    }
    passage.text.truncate(end);
    passage.text.drain(..start);
    passage.start += start;
    passage.core = passage.core.start - start..passage.core.end - start;
    let whole = 0..passage.text.len();
    passage.kept = vec![whole];
}

/// What support and margin must reach beside a rival that explains so much of the question.
fn level(rival: f64) -> f64 {
    const ALONE: (f64, f64) = (0.15, 0.4);
    const AMONG_ALIKE: (f64, f64) = (0.35, 0.94);
    let share = ((rival - ALONE.0) / (AMONG_ALIKE.0 - ALONE.0)).clamp(0.0, 1.0);
    ALONE.1 + share * (AMONG_ALIKE.1 - ALONE.1)
}

/// The question's tokens, and the words they make up.
#[derive(Debug)]
struct Asked {
    tokens: Vec<TokenId>,
    words: Vec<Word>,
}

#[derive(Debug, Clone)]
struct Word {
    /// Its place among the tokens.
    tokens: Range<usize>,
    terms: BTreeSet<String>,
    /// `-ln p` of all its tokens without a passage.
    surprise: f64,
}

impl Asked {
    fn new(model: &Model, question: &str) -> Self {
        let text = format!(" {}", question.trim());
        let encoding = model.tokenizer().encode_with_offsets(&text, Special::Text);
        let most = QUESTION.min(model.config().window / 2);
        let mut tokens = encoding.ids;
        tokens.truncate(most);
        let spaces: Vec<usize> =
            text.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(at, _)| at).collect();
        let mut words: Vec<Word> = Vec::new();
        let mut end = 0;
        for (index, span) in encoding.spans.iter().take(tokens.len()).enumerate() {
            // A token belongs to the word in which it ends; a word ends with the next white space. Tokens begin and end
            // within characters too.
            if words.is_empty() || spaces.iter().any(|at| (end..span.end).contains(at)) {
                words.push(Word { tokens: index..index, terms: BTreeSet::new(), surprise: 0.0 });
            }
            end = span.end;
            if let Some(word) = words.last_mut() {
                word.tokens.end = index + 1;
            }
        }
        for word in &mut words {
            let bytes = encoding.spans[word.tokens.start].start..encoding.spans[word.tokens.end - 1].end;
            word.terms = terms(&String::from_utf8_lossy(&text.as_bytes()[bytes]));
        }
        words.retain(|word| !word.terms.is_empty());
        Self { tokens, words }
    }

    /// Runs of words none of which is empty: what is to be supported together.
    fn phrases(&self, nothing: &[f64]) -> Vec<Vec<Word>> {
        let mut words = self.words.clone();
        for word in &mut words {
            word.surprise = -nothing[word.tokens.clone()].iter().sum::<f64>();
        }
        let runs = words.split(|word| word.surprise < EMPTY);
        runs.filter(|run| !run.is_empty()).map(<[Word]>::to_vec).collect()
    }
}

/// A passage, and how much of each phrase's surprise it leaves without support, in nats.
#[derive(Debug)]
struct Explained {
    passage: Passage,
    open: Vec<f64>,
}

/// How many nats of each phrase have no support in `text`, after which the question's tokens have `ln p` `after`. A
/// word that stands there is supported. Of another, what is made likely counts squared: half of a name's surprise
/// goes where any name stands, and says nothing.
fn open(phrases: &[Vec<Word>], text: &str, after: &[f64]) -> Vec<f64> {
    let there = terms(text);
    let word = |word: &Word| {
        if word.terms.is_subset(&there) {
            return 0.0;
        }
        let left = -after[word.tokens.clone()].iter().sum::<f64>();
        let explained = (1.0 - left / word.surprise).clamp(0.0, 1.0);
        word.surprise * (1.0 - explained * explained)
    };
    phrases.iter().map(|phrase| phrase.iter().map(word).sum()).collect()
}

/// The share of surprise that has support.
fn support(phrases: &[Vec<Word>], open: &[f64]) -> f64 {
    let all: f64 = phrases.iter().flatten().map(|word| word.surprise).sum();
    if all > 0.0 { 1.0 - open.iter().sum::<f64>() / all } else { 0.0 }
}

/// Bring to the front those of `ranked` (by gain, not empty) that are to be read: the best, those that support what
/// these leave open, others nearly as good. Returns how many, and what is left open by all of them.
fn choose(ranked: &mut [Explained], most: usize) -> (usize, Vec<f64>) {
    let best = ranked[0].passage.gain;
    let mut open = ranked[0].open.clone();
    let mut near = 1;
    while near < most.min(ranked.len()) {
        let more = |one: &Explained| {
            let closed = one.open.iter().zip(&open).map(|(new, known)| (known - new).max(0.0));
            if one.passage.gain >= NEARLY * best { closed.sum::<f64>() } else { 0.0 }
        };
        let mut next = (near, more(&ranked[near]));
        for (index, one) in ranked.iter().enumerate().skip(near + 1) {
            let more = more(one);
            if more > next.1 {
                next = (index, more);
            }
        }
        if next.1 < MORE {
            if ranked[near].passage.gain < best - DOUBT {
                break;
            }
            next.0 = near;
        }
        ranked[near..=next.0].rotate_right(1);
        for (known, new) in open.iter_mut().zip(&ranked[near].open) {
            *known = known.min(*new);
        }
        near += 1;
    }
    (near, open)
}

/// What each term of the question says about what is asked: how rare it is in the memory.
fn weights(question: &str, rarity: &Rarity) -> BTreeMap<String, f64> {
    terms(question).into_iter().map(|term| (term.clone(), rarity.of_term(&term))).collect()
}

fn terms(text: &str) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    for_each_term(text, Analysis { stems: true }, &mut |_, term| {
        terms.insert(term.to_owned());
    });
    terms
}

/// The sentence that shares most with the question, and as many of its neighbours as fit beside it. All of a text
/// that shares nothing: it was found for its meaning.
fn window(text: &str, weights: &BTreeMap<String, f64>) -> Range<usize> {
    let sentences: Vec<Range<usize>> = pieces(text).collect();
    let shared = |range: &Range<usize>| {
        terms(&text[range.clone()]).iter().filter_map(|term| weights.get(term)).sum::<f64>()
    };
    let values: Vec<f64> = sentences.iter().map(shared).collect();
    // The last of equals would do as well; the first is what readers expect.
    let best = (0..values.len()).rev().max_by(|a, b| values[*a].total_cmp(&values[*b]));
    let Some(best) = best.filter(|best| values[*best] > 0.0) else { return 0..text.len() };
    let (mut first, mut last) = (best, best);
    loop {
        let fits = |first: usize, last: usize| sentences[last].end - sentences[first].start <= WINDOW;
        let before = first > 0 && fits(first - 1, last);
        let after = last + 1 < sentences.len() && fits(first, last + 1);
        if before && (!after || values[first - 1] >= values[last + 1]) {
            first -= 1;
        } else if after {
            last += 1;
        } else {
            return sentences[first].start..sentences[last].end;
        }
    }
}

/// Sentences and lines, long ones in pieces.
fn pieces(text: &str) -> impl Iterator<Item = Range<usize>> {
    sentences(text).flat_map(move |sentence| {
        let mut start = sentence.start;
        std::iter::from_fn(move || {
            let end = text.ceil_char_boundary((start + WINDOW).min(sentence.end));
            let piece = start..end;
            start = end;
            (!piece.is_empty()).then_some(piece)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(start: usize, text: &str, gain: f64) -> Passage {
        Passage::of(start, text, gain)
    }

    #[test]
    fn the_window_is_around_what_is_shared() {
        let other = "Nothing of the kind was ever said of anybody here. ";
        let text = [&other.repeat(9), "The number of Ada is 7. ", &other.repeat(9)].concat();
        let even = Rarity::default();
        let range = window(&text, &weights("What number has Ada?", &even));
        assert!(range.len() <= WINDOW, "{range:?}");
        assert!(text[range].contains("The number of Ada is 7."));
        let mut narrowed = passage(50, &text, 0.0);
        narrowed.core = window(&text, &weights("What number has Ada?", &even));
        narrow(&mut narrowed);
        assert!(narrowed.text.contains("The number of Ada is 7.") && narrowed.text.len() < text.len());
        assert!(narrowed.text.len() <= WINDOW + 2 * AROUND);
        assert_eq!(text[narrowed.start - 50..][..narrowed.text.len()], narrowed.text);
        assert_eq!(window(&text, &weights("Warum?", &even)), 0..text.len());
        let long = "ü ".repeat(1000) + "Ada" + &" ö".repeat(1000);
        let range = window(&long, &weights("Ada", &even));
        assert!(range.len() <= 2 * WINDOW && !range.is_empty());
    }

    #[test]
    fn what_one_passage_leaves_open_another_may_support() {
        let explained =
            |gain: f64, open: &[f64]| Explained { passage: passage(0, "text", gain), open: open.to_vec() };
        // The second supports nothing new and is not nearly as good, the third what the first leaves open.
        let mut ranked =
            [explained(20.0, &[0.0, 12.0]), explained(15.0, &[9.0, 11.0]), explained(13.0, &[9.0, 0.5])];
        let (near, open) = choose(&mut ranked, 3);
        assert_eq!((near, open), (2, vec![0.0, 0.5]));
        let gains = ranked.map(|one| one.passage.gain.round() as i64);
        assert_eq!(gains, [20, 13, 15]);
        // One that supports the rest alone is about something else.
        let mut ranked = [explained(20.0, &[0.0, 12.0]), explained(8.0, &[20.0, 0.0])];
        assert_eq!(choose(&mut ranked, 3).0, 1);
    }

    #[test]
    fn more_is_asked_among_look_alikes() {
        assert!((level(0.0) - 0.4).abs() < 1e-12 && (level(0.9) - 0.94).abs() < 1e-12);
        assert!((level(0.25) - 0.67).abs() < 1e-12);
    }

    #[test]
    fn words_side_by_side_need_one_passage() {
        let word = |term: &str, tokens: Range<usize>, surprise: f64| Word {
            tokens,
            terms: BTreeSet::from([term.to_owned()]),
            surprise,
        };
        let phrases = vec![vec![word("flora", 0..1, 10.0), word("inglebi", 1..3, 10.0)]];
        // Half of what stands there is unlikely: that does not matter. Half of what does not: a quarter counts.
        let a = open(&phrases, "Ada Ingleby.", &[-5.0, -3.0, -2.0]);
        assert!((a[0] - 7.5).abs() < 1e-12, "{a:?}");
        let b = open(&phrases, "Flora Smith.", &[-0.1, -5.0, -5.0]);
        assert!((b[0] - 10.0).abs() < 1e-12, "{b:?}");
        assert!((support(&phrases, &a) - 0.625).abs() < 1e-12);
        assert!(open(&phrases, "Flora Ingleby.", &[-1.0, -9.0, 0.0])[0].abs() < 1e-12);
    }
}
