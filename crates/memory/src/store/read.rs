//! Reading a memory: `&self` only, from any number of threads.
use std::collections::BTreeMap;
use std::path::Path;

use super::{Store, StreamId, Usage};
use crate::catalogue::{Document, DocumentId, Section, SectionId};
use crate::{ContentHash, Error, Fingerprint};

impl Store {
    /// Whose memory this is.
    pub fn fingerprint(&self) -> Fingerprint {
        self.manifest.fingerprint
    }

    /// Counts the commits.
    pub fn generation(&self) -> u64 {
        self.manifest.generation
    }

    /// All documents, in the order in which they were begun; those not finished are only partly read.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.catalogue.documents.values()
    }

    /// A document by number.
    pub fn document(&self, id: DocumentId) -> Option<&Document> {
        self.catalogue.documents.get(&id)
    }

    /// A finished document by name.
    pub fn find(&self, name: &str) -> Option<&Document> {
        self.document(*self.catalogue.by_name.get(name)?)
    }

    /// A section by number.
    pub fn section(&self, id: SectionId) -> Option<&Section> {
        self.catalogue.sections.get(&id)
    }

    /// A section by what it was read from.
    pub fn find_section(&self, hash: ContentHash) -> Option<&Section> {
        self.section(*self.catalogue.by_hash.get(&hash)?)
    }

    /// Every section that some document refers to, once, in the order in which they were begun: what a scan of the
    /// whole memory goes through.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.catalogue.live().into_iter().filter_map(|id| self.section(id))
    }

    /// Whether nothing was ever read into it, or nothing is left after [`Store::compact`].
    pub fn is_empty(&self) -> bool {
        self.catalogue.documents.is_empty() && self.catalogue.sections.is_empty()
    }

    /// Names of all streams.
    pub fn streams(&self) -> impl Iterator<Item = &str> {
        self.manifest.streams.iter().map(|stream| stream.name.as_str())
    }

    /// The number of a stream, if the memory has it.
    pub fn find_stream(&self, name: &str) -> Option<StreamId> {
        let index = self.manifest.streams.iter().position(|stream| stream.name == name)?;
        Some(StreamId(index as u16))
    }

    /// Bytes of one row.
    pub fn row_bytes(&self, stream: StreamId) -> u32 {
        self.manifest.streams[usize::from(stream.0)].row_bytes
    }

    /// Read a section's bytes in a stream from byte `start` of them on, until `out` is full. Every page is checked
    /// against its checksum.
    ///
    /// # Panics
    /// If the store has no such section or it has fewer bytes there.
    pub fn read(
        &self,
        section: SectionId,
        stream: StreamId,
        start: u64,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let Some(found) = self.section(section) else { panic!("section {section:?} is not in the store") };
        let (mut skip, mut out) = (start, out);
        for extent in found.extents(stream) {
            if skip >= extent.len {
                skip -= extent.len;
                continue;
            }
            let (bytes, rest) = out.split_at_mut(((extent.len - skip).min(out.len() as u64)) as usize);
            self.segments[&extent.segment].read(extent.start + skip, bytes)?;
            (skip, out) = (0, rest);
        }
        let missing = out.len();
        assert_eq!(missing, 0, "section {section:?} ends {missing} bytes before what is asked of it");
        Ok(())
    }

    /// All of a section's bytes in a stream.
    pub fn read_all(&self, section: SectionId, stream: StreamId) -> Result<Vec<u8>, Error> {
        let len = self.section(section).map_or(0, |section| section.bytes(stream));
        let mut out = vec![0; len as usize];
        if !out.is_empty() {
            self.read(section, stream, 0, &mut out)?;
        }
        Ok(out)
    }

    /// All of a section's rows in a stream of `u32` ([`StreamId::TOKENS`], [`StreamId::ENDS`]).
    pub fn read_u32(&self, section: SectionId, stream: StreamId) -> Result<Vec<u32>, Error> {
        let bytes = self.read_all(section, stream)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|row| u32::from_le_bytes(*row)).collect())
    }

    /// Read bytes of a segment where an [`Extent`](crate::Extent) says they lie: for scans that join the extents of many sections.
    ///
    /// # Panics
    /// If the store has no such segment.
    pub fn read_segment(&self, segment: u64, start: u64, out: &mut [u8]) -> Result<(), Error> {
        let Some(segment) = self.segments.get(&segment) else {
            panic!("segment {segment} is not in the store")
        };
        segment.read(start, out)
    }

    /// Where its files lie, for messages.
    pub(crate) fn location(&self) -> &Path {
        self.storage.location()
    }

    /// Names of all blobs.
    pub fn blobs(&self) -> impl Iterator<Item = &str> {
        self.blobs.keys().map(String::as_str)
    }

    /// A blob's content, if there is one of that name.
    pub fn blob(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(id) = self.blobs.get(name) else { return Ok(None) };
        let segment = &self.segments[id];
        let mut bytes = vec![0; segment.committed().len as usize];
        segment.read(0, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Check every byte that is committed. `progress` is told how many bytes are checked and how many there are.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        let total = self.segments.values().map(|segment| segment.committed().len).sum();
        let mut done = 0;
        for segment in self.segments.values() {
            segment.verify(&mut |bytes| {
                done += bytes;
                progress(done, total);
            })?;
        }
        for section in self.catalogue.sections.values() {
            if section.bytes(StreamId::TOKENS) != section.bytes(StreamId::ENDS) {
                let path = self.storage.location().into();
                return Err(Error::Corrupt {
                    path,
                    offset: 0,
                    what: "a section has not as many ends as tokens",
                });
            }
        }
        Ok(())
    }

    /// What it takes on disk.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let used = self.live_bytes();
        for (id, segment) in &self.segments {
            usage.disk += segment.file_bytes();
            let len = segment.committed().len;
            let live = match self.stream_of(*id) {
                Some(StreamId::CATALOGUE) => continue,
                Some(_) => used.get(id).copied().unwrap_or(0),
                None => len,
            };
            usage.live += live;
            usage.dead += len - live;
        }
        usage
    }

    /// Bytes by segment that live sections refer to.
    pub(super) fn live_bytes(&self) -> BTreeMap<u64, u64> {
        let mut used = BTreeMap::new();
        for extent in self.sections().flat_map(|section| section.extents.values().flatten()) {
            *used.entry(extent.segment).or_default() += extent.len;
        }
        used
    }

    pub(super) fn stream_of(&self, segment: u64) -> Option<StreamId> {
        self.find_stream(&self.segments.get(&segment)?.header.name)
    }
}

impl Document {
    /// Bytes of its text so far.
    pub fn bytes(&self, store: &Store) -> u64 {
        self.sum(store, StreamId::TEXT)
    }

    /// Tokens so far.
    pub fn tokens(&self, store: &Store) -> u64 {
        self.sum(store, StreamId::TOKENS) / 4
    }

    fn sum(&self, store: &Store, stream: StreamId) -> u64 {
        self.sections.iter().filter_map(|id| store.section(*id)).map(|section| section.bytes(stream)).sum()
    }
}
