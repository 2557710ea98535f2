//! `cwe` and `fwe`: which words occur most often? No passage says it; all of the text does.
use super::Ruler;
use crate::Error;
use crate::item::{Frame, Item, Pose};
use crate::random::Random;
use crate::score::Scorer;

const CWE_ANSWER: usize = 120;
const FWE_ANSWER: usize = 50;
/// Different words in the example before `cwe`'s list.
const EXAMPLE: usize = 40;
/// How many words are common in `cwe`.
const COMMON: usize = 10;

impl Ruler<'_> {
    pub(super) fn common_words(&mut self, length: usize, index: usize) -> Result<Item, Error> {
        // Uncommon words come three times each, at no less than a token and their number.
        let vocabulary = self.prose()?.vocabulary(length / 6 + 1000)?;
        if vocabulary.len() < EXAMPLE {
            return Err(Error::Short { task: "cwe, different words".to_owned(), wanted: length, there: 0 });
        }
        let before = "Below is a numbered list of words. In these words, some appear more often than others. Memorize \
                      the ones that appear most often.\n";
        let after = "\nQuestion: What are the 10 most common words in the above list?";
        let prefix = " Answer: The top 10 words that appear most often in the list are:";
        let mut random = self.random("cwe", length, index);
        let (context, answer) = word_list(&vocabulary, EXAMPLE, (10, 3), &mut random);
        // The list before it is an example with its answer, as RULER has it.
        let example = format!("{before}{context}{after}{prefix} {}\n", numbered(&answer));
        let frame = Frame {
            example,
            before: before.to_owned(),
            after: after.to_owned(),
            prefix: prefix.to_owned(),
            raw: false,
        };
        // RULER's short contexts have fewer of each.
        let repeats = if length < 4096 { (6, 1) } else { (30, 3) };
        let room = self.room("cwe", length, &frame, CWE_ANSWER)?;
        let list = |count| {
            let mut random = self.random("cwe list", length, index);
            word_list(&vocabulary, count, repeats, &mut random)
        };
        let count = self.fit(room, |count| list(count.clamp(COMMON, vocabulary.len())).0).max(COMMON);
        if count > vocabulary.len() {
            let there = length * vocabulary.len() / count;
            return Err(Error::Short { task: "cwe, different words".to_owned(), wanted: length, there });
        }
        let (context, expected) = list(count);
        Ok(Item {
            task: "cwe".to_owned(),
            length,
            index,
            depth: None,
            context,
            shelf: "cwe".to_owned(),
            frame,
            pose: Pose::Count {
                question: "What are the 10 most common words in the list?".to_owned(),
                most: COMMON,
            },
            expected,
            scorer: Scorer::All,
            max_tokens: CWE_ANSWER,
            quotes: true,
            parts: Vec::new(),
            like: Vec::new(),
            needs: Vec::new(),
        })
    }

    pub(super) fn frequent_words(&mut self, length: usize, index: usize) -> Result<Item, Error> {
        let frame = Frame {
            example: String::new(),
            before: "Read the following coded text and track the frequency of each coded word. Find the three most \
                     frequently appeared coded words. "
                .to_owned(),
            after: "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most \
                    frequently appeared words in the above coded text?"
                .to_owned(),
            prefix: " Answer: According to the coded text above, the three most frequently appeared words are:".to_owned(),
            raw: false,
        };
        let room = self.room("fwe", length, &frame, FWE_ANSWER)?;
        let mut random = self.random("fwe", length, index);
        let mut vocabulary: Vec<String> = Vec::new();
        let mut known = std::collections::BTreeSet::new();
        while vocabulary.len() < (length / 50).max(8) {
            let word = random.letters(6, b'a');
            if known.insert(word.clone()) {
                vocabulary.push(word);
            }
        }
        // The most frequent one is noise.
        "...".clone_into(&mut vocabulary[0]);
        let write = |count| {
            let mut random = self.random("fwe text", length, index);
            coded_text(&vocabulary, count, &mut random)
        };
        let context = write(self.fit(room, write));
        Ok(Item {
            task: "fwe".to_owned(),
            length,
            index,
            depth: None,
            context,
            shelf: "fwe".to_owned(),
            frame,
            pose: Pose::Count {
                question: "What are the three most frequently appeared words in the coded text?".to_owned(),
                most: 3,
            },
            expected: vocabulary[1..4].to_vec(),
            scorer: Scorer::All,
            max_tokens: FWE_ANSWER,
            quotes: true,
            parts: Vec::new(),
            like: Vec::new(),
            needs: Vec::new(),
        })
    }
}

/// `1. word 2. other`
fn numbered(words: &[String]) -> String {
    let words: Vec<_> = words.iter().enumerate().map(|(at, word)| format!("{}. {word}", at + 1)).collect();
    words.join(" ")
}

/// A numbered list of `count` different words, ten of which come more often; and those ten.
fn word_list(
    vocabulary: &[String],
    count: usize,
    (common, uncommon): (usize, usize),
    random: &mut Random,
) -> (String, Vec<String>) {
    let drawn = random.sample(vocabulary.len(), count);
    let word = |at: &usize| vocabulary[*at].clone();
    let often: Vec<String> = drawn.iter().take(COMMON).map(word).collect();
    let seldom: Vec<String> = drawn.iter().skip(COMMON).map(word).collect();
    let times = |words: &[String], count| -> Vec<String> {
        std::iter::repeat_n(words, count).flatten().cloned().collect()
    };
    let mut list = times(&often, common);
    list.extend(times(&seldom, uncommon));
    random.shuffle(&mut list);
    (numbered(&list), often)
}

/// About `count` words, the k-th of the vocabulary with a share of `1 / (ζ(2) k²)`.
fn coded_text(vocabulary: &[String], count: usize, random: &mut Random) -> String {
    let zeta = std::f64::consts::PI.powi(2) / 6.0;
    let mut words = Vec::with_capacity(count);
    for (at, word) in vocabulary.iter().enumerate() {
        let times = count as f64 / ((at + 1) as f64).powi(2) / zeta;
        words.extend(std::iter::repeat_n(word.as_str(), times as usize));
    }
    random.shuffle(&mut words);
    words.join(" ")
}
