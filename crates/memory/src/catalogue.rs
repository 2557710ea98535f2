//! What is in a memory: documents, their sections, and where the rows of each section lie.
//!
//! The catalogue is a stream like the others, a log of [`Record`]s; the state is what replaying them gives.
//! A *section* is a run of text known by its content hash, with its rows in every stream; a *document* is a list of
//! sections. Two documents, or two versions of one, share the sections they have in common: an edited document reads
//! only what changed. What no document refers to any more is found again by its hash until compaction drops it.
use std::collections::{BTreeMap, BTreeSet};

use crate::ContentHash;
use crate::codec::{Decoder, Encoder};
use crate::store::StreamId;

/// A document's number, never used twice in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId(pub u64);

/// A section's number, never used twice in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionId(pub u64);

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its number, in the order in which documents were begun.
    pub id: DocumentId,
    /// What the user calls it; finished documents have different names.
    pub name: String,
    /// The hash of all its bytes.
    pub hash: ContentHash,
    /// Its text, in order. A section may stand in it twice.
    pub sections: Vec<SectionId>,
    /// False while it is only partly read.
    pub finished: bool,
}

/// A run of text and everything kept about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its number.
    pub id: SectionId,
    /// What it was read from.
    pub hash: ContentHash,
    /// False while it is only partly read.
    pub whole: bool,
    /// Where its rows lie, by stream.
    pub(crate) extents: BTreeMap<StreamId, Vec<Extent>>,
}

impl Section {
    /// Bytes it has in a stream.
    pub fn bytes(&self, stream: StreamId) -> u64 {
        self.extents(stream).iter().map(|extent| extent.len).sum()
    }

    /// Where its bytes in a stream lie, in order: one run, unless it crosses from one segment to the next.
    pub fn extents(&self, stream: StreamId) -> &[Extent] {
        self.extents.get(&stream).map_or(&[], Vec::as_slice)
    }
}

/// A run of bytes in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of the segment.
    pub segment: u64,
    /// First byte within the segment's rows.
    pub start: u64,
    /// How many.
    pub len: u64,
}

/// Add a run, joining it to the last one where they touch.
pub(crate) fn push_extent(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut() {
        Some(last) if last.segment == extent.segment && last.start + last.len == extent.start => {
            last.len += extent.len;
        }
        _ => extents.push(extent),
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// Reading of a document begins.
    Document { id: DocumentId, name: String, hash: ContentHash },
    /// Reading of a section begins.
    Section { id: SectionId, hash: ContentHash },
    /// A document being read needs this section.
    Attach { document: DocumentId, section: SectionId },
    /// A section has further rows.
    Rows { section: SectionId, extents: Vec<(StreamId, Extent)> },
    /// A section's rows in a stream are gone.
    Cleared { section: SectionId, stream: StreamId },
    /// A section is read to its end.
    Whole { section: SectionId },
    /// A document is read to its end; another one of its name is gone.
    Finished { document: DocumentId, sections: Vec<SectionId> },
    /// A document is gone.
    Removed { document: DocumentId },
    /// No numbers below these are given again (written when compaction has dropped their last owners).
    Numbers { next: u64 },
}

impl Record {
    /// Kind (1 byte), length, body.
    pub(crate) fn encode(&self, out: &mut Encoder) {
        let mut body = Encoder::default();
        let kind = match self {
            Self::Document { id, name, hash } => {
                body.varint(id.0);
                body.bytes(name.as_bytes());
                body.raw(&hash.0);
                1
            }
            Self::Section { id, hash } => {
                body.varint(id.0);
                body.raw(&hash.0);
                2
            }
            Self::Attach { document, section } => {
                body.varint(document.0);
                body.varint(section.0);
                3
            }
            Self::Rows { section, extents } => {
                body.varint(section.0);
                for (stream, extent) in extents {
                    body.varint(u64::from(stream.0));
                    body.varint(extent.segment);
                    body.varint(extent.start);
                    body.varint(extent.len);
                }
                4
            }
            Self::Whole { section } => {
                body.varint(section.0);
                5
            }
            Self::Finished { document, sections } => {
                body.varint(document.0);
                for section in sections {
                    body.varint(section.0);
                }
                6
            }
            Self::Removed { document } => {
                body.varint(document.0);
                7
            }
            Self::Numbers { next } => {
                body.varint(*next);
                8
            }
            Self::Cleared { section, stream } => {
                body.varint(section.0);
                body.varint(u64::from(stream.0));
                9
            }
        };
        out.u8(kind);
        out.bytes(&body.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Option<Self> {
        let kind = input.u8()?;
        let mut body = Decoder::new(input.bytes()?);
        let record = match kind {
            1 => Self::Document {
                id: DocumentId(body.varint()?),
                name: body.text()?.into(),
                hash: ContentHash(body.array()?),
            },
            2 => Self::Section { id: SectionId(body.varint()?), hash: ContentHash(body.array()?) },
            3 => Self::Attach { document: DocumentId(body.varint()?), section: SectionId(body.varint()?) },
            4 => {
                let section = SectionId(body.varint()?);
                let mut extents = Vec::new();
                while !body.is_empty() {
                    let stream = StreamId(u16::try_from(body.varint()?).ok()?);
                    let (segment, start, len) = (body.varint()?, body.varint()?, body.varint()?);
                    start.checked_add(len)?;
                    extents.push((stream, Extent { segment, start, len }));
                }
                Self::Rows { section, extents }
            }
            5 => Self::Whole { section: SectionId(body.varint()?) },
            6 => {
                let document = DocumentId(body.varint()?);
                let mut sections = Vec::new();
                while !body.is_empty() {
                    sections.push(SectionId(body.varint()?));
                }
                Self::Finished { document, sections }
            }
            7 => Self::Removed { document: DocumentId(body.varint()?) },
            8 => Self::Numbers { next: body.varint()? },
            9 => Self::Cleared {
                section: SectionId(body.varint()?),
                stream: StreamId(u16::try_from(body.varint()?).ok()?),
            },
            _ => return None,
        };
        body.is_empty().then_some(record)
    }
}

/// The state after some records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Catalogue {
    pub(crate) documents: BTreeMap<DocumentId, Document>,
    pub(crate) sections: BTreeMap<SectionId, Section>,
    pub(crate) by_hash: BTreeMap<ContentHash, SectionId>,
    /// Finished documents.
    pub(crate) by_name: BTreeMap<String, DocumentId>,
    /// The next number for a document or section.
    pub(crate) next: u64,
}

impl Catalogue {
    /// The state that a log of records gives; on nonsense, its offset.
    pub(crate) fn replay(log: &[u8]) -> Result<Self, u64> {
        let mut state = Self::default();
        let mut input = Decoder::new(log);
        while !input.is_empty() {
            let at = input.at() as u64;
            let record = Record::decode(&mut input).ok_or(at)?;
            state.apply(record).ok_or(at)?;
        }
        Ok(state)
    }

    /// Take one change in; `None` if it refers to what is not there.
    pub(crate) fn apply(&mut self, record: Record) -> Option<()> {
        match record {
            Record::Document { id, name, hash } => {
                self.number(id.0)?;
                let sections = Vec::new();
                self.documents.insert(id, Document { id, name, hash, sections, finished: false });
            }
            Record::Section { id, hash } => {
                self.number(id.0)?;
                self.by_hash.insert(hash, id);
                self.sections.insert(id, Section { id, hash, whole: false, extents: BTreeMap::new() });
            }
            Record::Attach { document, section } => {
                self.sections.get(&section)?;
                let sections = &mut self.documents.get_mut(&document)?.sections;
                if !sections.contains(&section) {
                    sections.push(section);
                }
            }
            Record::Rows { section, extents } => {
                let section = self.sections.get_mut(&section)?;
                for (stream, extent) in extents {
                    push_extent(section.extents.entry(stream).or_default(), extent);
                }
            }
            Record::Cleared { section, stream } => {
                self.sections.get_mut(&section)?.extents.remove(&stream);
            }
            Record::Whole { section } => self.sections.get_mut(&section)?.whole = true,
            Record::Finished { document, sections } => {
                if !sections.iter().all(|id| self.sections.contains_key(id)) {
                    return None;
                }
                let finished = self.documents.get_mut(&document)?;
                finished.sections = sections;
                finished.finished = true;
                let replaced = self.by_name.insert(finished.name.clone(), document);
                if let Some(replaced) = replaced.filter(|replaced| *replaced != document) {
                    self.documents.remove(&replaced);
                }
            }
            Record::Removed { document } => {
                let removed = self.documents.remove(&document)?;
                if removed.finished {
                    self.by_name.remove(&removed.name);
                }
            }
            Record::Numbers { next } => self.next = self.next.max(next),
        }
        Some(())
    }

    fn number(&mut self, id: u64) -> Option<()> {
        let fresh =
            !self.documents.contains_key(&DocumentId(id)) && !self.sections.contains_key(&SectionId(id));
        self.next = self.next.max(id.checked_add(1)?);
        fresh.then_some(())
    }

    /// Sections that some document refers to.
    pub(crate) fn live(&self) -> BTreeSet<SectionId> {
        self.documents.values().flat_map(|document| document.sections.iter().copied()).collect()
    }

    /// Forget what no document refers to.
    pub(crate) fn drop_dead(&mut self) {
        let live = self.live();
        self.sections.retain(|id, _| live.contains(id));
        self.by_hash.retain(|_, id| live.contains(id));
    }

    /// Records that give this state again.
    pub(crate) fn snapshot(&self) -> Encoder {
        let mut out = Encoder::default();
        Record::Numbers { next: self.next }.encode(&mut out);
        for section in self.sections.values() {
            let id = section.id;
            Record::Section { id, hash: section.hash }.encode(&mut out);
            let extents =
                section.extents.iter().flat_map(|(stream, all)| all.iter().map(|one| (*stream, *one)));
            Record::Rows { section: id, extents: extents.collect() }.encode(&mut out);
            if section.whole {
                Record::Whole { section: id }.encode(&mut out);
            }
        }
        for document in self.documents.values() {
            let id = document.id;
            Record::Document { id, name: document.name.clone(), hash: document.hash }.encode(&mut out);
            if document.finished {
                let sections = document.sections.clone();
                Record::Finished { document: id, sections }.encode(&mut out);
            } else {
                for section in &document.sections {
                    Record::Attach { document: id, section: *section }.encode(&mut out);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_replays_to_the_same_state() {
        let hash = |byte| ContentHash([byte; 32]);
        let extent = |start, len| Extent { segment: 3, start, len };
        let records = [
            Record::Document { id: DocumentId(1), name: "old".into(), hash: hash(1) },
            Record::Section { id: SectionId(2), hash: hash(2) },
            Record::Attach { document: DocumentId(1), section: SectionId(2) },
            Record::Rows { section: SectionId(2), extents: vec![(StreamId::TEXT, extent(0, 10))] },
            Record::Rows { section: SectionId(2), extents: vec![(StreamId::TEXT, extent(10, 5))] },
            Record::Whole { section: SectionId(2) },
            Record::Rows { section: SectionId(2), extents: vec![(StreamId::LEXICAL, extent(0, 10))] },
            Record::Cleared { section: SectionId(2), stream: StreamId::LEXICAL },
            Record::Finished { document: DocumentId(1), sections: vec![SectionId(2), SectionId(2)] },
            Record::Document { id: DocumentId(4), name: "part".into(), hash: hash(4) },
            Record::Section { id: SectionId(5), hash: hash(5) },
            Record::Attach { document: DocumentId(4), section: SectionId(5) },
            Record::Document { id: DocumentId(9), name: "gone".into(), hash: hash(9) },
            Record::Removed { document: DocumentId(9) },
        ];
        let mut log = Encoder::default();
        for record in records {
            record.encode(&mut log);
        }
        let state = Catalogue::replay(&log.0).unwrap();
        assert_eq!(state.sections[&SectionId(2)].extents(StreamId::TEXT), [extent(0, 15)]);
        assert_eq!(state.next, 10);
        assert_eq!(Catalogue::replay(&state.snapshot().0).unwrap(), state);
        for end in 1..log.0.len() {
            // A log cut off inside a record is refused with the record's offset, never misread.
            if let Err(at) = Catalogue::replay(&log.0[..end]) {
                assert!(at < end as u64);
            }
        }
    }
}
