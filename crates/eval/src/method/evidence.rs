//! Which sentences of the passages speak about the question, and which only look as if they did.
//!
//! A small model mixes up facts that are said in the same words. A sentence's *weight* for a question is the sum over
//! the question's words in it of `ln((sentences + 1) / (sentences with the word))`, names three times: words that all look-alikes share
//! weigh nothing, the name that is asked about weighs most. *Evidence* weighs nearly as much as the best sentence; a
//! *look-alike* has most of its words and little of its weight, or its *form*: the same sentence but for numbers and
//! names with digits or hyphens in them (`"key-1": "value-1"`, `line old-oak: <12>`).
use std::collections::{BTreeMap, BTreeSet};

/// Evidence weighs at least this share of the best sentence's weight.
const NEARLY: f64 = 0.85;
/// Names with digits or hyphens say so much more than other words what is asked about.
const NAMES: f64 = 3.0;
/// A look-alike has at least this share of the words that the best sentence shares with the question.
const MOST: f64 = 0.6;

/// What is left of passages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// All but look-alikes: the answer may stand beside the words of the question.
    Others,
    /// Evidence alone: the answer is all that speaks of what is asked about.
    Evidence,
}

/// A sentence of a passage.
#[derive(Debug)]
struct Sentence<'p> {
    text: &'p str,
    words: BTreeSet<String>,
    form: String,
}

/// Each passage without the sentences that are not kept. Passages of which nothing is left are empty.
pub(super) fn narrow(passages: &[&str], questions: &[String], keep: Keep) -> Vec<String> {
    let mut sentences: Vec<(usize, Sentence<'_>)> = Vec::new();
    for (passage, text) in passages.iter().enumerate() {
        for text in text.split_inclusive(['.', '!', '?', '\n']) {
            sentences.push((passage, Sentence { text, words: words(text), form: form(text) }));
        }
    }
    let (mut evidence, mut alike) = (BTreeSet::new(), BTreeSet::new());
    for question in questions {
        let asked = words(question);
        let mut with: BTreeMap<&str, usize> = BTreeMap::new();
        let all = sentences.iter().flat_map(|(_, sentence)| &sentence.words);
        for word in all.filter(|word| asked.contains(*word)) {
            *with.entry(word).or_default() += 1;
        }
        let count = sentences.len() as f64;
        let weights: Vec<(f64, usize)> = sentences
            .iter()
            .map(|(_, sentence)| {
                sentence.words.intersection(&asked).fold((0.0, 0), |(sum, n), word| {
                    let rare = ((count + 1.0) / with[word.as_str()] as f64).ln();
                    (sum + if is_name(word) { NAMES * rare } else { rare }, n + 1)
                })
            })
            .collect();
        let best = weights.iter().fold((0.0, 0), |best, one| if one.0 > best.0 { *one } else { best });
        if best.1 == 0 {
            continue;
        }
        let is_evidence = |at: usize| weights[at].0 >= NEARLY * best.0;
        let forms: BTreeSet<&str> = (0..sentences.len())
            .filter(|at| is_evidence(*at))
            .map(|at| sentences[at].1.form.as_str())
            .filter(|form| form.contains(NAME))
            .collect();
        for (at, (_, sentence)) in sentences.iter().enumerate() {
            if is_evidence(at) {
                evidence.insert(at);
            } else if weights[at].1 as f64 >= MOST * best.1 as f64 || forms.contains(sentence.form.as_str()) {
                alike.insert(at);
            }
        }
    }
    let kept = |at: &usize| match keep {
        Keep::Others => evidence.contains(at) || !alike.contains(at),
        Keep::Evidence => evidence.is_empty() || evidence.contains(at),
    };
    let mut narrowed = vec![String::new(); passages.len()];
    for (at, (passage, sentence)) in sentences.iter().enumerate() {
        if kept(&at) {
            narrowed[*passage].push_str(sentence.text);
        }
    }
    narrowed
}

/// Stands for a name or a number in a form.
const NAME: char = '#';

/// A sentence with every word that has a digit or a hyphen in it made alike.
fn form(text: &str) -> String {
    let mut form = String::new();
    for part in text.trim().split_inclusive(|c: char| !is_word(c)) {
        let word = part.trim_end_matches(|c: char| !is_word(c));
        if is_name(word) {
            form.push(NAME);
            form.push_str(&part[word.len()..]);
        } else {
            form.push_str(part);
        }
    }
    form
}

/// UUIDs, numbers, `old-oak`.
fn is_name(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit() || c == '-')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}

/// Lower case, without the s of a plural. What hyphens and underscores join is one word: a name of five parts (a UUID)
/// counts no more among the words that look-alikes share than a name of one.
fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !is_word(c));
    let words = words.map(|word| word.trim_matches(['-', '_'])).filter(|word| !word.is_empty());
    words
        .map(str::to_lowercase)
        .map(|word| word.strip_suffix('s').map_or(word.clone(), str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [&str; 2] = [
        "Tell me of the sea. One of the special magic numbers for old-oak is: 12. The gulls cried.\n",
        "One of the special magic numbers for old-elm is: 34. One of the special magic numbers for new-oak is: 56.",
    ];

    fn ask(question: &str, keep: Keep) -> String {
        narrow(&NUMBERS, &[question.to_owned()], keep).concat()
    }

    #[test]
    fn look_alikes_are_left_out() {
        let kept = ask("What is the special magic number for old-oak?", Keep::Others);
        assert_eq!(
            kept,
            "Tell me of the sea. One of the special magic numbers for old-oak is: 12. The gulls cried.\n"
        );
    }

    #[test]
    fn names_of_many_parts_are_one_word() {
        let uuids = ["One of the special magic uuids for a1-b2-c3-d4-e5 is: 12-34-56-78-90.\n\
             One of the special magic uuids for f1-a2-d3-e4-f5 is: 98-76-54-32-10."];
        let kept =
            narrow(&uuids, &["What is the special magic uuid for f1-a2-d3-e4-f5?".to_owned()], Keep::Others);
        assert!(kept[0].contains("98-76") && !kept[0].contains("12-34"), "{kept:?}");
    }

    #[test]
    fn records_but_the_one_asked_for_are_look_alikes() {
        let pairs = "\"a1-b2\": \"12-34\",\n \"c3-d4\": \"98-76\",\n \"e5-f6\": \"55-55\",\nAnd so it ends.";
        let kept = narrow(&[pairs], &["What is the value of the key \"c3-d4\"?".to_owned()], Keep::Others);
        assert_eq!(kept, [" \"c3-d4\": \"98-76\",\nAnd so it ends."]);
    }

    #[test]
    fn evidence_stands_alone_and_is_all_there_is() {
        let kept = ask("What is the special magic number for old-elm?", Keep::Evidence);
        assert_eq!(kept, "One of the special magic numbers for old-elm is: 34.");
        let facts = ["Mary went home. It rained.\nJohn left. Mary came back."];
        let kept = narrow(&facts, &["Where is Mary?".to_owned()], Keep::Evidence);
        assert_eq!(kept, ["Mary went home. Mary came back."]);
    }

    #[test]
    fn of_several_questions_each_has_its_evidence() {
        let questions =
            ["What is the number for old-oak?", "What is the number for new-oak?"].map(str::to_owned);
        let kept = narrow(&NUMBERS, &questions, Keep::Others).concat();
        assert!(kept.contains("12") && kept.contains("56") && !kept.contains("34"), "{kept}");
    }

    #[test]
    fn a_question_in_other_words_keeps_everything() {
        let kept = ask("Zzyzx qwrt?", Keep::Evidence);
        assert_eq!(kept, NUMBERS.concat());
    }
}
