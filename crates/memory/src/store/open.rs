//! Making and opening a memory.
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{BUILT_IN, SEGMENT_BYTES, Store, StreamId, blob_stream};
use crate::catalogue::{Catalogue, Extent};
use crate::codec::Encoder;
use crate::manifest::{DRAFT, MANIFEST, Manifest, Stream};
use crate::segment::{Header, Segment, is_segment_name};
use crate::storage::{Directory, Guard, Storage};
use crate::{Error, Fingerprint};

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
        let mut taken = Vec::new();
        for section in catalogue.sections.values() {
            for (stream, extent) in
                section.extents.iter().flat_map(|(s, all)| all.iter().map(move |e| (s, e)))
            {
                if !self.extent_is_there(*stream, extent) {
                    return Err(corrupt(0, "a section's rows lie where no rows are"));
                }
                taken.push((extent.segment, extent.start, extent.start + extent.len));
            }
        }
        taken.sort_unstable();
        if taken.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1) {
            return Err(corrupt(0, "two runs of rows lie in the same place"));
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
}

fn lock(storage: &dyn Storage) -> Result<Box<dyn Guard>, Error> {
    let at = storage.location();
    storage.lock().map_err(|e| Error::writing(at, e))?.ok_or_else(|| Error::Locked { path: at.into() })
}

fn check_free(storage: &dyn Storage) -> Result<(), Error> {
    let at = storage.location();
    let names = storage.list().map_err(|e| Error::reading(at, e))?;
    // Segments without a MANIFEST are a store that has lost it: creation writes that first.
    match names.into_iter().find(|name| name != DRAFT) {
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
