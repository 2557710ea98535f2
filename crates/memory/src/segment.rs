//! One file of one stream: rows are appended, never changed.
//!
//! ```text
//!  byte 0        ┌────────────────────────────────────────────┐
//!                │ header page (4,096 bytes)                  │  magic, version, number, row size,
//!                │                                            │  stream, fingerprint, CRC of the page
//!  4,096         ├────────────────────────────────────────────┤
//!                │ group 0: 1,024 pages of rows (4 MiB)       │  rows lie end to end, across pages
//!                ├────────────────────────────────────────────┤
//!                │ its checksum page: 1,024 × CRC-32          │  written when the group is full
//!                ├────────────────────────────────────────────┤
//!                │ group 1: 1,024 pages                       │
//!                ├────────────────────────────────────────────┤
//!                │ its checksum page                          │
//!                ├────────────────────────────────────────────┤
//!                │ last group: 0 to 1,024 pages, the last one │  its checksums stand in MANIFEST,
//!                │ perhaps cut short                          │  with the length of the segment
//!                └────────────────────────────────────────────┘
//!                  anything further was never committed
//! ```
//!
//! A segment grows from checkpoint to checkpoint, so a footer at its end would have to be rewritten or would lie in
//! the way of a flat scan. Instead every 4 MiB are closed by a page of checksums (0.1 % of the file), and what a
//! footer would say about the open end (length, checksums of the last group) stands in MANIFEST, which is replaced
//! at each checkpoint anyway. A byte that MANIFEST covers is never written again.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use crate::codec::{Decoder, Encoder};
use crate::storage::{Input, Output, Storage};
use crate::{Error, Fingerprint};

/// The unit that one checksum covers, and the alignment of everything.
pub const PAGE: usize = 4096;
/// Checksums that fill a page.
const SUMS: usize = PAGE / 4;
/// Bytes of rows that one checksum page covers.
const GROUP: u64 = (PAGE * SUMS) as u64;
/// Bytes gathered before they are handed to the file.
const WRITE: usize = 1 << 20;
/// More than any file system holds, and far from where sums of lengths overflow.
const MAX_LEN: u64 = 1 << 60;
const MAGIC: [u8; 8] = *b"LLSEGMNT";
/// The longest stream name, which also becomes part of a file name.
pub(crate) const MAX_NAME: usize = 64;

/// The first format there was; still read.
pub const OLDEST: u32 = 1;
/// The format that is written.
pub const CURRENT: u32 = 1;

/// How long a segment is and what its open end looks like: what MANIFEST keeps of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Bytes of rows.
    pub(crate) len: u64,
    /// Checksums of the whole pages of the last, open group.
    sums: Vec<u32>,
    /// Checksum of the page that is cut short; 0 if there is none.
    tail: u32,
}

impl Mark {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.u64(self.len);
        for sum in &self.sums {
            out.u32(*sum);
        }
        out.u32(self.tail);
    }

    pub(crate) fn decode(input: &mut Decoder<'_>) -> Option<Self> {
        let len = input.u64().filter(|len| *len <= MAX_LEN)?;
        let sums = (len % GROUP) as usize / PAGE;
        let sums = (0..sums).map(|_| input.u32()).collect::<Option<Vec<u32>>>()?;
        Some(Self { len, sums, tail: input.u32()? })
    }

    /// The checksum of page `page` of the open group.
    fn sum(&self, page: usize) -> Option<u32> {
        if page < self.sums.len() {
            Some(self.sums[page])
        } else {
            (page == self.sums.len()).then_some(self.tail)
        }
    }

    fn push(&mut self, page: &[u8], out: &mut Vec<u8>) {
        let used = self.len as usize % PAGE;
        let mut hasher = crc32fast::Hasher::new_with_initial(if used == 0 { 0 } else { self.tail });
        hasher.update(page);
        self.len += page.len() as u64;
        self.tail = hasher.finalize();
        out.extend_from_slice(page);
        if used + page.len() == PAGE {
            self.sums.push(self.tail);
            self.tail = 0;
        }
        if self.sums.len() == SUMS {
            out.extend(self.sums.iter().flat_map(|sum| sum.to_le_bytes()));
            self.sums.clear();
        }
    }
}

/// Where byte `at` of the rows lies in the file; also the length of the file when `at` rows are in it.
fn file_offset(at: u64) -> u64 {
    PAGE as u64 + at + at / GROUP * PAGE as u64
}

/// What the header page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The segment's number, unique in its store for ever.
    pub(crate) id: u64,
    /// The stream it belongs to, or `blob.` and the name of the one blob it holds.
    pub(crate) name: String,
    /// Bytes of one row.
    pub(crate) row_bytes: u32,
    pub(crate) fingerprint: Fingerprint,
}

impl Header {
    pub(crate) fn file_name(&self) -> String {
        format!("{}-{:06}{SUFFIX}", self.name, self.id)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.raw(&MAGIC);
        out.u32(CURRENT);
        out.u32(PAGE as u32);
        out.u64(self.id);
        out.u32(self.row_bytes);
        out.raw(&self.fingerprint.0);
        out.bytes(self.name.as_bytes());
        out.0.resize(PAGE - 4, 0);
        let sum = crc32fast::hash(&out.0);
        out.u32(sum);
        out.0
    }

    /// The header in `page`, or the offset and nature of what is wrong.
    fn decode(page: &[u8; PAGE]) -> Result<Self, Refusal> {
        let mut input = Decoder::new(page);
        if input.array() != Some(MAGIC) {
            return Err(Refusal::Corrupt(0, "this is not a segment"));
        }
        let version = input.u32().unwrap_or(0);
        if !(OLDEST..=CURRENT).contains(&version) {
            return Err(Refusal::Version(version));
        }
        let (body, sum) = page.split_at(PAGE - 4);
        if sum != crc32fast::hash(body).to_le_bytes() {
            return Err(Refusal::Corrupt(0, "the header does not match its checksum"));
        }
        let parsed = (|| {
            let len = input.u32()?;
            let (id, row_bytes) = (input.u64()?, input.u32()?);
            let fingerprint = Fingerprint(input.array()?);
            let name = input.text()?.into();
            (len as usize == PAGE).then_some(Self { id, name, row_bytes, fingerprint })
        })();
        parsed.ok_or(Refusal::Corrupt(8, "the header makes no sense"))
    }
}

enum Refusal {
    Corrupt(u64, &'static str),
    Version(u32),
}

/// Every file of ours but MANIFEST ends so.
const SUFFIX: &str = ".seg";

/// Whether a file could be a segment: only such files are ever removed.
pub(crate) fn is_segment_name(name: &str) -> bool {
    name.strip_suffix(SUFFIX).and_then(|stem| stem.rsplit_once('-')).is_some_and(|(name, id)| {
        is_name(name) && id.len() >= 6 && id.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether a stream or blob may be called so: it becomes part of a file name.
pub(crate) fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letter) && !name.starts_with('.')
}

/// One segment, open for reading up to what is committed and, for the writer, for appending.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Header,
    path: PathBuf,
    committed: Mark,
    written: Mark,
    /// Bytes that `written` counts and the file does not have yet.
    pending: Vec<u8>,
    output: Option<Box<dyn Output>>,
    /// The file has something that is not synced.
    changed: bool,
    input: Box<dyn Input>,
    /// Checksum pages read so far, by group.
    sums: RwLock<BTreeMap<u64, Arc<[u32; SUMS]>>>,
}

impl Segment {
    /// A new, empty one. Nothing refers to it until the next commit.
    pub(crate) fn create(storage: &dyn Storage, header: Header) -> Result<Self, Error> {
        let name = header.file_name();
        let path = storage.location().join(&name);
        let mut output = storage.create(&name).map_err(|e| Error::writing(&path, e))?;
        output.append(&header.encode()).map_err(|e| Error::writing(&path, e))?;
        let input = storage.open(&name).map_err(|e| Error::reading(&path, e))?;
        Ok(Self {
            header,
            path,
            committed: Mark::default(),
            written: Mark::default(),
            pending: Vec::new(),
            output: Some(output),
            changed: true,
            input,
            sums: RwLock::default(),
        })
    }

    /// One that MANIFEST names. `expected` is what MANIFEST says about it.
    pub(crate) fn open(storage: &dyn Storage, expected: &Header, mark: Mark) -> Result<Self, Error> {
        let name = expected.file_name();
        let path = storage.location().join(&name);
        let io = |source| Error::reading(&path, source);
        let input = storage.open(&name).map_err(io)?;
        let size = input.size().map_err(io)?;
        let corrupt = |offset, what| Error::Corrupt { path: path.clone(), offset, what };
        if size < file_offset(mark.len) {
            return Err(corrupt(size, "the file is shorter than what was committed"));
        }
        let mut page = [0; PAGE];
        input.read_at(&mut page, 0).map_err(io)?;
        let header = Header::decode(&page).map_err(|refusal| match refusal {
            Refusal::Corrupt(offset, what) => corrupt(offset, what),
            Refusal::Version(found) => {
                Error::Version { path: path.clone(), found, oldest: OLDEST, newest: CURRENT }
            }
        })?;
        if header != *expected {
            return Err(corrupt(16, "this segment is not the one that belongs here"));
        }
        Ok(Self {
            header,
            path,
            committed: mark.clone(),
            written: mark,
            pending: Vec::new(),
            output: None,
            changed: false,
            input,
            sums: RwLock::default(),
        })
    }

    /// What can be read, and what MANIFEST says.
    pub(crate) fn committed(&self) -> &Mark {
        &self.committed
    }

    /// What the next commit will make readable.
    pub(crate) fn written(&self) -> &Mark {
        &self.written
    }

    /// Bytes on disk.
    pub(crate) fn file_bytes(&self) -> u64 {
        file_offset(self.committed.len)
    }

    /// Add bytes at the end. They can be read after the next commit.
    pub(crate) fn append(&mut self, storage: &dyn Storage, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = PAGE - self.written.len as usize % PAGE;
            let (page, rest) = bytes.split_at(room.min(bytes.len()));
            self.written.push(page, &mut self.pending);
            bytes = rest;
            if self.pending.len() >= WRITE {
                self.flush(storage)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, storage: &dyn Storage) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let output = match &mut self.output {
            Some(output) => output,
            none => {
                let output = storage
                    .extend(&self.header.file_name(), file_offset(self.committed.len))
                    .map_err(|e| Error::writing(&self.path, e))?;
                none.insert(output)
            }
        };
        output.append(&self.pending).map_err(|e| Error::writing(&self.path, e))?;
        self.changed = true;
        self.pending.clear();
        Ok(())
    }

    /// Whether there is something for a commit to do.
    pub(crate) fn is_dirty(&self) -> bool {
        self.written.len != self.committed.len
    }

    /// Hand everything to the file, and the file over if it has to be synced before a commit.
    pub(crate) fn flushed(&mut self, storage: &dyn Storage) -> Result<Option<&mut dyn Output>, Error> {
        self.flush(storage)?;
        let changed = std::mem::take(&mut self.changed);
        match &mut self.output {
            Some(output) if changed => Ok(Some(&mut **output)),
            _ => Ok(None),
        }
    }

    /// MANIFEST now says what is written.
    pub(crate) fn commit(&mut self) {
        if self.is_dirty() {
            self.committed = self.written.clone();
        }
    }

    /// Fill `out` with the committed bytes from `at` on, each page checked against its checksum.
    pub(crate) fn read(&self, mut at: u64, mut out: &mut [u8]) -> Result<(), Error> {
        if at.checked_add(out.len() as u64).is_none_or(|end| end > self.committed.len) {
            return Err(self.corrupt(at, "rows are said to lie beyond the end of the segment"));
        }
        let mut edge = [0; PAGE];
        while !out.is_empty() {
            let within = (at % PAGE as u64) as usize;
            let left_in_group = (GROUP - at % GROUP) as usize;
            let whole = out.len().min(left_in_group) / PAGE * PAGE;
            if within == 0 && whole > 0 {
                // Whole pages go where they are wanted, without a copy.
                let (pages, rest) = out.split_at_mut(whole);
                self.read_pages(at, pages)?;
                out = rest;
                at += whole as u64;
            } else {
                let start = at - within as u64;
                let page = &mut edge[..(self.committed.len - start).min(PAGE as u64) as usize];
                self.read_pages(start, page)?;
                let taken = (page.len() - within).min(out.len());
                let (bytes, rest) = out.split_at_mut(taken);
                bytes.copy_from_slice(&page[within..within + taken]);
                out = rest;
                at += taken as u64;
            }
        }
        Ok(())
    }

    /// Check every committed page; `progress` is told the bytes of each step.
    pub(crate) fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let mut buffer = vec![0; WRITE];
        let mut at = 0;
        while at < self.committed.len {
            let step = (self.committed.len - at).min(WRITE as u64);
            self.read(at, &mut buffer[..step as usize])?;
            at += step;
            progress(step);
        }
        Ok(())
    }

    /// Pages of one group from `at`, a page's start, on; only the last committed page may be cut short.
    fn read_pages(&self, at: u64, out: &mut [u8]) -> Result<(), Error> {
        self.input.read_at(out, file_offset(at)).map_err(|e| Error::reading(&self.path, e))?;
        let group = at / GROUP;
        let first = (at % GROUP) as usize / PAGE;
        let closed = if group == self.committed.len / GROUP { None } else { Some(self.group_sums(group)?) };
        for (index, page) in out.chunks(PAGE).enumerate() {
            let expected = match &closed {
                Some(sums) => Some(sums[first + index]),
                None => self.committed.sum(first + index),
            };
            if expected != Some(crc32fast::hash(page)) {
                return Err(self.corrupt(at + (index * PAGE) as u64, "a page does not match its checksum"));
            }
        }
        Ok(())
    }

    fn group_sums(&self, group: u64) -> Result<Arc<[u32; SUMS]>, Error> {
        let known = self.sums.read().unwrap_or_else(PoisonError::into_inner).get(&group).cloned();
        if let Some(sums) = known {
            return Ok(sums);
        }
        let mut page = [0; PAGE];
        let offset = file_offset((group + 1) * GROUP) - PAGE as u64;
        self.input.read_at(&mut page, offset).map_err(|e| Error::reading(&self.path, e))?;
        let mut sums = [0; SUMS];
        for (sum, bytes) in sums.iter_mut().zip(page.as_chunks::<4>().0) {
            *sum = u32::from_le_bytes(*bytes);
        }
        let sums = Arc::new(sums);
        self.sums.write().unwrap_or_else(PoisonError::into_inner).insert(group, Arc::clone(&sums));
        Ok(sums)
    }

    fn corrupt(&self, at: u64, what: &'static str) -> Error {
        Error::Corrupt { path: self.path.clone(), offset: file_offset(at), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Ram;

    fn header() -> Header {
        Header { id: 7, name: "rows".into(), row_bytes: 1, fingerprint: Fingerprint([3; 32]) }
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    /// Written in pieces of `piece` bytes with a commit and a reopening after each third one.
    fn written(ram: &Ram, bytes: &[u8], piece: usize) -> Segment {
        let mut segment = Segment::create(ram, header()).unwrap();
        for (index, piece) in bytes.chunks(piece).enumerate() {
            segment.append(ram, piece).unwrap();
            if index % 3 == 2 {
                segment.flushed(ram).unwrap().unwrap().sync().unwrap();
                segment.commit();
                let mark = segment.committed().clone();
                segment = Segment::open(ram, &header(), mark).unwrap();
            }
        }
        if let Some(output) = segment.flushed(ram).unwrap() {
            output.sync().unwrap();
        }
        segment.commit();
        segment
    }

    #[test]
    fn any_range_reads_back_however_it_was_written() {
        let group = GROUP as usize;
        for len in [0, 1, PAGE - 1, PAGE, PAGE + 1, group - 1, group, group + 1, 2 * group + 3 * PAGE + 17] {
            let bytes = pattern(len);
            for piece in [PAGE - 1, 3 * PAGE + 5, group, 5 << 20] {
                let ram = Ram::new();
                let segment = written(&ram, &bytes, piece);
                let (mut start, mut step) = (0, 1);
                while start < len {
                    for end in [start + 1, start + PAGE, start + 3 * PAGE + 1, len] {
                        let end = end.min(len);
                        let mut out = vec![0; end - start];
                        segment.read(start as u64, &mut out).unwrap();
                        assert!(
                            out == bytes[start..end],
                            "bytes {start}..{end} of {len} in pieces of {piece}"
                        );
                    }
                    start += step;
                    step = step * 5 + 3;
                }
                let mut seen = 0;
                segment.verify(&mut |bytes| seen += bytes).unwrap();
                assert_eq!(seen, len as u64);
                assert!(segment.read(len as u64, &mut [0]).is_err());
            }
        }
    }

    #[test]
    fn a_flipped_byte_anywhere_is_found() {
        let ram = Ram::new();
        let mark = written(&ram, &pattern(GROUP as usize + 3 * PAGE + 99), 1 << 20).committed().clone();
        let name = header().file_name();
        let size = ram.sizes()[0].1;
        for at in (0..PAGE).chain((PAGE..size).step_by(4001)).chain(size - 200..size) {
            ram.flip(&name, at, 1 << (at % 8));
            let found = Segment::open(&ram, &header(), mark.clone()).and_then(|s| s.verify(&mut |_| {}));
            assert!(found.is_err(), "byte {at} of {size}");
            ram.flip(&name, at, 1 << (at % 8));
        }
        Segment::open(&ram, &header(), mark).unwrap().verify(&mut |_| {}).unwrap();
    }

    #[test]
    fn only_our_files_look_like_ours() {
        for name in ["text-000001.seg", "blob.profile-1234567.seg"] {
            assert!(is_segment_name(name), "{name}");
        }
        for name in
            ["MANIFEST", "notes.seg", "-000001.seg", "Text-000001.seg", "text-1.seg", "a/b-000001.seg"]
        {
            assert!(!is_segment_name(name), "{name}");
        }
    }
}
