//! What the fuzz targets call: the parsers, past their checksums.
use std::path::Path;
use std::sync::Arc;

use crate::codec::Encoder;
use crate::segment::{CURRENT, Header, Segment};
use crate::store::Store;
use crate::{Error, Fingerprint, Ram, Storage, lexical, manifest};

/// A MANIFEST between its length and its checksum.
pub fn manifest(body: &[u8]) -> Result<(), Error> {
    let mut bytes = Encoder::default();
    bytes.raw(b"LLMEMORY");
    bytes.u32(CURRENT);
    bytes.u64(body.len() as u64 + 24);
    bytes.raw(body);
    let sum = crc32fast::hash(&bytes.0);
    bytes.u32(sum);
    manifest::Manifest::decode(Path::new("fuzz"), &bytes.0).map(drop)
}

/// The rows of a catalogue, in a store that has ten bytes of text in segment 1; everything it then refers to is read.
pub fn catalogue(log: &[u8]) -> Result<(), Error> {
    let (ram, fingerprint) = (Ram::new(), Fingerprint([0; 32]));
    let storage: Arc<dyn Storage> = Arc::new(ram);
    drop(Store::create_in(Arc::clone(&storage), fingerprint)?);
    let mut root = manifest::Manifest::read(&*storage)?;
    for (id, stream, name, rows) in [(1, 1, "text", b"0123456789".as_slice()), (2, 0, "catalogue", log)] {
        let mut segment =
            Segment::create(&*storage, Header { id, name: name.into(), row_bytes: 1, fingerprint })?;
        segment.append(&*storage, rows)?;
        segment.flushed(&*storage)?;
        root.segments.push((id, stream, segment.written().clone()));
    }
    root.next_segment = 3;
    root.write(&*storage)?;
    let store = Store::read_only_in(storage, Some(fingerprint))?;
    store.verify(&mut |_, _| ())?;
    for document in store.documents() {
        for section in &document.sections {
            store.read_all(*section, crate::StreamId::TEXT)?;
        }
    }
    lexical::StoredIndex::open(&store, 0).map(drop)
}

/// Parts of a lexical index; they are searched.
pub fn lexical(parts: &[u8]) -> Result<(), lexical::Malformed> {
    let mut index = lexical::Index::new();
    index.push(parts)?;
    index.search("a b 1", 3);
    Ok(())
}
