//! Reading a document into a store, so that it can be interrupted at any instant.
use super::{Store, StreamId};
use crate::catalogue::{DocumentId, Record, SectionId};
use crate::{ContentHash, Error};

/// What there is to do for a document.
#[derive(Debug)]
pub enum Begin<'a> {
    /// Nothing: it, or another one with the same bytes, was read before. It is in the store under this name now.
    Known(DocumentId),
    /// Read it, from where an earlier attempt was interrupted if there was one.
    Read(Appender<'a>),
}

/// What there is to do for a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Nothing: it was read before, for this or another document.
    Whole(SectionId),
    /// Read it from where [`Appender::bytes`] says it ends; 0 for a new one.
    Partial(SectionId),
}

/// Reads one document, section by section.
///
/// Dropped before [`Appender::finish`], it leaves the document partly read as at the last checkpoint; beginning the
/// same document again goes on from there. So it is after an error, which ends an appender: any further call panics.
#[derive(Debug)]
pub struct Appender<'a> {
    store: &'a mut Store,
    document: DocumentId,
    sections: Vec<SectionId>,
    current: Option<SectionId>,
    /// There is something that no commit covers.
    dirty: bool,
    epoch: u64,
}

impl Store {
    /// Begin, or go on with, a document. A finished one of this name with other content stays as it is until
    /// [`Appender::finish`] replaces it.
    pub fn begin(&mut self, name: &str, hash: ContentHash) -> Result<Begin<'_>, Error> {
        self.writable()?;
        if let Some(known) = self.find(name).filter(|known| known.hash == hash).map(|known| known.id) {
            // Another version of it that was not read to its end is given up: this is what the name holds.
            if self.documents().any(|other| !other.finished && other.name == name) {
                self.writing(|store| {
                    store.drop_partial(name, None);
                    store.commit_changes()
                })?;
            }
            return Ok(Begin::Known(known));
        }
        let twin = self.documents().find(|other| other.finished && other.hash == hash);
        if let Some(sections) = twin.map(|twin| twin.sections.clone()) {
            return self.writing(|store| {
                store.drop_partial(name, None);
                let document = store.new_document(name, hash);
                store.record(Record::Finished { document, sections });
                store.commit_changes()?;
                Ok(Begin::Known(document))
            });
        }
        let partial = self.drop_partial(name, Some(hash));
        let document = partial.unwrap_or_else(|| self.new_document(name, hash));
        let (sections, current, dirty, epoch) = (Vec::new(), None, partial.is_none(), self.epoch);
        Ok(Begin::Read(Appender { store: self, document, sections, current, dirty, epoch }))
    }

    /// Give up partly read documents of this name, except the one with this content, which is returned.
    fn drop_partial(&mut self, name: &str, keep: Option<ContentHash>) -> Option<DocumentId> {
        let mut kept = None;
        let partial = self.documents().filter(|other| !other.finished && other.name == name);
        let partial: Vec<_> = partial.map(|other| (other.id, other.hash)).collect();
        for (document, hash) in partial {
            if kept.is_none() && Some(hash) == keep {
                kept = Some(document);
            } else {
                self.record(Record::Removed { document });
            }
        }
        kept
    }

    fn new_document(&mut self, name: &str, hash: ContentHash) -> DocumentId {
        let id = DocumentId(self.number());
        self.record(Record::Document { id, name: name.into(), hash });
        id
    }

    /// Add rows to a section that is whole already, in streams that it does not have yet: reading deeper what was
    /// read before. They count from the next [`Store::commit`] on.
    ///
    /// # Panics
    /// If the store has no such section, or the bytes are not whole rows.
    pub fn deepen(&mut self, section: SectionId, stream: StreamId, rows: &[u8]) -> Result<(), Error> {
        assert!(self.section(section).is_some(), "section {section:?} is not in the store");
        self.writing(|store| store.append_to(section, stream, rows))
    }
}

impl Store {
    /// Drop a section's rows in a stream, to write them anew with [`Store::deepen`]: a lexical index that is made in
    /// another way, for example. Both count from the next [`Store::commit`] on.
    ///
    /// # Panics
    /// If the store has no such section.
    pub fn clear(&mut self, section: SectionId, stream: StreamId) -> Result<(), Error> {
        assert!(self.section(section).is_some(), "section {section:?} is not in the store");
        self.writable()?;
        if let Some(rows) = self.rows.get_mut(&section) {
            rows.remove(&stream);
        }
        self.record(Record::Cleared { section, stream });
        Ok(())
    }
}

impl Appender<'_> {
    /// The document's number.
    pub fn document(&self) -> DocumentId {
        self.document
    }

    /// The store as it is at the last checkpoint.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// Go to the document's next section, which must be ended before another one is begun.
    ///
    /// # Panics
    /// If the section before is not ended.
    pub fn section(&mut self, hash: ContentHash) -> Result<Reading, Error> {
        self.intact();
        assert_eq!(self.current, None, "the section before must be ended first");
        self.dirty = true;
        let known = self.store.catalogue.by_hash.get(&hash).copied();
        let id = known.unwrap_or_else(|| {
            let id = SectionId(self.store.number());
            self.store.record(Record::Section { id, hash });
            id
        });
        let document = self.document;
        if !self.store.catalogue.documents[&document].sections.contains(&id) {
            self.store.record(Record::Attach { document, section: id });
        }
        self.sections.push(id);
        if self.store.catalogue.sections[&id].whole {
            return Ok(Reading::Whole(id));
        }
        self.current = Some(id);
        Ok(Reading::Partial(id))
    }

    /// Bytes that the current section has in a stream.
    pub fn bytes(&self, stream: StreamId) -> u64 {
        self.store.catalogue.sections[&self.now()].bytes(stream)
    }

    /// Add whole rows to the current section.
    ///
    /// # Panics
    /// If no section is begun, or the bytes are not whole rows.
    pub fn rows(&mut self, stream: StreamId, rows: &[u8]) -> Result<(), Error> {
        let section = self.now();
        self.dirty = true;
        self.store.writing(|store| store.append_to(section, stream, rows))
    }

    /// Add text to the current section.
    pub fn text(&mut self, text: &[u8]) -> Result<(), Error> {
        self.rows(StreamId::TEXT, text)
    }

    /// Add tokens to the current section, with the offsets within the section's text where each ends.
    ///
    /// # Panics
    /// If there are not as many ends as tokens.
    pub fn tokens(&mut self, tokens: &[u32], ends: &[u32]) -> Result<(), Error> {
        assert_eq!(tokens.len(), ends.len(), "{} tokens have {} ends", tokens.len(), ends.len());
        let bytes = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
        self.rows(StreamId::TOKENS, &bytes(tokens))?;
        self.rows(StreamId::ENDS, &bytes(ends))
    }

    /// Keep something small under a name, in place of what was there, with the next checkpoint: what reading needs
    /// to go on from exactly here, for example.
    pub fn put_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.intact();
        self.dirty = true;
        self.store.put_blob(name, bytes)
    }

    /// The current section is read to its end. (It is durable with the next checkpoint.)
    ///
    /// # Panics
    /// If no section is begun.
    pub fn end_section(&mut self) {
        let section = self.now();
        self.store.record(Record::Whole { section });
        self.current = None;
    }

    /// Make everything so far durable: a kill from now on loses nothing of it. To be called at points where the
    /// streams are in step, at least every 4,096 tokens.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.intact();
        self.store.commit()?;
        self.dirty = false;
        Ok(())
    }

    /// The document is read: make it durable, in place of another one of its name.
    ///
    /// # Panics
    /// If the last section is not ended.
    pub fn finish(mut self) -> Result<DocumentId, Error> {
        self.intact();
        assert_eq!(self.current, None, "the last section must be ended first");
        let (document, sections) = (self.document, std::mem::take(&mut self.sections));
        self.store.writing(|store| {
            store.record(Record::Finished { document, sections });
            store.commit_changes()
        })?;
        self.dirty = false;
        Ok(document)
    }

    fn intact(&self) {
        assert_eq!(self.epoch, self.store.epoch, "after an error the document is begun again");
    }

    fn now(&self) -> SectionId {
        self.intact();
        self.current.expect("a section is begun before it gets rows")
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        // Rows since the last checkpoint may be out of step across streams.
        if self.dirty && self.epoch == self.store.epoch {
            self.store.roll_back();
        }
    }
}
