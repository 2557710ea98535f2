//! Text around a block: where it stands, and what of it is read again.
use super::{Excerpt, Hit, Keep, Rarity, evidence};
use crate::Error;
use crate::memory::Memory;
use longleaf_memory::finder::Block;
use longleaf_memory::{SectionId, StreamId};
use std::ops::Range;

/// Tokens before and after a block that are read with it, for what the cut went through.
const MARGIN: (usize, usize) = (24, 40);
/// How far a passage goes on, in bytes, to begin and end with a sentence.
const WIDER: usize = 200;
/// Longest character, less one byte.
const CHARACTER: usize = 3;

/// Some text of one section that is read again.
#[derive(Debug, Clone)]
pub(in crate::memory) struct Passage {
    /// The block it stands around.
    pub(super) block: usize,
    /// Its section, and where that begins in the document's text.
    pub(in crate::memory) section: SectionId,
    pub(in crate::memory) section_start: usize,
    /// Its name and where in that document's text it stands.
    pub(in crate::memory) document: String,
    pub(in crate::memory) start: usize,
    pub(in crate::memory) text: String,
    /// The part of the text that was ranked.
    pub(super) core: Range<usize>,
    /// The parts of the text that are shown to the model.
    pub(super) kept: Vec<Range<usize>>,
    /// How probable it makes the question: `ln P`, less that of no passage.
    pub(super) gain: f64,
}

impl Passage {
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.document == other.document
            && self.start < other.start + other.text.len()
            && other.start < self.start + self.text.len()
    }

    pub(super) fn hit(&self) -> Hit {
        let (start, end) = (self.start as u64, (self.start + self.text.len()) as u64);
        Hit { document: self.document.clone(), start, end }
    }

    pub(super) fn excerpt(&self) -> Excerpt {
        let Hit { document, start, end } = self.hit();
        Excerpt { document, start, end, text: self.text.clone(), gain: self.gain }
    }

    /// One passage from two that overlap.
    pub(super) fn join(&mut self, other: &Self) {
        self.start = join((self.start, &mut self.text), (other.start, &other.text));
        self.gain = self.gain.max(other.gain);
        self.core = 0..self.text.len();
        self.kept = vec![self.core.clone()];
    }

    /// Some of it.
    pub(super) fn piece(&self, range: Range<usize>) -> Self {
        let text = self.text[range.clone()].to_owned();
        let (start, core) = (self.start + range.start, 0..text.len());
        let kept = vec![core.clone()];
        Self { document: self.document.clone(), start, text, core, kept, ..*self }
    }

    /// What is shown of it.
    pub(super) fn shown(&self) -> String {
        self.kept.iter().map(|range| &self.text[range.clone()]).collect()
    }

    /// Leave out its sentences that only look as if they spoke about the question, and its paragraphs that do not.
    pub(super) fn focus(&mut self, question: &str, rarity: &Rarity) {
        self.kept = evidence(&[&self.text], &[question], rarity, Keep::Paragraphs).pop().unwrap_or_default();
    }
}

impl Excerpt {
    /// Whether both have some of the same text.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.document == other.document && self.start < other.end && other.start < self.end
    }

    /// One excerpt from two that overlap.
    pub fn join(&mut self, other: &Self) {
        let (start, other_start) = (self.start as usize, other.start as usize);
        self.start = join((start, &mut self.text), (other_start, &other.text)) as u64;
        self.end = self.end.max(other.end);
        self.gain = self.gain.max(other.gain);
    }
}

/// Widen a text by one that overlaps it; each with where it begins. Returns where both together begin.
fn join((start, text): (usize, &mut String), (other_start, other): (usize, &str)) -> usize {
    let end = start + text.len();
    if other_start + other.len() > end {
        text.push_str(&other[end - other_start..]);
    }
    if other_start < start {
        text.insert_str(0, &other[..start - other_start]);
    }
    start.min(other_start)
}

#[cfg(test)]
impl Passage {
    /// Some text at byte `start` of a document.
    pub(super) fn of(start: usize, text: &str, gain: f64) -> Self {
        let (document, text, whole) = ("a".to_owned(), text.to_owned(), 0..text.len());
        let (core, kept) = (whole.clone(), vec![whole]);
        let section = SectionId(1);
        Self { block: 0, section, section_start: 0, document, start, text, core, kept, gain }
    }
}

impl Memory<'_> {
    /// The bytes of one block.
    pub(in crate::memory) fn hit(&self, block: usize) -> Result<Hit, Error> {
        let Place { section, document, start, first, last } = self.place(block)?;
        let ends = self.ends(section, first, last)?;
        let (start, bytes) = (start as u64, ends.first().zip(ends.last()));
        let (from, to) = bytes.map_or((0, 0), |(from, to)| (*from as u64, *to as u64));
        Ok(Hit { document, start: start + from, end: start + to })
    }

    /// Where a block stands.
    fn place(&self, block: usize) -> Result<Place, Error> {
        let view = self.view.as_ref().expect("made before");
        let Block { section, first, tokens } = view.finder.blocks()[block];
        let (first, last) = (first as usize, (first + tokens) as usize);
        let words = self.tokens_of(section);
        if last > words {
            return Err(Error::Halves { path: self.path.clone(), blocks: last, words });
        }
        let document = self.store.documents().find(|document| document.sections.contains(&section));
        let sections = document.iter().flat_map(|document| &document.sections);
        let before = sections.take_while(|id| **id != section).filter_map(|id| self.store.section(*id));
        let start = before.map(|section| section.bytes(StreamId::TEXT) as usize).sum();
        let document = document.map(|document| document.name.clone()).unwrap_or_default();
        Ok(Place { section, document, start, first, last })
    }

    fn tokens_of(&self, section: SectionId) -> usize {
        self.store.section(section).map_or(0, |section| section.bytes(StreamId::ENDS) as usize / 4)
    }

    /// Where in a section's text the tokens from `first` to before `last` begin and end: one number more than there
    /// are tokens. No more is read than is needed.
    fn ends(&self, section: SectionId, first: usize, last: usize) -> Result<Vec<usize>, Error> {
        let from = first.saturating_sub(1);
        let mut bytes = vec![0; 4 * last.saturating_sub(from)];
        self.store.read(section, StreamId::ENDS, 4 * from as u64, &mut bytes)?;
        let ends = bytes.as_chunks::<4>().0.iter().map(|end| u32::from_le_bytes(*end) as usize);
        Ok(if first == 0 { std::iter::once(0).chain(ends).collect() } else { ends.collect() })
    }

    /// The text around one block, as much of it as is re-read.
    pub(in crate::memory) fn passage(&self, block: usize) -> Result<Passage, Error> {
        let Place { section, document, start: section_start, first, last } = self.place(block)?;
        let last = (last + MARGIN.1).min(self.tokens_of(section));
        let ends = self.ends(section, first.saturating_sub(MARGIN.0), last)?;
        let (from, to) = (ends[0], ends[ends.len() - 1]);
        let (read_from, text) =
            self.text(section, from.saturating_sub(WIDER + CHARACTER)..to + WIDER + CHARACTER)?;
        let from = text.floor_char_boundary(from - read_from);
        let to = text.ceil_char_boundary(to - read_from);
        let range = widen(&text, from..to);
        let (start, text) = (section_start + read_from + range.start, text[range].to_owned());
        let whole = 0..text.len();
        let kept = vec![whole.clone()];
        Ok(Passage { block, section, section_start, document, start, core: whole, kept, text, gain: 0.0 })
    }

    /// The characters of a section that lie wholly in a range of its bytes, and where the first of them begins.
    fn text(&self, section: SectionId, range: Range<usize>) -> Result<(usize, String), Error> {
        let all = self.store.section(section).map_or(0, |section| section.bytes(StreamId::TEXT) as usize);
        let mut bytes = vec![0; range.end.min(all).saturating_sub(range.start)];
        self.store.read(section, StreamId::TEXT, range.start as u64, &mut bytes)?;
        let cut = bytes.iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
        let text = &bytes[cut..];
        let whole = std::str::from_utf8(text).err().filter(|error| error.error_len().is_none());
        let text = &text[..whole.map_or(text.len(), |error| error.valid_up_to())];
        Ok((range.start + cut, String::from_utf8_lossy(text).into_owned()))
    }

    /// The tokens of its section that a passage goes through.
    pub(in crate::memory) fn tokens(&self, passage: &Passage) -> Result<Range<usize>, Error> {
        let ends = self.store.read_u32(passage.section, StreamId::ENDS)?;
        let from = passage.start - passage.section_start;
        let to = from + passage.text.len();
        let first = ends.partition_point(|end| *end as usize <= from);
        Ok(first..ends.partition_point(|end| (*end as usize) < to) + 1)
    }
}

/// Where a block stands.
#[derive(Debug)]
struct Place {
    section: SectionId,
    document: String,
    /// Where the section begins in the document's text.
    start: usize,
    /// The block's first token.
    first: usize,
    /// One past its last.
    last: usize,
}

/// Widen a range to the ends of the sentences that it cuts through, by at most this many bytes a side.
fn widen(text: &str, range: Range<usize>) -> Range<usize> {
    let is_end = |(_, c): &(usize, char)| matches!(c, '.' | '!' | '?' | '\n');
    let low = text.floor_char_boundary(range.start.saturating_sub(WIDER));
    let before = text[low..range.start].char_indices().rfind(is_end);
    let start = before.map_or(range.start, |(at, c)| low + at + c.len_utf8());
    let high = text.ceil_char_boundary((range.end + WIDER).min(text.len()));
    let after = text[range.end..high].char_indices().find(is_end);
    let end = after.map_or(range.end, |(at, c)| range.end + at + c.len_utf8());
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_that_overlap_are_one() {
        let text = "One is here. Two is cut. Three is after.";
        let part = |range: Range<usize>| Passage::of(range.start, &text[range], 1.0);
        for (a, b) in [(0..20, 13..30), (13..30, 0..20), (0..30, 13..20), (13..20, 0..30)] {
            let mut joined = part(a.clone());
            assert!(joined.overlaps(&part(b.clone())));
            joined.join(&part(b.clone()));
            assert_eq!((joined.start, joined.text.as_str()), (0, &text[..30]), "{a:?} {b:?}");
        }
    }

    #[test]
    fn ranges_widen_to_sentences() {
        let text = "One is here. Two is cut. Three is after.";
        assert_eq!(&text[widen(text, 18..22)], " Two is cut.");
        assert_eq!(&text[widen(text, 0..text.len())], text);
    }
}
