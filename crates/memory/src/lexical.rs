//! BM25 over blocks of text: finds a block by the words it shares with a question.
//!
//! *Parts* are immutable and self-contained: each holds the terms of some *units* (blocks, or whole documents, as the
//! caller cuts them), and rebuilds from their text alone. An [`Index`] is a list of parts. A query adds up their
//! statistics first, so that its scores are those of one big index, however the units are spread over parts:
//!
//! ```text
//! score(unit) = Σ over terms t of the query:  n(t, query) · idf(t) · tf · (k1 + 1) / (tf + k1 · (1 - b + b · len / mean len))
//! idf(t)      = ln(1 + (units - df + ½) / (df + ½)),   tf = n(t, unit)
//! ```
//! (Robertson and Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond*, 2009; the idf that cannot be
//! negative is Lucene's.) Every unit that has a term of the query is scored; nothing is pruned.
//!
//! A part, in bytes (varints as in LEB128):
//! ```text
//! magic "LEX1" · bytes in this part u32 · analysis u8 (1: English stems)
//! units varint · terms in each unit, varint each
//! distinct terms varint
//! dictionary, by ascending key:  key (6 bytes) · where its postings end (u32), 10 bytes a term
//! postings of each term:  units that have it varint, then for each, ascending:
//!     2 · (difference to the unit before) + (1 if it is there more than once) varint, then how often - 2 varint if so
//! ```
//! A key is the upper 48 bits of the 64-bit FNV-1a hash of the term's UTF-8: two terms of a vocabulary of a million
//! fall together for one query term in 300 million, and the dictionary needs no strings.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;

use crate::codec::{Decoder, Encoder};

mod stem;
mod stored;
mod terms;

pub use stored::StoredIndex;
pub use terms::{Analysis, for_each_term};

const MAGIC: [u8; 4] = *b"LEX1";
const KEY_BYTES: usize = 6;
const ENTRY: usize = KEY_BYTES + 4;

/// How fast the weight of a repeated term saturates.
const K1: f32 = 0.9;
/// How much long units are held back.
const B: f32 = 0.4;

fn key(term: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in term.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash >> 16
}

/// Collects the terms of units into a part.
#[derive(Debug, Default)]
pub struct Builder {
    analysis: Analysis,
    /// Key and unit of every term, in the order of the text.
    occurrences: Vec<(u64, u32)>,
    lengths: Vec<u32>,
}

impl Builder {
    /// No units yet.
    pub fn new(analysis: Analysis) -> Self {
        Self { analysis, ..Self::default() }
    }

    /// Units so far.
    pub fn units(&self) -> usize {
        self.lengths.len()
    }

    /// Add one unit.
    pub fn add(&mut self, text: &str) {
        self.add_blocks(text.as_bytes(), &[0]);
    }

    /// Add as many units as there are `starts`, ascending byte offsets into `text`. A term belongs to the unit in
    /// which it begins, also if the cut goes through the middle of it, as cuts between tokens do. Bytes that are not
    /// UTF-8 are passed over.
    pub fn add_blocks(&mut self, text: &[u8], starts: &[usize]) {
        assert!(starts.is_sorted(), "blocks follow one another");
        let first = self.lengths.len();
        self.lengths.resize(first + starts.len(), 0);
        if starts.is_empty() {
            return;
        }
        let (lengths, occurrences) = (&mut self.lengths, &mut self.occurrences);
        let (mut block, mut before) = (0, 0);
        for chunk in text.utf8_chunks() {
            for_each_term(chunk.valid(), self.analysis, &mut |at, term| {
                while starts.get(block + 1).is_some_and(|next| *next <= before + at) {
                    block += 1;
                }
                lengths[first + block] += 1;
                occurrences.push((key(term), (first + block) as u32));
            });
            before += chunk.valid().len() + chunk.invalid().len();
        }
    }

    /// Add the blocks of `block_tokens` tokens of a text whose tokens end at the byte offsets `ends`.
    pub fn add_tokens(&mut self, text: &[u8], ends: &[u32], block_tokens: usize) {
        let start = |block: usize| if block == 0 { 0 } else { ends[block * block_tokens - 1] as usize };
        let starts: Vec<usize> = (0..ends.len().div_ceil(block_tokens)).map(start).collect();
        self.add_blocks(text, &starts);
    }

    /// The part.
    pub fn finish(mut self) -> Vec<u8> {
        self.occurrences.sort_unstable();
        let mut out = Encoder::default();
        out.raw(&MAGIC);
        out.u32(0);
        out.u8(u8::from(self.analysis.stems));
        out.varint(self.lengths.len() as u64);
        for length in &self.lengths {
            out.varint(u64::from(*length));
        }
        let (mut dictionary, mut postings) = (Encoder::default(), Encoder::default());
        for term in self.occurrences.chunk_by(|a, b| a.0 == b.0) {
            postings.varint(term.chunk_by(|a, b| a.1 == b.1).count() as u64);
            let mut before = 0;
            for unit in term.chunk_by(|a, b| a.1 == b.1) {
                let (id, count) = (unit[0].1, unit.len() as u64);
                postings.varint(u64::from(id - before) << 1 | u64::from(count > 1));
                if count > 1 {
                    postings.varint(count - 2);
                }
                before = id;
            }
            dictionary.raw(&term[0].0.to_le_bytes()[..KEY_BYTES]);
            dictionary.u32(u32::try_from(postings.0.len()).expect("a part has less than 4 GiB of postings"));
        }
        out.varint((dictionary.0.len() / ENTRY) as u64);
        out.raw(&dictionary.0);
        out.raw(&postings.0);
        let len = u32::try_from(out.0.len()).expect("a part has less than 4 GiB");
        out.0[4..8].copy_from_slice(&len.to_le_bytes());
        out.0
    }
}

/// These bytes are no parts of a lexical index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lexical index is damaged at byte {offset}; it can be made again from the text")]
pub struct Malformed {
    /// Where they stop making sense.
    pub offset: usize,
}

/// A unit that has terms of the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which part, in the order in which they were added.
    pub part: usize,
    /// Which of its units.
    pub unit: usize,
    /// The sum of the formula; always positive.
    pub score: f32,
}

/// Parts that are searched together.
#[derive(Debug, Clone, Default)]
pub struct Index {
    parts: Vec<Part>,
    /// Units in all parts.
    units: usize,
    /// Terms in all units.
    length: u64,
}

#[derive(Debug, Clone)]
struct Part {
    analysis: Analysis,
    /// Units in the parts before.
    first: usize,
    lengths: Vec<u32>,
    /// Not there if it is to be read again for every query.
    terms: Option<Terms>,
}

/// What a query looks up in a part.
#[derive(Debug, Clone)]
struct Terms {
    /// The whole part.
    bytes: Vec<u8>,
    /// Where in `bytes` the dictionary begins, and the postings.
    dictionary: usize,
    postings: usize,
}

impl Index {
    /// No parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add the parts that lie end to end in `bytes`, after checking that all of them make sense; says how many.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let len = bytes.get(at + 4..at + 8).and_then(|len| len.try_into().ok()).map(u32::from_le_bytes);
            let len = len.map(|len| len as usize).filter(|len| *len >= 8 && *len <= bytes.len() - at);
            let (part, len) = len
                .and_then(|len| Some((Part::parse(&bytes[at..at + len])?, len)))
                .ok_or(Malformed { offset: at })?;
            at += len;
            parts.push(part);
        }
        let count = parts.len();
        for mut part in parts {
            part.first = self.units;
            self.units += part.lengths.len();
            self.length += part.lengths.iter().map(|length| u64::from(*length)).sum::<u64>();
            self.parts.push(part);
        }
        Ok(count)
    }

    /// Keep of a part only what belongs to its units; its terms are looked up elsewhere from now on.
    fn shed(&mut self, part: usize) {
        self.parts[part].terms = None;
    }

    /// Units in all parts.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Parts.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Units in one part.
    pub fn part_units(&self, part: usize) -> usize {
        self.parts[part].lengths.len()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let terms = |part: &Part| part.terms.as_ref().map_or(0, |terms| terms.bytes.len());
        self.parts.iter().map(|part| terms(part) + part.lengths.len() * 4).sum()
    }

    /// The `k` best units, best first; among equals the earlier one. Fewer if fewer have a term of the query.
    pub fn search(&self, query: &str, k: usize) -> Vec<Hit> {
        let mut scores = vec![0.0; self.units];
        self.score(query, &mut scores);
        self.best(&scores, k)
    }

    /// The `k` best of all units that have a score.
    fn best(&self, scores: &[f32], k: usize) -> Vec<Hit> {
        let mut hits: Vec<usize> = (0..self.units).filter(|unit| scores[*unit] > 0.0).collect();
        let better = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
        if k > 0 && k < hits.len() {
            hits.select_nth_unstable_by(k - 1, better);
        }
        hits.truncate(k);
        hits.sort_unstable_by(better);
        let hit = |unit: usize| {
            let part = self.parts.partition_point(|part| part.first <= unit) - 1;
            Hit { part, unit: unit - self.parts[part].first, score: scores[unit] }
        };
        hits.into_iter().map(hit).collect()
    }

    /// Add the score of every unit to `scores`, `[units]`, numbered through all parts.
    pub fn score(&self, query: &str, scores: &mut [f32]) {
        let Ok(()) =
            self.score_with::<Infallible>(query, scores, &mut |_| unreachable!("all terms are here"));
    }

    /// [`Index::score`], where `fetch` reads the terms of a part that are not here.
    fn score_with<E>(
        &self,
        query: &str,
        scores: &mut [f32],
        fetch: &mut dyn FnMut(usize) -> Result<Terms, E>,
    ) -> Result<(), E> {
        assert_eq!(scores.len(), self.units, "one score for each of the units");
        let mean = self.length as f32 / self.units.max(1) as f32;
        for Postings { repeats, lists, .. } in self.postings(query, fetch)? {
            let weight = repeats as f32 * self.idf(&lists) as f32 * (K1 + 1.0);
            for (part, list) in &lists {
                let scores = &mut scores[part.first..];
                for_each_posting(list, &mut |unit, tf| {
                    let length = part.lengths[unit] as f32;
                    scores[unit] += weight * tf / (tf + K1 * (1.0 - B + B * length / mean));
                });
            }
        }
        Ok(())
    }

    /// The idf of each of the query's terms that some unit has.
    fn idfs_with<E>(
        &self,
        query: &str,
        fetch: &mut dyn FnMut(usize) -> Result<Terms, E>,
    ) -> Result<BTreeMap<String, f64>, E> {
        let there = self.postings(query, fetch)?.into_iter().filter(|postings| !postings.lists.is_empty());
        Ok(there.map(|postings| (postings.term, self.idf(&postings.lists))).collect())
    }

    /// `ln(1 + (units - df + ½) / (df + ½))` of a term.
    fn idf(&self, lists: &[(&Part, Cow<'_, [u8]>)]) -> f64 {
        let df: u64 = lists.iter().filter_map(|(_, list)| Decoder::new(list).varint()).sum();
        let (df, units) = (df as f64, self.units as f64);
        (1.0 + (units - df + 0.5) / (df + 0.5)).ln()
    }

    /// Where each of the query's terms is, as each way of making terms has them.
    fn postings<E>(
        &self,
        query: &str,
        fetch: &mut dyn FnMut(usize) -> Result<Terms, E>,
    ) -> Result<Vec<Postings<'_>>, E> {
        let mut all = Vec::new();
        // Parts may differ in how their terms were made: each way is asked in its own terms.
        for analysis in [Analysis { stems: false }, Analysis { stems: true }] {
            // By ascending key, so that the sums do not depend on the order of the words.
            let mut terms = BTreeMap::<u64, Postings<'_>>::new();
            for_each_term(query, analysis, &mut |_, term| {
                let new = || Postings { term: term.to_owned(), repeats: 0, lists: Vec::new() };
                terms.entry(key(term)).or_insert_with(new).repeats += 1;
            });
            // All of one part at a time, so that a part is fetched once.
            for (index, part) in self.parts.iter().enumerate().filter(|(_, part)| part.analysis == analysis) {
                if let Some(here) = &part.terms {
                    for (key, postings) in &mut terms {
                        postings.lists.extend(here.find(*key).map(|list| (part, Cow::Borrowed(list))));
                    }
                } else {
                    let there = fetch(index)?;
                    for (key, postings) in &mut terms {
                        postings.lists.extend(there.find(*key).map(|list| (part, Cow::Owned(list.to_vec()))));
                    }
                }
            }
            all.extend(terms.into_values());
        }
        Ok(all)
    }
}

/// Where a term of a query is.
struct Postings<'i> {
    term: String,
    /// How often it is in the query.
    repeats: u32,
    /// The units of each part that has it.
    lists: Vec<(&'i Part, Cow<'i, [u8]>)>,
}

/// The units that have one term, in order, and how often it is there; `None` if the bytes make no sense.
fn for_each_posting(list: &[u8], visit: &mut impl FnMut(usize, f32)) -> Option<()> {
    let mut rest = Decoder::new(list);
    let mut unit = 0_usize;
    for _ in 0..rest.varint()? {
        let entry = rest.varint()?;
        unit = unit.checked_add(usize::try_from(entry >> 1).ok()?)?;
        let count = if entry & 1 == 1 { rest.varint()?.checked_add(2)? } else { 1 };
        visit(unit, count as f32);
    }
    rest.is_empty().then_some(())
}

impl Part {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut input = Decoder::new(bytes);
        if input.array() != Some(MAGIC) || input.u32()? as usize != bytes.len() {
            return None;
        }
        let analysis = Analysis { stems: [false, true].get(usize::from(input.u8()?)).copied()? };
        let units = input.varint()?;
        let mut lengths = Vec::new();
        for _ in 0..units {
            lengths.push(u32::try_from(input.varint()?).ok()?);
        }
        let count = usize::try_from(input.varint()?).ok()?;
        let dictionary = input.at();
        input.raw(count.checked_mul(ENTRY)?)?;
        let terms = Terms { bytes: bytes.into(), dictionary, postings: input.at() };
        terms.is_sound(count, lengths.len()).then_some(Self {
            analysis,
            first: 0,
            lengths,
            terms: Some(terms),
        })
    }
}

impl Terms {
    /// Whether every list is where it should be and names units there are: queries need not ask any more.
    fn is_sound(&self, terms: usize, units: usize) -> bool {
        let mut before = None;
        for index in 0..terms {
            let (key, start, end) = self.entry(index);
            if before.is_some_and(|before| before >= key) || start > end {
                return false;
            }
            let mut known = true;
            let list = self
                .list(start, end)
                .and_then(|list| for_each_posting(list, &mut |unit, _| known &= unit < units));
            if list.is_none() || !known {
                return false;
            }
            before = Some(key);
        }
        let end = terms.checked_sub(1).map_or(0, |last| self.entry(last).2);
        self.postings + end == self.bytes.len()
    }

    /// Key, and where in the postings its list begins and ends.
    fn entry(&self, index: usize) -> (u64, usize, usize) {
        let at = self.dictionary + index * ENTRY;
        let number = |at: usize, len: usize| {
            let mut bytes = [0; 8];
            bytes[..len].copy_from_slice(&self.bytes[at..at + len]);
            u64::from_le_bytes(bytes)
        };
        let start = if index == 0 { 0 } else { number(at - 4, 4) };
        (number(at, KEY_BYTES), start as usize, number(at + KEY_BYTES, 4) as usize)
    }

    fn list(&self, start: usize, end: usize) -> Option<&[u8]> {
        self.bytes.get(self.postings + start..self.postings + end)
    }

    /// The postings of a term.
    fn find(&self, key: u64) -> Option<&[u8]> {
        let (mut low, mut high) = (0, (self.postings - self.dictionary) / ENTRY);
        while low < high {
            let middle = low.midpoint(high);
            let (found, start, end) = self.entry(middle);
            match found.cmp(&key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.list(start, end),
            }
        }
        None
    }
}
