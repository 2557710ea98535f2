//! RULER's thirteen tasks (Hsieh et al., *RULER: What's the Real Context Size of Your Long-Context Language Models?*,
//! 2024), made anew from their published definitions: prompts, numbers of needles, hops and words, tokens to generate
//! and scoring are theirs. Ours are the novels where RULER has essays, the names of things, and the random numbers.
mod counting;
mod documents;
mod needles;
mod tracking;

use crate::haystack::Prose;
use crate::item::{Frame, Item};
use crate::random::Random;
use crate::{Error, Source};
use documents::Documents;
use longleaf_engine::Special;
use longleaf_text::Tokenizer;
use std::path::PathBuf;

/// The tasks, in RULER's order.
pub(crate) const TASKS: [&str; 13] = [
    "niah_single_1",
    "niah_single_2",
    "niah_single_3",
    "niah_multikey_1",
    "niah_multikey_2",
    "niah_multikey_3",
    "niah_multivalue",
    "niah_multiquery",
    "vt",
    "cwe",
    "fwe",
    "qa_1",
    "qa_2",
];

/// What the chat template takes at most, beside the task's own prompt.
const TEMPLATE_TOKENS: usize = 48;

/// RULER over a folder of data: `prose/*.txt` and `ruler_sources/*.json`.
#[derive(Debug)]
pub(crate) struct Ruler<'m> {
    tokenizer: &'m Tokenizer,
    data: PathBuf,
    seed: u64,
    /// Read when a task first wants it.
    prose: Option<Prose<'m>>,
    squad: Option<Documents>,
    hotpot: Option<Documents>,
}

impl<'m> Ruler<'m> {
    pub(crate) fn new(data: PathBuf, seed: u64, tokenizer: &'m Tokenizer) -> Self {
        Self { tokenizer, data, seed, prose: None, squad: None, hotpot: None }
    }

    fn prose(&mut self) -> Result<&mut Prose<'m>, Error> {
        if self.prose.is_none() {
            self.prose = Some(Prose::new(&self.data.join("prose"), self.tokenizer)?);
        }
        Ok(self.prose.as_mut().expect("just made"))
    }

    fn tokens(&self, text: &str) -> usize {
        self.tokenizer.encode(text, Special::Text).len()
    }

    /// Tokens that are left for the context.
    fn room(&self, task: &str, length: usize, frame: &Frame, answer: usize) -> Result<usize, Error> {
        let words =
            [&frame.example, &frame.before, &frame.after, &frame.prefix].map(|text| self.tokens(text));
        let least = words.iter().sum::<usize>() + answer + TEMPLATE_TOKENS;
        length.checked_sub(least).filter(|room| *room >= 64).ok_or_else(|| Error::Long {
            task: task.to_owned(),
            wanted: length,
            least: least + 64,
        })
    }

    /// Random numbers of one item.
    fn random(&self, task: &str, length: usize, index: usize) -> Random {
        Random::new(self.seed, &[&"ruler", &task, &length, &index])
    }

    /// The largest number of words whose text, as `write` makes it, has no more than `room` tokens, or nearly that.
    fn fit(&self, room: usize, mut write: impl FnMut(usize) -> String) -> usize {
        let mut count = room / 16;
        for _ in 0..4 {
            let tokens = self.tokens(&write(count)).max(1);
            count = (count as f64 * room as f64 / tokens as f64) as usize;
        }
        while count > 1 && self.tokens(&write(count)) > room {
            count -= count / 128 + 1;
        }
        count
    }
}

impl Source for Ruler<'_> {
    fn item(&mut self, task: &str, length: usize, index: usize) -> Result<Option<Item>, Error> {
        let item = match task {
            "vt" => self.tracking(length, index)?,
            "cwe" => self.common_words(length, index)?,
            "fwe" => self.frequent_words(length, index)?,
            "qa_1" | "qa_2" => return self.documents(task, length, index),
            _ => self.needles(task, length, index)?,
        };
        Ok(Some(item))
    }
}

#[cfg(test)]
mod tests;
