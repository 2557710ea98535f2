//! The families of tasks.
use crate::babilong::Babilong;
use crate::item::Item;
use crate::records::{self, Records};
use crate::ruler::Ruler;
use crate::xquad::Xquad;
use crate::{Error, babilong, ruler, xquad};
use longleaf_engine::Model;
use std::path::Path;

/// A family of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// RULER's thirteen tasks.
    Ruler,
    /// bAbI's facts between sentences of prose.
    Babilong,
    /// The value of a key among many (Lost in the Middle).
    Kv,
    /// The number in one of many lines (`LongEval`).
    Lines,
    /// Questions on a collection of paragraphs.
    Xquad,
}

/// What happens while items are answered.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// An item is begun.
    Item {
        /// Its task.
        task: &'a str,
        /// Its length.
        length: usize,
        /// Its number.
        index: usize,
        /// Who answers.
        method: &'static str,
    },
    /// The context is read into a memory.
    Read {
        /// Tokens read just now.
        tokens: usize,
        /// Bytes that are read or were known.
        bytes: usize,
        /// Bytes there are.
        of: usize,
    },
    /// The prompt is read.
    Prompt {
        /// Tokens read.
        tokens: usize,
        /// Tokens there are.
        of: usize,
    },
    /// The answer is a token longer.
    Answer,
}

/// Gives items.
pub trait Source {
    /// The item of this number; `None` past the last one. The same one whenever it is asked for.
    ///
    /// # Errors
    /// Data that are not there, damaged, or not enough for the length.
    fn item(&mut self, task: &str, length: usize, index: usize) -> Result<Option<Item>, Error>;
}

impl Suite {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ruler => "ruler",
            Self::Babilong => "babilong",
            Self::Kv => "kv",
            Self::Lines => "lines",
            Self::Xquad => "xquad",
        }
    }

    /// Its tasks.
    pub fn tasks(self) -> &'static [&'static str] {
        match self {
            Self::Ruler => &ruler::TASKS,
            Self::Babilong => &babilong::TASKS,
            Self::Kv => &[records::KV],
            Self::Lines => &[records::LINES],
            Self::Xquad => &xquad::TASKS,
        }
    }

    /// Whether its contexts can be made of any length.
    pub fn has_lengths(self) -> bool {
        self != Self::Xquad
    }

    /// Those of its tasks that were asked for by name, or by the beginning of it; all, if none was.
    ///
    /// # Errors
    /// [`Error::Task`] names what it does not know.
    pub fn tasks_named(self, names: &[String]) -> Result<Vec<&'static str>, Error> {
        for name in names {
            if !self.tasks().iter().any(|task| task.starts_with(name.as_str())) {
                return Err(Error::Task {
                    suite: self.name(),
                    task: name.clone(),
                    known: self.tasks().join(", "),
                });
            }
        }
        let is_asked =
            |task: &&&str| names.is_empty() || names.iter().any(|name| task.starts_with(name.as_str()));
        Ok(self.tasks().iter().filter(is_asked).copied().collect())
    }

    /// Its items, from a folder of data. Lengths are counted in the model's tokens.
    ///
    /// # Errors
    /// Data that are not there or damaged, as far as it shows now.
    pub fn open<'m>(self, data: &Path, seed: u64, model: &'m Model) -> Result<Box<dyn Source + 'm>, Error> {
        let tokenizer = model.tokenizer();
        Ok(match self {
            Self::Ruler => Box::new(Ruler::new(data.to_owned(), seed, tokenizer)),
            Self::Babilong => Box::new(Babilong::new(data.to_owned(), seed, tokenizer)),
            Self::Kv => Box::new(Records::kv(data, seed, tokenizer)?),
            Self::Lines => Box::new(Records::lines(data, seed, tokenizer)?),
            Self::Xquad => Box::new(Xquad::new(data, seed)?),
        })
    }
}
