//! The root of a store: which segments there are, and how much of each counts.
//!
//! ```text
//! magic (8) · version (4) · bytes in the file (8) · fingerprint (32) · generation (8) · next segment number (8)
//! streams: count, then name and row size each
//! segments: count, then number, stream and mark each
//! blobs: count, then name, number and mark each
//! CRC-32 of everything before (4)
//! ```
//! It is small (a few KiB a stream) and is replaced as a whole at every checkpoint.
use std::path::Path;

use crate::codec::{Decoder, Encoder};
use crate::segment::{CURRENT, Mark, OLDEST, is_name};
use crate::storage::Storage;
use crate::{Error, Fingerprint};

pub(crate) const MANIFEST: &str = "MANIFEST";
/// The next one, while it is being written.
pub(crate) const DRAFT: &str = "MANIFEST.new";
const MAGIC: [u8; 8] = *b"LLMEMORY";
/// No manifest of ours comes near this: 10,000 segments with full marks are 40 MB.
const MAX_BYTES: u64 = 64 << 20;

/// A kind of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) row_bytes: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) fingerprint: Fingerprint,
    /// Counts the commits.
    pub(crate) generation: u64,
    pub(crate) next_segment: u64,
    pub(crate) streams: Vec<Stream>,
    /// Number, index of the stream, mark; ascending numbers.
    pub(crate) segments: Vec<(u64, u16, Mark)>,
    /// Name, number, mark; ascending names.
    pub(crate) blobs: Vec<(String, u64, Mark)>,
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.raw(&MAGIC);
        out.u32(CURRENT);
        let length_at = out.0.len();
        out.u64(0);
        out.raw(&self.fingerprint.0);
        out.u64(self.generation);
        out.u64(self.next_segment);
        out.varint(self.streams.len() as u64);
        for stream in &self.streams {
            out.bytes(stream.name.as_bytes());
            out.u32(stream.row_bytes);
        }
        out.varint(self.segments.len() as u64);
        for (id, stream, mark) in &self.segments {
            out.varint(*id);
            out.varint(u64::from(*stream));
            mark.encode(&mut out);
        }
        out.varint(self.blobs.len() as u64);
        for (name, id, mark) in &self.blobs {
            out.bytes(name.as_bytes());
            out.varint(*id);
            mark.encode(&mut out);
        }
        let len = out.0.len() as u64 + 4;
        out.0[length_at..length_at + 8].copy_from_slice(&len.to_le_bytes());
        let sum = crc32fast::hash(&out.0);
        out.u32(sum);
        out.0
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |offset, what| Error::Corrupt { path: path.into(), offset, what };
        let mut input = Decoder::new(bytes);
        if input.array() != Some(MAGIC) {
            return Err(corrupt(0, "this is not a manifest"));
        }
        // The version comes before the checksum: a later format may end in another one.
        let found = input.u32().ok_or_else(|| corrupt(8, "the manifest is cut off"))?;
        if !(OLDEST..=CURRENT).contains(&found) {
            return Err(Error::Version { path: path.into(), found, oldest: OLDEST, newest: CURRENT });
        }
        if input.u64() != Some(bytes.len() as u64) || bytes.len() < 24 {
            return Err(corrupt(12, "the manifest has not the length it names"));
        }
        let (body, sum) = bytes.split_at(bytes.len() - 4);
        if sum != crc32fast::hash(body).to_le_bytes() {
            return Err(corrupt(0, "the manifest does not match its checksum"));
        }
        let mut input = Decoder::new(body);
        input.raw(20);
        let parsed = Self::decode_body(&mut input);
        parsed.ok_or_else(|| corrupt(input.at() as u64, "the manifest makes no sense"))
    }

    fn decode_body(input: &mut Decoder<'_>) -> Option<Self> {
        let fingerprint = Fingerprint(input.array()?);
        let (generation, next_segment) = (input.u64()?, input.u64()?);
        // Nothing is allocated by a count: each entry read has its bytes in the file.
        let count = input.varint()?;
        let mut streams = Vec::new();
        for _ in 0..count {
            let name = input.text()?;
            let row_bytes = input.u32()?;
            if !is_name(name) || row_bytes == 0 {
                return None;
            }
            streams.push(Stream { name: name.into(), row_bytes });
        }
        let count = input.varint()?;
        let mut segments: Vec<(u64, u16, Mark)> = Vec::new();
        for _ in 0..count {
            let (id, stream) = (input.varint()?, u16::try_from(input.varint()?).ok()?);
            let in_order = segments.last().is_none_or(|(last, ..)| *last < id);
            if !in_order || id >= next_segment || usize::from(stream) >= streams.len() {
                return None;
            }
            segments.push((id, stream, Mark::decode(input)?));
        }
        let count = input.varint()?;
        let mut blobs: Vec<(String, u64, Mark)> = Vec::new();
        for _ in 0..count {
            let (name, id) = (input.text()?, input.varint()?);
            let in_order = blobs.last().is_none_or(|(last, ..)| last.as_str() < name);
            if !in_order || id >= next_segment || !is_name(name) {
                return None;
            }
            blobs.push((name.into(), id, Mark::decode(input)?));
        }
        input.is_empty().then_some(Self { fingerprint, generation, next_segment, streams, segments, blobs })
    }

    pub(crate) fn read(storage: &dyn Storage) -> Result<Self, Error> {
        let path = storage.location().join(MANIFEST);
        let io = |source| Error::reading(&path, source);
        let file = storage.open(MANIFEST).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                Error::Absent { path: storage.location().into() }
            }
            _ => io(source),
        })?;
        let size = file.size().map_err(io)?;
        if size > MAX_BYTES {
            return Err(Error::Corrupt { path, offset: 0, what: "the manifest is larger than any can be" });
        }
        let mut bytes = vec![0; size as usize];
        file.read_at(&mut bytes, 0).map_err(io)?;
        Self::decode(&path, &bytes)
    }

    /// Replace the manifest: afterwards either the old or this one is there, whatever happens.
    pub(crate) fn write(&self, storage: &dyn Storage) -> Result<(), Error> {
        let path = storage.location().join(MANIFEST);
        let io = |source| Error::writing(&path, source);
        let mut draft = storage.create(DRAFT).map_err(io)?;
        draft.append(&self.encode()).map_err(io)?;
        draft.sync().map_err(io)?;
        storage.rename(DRAFT, MANIFEST).map_err(io)?;
        storage.sync_names().map_err(io)
    }
}
