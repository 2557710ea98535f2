//! A memory on disk: streams of rows, committed together.
//!
//! ```text
//! memory/
//!   LOCK                     held by the one writer, empty
//!   MANIFEST                 the root: segments with their lengths; replaced at every checkpoint
//!   catalogue-000001.seg     documents, sections, and where their rows lie
//!   text-000002.seg          bytes of text
//!   tokens-000003.seg        token ids, 4 bytes each
//!   ends-000004.seg          where each token's text ends within its section, 4 bytes each
//!   lexical-000005.seg       the lexical index, one part a section
//!   <stream>-<number>.seg    whatever rows the caller keeps: finder keys, pages of keys and values
//!   blob.<name>-<number>.seg small things with a name
//! ```
//! A commit syncs every file that grew, then replaces MANIFEST: before that instant the store is as at the last
//! commit, after it as at this one. Bytes on disk that no MANIFEST covers do not exist; the next writer drops them.
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Error;
use crate::catalogue::{Catalogue, DocumentId, Extent, Record, SectionId, push_extent};
use crate::codec::Encoder;
use crate::manifest::{Manifest, Stream};
use crate::segment::{Header, Segment, is_name};
use crate::storage::{Guard, Output, Storage};

mod appender;
mod compact;
mod open;
mod read;

pub use appender::{Appender, Begin, Reading};

/// A kind of rows: one flat sequence across a memory's segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u16);

impl StreamId {
    const CATALOGUE: Self = Self(0);
    /// Bytes of text.
    pub const TEXT: Self = Self(1);
    /// Token ids, `u32` each.
    pub const TOKENS: Self = Self(2);
    /// For each token the offset within its section's text where it ends, `u32` each: token `i` covers the bytes
    /// from the end of token `i - 1` (0 for the first) to its own.
    pub const ENDS: Self = Self(3);
    /// A section's part of the lexical index.
    pub const LEXICAL: Self = Self(4);
}

/// The streams every store has, in the order of their numbers.
const BUILT_IN: [(&str, u32); 5] =
    [("catalogue", 1), ("text", 1), ("tokens", 4), ("ends", 4), ("lexical", 1)];

/// A segment that has reached this size is followed by a new one: compaction needs about that much room.
const SEGMENT_BYTES: u64 = 512 << 20;

/// What a memory takes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All files.
    pub disk: u64,
    /// Rows that some document refers to, and blobs.
    pub live: u64,
    /// Rows that compaction would reclaim.
    pub dead: u64,
}

/// One memory, open.
///
/// One process writes (or none), any number read. Reading needs `&self` only and may go on from several threads. A
/// reader sees the memory as it was when it was opened, until [`Store::reload`].
///
/// An error while writing takes the store back to its last commit.
#[derive(Debug)]
pub struct Store {
    storage: Arc<dyn Storage>,
    guard: Option<Box<dyn Guard>>,
    manifest: Manifest,
    segments: BTreeMap<u64, Segment>,
    /// The segment that a stream is appended to.
    open: BTreeMap<StreamId, u64>,
    blobs: BTreeMap<String, u64>,
    catalogue: Catalogue,
    /// Changes to the catalogue since the last commit.
    records: Encoder,
    /// Rows since the last commit.
    rows: BTreeMap<SectionId, BTreeMap<StreamId, Vec<Extent>>>,
    /// Files to remove after the next commit.
    dropped: Vec<String>,
    names_changed: bool,
    /// What is in RAM is not what is on disk: load again before writing.
    stale: bool,
    /// Counts how often the store went back to its last commit: appenders from before are of no use any more.
    epoch: u64,
    segment_bytes: u64,
}

impl Store {
    /// Let segments grow to this size instead of 512 MiB before a new one is begun.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// The number of a stream, which is added if the memory has none of that name yet (with the next commit).
    ///
    /// # Panics
    /// If the name is not 1 to 64 of `a-z 0-9 . _ -`, or the stream exists with rows of another size.
    pub fn stream(&mut self, name: &str, row_bytes: u32) -> Result<StreamId, Error> {
        assert!(is_name(name) && !name.starts_with("blob."), "{name:?} cannot be the name of a stream");
        assert!(row_bytes > 0, "a row has at least one byte");
        self.writable()?;
        if let Some(id) = self.find_stream(name) {
            let found = self.row_bytes(id);
            assert_eq!(found, row_bytes, "the rows of stream {name} have {found} bytes, not {row_bytes}");
            return Ok(id);
        }
        let id = u16::try_from(self.manifest.streams.len()).expect("streams are few");
        self.manifest.streams.push(Stream { name: name.into(), row_bytes });
        Ok(StreamId(id))
    }

    /// Keep something small under a name, in place of what was there; it counts from the next commit on.
    ///
    /// # Panics
    /// If the name is not 1 to 59 of `a-z 0-9 . _ -`.
    pub fn put_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let stream = blob_stream(name);
        assert!(is_name(name) && is_name(&stream), "{name:?} cannot be the name of a blob");
        self.writing(|store| {
            let id = store.new_segment(stream, 1)?;
            store.segments.get_mut(&id).expect("just made").append(&*store.storage, bytes)?;
            if let Some(old) = store.blobs.insert(name.into(), id) {
                store.drop_segment(old);
            }
            Ok(())
        })
    }

    /// Drop a blob, from the next commit on.
    pub fn remove_blob(&mut self, name: &str) -> Result<(), Error> {
        self.writing(|store| {
            if let Some(old) = store.blobs.remove(name) {
                store.drop_segment(old);
            }
            Ok(())
        })
    }

    /// Drop a document at once. The disk space comes back with [`Store::compact`]; until then, adding the same
    /// bytes again costs nothing.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn remove(&mut self, document: DocumentId) -> Result<(), Error> {
        self.writing(|store| {
            assert!(store.document(document).is_some(), "document {document:?} is not in the store");
            store.record(Record::Removed { document });
            store.commit_changes()
        })
    }

    /// Make everything since the last commit durable and visible.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.writing(Self::commit_changes)
    }

    fn writable(&mut self) -> Result<(), Error> {
        if self.guard.is_none() {
            return Err(Error::ReadOnly { path: self.storage.location().into() });
        }
        if self.stale {
            self.reload()?;
        }
        Ok(())
    }

    /// Run something that writes; if it fails, what is in RAM is no longer what is on disk.
    fn writing<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.writable()?;
        let result = work(self);
        if result.is_err() {
            self.roll_back();
        }
        result
    }

    /// Go back to the last commit; if even that fails now, before the next write.
    fn roll_back(&mut self) {
        self.epoch += 1;
        self.stale = self.reload().is_err();
    }

    fn record(&mut self, record: Record) {
        record.encode(&mut self.records);
        self.catalogue.apply(record).expect("records are made from the catalogue they change");
    }

    fn number(&mut self) -> u64 {
        let number = self.catalogue.next;
        self.catalogue.next += 1;
        number
    }

    fn new_segment(&mut self, name: String, row_bytes: u32) -> Result<u64, Error> {
        let id = self.manifest.next_segment;
        self.manifest.next_segment += 1;
        let header = Header { id, name, row_bytes, fingerprint: self.manifest.fingerprint };
        self.segments.insert(id, Segment::create(&*self.storage, header)?);
        self.names_changed = true;
        Ok(id)
    }

    fn drop_segment(&mut self, id: u64) {
        if let Some(segment) = self.segments.remove(&id) {
            self.dropped.push(segment.header.file_name());
            self.names_changed = true;
        }
    }

    /// Add whole rows to a stream's open segment, or to several if it fills up; `placed` is told where they went.
    fn append_rows(
        &mut self,
        stream: StreamId,
        mut bytes: &[u8],
        placed: &mut dyn FnMut(Extent),
    ) -> Result<(), Error> {
        let Stream { name, row_bytes } = self.manifest.streams[usize::from(stream.0)].clone();
        let row = u64::from(row_bytes);
        assert_eq!(bytes.len() as u64 % row, 0, "{} bytes are no whole rows of {row} bytes", bytes.len());
        while !bytes.is_empty() {
            let limit = if stream == StreamId::CATALOGUE { u64::MAX } else { self.segment_bytes };
            let room = |id: &u64| limit.saturating_sub(self.segments[id].written().len) / row * row;
            let id = match self.open.get(&stream).filter(|id| room(id) > 0) {
                Some(id) => *id,
                None => self.new_segment(name.clone(), row_bytes)?,
            };
            self.open.insert(stream, id);
            let segment = self.segments.get_mut(&id).expect("the open segment is there");
            let start = segment.written().len;
            // A segment smaller than one row takes one all the same.
            let room = (limit.saturating_sub(start) / row).max(1).saturating_mul(row);
            let (rows, rest) = bytes.split_at(room.min(bytes.len() as u64) as usize);
            segment.append(&*self.storage, rows)?;
            placed(Extent { segment: id, start, len: rows.len() as u64 });
            bytes = rest;
        }
        Ok(())
    }

    /// Add rows to a section.
    fn append_to(&mut self, section: SectionId, stream: StreamId, bytes: &[u8]) -> Result<(), Error> {
        let mut extents = Vec::new();
        self.append_rows(stream, bytes, &mut |extent| extents.push(extent))?;
        let known = self.catalogue.sections.get_mut(&section).expect("sections are made before their rows");
        let fresh = self.rows.entry(section).or_default();
        for extent in extents {
            push_extent(known.extents.entry(stream).or_default(), extent);
            push_extent(fresh.entry(stream).or_default(), extent);
        }
        Ok(())
    }

    fn commit_changes(&mut self) -> Result<(), Error> {
        // The catalogue in RAM has these rows already; the log has not.
        for (section, streams) in std::mem::take(&mut self.rows) {
            let extents =
                streams.into_iter().flat_map(|(stream, all)| all.into_iter().map(move |e| (stream, e)));
            Record::Rows { section, extents: extents.collect() }.encode(&mut self.records);
        }
        let records = std::mem::take(&mut self.records.0);
        self.append_rows(StreamId::CATALOGUE, &records, &mut |_| ())?;
        let mut files: Vec<&mut dyn Output> = Vec::new();
        for segment in self.segments.values_mut() {
            files.extend(segment.flushed(&*self.storage)?);
        }
        self.storage.sync_all(&mut files).map_err(|e| Error::writing(self.storage.location(), e))?;
        if self.names_changed {
            self.storage.sync_names().map_err(|e| Error::writing(self.storage.location(), e))?;
        }
        self.write_manifest()?;
        for segment in self.segments.values_mut() {
            segment.commit();
        }
        self.names_changed = false;
        for name in std::mem::take(&mut self.dropped) {
            let path = self.storage.location().join(&name);
            self.storage.remove(&name).map_err(|e| Error::writing(&path, e))?;
        }
        Ok(())
    }

    fn write_manifest(&mut self) -> Result<(), Error> {
        let manifest = &mut self.manifest;
        let streams = &manifest.streams;
        let (mut segments, mut blobs) = (Vec::new(), Vec::new());
        for (id, segment) in &self.segments {
            if let Some(stream) = streams.iter().position(|stream| stream.name == segment.header.name) {
                segments.push((*id, stream as u16, segment.written().clone()));
            }
        }
        for (name, id) in &self.blobs {
            blobs.push((name.clone(), *id, self.segments[id].written().clone()));
        }
        (manifest.segments, manifest.blobs) = (segments, blobs);
        manifest.generation += 1;
        manifest.write(&*self.storage)
    }
}

fn blob_stream(name: &str) -> String {
    format!("blob.{name}")
}
