//! What a memory has about something: passages, and which ways of finding lead to them.
use super::asking::{Passage, fused};
use super::{Asking, Memory, Stages};
use crate::Error;

/// A way of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Finder heads.
    Finder,
    /// Words in common.
    Lexical,
    /// Vectors.
    Meaning,
}

impl Way {
    /// All of them, in the order of [`Found::ranks`].
    pub const ALL: [Self; 3] = [Self::Finder, Self::Lexical, Self::Meaning];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finder => "finder",
            Self::Lexical => "lexical",
            Self::Meaning => "meaning",
        }
    }

    fn wanted(self, stages: Stages) -> bool {
        match self {
            Self::Finder => stages.finder,
            Self::Lexical => stages.lexical,
            Self::Meaning => stages.meaning,
        }
    }

    fn alone(self) -> Stages {
        Stages {
            finder: self == Self::Finder,
            lexical: self == Self::Lexical,
            meaning: self == Self::Meaning,
            rerank: false,
        }
    }
}

/// A passage.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The document's name.
    pub document: String,
    /// First byte in the document's text.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The text: a block, with what is needed to make its first and last sentences whole.
    pub text: String,
    /// The sum over all ways of how near its score comes to the best one's, from 0, which is that of the way's
    /// eighth best block, to 1.
    pub score: f64,
    /// Its place in what each of [`Way::ALL`] found, counted from 1, if it was among that.
    pub ranks: [Option<usize>; 3],
}

/// How many each way is asked for, for each one that is wanted.
const DEEPER: usize = 4;

impl Memory<'_> {
    /// The passages that some of the ways of finding lead to, best first, at most `count`. Nothing is re-ranked or
    /// answered.
    ///
    /// # Errors
    /// Those of the store.
    pub fn passages(&mut self, query: &str, stages: Stages, count: usize) -> Result<Vec<Found>, Error> {
        self.view()?;
        let mut lists: [Vec<(usize, f32)>; 3] = Default::default();
        for (list, way) in lists.iter_mut().zip(Way::ALL).filter(|(_, way)| way.wanted(stages)) {
            let asking = Asking { stages: way.alone(), candidates: DEEPER * count, ..Asking::default() };
            *list = self.locate(query, &asking)?.ways.pop().unwrap_or_default();
        }
        let mut order = fused(&lists);
        order.truncate(count);
        let found = |(block, score)| {
            let rank = |list: &Vec<(usize, f32)>| {
                list.iter().position(|(known, _)| *known == block).map(|rank| rank + 1)
            };
            let ranks = lists.each_ref().map(rank);
            let Passage { document, start, text, .. } = self.passage(block)?;
            let (start, end) = (start as u64, (start + text.len()) as u64);
            Ok(Found { document, start, end, text, score, ranks })
        };
        order.into_iter().map(found).collect()
    }
}
