//! Which sentences of the passages speak about the question, and which only look as if they did.
//!
//! A small model mixes up facts that are said in the same words. A sentence's *weight* for a question is the sum over
//! the question's words in it of `ln((sentences + 1) / (sentences with the word))`: words that all look-alikes share
//! weigh nothing, the name that is asked about weighs most. *Evidence* weighs nearly as much as the best sentence; a
//! *look-alike* has most of its words and little of its weight.
use std::collections::{BTreeMap, BTreeSet};

/// Evidence weighs at least this share of the best sentence's weight.
const NEARLY: f64 = 0.85;
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

/// Each passage without the sentences that are not kept. Passages of which nothing is left are empty.
pub(super) fn narrow(passages: &[&str], questions: &[String], keep: Keep) -> Vec<String> {
    let sentences: Vec<Vec<&str>> =
        passages.iter().map(|passage| passage.split_inclusive(['.', '!', '?', '\n']).collect()).collect();
    let words: Vec<Vec<BTreeSet<String>>> =
        sentences.iter().map(|all| all.iter().map(|sentence| words(sentence)).collect()).collect();
    let (mut evidence, mut alike) = (BTreeSet::new(), BTreeSet::new());
    for question in questions {
        let asked = self::words(question);
        let mut with: BTreeMap<&str, usize> = BTreeMap::new();
        for word in words.iter().flatten().flatten().filter(|word| asked.contains(*word)) {
            *with.entry(word).or_default() += 1;
        }
        let count = words.iter().flatten().count() as f64;
        let weight = |sentence: &BTreeSet<String>| -> (f64, usize) {
            let shared = sentence.intersection(&asked);
            shared.fold((0.0, 0), |(sum, n), word| {
                (sum + ((count + 1.0) / with[word.as_str()] as f64).ln(), n + 1)
            })
        };
        let best = words
            .iter()
            .flatten()
            .map(&weight)
            .fold((0.0, 0), |best, one| if one.0 > best.0 { one } else { best });
        if best.1 == 0 {
            continue;
        }
        for (passage, sentences) in words.iter().enumerate() {
            for (at, sentence) in sentences.iter().enumerate() {
                let (sum, shared) = weight(sentence);
                if sum >= NEARLY * best.0 {
                    evidence.insert((passage, at));
                } else if shared as f64 >= MOST * best.1 as f64 {
                    alike.insert((passage, at));
                }
            }
        }
    }
    let kept = |place: &(usize, usize)| match keep {
        Keep::Others => evidence.contains(place) || !alike.contains(place),
        Keep::Evidence => evidence.is_empty() || evidence.contains(place),
    };
    let passage = |(passage, all): (usize, &Vec<&str>)| {
        all.iter()
            .enumerate()
            .filter(|(at, _)| kept(&(passage, *at)))
            .map(|(_, sentence)| *sentence)
            .collect()
    };
    sentences.iter().enumerate().map(passage).collect()
}

/// Lower case, without the s of a plural.
fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
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
