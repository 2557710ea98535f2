//! How much a word tells, by how few blocks of the memory have it.
use crate::Error;
use crate::memory::Memory;
use longleaf_memory::lexical::{Analysis, for_each_term};
use std::collections::BTreeMap;

/// How rare words are in a memory, as far as they were asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rarity(BTreeMap<String, f64>);

impl Rarity {
    #[cfg(test)]
    pub(super) fn new<const N: usize>(idfs: [(&str, f64); N]) -> Self {
        Self(idfs.map(|(term, idf)| (term.to_owned(), idf)).into())
    }

    /// The idf of the rarest term of `word`. Of words that the memory has not, or that were not asked for, 1.
    pub fn of(&self, word: &str) -> f64 {
        self.known(word).unwrap_or(1.0)
    }

    /// The same, of words that the memory has.
    pub(super) fn known(&self, word: &str) -> Option<f64> {
        let mut rarest = None;
        for_each_term(word, Analysis::default(), &mut |_, term| {
            let idf = self.0.get(term).copied();
            rarest = [rarest, idf].into_iter().flatten().reduce(f64::max);
        });
        rarest
    }

    /// The same of a term as the index has it: stems are not stemmed again.
    pub(super) fn of_term(&self, term: &str) -> f64 {
        self.0.get(term).copied().unwrap_or(1.0)
    }
}

impl Memory<'_> {
    /// How rare the words of `text` are.
    ///
    /// # Errors
    /// Those of the store.
    pub fn rarity(&mut self, text: &str) -> Result<Rarity, Error> {
        self.view()?;
        let view = self.view.as_ref().expect("just made");
        Ok(Rarity(view.lexical.idfs(&self.store, text)?))
    }
}
