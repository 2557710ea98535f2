//! Questions whose answer takes several steps: what is found is asked about in its turn.
//!
//! ```text
//! question ─► passages ─► sentences that name what was asked about ─► names in them
//!          ─► the question about each name, in the place of what led to it ─► passages ─► …
//! ```
use super::sentence::sentences;
use super::{Asking, Excerpt, Keep, Passage, Sought, Stage, evidence};
use crate::Error;
use crate::memory::Memory;
use std::collections::{BTreeMap, BTreeSet};

/// Names that one step leads to, at most.
const NAMES: usize = 6;
/// A name weighs at least this share of what the best one does.
const NEARLY: f64 = 0.2;
/// A passage explains at least this share of what its question's best one does.
const WORTH: f64 = 0.65;

/// Where the steps went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// The names that were found, in the order of the steps.
    pub names: Vec<String>,
    /// The words that led to them.
    pub links: Vec<String>,
}

impl Memory<'_> {
    /// Go on from what `question` found first: of the passages of all steps, what speaks of something that was asked
    /// about.
    pub(super) fn seek_on(
        &mut self,
        question: &str,
        first: Sought,
        asking: &Asking,
        stage: &mut dyn FnMut(Stage),
    ) -> Result<Sought, Error> {
        let most = asking.passages.unwrap_or(asking.candidates);
        let mut all = first;
        let mut found = Some(std::mem::take(&mut all.passages));
        let trail = follow(question, asking.hops, false, |question| {
            let found = if let Some(first) = found.take() {
                first
            } else {
                let step = self.seek(question, asking, stage)?;
                all.timings.add(step.timings);
                step.passages
            };
            let mut passages = worth(found, |passage| passage.gain);
            passages.truncate(most);
            let excerpts = passages.iter().map(Passage::excerpt).collect();
            for passage in passages {
                match all.passages.iter_mut().find(|known| known.overlaps(&passage)) {
                    Some(known) => known.join(&passage),
                    None => all.passages.push(passage),
                }
            }
            Ok::<_, Error>(excerpts)
        })?;
        let asked = [&[question.to_owned()][..], &trail.links, &trail.names].concat();
        let rarity = self.rarity(&asked.join(" "))?;
        let texts: Vec<&str> = all.passages.iter().map(|passage| passage.text.as_str()).collect();
        let kept = evidence(&texts, &asked, &rarity, Keep::Evidence);
        // Each step has a source of its own.
        let pieces = all.passages.iter().zip(kept);
        all.passages =
            pieces.flat_map(|(passage, kept)| kept.into_iter().map(|range| passage.piece(range))).collect();
        all.near = all.passages.len();
        all.trail = trail;
        Ok(all)
    }
}

/// Ask `find`, and again about each of the names that stand beside what was asked about, `hops` times at most: with
/// the question, the name in the place of what led to it, or with the `bare` name.
///
/// # Errors
/// Those of `find`.
pub fn follow<E>(
    question: &str,
    hops: usize,
    bare: bool,
    mut find: impl FnMut(&str) -> Result<Vec<Excerpt>, E>,
) -> Result<Trail, E> {
    let mut trail = Trail::default();
    let mut known: BTreeSet<String> = words(question).map(str::to_lowercase).collect();
    let mut next = vec![question.to_owned()];
    // What leads on stands beside something that was asked about; at first that is every word of the question. Each
    // with the question that asked about it.
    let mut about: BTreeMap<String, String> =
        words(question).map(|word| (word.to_lowercase(), question.to_owned())).collect();
    // What was read before may lead on from a name that was not known then. Each sentence with its weight: how probable
    // its passage is to be the one that was asked for, beside the best.
    let mut read: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..=hops {
        for question in &next {
            let excerpts = find(question)?;
            let best = excerpts.iter().map(|excerpt| excerpt.gain).fold(f64::NEG_INFINITY, f64::max);
            for excerpt in &excerpts {
                let weight = (excerpt.gain - best).exp();
                for sentence in sentences(&excerpt.text) {
                    let known = read.entry(excerpt.text[sentence].to_owned()).or_default();
                    *known = known.max(weight);
                }
            }
        }
        let mut best = 0;
        // Each name: the weight of its sentences, and the words that led to it.
        let mut new: BTreeMap<&str, (f64, BTreeSet<String>)> = BTreeMap::new();
        for (sentence, weight) in &read {
            let shared: BTreeSet<String> =
                words(sentence).map(str::to_lowercase).filter(|word| about.contains_key(word)).collect();
            if shared.is_empty() || shared.len() < best {
                continue;
            }
            if shared.len() > best {
                best = shared.len();
                new.clear();
            }
            for name in names(sentence).filter(|name| !is_known(&known, name)) {
                let (sum, links) = new.entry(name).or_default();
                *sum += weight;
                links.extend(shared.iter().cloned());
            }
        }
        let mut new: Vec<(&str, (f64, BTreeSet<String>))> = new.into_iter().collect();
        new.sort_by(|(_, (a, _)), (_, (b, _))| b.total_cmp(a));
        let least = new.first().map_or(0.0, |(_, (best, _))| NEARLY * best);
        new.retain(|(_, (weight, _))| *weight >= least);
        new.truncate(NAMES);
        if new.is_empty() {
            break;
        }
        next.clear();
        let mut of_names = BTreeMap::new();
        for (name, (_, links)) in new {
            let asked = if bare { name.to_owned() } else { instead(&about, &links, name) };
            for word in words(name).map(str::to_lowercase) {
                of_names.insert(word.clone(), asked.clone());
                known.insert(word);
            }
            next.push(asked);
            trail.names.push(name.to_owned());
            for link in links {
                if !trail.links.contains(&link) {
                    trail.links.push(link);
                }
            }
        }
        about = of_names;
    }
    Ok(trail)
}

/// The question that asked about one of the `links`, with `name` in the place of that link, of those right behind it,
/// and of its article.
fn instead(about: &BTreeMap<String, String>, links: &BTreeSet<String>, name: &str) -> String {
    // Subjects come first: of several links, the first in its question.
    let place = |link: &String| {
        let question = about.get(link)?;
        let is_link = |word: &&str| links.contains(&word.to_lowercase());
        let mut from = words(question).skip_while(|word| word.to_lowercase() != *link).take_while(is_link);
        let first = from.next()?;
        let last = from.last().unwrap_or(first);
        let at = |word: &str| word.as_ptr() as usize - question.as_ptr() as usize;
        Some((at(first), at(last) + last.len(), question))
    };
    let Some((at, end, question)) = links.iter().filter_map(place).min() else { return name.to_owned() };
    let before = question[..at].trim_end();
    let article = ["the", "a", "an", "The", "A", "An"].iter().find(|article| {
        before.strip_suffix(**article).is_some_and(|rest| rest.is_empty() || rest.ends_with(' '))
    });
    let before = &question[..article.map_or(at, |article| before.len() - article.len())];
    format!("{before}{name}{}", &question[end..])
}

/// What is worth reading beside the best, by its gain. All, if nothing was ranked.
pub fn worth<T>(mut found: Vec<T>, gain: impl Fn(&T) -> f64) -> Vec<T> {
    let best = found.iter().map(&gain).fold(0.0, f64::max);
    found.retain(|one| gain(one) >= WORTH * best);
    found
}

/// Whether a name was asked about; at the beginning of a sentence any word looks like one.
fn is_known(known: &BTreeSet<String>, name: &str) -> bool {
    words(name).all(|word| known.contains(&word.to_lowercase()))
}

/// The words of a text that may name something.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 1 && !COMMON.contains(word))
}

/// Words that begin with a capital letter or a digit; those that follow one another are one name.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let place = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let is_name = |word: &&str| word.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit());
    let mut names: Vec<(usize, usize)> = Vec::new();
    for word in words(text).filter(is_name) {
        let (start, end) = (place(word), place(word) + word.len());
        match names.last_mut() {
            Some((_, last)) if &text[*last..start] == " " => *last = end,
            _ => names.push((start, end)),
        }
    }
    names.into_iter().map(|(start, end)| &text[start..end])
}

/// Words that begin sentences, questions and statements of programs: no names.
const COMMON: [&str; 44] = [
    "The", "the", "An", "In", "On", "At", "It", "He", "She", "They", "We", "You", "And", "But", "Or", "If",
    "As", "Of", "For", "From", "With", "This", "That", "There", "Here", "Who", "What", "Where", "When",
    "Why", "How", "Which", "is", "was", "are", "of", "in", "to", "VAR", "Find", "all", "His", "Her", "Its",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentences that share a word with the question.
    fn find(text: &str, question: &str) -> Vec<Excerpt> {
        let asked: Vec<&str> = words(question).collect();
        text.lines()
            .filter(|line| words(line).any(|word| asked.contains(&word)))
            .map(|line| Excerpt {
                document: String::new(),
                start: 0,
                end: 0,
                text: line.to_owned(),
                gain: 0.0,
            })
            .collect()
    }

    #[test]
    fn a_chain_is_followed_to_its_end_and_no_further() {
        let text = "VAR ABCDE = 12345\nThe sky is blue.\nVAR FGHIJ = VAR ABCDE\nVAR KLMNO = VAR FGHIJ\nVAR XXXXX = 54321";
        let mut seen = Vec::new();
        let trail = follow("Find all variables that are assigned the value 12345.", 4, true, |question| {
            let found = find(text, question);
            seen.extend(found.iter().map(|excerpt| excerpt.text.clone()));
            Ok::<_, ()>(found)
        })
        .unwrap();
        for step in ["VAR ABCDE = 12345", "VAR FGHIJ = VAR ABCDE", "VAR KLMNO = VAR FGHIJ"] {
            assert!(seen.iter().any(|line| line == step), "{seen:?}");
        }
        assert_eq!(trail.names, ["ABCDE", "FGHIJ", "KLMNO"]);
        assert!(!seen.iter().any(|line| line.contains("XXXXX")));
    }

    #[test]
    fn names_are_asked_about_in_the_question_s_own_words() {
        let text = "Mary took the football there.\nMary went to the hallway.\nJohn went to the garden.";
        let mut asked = Vec::new();
        let trail = follow("Where is the football?", 2, false, |question| {
            asked.push(question.to_owned());
            Ok::<_, ()>(find(text, question))
        })
        .unwrap();
        assert_eq!(asked, ["Where is the football?", "Where is Mary?"]);
        assert_eq!((trail.names, trail.links), (vec!["Mary".to_owned()], vec!["football".to_owned()]));
    }

    #[test]
    fn a_clause_is_what_it_led_to() {
        let text =
            "The silver compass was given to Marit Solberg by her uncle.\nMarit Solberg lives in Oslo.";
        let mut asked = Vec::new();
        let trail =
            follow("Where does the person live who was given the silver compass?", 1, false, |question| {
                asked.push(question.to_owned());
                Ok::<_, ()>(find(text, question))
            })
            .unwrap();
        assert_eq!(asked[1..], ["Where does the person live who was Marit Solberg?"]);
        assert_eq!(trail.names, ["Marit Solberg", "Oslo"]);
    }

    #[test]
    fn nothing_found_ends_it() {
        let mut asked = 0;
        follow("Where is the milk?", 3, false, |_| {
            asked += 1;
            Ok::<_, ()>(Vec::new())
        })
        .unwrap();
        assert_eq!(asked, 1);
    }
}
