//! Which sentences of the passages speak about the question, and which only look as if they did.
//!
//! A small model mixes up facts that are said in the same words. A sentence's *weight* for a question is the sum over
//! the question's words in it of `ln((sentences + 1) / (sentences with the word)) · r²`, names three times; r is how rare
//! the word is in the whole memory. So words that all look-alikes share weigh nothing, words that stand everywhere
//! (*where*, *is*) hardly anything, and the name that is asked about most. *Evidence* weighs nearly as much as the
//! best sentence; a *look-alike* has most of its words and little of its weight, or its *form*: the same sentence but
//! for numbers and names with digits or hyphens in them (`"key-1": "value-1"`, `line old-oak: <12>`).
use super::Rarity;
use super::sentence::{is_word, normal, words, written};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Evidence weighs at least this share of the best sentence's weight.
const NEARLY: f64 = 0.85;
/// Names with digits or hyphens say so much more than other words what is asked about.
const NAMES: f64 = 3.0;
/// A look-alike has at least this share of the words that the best sentence shares with the question.
const MOST: f64 = 0.6;

/// What is left of passages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All but look-alikes: the answer may stand beside the words of the question.
    Others,
    /// All but look-alikes, of paragraphs with evidence and those that they lead to (headings, questions): what merely
    /// stands near one is what small models retell instead of answering.
    Paragraphs,
    /// Evidence alone, and all that has the question's weightiest word: the answer is all that speaks of what is asked
    /// about.
    Evidence,
}

/// A sentence of a passage.
#[derive(Debug)]
struct Sentence {
    passage: usize,
    /// Counted through all passages. Empty lines part them, and ends of lines that end a sentence: in a list or a log
    /// a line is all there is, and of wrapped prose few lines end with their sentence.
    paragraph: usize,
    bytes: Range<usize>,
    words: BTreeSet<String>,
    form: String,
}

/// The sentences of each passage that are kept, as ranges of its bytes, in their order; those that follow one another
/// are one range. Several questions keep what any of them needs. Where no sentence shares a word with a question,
/// nothing is left out.
pub fn evidence<Q: AsRef<str>>(
    passages: &[&str],
    questions: &[Q],
    rarity: &Rarity,
    keep: Keep,
) -> Vec<Vec<Range<usize>>> {
    let mut sentences: Vec<Sentence> = Vec::new();
    let mut paragraph = 0;
    for (passage, text) in passages.iter().enumerate() {
        let (mut start, mut before) = (0, "");
        paragraph += 1;
        for text in text.split_inclusive(['.', '!', '?', '\n']) {
            let bytes = start..start + text.len();
            start = bytes.end;
            sentences.push(Sentence { passage, paragraph, bytes, words: words(text), form: form(text) });
            // What follows the mark that ends a sentence on its line: nothing, or closing quotes and brackets.
            let ends = text.ends_with('\n') && !text.contains(is_word);
            paragraph += usize::from(ends && before.ends_with(['.', '!', '?', '\n']));
            before = text;
        }
    }
    let (mut evidence, mut alike) = (BTreeSet::new(), BTreeSet::new());
    let mut about = BTreeSet::new();
    for question in questions {
        let asked = asked(question.as_ref(), rarity);
        let weighed = words_weighed(&sentences, &asked);
        let weights: Vec<(f64, usize)> = sentences
            .iter()
            .map(|sentence| {
                let shared = sentence.words.iter().filter_map(|word| weighed.get(word.as_str()));
                shared.fold((0.0, 0), |(sum, n), weight| (sum + weight, n + 1))
            })
            .collect();
        let best = weights.iter().fold((0.0, 0), |best, one| if one.0 > best.0 { *one } else { best });
        if best.1 == 0 {
            continue;
        }
        let weightiest = weighed.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(word, _)| *word);
        let has = |at: &usize| weightiest.is_some_and(|word| sentences[*at].words.contains(word));
        about.extend((0..sentences.len()).filter(has));
        let is_evidence = |at: usize| weights[at].0 >= NEARLY * best.0;
        let forms: BTreeSet<&str> = (0..sentences.len())
            .filter(|at| is_evidence(*at))
            .map(|at| sentences[at].form.as_str())
            .filter(|form| form.contains(NAME))
            .collect();
        for (at, sentence) in sentences.iter().enumerate() {
            if is_evidence(at) {
                evidence.insert(at);
            } else if weights[at].1 as f64 >= MOST * best.1 as f64 || forms.contains(sentence.form.as_str()) {
                alike.insert(at);
            }
        }
    }
    let with_evidence = paragraphs(passages, &sentences, &evidence);
    let all = evidence.is_empty();
    let other = |at: usize| evidence.contains(&at) || !alike.contains(&at);
    let kept = |at: usize, sentence: &Sentence| match keep {
        Keep::Others => other(at),
        Keep::Paragraphs => (all || with_evidence.contains(&sentence.paragraph)) && other(at),
        Keep::Evidence => all || evidence.contains(&at) || about.contains(&at),
    };
    let mut ranges: Vec<Vec<Range<usize>>> = vec![Vec::new(); passages.len()];
    for (_, Sentence { passage, bytes, .. }) in
        sentences.iter().enumerate().filter(|(at, one)| kept(*at, one))
    {
        match ranges[*passage].last_mut() {
            Some(last) if last.end == bytes.start => last.end = bytes.end,
            _ => ranges[*passage].push(bytes.clone()),
        }
    }
    ranges
}

/// The words of a question, and how rare each is in the memory.
fn asked(question: &str, rarity: &Rarity) -> BTreeMap<String, f64> {
    written(question).map(|word| (normal(word), rarity.of(word))).collect()
}

/// The weight of each of the words asked for that some sentence has.
fn words_weighed<'s>(sentences: &'s [Sentence], asked: &BTreeMap<String, f64>) -> BTreeMap<&'s str, f64> {
    let mut with: BTreeMap<&str, usize> = BTreeMap::new();
    for word in sentences.iter().flat_map(|sentence| &sentence.words).filter(|word| asked.contains_key(*word))
    {
        *with.entry(word).or_default() += 1;
    }
    let weight = |(word, with): (&'s str, usize)| {
        let weight = ((sentences.len() + 1) as f64 / with as f64).ln() * asked[word].powi(2);
        (word, if is_name(word) { NAMES * weight } else { weight })
    };
    with.into_iter().map(weight).collect()
}

/// The paragraphs with evidence. One that ends without having stated anything, as headings, questions and what a colon
/// announces do, has the next one with it, as far as its passage goes.
fn paragraphs(passages: &[&str], sentences: &[Sentence], evidence: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut paragraphs: BTreeSet<usize> = evidence.iter().map(|at| sentences[*at].paragraph).collect();
    // By paragraph: its passage, and how it ends. Later sentences replace earlier ones.
    let mut ends: BTreeMap<usize, (usize, bool)> = BTreeMap::new();
    for Sentence { passage, paragraph, bytes, .. } in sentences {
        let text = passages[*passage][bytes.clone()].trim_end();
        // A piece of closing quotes alone follows the sentence that they close.
        if text.contains(|c: char| c.is_alphanumeric()) {
            ends.insert(*paragraph, (*passage, text.ends_with(['.', '!'])));
        }
    }
    for ((paragraph, (passage, stated)), (next, (of, _))) in ends.iter().zip(ends.iter().skip(1)) {
        if paragraphs.contains(paragraph) && !stated && passage == of {
            paragraphs.insert(*next);
        }
    }
    paragraphs
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

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [&str; 2] = [
        "Tell me of the sea. One of the special magic numbers for old-oak is: 12. The gulls cried.\n",
        "One of the special magic numbers for old-elm is: 34. One of the special magic numbers for new-oak is: 56.",
    ];

    fn kept(passages: &[&str], questions: &[&str], keep: Keep) -> String {
        let ranges = evidence(passages, questions, &Rarity::default(), keep);
        let parts = |(text, ranges): (&&str, Vec<Range<usize>>)| {
            ranges.into_iter().map(|range| &text[range]).collect::<String>()
        };
        passages.iter().zip(ranges).map(parts).collect()
    }

    fn ask(question: &str, keep: Keep) -> String {
        kept(&NUMBERS, &[question], keep)
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
        let kept = kept(&uuids, &["What is the special magic uuid for f1-a2-d3-e4-f5?"], Keep::Others);
        assert!(kept.contains("98-76") && !kept.contains("12-34"), "{kept}");
    }

    #[test]
    fn records_but_the_one_asked_for_are_look_alikes() {
        let pairs = "\"a1-b2\": \"12-34\",\n \"c3-d4\": \"98-76\",\n \"e5-f6\": \"55-55\",\nAnd so it ends.";
        let kept = kept(&[pairs], &["What is the value of the key \"c3-d4\"?"], Keep::Others);
        assert_eq!(kept, " \"c3-d4\": \"98-76\",\nAnd so it ends.");
    }

    #[test]
    fn evidence_stands_alone_and_is_all_there_is() {
        let kept = ask("What is the special magic number for old-elm?", Keep::Evidence);
        assert_eq!(kept, "One of the special magic numbers for old-elm is: 34.");
        let facts = ["Mary went home. It rained.\nJohn left. Mary came back."];
        let ranges = evidence(&facts, &["Where is Mary?"], &Rarity::default(), Keep::Evidence);
        assert_eq!(ranges, [[0..15, 37..53]]);
        assert_eq!(&facts[0][37..53], " Mary came back.");
    }

    #[test]
    fn words_that_stand_everywhere_weigh_little() {
        let facts = ["Mary went home. It rained.", "This is where we lived. Mary left."];
        let rarity = Rarity::new([("where", 0.7), ("is", 0.2), ("mari", 6.0), ("compass", 5.0)]);
        let found = asked("Is the compass Mary's?", &rarity);
        assert_eq!((found["i"], found["compas"]), (0.2, 5.0), "words are looked up as they are written");
        let kept = |rarity| {
            let ranges = evidence(&facts, &["Where is Mary?"], rarity, Keep::Evidence).into_iter().flatten();
            ranges.zip(facts).map(|(range, text)| &text[range]).collect::<Vec<_>>()
        };
        assert_eq!(kept(&rarity), ["Mary went home.", " Mary left."]);
        assert_ne!(kept(&Rarity::default()), kept(&rarity));
    }

    #[test]
    fn what_stands_in_other_paragraphs_is_left_out() {
        let text =
            "The gulls cried.\r\n\r\nIt was late. Ada carried\na lamp. Nobody\nsaw her.\n\nThe tide came.\n";
        let some = kept(&[text], &["What did Ada carry?"], Keep::Paragraphs);
        assert_eq!(some.trim(), "It was late. Ada carried\na lamp. Nobody\nsaw her.");
        let lines = "The widow wrote.\nAda carried a lamp.\nThe miller spoke.\n\"Nobody!\"\n";
        assert_eq!(kept(&[lines], &["What did Ada carry?"], Keep::Paragraphs), "Ada carried a lamp.\n");
        let ranges =
            evidence(&["Ada left.", "It rained."], &["Where is Ada?"], &Rarity::default(), Keep::Paragraphs);
        assert_eq!((ranges[0].len(), &ranges[0][0], ranges[1].len()), (1, &(0..9), 0));
        assert_eq!(kept(&[text], &["Zzyzx qwrt?"], Keep::Paragraphs), text);
        let question = "What is the special magic number for old-oak?";
        let alike = kept(&[&NUMBERS.concat()], &[question], Keep::Paragraphs);
        assert!(alike.contains("12") && !alike.contains("34"), "{alike}");
    }

    #[test]
    fn headings_and_questions_lead_to_what_follows_them() {
        let text = "It rained.\n\n## Oiling the lamp\n\nTwice a week.\n\n\"Who lit it?\"\n\n\"Adair.\"\n\nThe tide came.";
        let some = kept(&[text], &["When was it time for oiling the lamp?"], Keep::Paragraphs);
        assert_eq!(some.trim(), "## Oiling the lamp\n\nTwice a week.");
        let some = kept(&[text], &["Who lit it?"], Keep::Paragraphs);
        assert!(some.contains("Adair.") && !some.contains("rained") && !some.contains("tide"), "{some}");
    }

    #[test]
    fn of_several_questions_each_has_its_evidence() {
        let questions = ["What is the number for old-oak?", "What is the number for new-oak?"];
        let kept = kept(&NUMBERS, &questions, Keep::Others);
        assert!(kept.contains("12") && kept.contains("56") && !kept.contains("34"), "{kept}");
    }

    #[test]
    fn a_question_in_other_words_keeps_everything() {
        let kept = ask("Zzyzx qwrt?", Keep::Evidence);
        assert_eq!(kept, NUMBERS.concat());
    }
}
