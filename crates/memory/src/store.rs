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
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::catalogue::{Catalogue, Document, DocumentId, Extent, Record, Section, SectionId, push_extent};
use crate::codec::Encoder;
use crate::manifest::{DRAFT, MANIFEST, Manifest, Stream};
use crate::segment::{Header, Segment, is_name, is_segment_name};
use crate::storage::{Directory, Guard, Storage};
use crate::{Error, Fingerprint};

mod appender;
mod compact;

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
    /// Make a new memory in a folder that is empty or not there yet, and be its writer.
    pub fn create(path: &Path, fingerprint: Fingerprint) -> Result<Self, Error> {
        let storage = Directory::create(path).map_err(|e| Error::writing(path, e))?;
        Self::create_in(Arc::new(storage), fingerprint)
    }

    /// Open a memory and be its writer.
    pub fn open(path: &Path, fingerprint: Fingerprint) -> Result<Self, Error> {
        Self::open_in(Arc::new(Directory::new(path)), fingerprint)
    }

    /// [`Store::open`] if there is one, else [`Store::create`].
    pub fn open_or_create(path: &Path, fingerprint: Fingerprint) -> Result<Self, Error> {
        match Self::open(path, fingerprint) {
            Err(Error::Absent { .. }) => Self::create(path, fingerprint),
            result => result,
        }
    }

    /// Open a memory for reading, also while another process writes to it.
    pub fn read_only(path: &Path, fingerprint: Fingerprint) -> Result<Self, Error> {
        Self::read_only_in(Arc::new(Directory::new(path)), Some(fingerprint))
    }

    /// Open a memory for reading whatever model it was made with: documents, text and the lexical index do not
    /// depend on one. Rows that do must not be used.
    pub fn inspect(path: &Path) -> Result<Self, Error> {
        Self::read_only_in(Arc::new(Directory::new(path)), None)
    }

    /// [`Store::create`] in any storage.
    pub fn create_in(storage: Arc<dyn Storage>, fingerprint: Fingerprint) -> Result<Self, Error> {
        // Before the lock, whose file has no business in a folder of something else, and again behind it.
        check_free(&*storage)?;
        let guard = lock(&*storage)?;
        check_free(&*storage)?;
        let streams = BUILT_IN.map(|(name, row_bytes)| Stream { name: name.into(), row_bytes });
        let manifest = Manifest {
            fingerprint,
            generation: 0,
            next_segment: 1,
            streams: streams.into(),
            segments: Vec::new(),
            blobs: Vec::new(),
        };
        manifest.write(&*storage)?;
        let store = Self::load(storage, Some(guard), manifest)?;
        store.remove_orphans()?;
        Ok(store)
    }

    /// [`Store::open`] in any storage.
    pub fn open_in(storage: Arc<dyn Storage>, fingerprint: Fingerprint) -> Result<Self, Error> {
        // Before the lock, whose file would otherwise be left in any folder that is named by mistake.
        Manifest::read(&*storage)?;
        let guard = lock(&*storage)?;
        let manifest = Manifest::read(&*storage)?;
        check_fingerprint(&*storage, &manifest, fingerprint)?;
        let store = Self::load(storage, Some(guard), manifest)?;
        store.remove_orphans()?;
        Ok(store)
    }

    /// [`Store::read_only`] (with a fingerprint) or [`Store::inspect`] (without) in any storage.
    #[expect(clippy::needless_pass_by_value, reason = "called as the other constructors are")]
    pub fn read_only_in(storage: Arc<dyn Storage>, fingerprint: Option<Fingerprint>) -> Result<Self, Error> {
        let mut manifest = Manifest::read(&*storage)?;
        loop {
            if let Some(fingerprint) = fingerprint {
                check_fingerprint(&*storage, &manifest, fingerprint)?;
            }
            let generation = manifest.generation;
            match Self::load(Arc::clone(&storage), None, manifest) {
                // The writer compacted between our reading MANIFEST and opening what it named.
                Err(Error::Io { path, source }) if source.kind() == io::ErrorKind::NotFound => {
                    manifest = Manifest::read(&*storage)?;
                    if manifest.generation == generation {
                        return Err(Error::Io { path, source });
                    }
                }
                result => return result,
            }
        }
    }

    fn load(
        storage: Arc<dyn Storage>,
        guard: Option<Box<dyn Guard>>,
        manifest: Manifest,
    ) -> Result<Self, Error> {
        let corrupt = |what| Error::Corrupt { path: storage.location().join(MANIFEST), offset: 0, what };
        let built_in = manifest.streams.iter().map(|stream| (stream.name.as_str(), stream.row_bytes));
        if !built_in.take(BUILT_IN.len()).eq(BUILT_IN) {
            return Err(corrupt("the streams that every memory has are not there"));
        }
        let header =
            |id, name: String, row_bytes| Header { id, name, row_bytes, fingerprint: manifest.fingerprint };
        let (mut segments, mut open, mut blobs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (id, stream, mark) in &manifest.segments {
            let Stream { name, row_bytes } = manifest.streams[usize::from(*stream)].clone();
            segments.insert(*id, Segment::open(&*storage, &header(*id, name, row_bytes), mark.clone())?);
            open.insert(StreamId(*stream), *id);
        }
        for (name, id, mark) in &manifest.blobs {
            let segment = Segment::open(&*storage, &header(*id, blob_stream(name), 1), mark.clone())?;
            if segments.insert(*id, segment).is_some() {
                return Err(corrupt("a segment is named twice"));
            }
            blobs.insert(name.clone(), *id);
        }
        let mut store = Self {
            storage,
            guard,
            manifest,
            segments,
            open,
            blobs,
            catalogue: Catalogue::default(),
            records: Encoder::default(),
            rows: BTreeMap::new(),
            dropped: Vec::new(),
            names_changed: false,
            stale: false,
            epoch: 0,
            segment_bytes: SEGMENT_BYTES,
        };
        store.catalogue = store.replay()?;
        Ok(store)
    }

    fn replay(&self) -> Result<Catalogue, Error> {
        let mut log = Vec::new();
        let mut ids = self.manifest.segments.iter().filter(|(_, stream, _)| *stream == StreamId::CATALOGUE.0);
        // Compaction writes the catalogue anew and nothing else rolls it over: there is at most one segment.
        let Some((id, ..)) = ids.next() else { return Ok(Catalogue::default()) };
        let segment = &self.segments[id];
        let path = self.storage.location().join(segment.header.file_name());
        let corrupt = |offset, what| Error::Corrupt { path: path.clone(), offset, what };
        if ids.next().is_some() {
            return Err(corrupt(0, "there is a second catalogue"));
        }
        log.resize(segment.committed().len as usize, 0);
        segment.read(0, &mut log)?;
        let catalogue = Catalogue::replay(&log)
            .map_err(|offset| corrupt(offset, "a record of the catalogue makes no sense"))?;
        for section in catalogue.sections.values() {
            for (stream, extent) in
                section.extents.iter().flat_map(|(s, all)| all.iter().map(move |e| (s, e)))
            {
                if !self.extent_is_there(*stream, extent) {
                    return Err(corrupt(0, "a section's rows lie where no rows are"));
                }
            }
        }
        Ok(catalogue)
    }

    fn extent_is_there(&self, stream: StreamId, extent: &Extent) -> bool {
        let Some(kind) = self.manifest.streams.get(usize::from(stream.0)) else { return false };
        let Some(segment) = self.segments.get(&extent.segment) else { return false };
        let row = u64::from(kind.row_bytes);
        segment.header.name == kind.name
            && extent.start.is_multiple_of(row)
            && extent.len.is_multiple_of(row)
            && extent.start.checked_add(extent.len).is_some_and(|end| end <= segment.committed().len)
    }

    /// Drop files that a process left behind when it ended before it could name them, or after it had replaced them.
    fn remove_orphans(&self) -> Result<(), Error> {
        let at = self.storage.location();
        for name in self.storage.list().map_err(|e| Error::reading(at, e))? {
            let known = self.segments.values().any(|segment| segment.header.file_name() == name);
            if name == DRAFT || (is_segment_name(&name) && !known) {
                self.storage.remove(&name).map_err(|e| Error::writing(&at.join(&name), e))?;
            }
        }
        Ok(())
    }

    /// Read MANIFEST and the catalogue again: a reader sees what was committed since, a writer goes back to the
    /// last commit.
    pub fn reload(&mut self) -> Result<(), Error> {
        let fingerprint = self.manifest.fingerprint;
        let (segment_bytes, epoch) = (self.segment_bytes, self.epoch);
        let storage = Arc::clone(&self.storage);
        if self.guard.is_none() {
            *self = Self::read_only_in(storage, Some(fingerprint))?;
        } else {
            let manifest = Manifest::read(&*storage)?;
            check_fingerprint(&*storage, &manifest, fingerprint)?;
            let mut fresh = Self::load(storage, None, manifest)?;
            fresh.guard = self.guard.take();
            *self = fresh;
        }
        (self.segment_bytes, self.epoch) = (segment_bytes, epoch);
        Ok(())
    }

    /// Let segments grow to this size instead of 512 MiB before a new one is begun.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

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

    /// Every section that some document refers to, once, in the order in which they were begun: what a scan of the
    /// whole memory goes through.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.catalogue.live().into_iter().filter_map(|id| self.section(id))
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

    /// Read bytes of a segment where an [`Extent`] says they lie: for scans that join the extents of many sections.
    ///
    /// # Panics
    /// If the store has no such segment.
    pub fn read_segment(&self, segment: u64, start: u64, out: &mut [u8]) -> Result<(), Error> {
        let Some(segment) = self.segments.get(&segment) else {
            panic!("segment {segment} is not in the store")
        };
        segment.read(start, out)
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
    fn live_bytes(&self) -> BTreeMap<u64, u64> {
        let mut used = BTreeMap::new();
        for extent in self.sections().flat_map(|section| section.extents.values().flatten()) {
            *used.entry(extent.segment).or_default() += extent.len;
        }
        used
    }

    fn stream_of(&self, segment: u64) -> Option<StreamId> {
        self.find_stream(&self.segments.get(&segment)?.header.name)
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
        for segment in self.segments.values_mut() {
            segment.sync(&*self.storage)?;
        }
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

fn blob_stream(name: &str) -> String {
    format!("blob.{name}")
}

fn lock(storage: &dyn Storage) -> Result<Box<dyn Guard>, Error> {
    let at = storage.location();
    storage.lock().map_err(|e| Error::writing(at, e))?.ok_or_else(|| Error::Locked { path: at.into() })
}

fn check_free(storage: &dyn Storage) -> Result<(), Error> {
    let at = storage.location();
    let names = storage.list().map_err(|e| Error::reading(at, e))?;
    match names.into_iter().find(|name| name != DRAFT && !is_segment_name(name)) {
        Some(found) => Err(Error::Occupied { path: at.into(), found: found.into() }),
        None => Ok(()),
    }
}

fn check_fingerprint(storage: &dyn Storage, manifest: &Manifest, expected: Fingerprint) -> Result<(), Error> {
    let found = manifest.fingerprint;
    if found == expected {
        return Ok(());
    }
    Err(Error::Mismatch { path: storage.location().into(), found, expected })
}
