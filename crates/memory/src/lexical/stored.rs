//! The lexical index of a whole memory, within a budget.
use super::{Hit, Index, Malformed, Part, Terms};
use crate::manifest::MANIFEST;
use crate::{Error, SectionId, Store, StreamId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The lexical index over every section of a store that some document refers to and that has a part in it.
///
/// Terms stay in RAM as far as the budget goes; those of the other sections are read for each query. The scores are
/// the same, bit for bit.
#[derive(Debug)]
pub struct StoredIndex {
    index: Index,
    sections: Vec<SectionId>,
    /// For each part its section, by its place in `sections`, and where the part's bytes lie among the section's.
    places: Vec<(usize, Range<u64>)>,
}

impl StoredIndex {
    /// Read and check the index, and keep at most `ram` bytes of it.
    ///
    /// # Errors
    /// Those of the store; parts that make no sense.
    pub fn open(store: &Store, ram: usize) -> Result<Self, Error> {
        let mut stored = Self { index: Index::new(), sections: Vec::new(), places: Vec::new() };
        let mut kept = 0;
        for section in in_order(store) {
            let bytes = store.read_all(section, StreamId::LEXICAL)?;
            if bytes.is_empty() {
                continue;
            }
            let first = stored.index.parts();
            stored.index.push(&bytes).map_err(|malformed| damaged(store, malformed))?;
            let mut start = 0;
            for part in first..stored.index.parts() {
                let terms = stored.index.parts[part].terms.as_ref();
                let len = terms.expect("just pushed").bytes.len();
                stored.places.push((stored.sections.len(), start..start + len as u64));
                start += len as u64;
                if kept + len <= ram {
                    kept += len;
                } else {
                    stored.index.shed(part);
                }
            }
            stored.sections.push(section);
        }
        Ok(stored)
    }

    /// The sections that have terms, in the order of their units.
    pub fn sections(&self) -> &[SectionId] {
        &self.sections
    }

    /// Units in all sections.
    pub fn units(&self) -> usize {
        self.index.units()
    }

    /// The section that a unit belongs to, and its number among the section's units.
    ///
    /// # Panics
    /// If there is no such unit.
    pub fn place(&self, unit: usize) -> (SectionId, usize) {
        let part = self.index.parts.partition_point(|part| part.first <= unit) - 1;
        let section = self.places[part].0;
        let first = self.places.partition_point(|(other, _)| *other < section);
        (self.sections[section], unit - self.index.parts[first].first)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.index.bytes()
    }

    /// The `k` best units, best first, numbered through all sections, with their scores; among equals the earlier
    /// one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn search(&self, store: &Store, query: &str, k: usize) -> Result<Vec<(usize, f32)>, Error> {
        let mut scores = vec![0.0; self.index.units()];
        self.index.score_with(query, &mut scores, &mut |part| self.fetch(store, part))?;
        let unit = |hit: Hit| (self.index.parts[hit.part].first + hit.unit, hit.score);
        Ok(self.index.best(&scores, k).into_iter().map(unit).collect())
    }

    /// How rare each term of `text` is that some unit has: its idf, see [`super`].
    ///
    /// # Errors
    /// Those of the store.
    pub fn idfs(&self, store: &Store, text: &str) -> Result<BTreeMap<String, f64>, Error> {
        self.index.idfs_with(text, &mut |part| self.fetch(store, part))
    }

    /// The terms of a part that are not kept.
    fn fetch(&self, store: &Store, part: usize) -> Result<Terms, Error> {
        let (section, place) = &self.places[part];
        let mut bytes = vec![0; (place.end - place.start) as usize];
        store.read(self.sections[*section], StreamId::LEXICAL, place.start, &mut bytes)?;
        let terms = Part::parse(&bytes).and_then(|part| part.terms);
        terms.ok_or_else(|| damaged(store, Malformed { offset: place.start as usize }))
    }
}

fn damaged(store: &Store, malformed: Malformed) -> Error {
    Error::Corrupt {
        path: store.location().join(MANIFEST),
        offset: malformed.offset as u64,
        what: "a section's lexical index makes no sense",
    }
}

/// All sections, by the names of their documents: equals among hits come in the same order, in whichever order the
/// documents were added.
fn in_order(store: &Store) -> Vec<SectionId> {
    let mut documents: Vec<_> = store.documents().collect();
    documents.sort_by(|a, b| a.name.cmp(&b.name));
    let mut seen = BTreeSet::new();
    let named = documents.into_iter().flat_map(|document| document.sections.iter().copied());
    let all = named.chain(store.sections().map(|section| section.id));
    all.filter(|section| seen.insert(*section)).collect()
}
