//! Documents into a memory.
use super::Memory;
use crate::Error;
use longleaf_kernel::BLOCK_TOKENS;
use longleaf_memory::finder::{Profile, Reader};
use longleaf_memory::lexical::{Analysis, Builder};
use longleaf_memory::{Begin, ContentHash, Reading as Section, StreamId};
use longleaf_text::{Document, Special, sections};
use std::ops::ControlFlow;

/// After so many tokens, at most, what was read is safe from a kill.
const CHECKPOINT: usize = 4096;

/// How far reading a document has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Bytes of its text that are read or were known already.
    pub bytes: usize,
    /// Bytes of its text.
    pub of: usize,
    /// Tokens read just now.
    pub tokens: usize,
}

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// Its tokens that were read.
    pub tokens: usize,
    /// Its tokens that a memory had already, from this or another document.
    pub known_tokens: usize,
    /// It was broken off; adding it again goes on from there.
    pub interrupted: bool,
}

impl Memory<'_> {
    /// Read a document into the memory, in place of one of the same name. What the memory has read before, of this
    /// document or of any other, is not read again. `watch` is called after every run and may break off.
    ///
    /// # Errors
    /// Those of the store. What was read up to the last checkpoint is kept, and adding again goes on from there.
    pub fn add(
        &mut self,
        document: &Document,
        watch: &mut dyn FnMut(Reading) -> ControlFlow<()>,
    ) -> Result<Added, Error> {
        self.view = None;
        let (decoder, tokenizer) = (self.model.decoder(), self.model.tokenizer());
        let panel_bytes = Profile::panel_bytes(decoder.config());
        let mut reader = Reader::new(decoder, &self.profile);
        let streams: Vec<StreamId> = reader
            .streams()
            .iter()
            .map(|stream| self.store.stream(&stream.name(), panel_bytes as u32))
            .collect::<Result<_, _>>()?;
        // A reading that is given up takes back what is not committed, these streams too.
        self.store.commit()?;
        let mut added = Added::default();
        let text = document.text();
        let hash = ContentHash(document.hash());
        let known = match self.store.begin(document.name(), hash)? {
            Begin::Known(id) => Some(id),
            Begin::Read(_) => None,
        };
        if let Some(id) = known {
            let known = self.store.document(id).map_or(0, |known| known.tokens(&self.store));
            return Ok(Added { known_tokens: known as usize, ..added });
        }
        let Begin::Read(mut appender) = self.store.begin(document.name(), hash)? else {
            unreachable!("a document that is to be read stays so");
        };
        let mut rows = vec![Vec::new(); streams.len()];
        let mut since_checkpoint = 0;
        for span in sections(text) {
            let part = &text[span.range()];
            match appender.section(ContentHash::of(part.as_bytes()))? {
                Section::Whole(section) => {
                    let known =
                        appender.store().section(section).map_or(0, |s| s.bytes(StreamId::TOKENS) / 4);
                    added.known_tokens += known as usize;
                    continue;
                }
                Section::Partial(_) => {}
            }
            let encoding = tokenizer.encode_with_offsets(part, Special::Text);
            let ends: Vec<u32> = encoding.spans.iter().map(|span| span.end as u32).collect();
            if appender.bytes(StreamId::TEXT) == 0 {
                appender.text(part.as_bytes())?;
                appender.tokens(&encoding.ids, &ends)?;
            }
            let panels = appender.bytes(streams[0]) as usize / panel_bytes;
            let done = (panels * Profile::PANEL).min(encoding.ids.len());
            added.known_tokens += done;
            for (index, run) in encoding.ids[done..].chunks(self.profile.run).enumerate() {
                reader.read(run, &mut rows);
                for (stream, rows) in streams.iter().zip(&mut rows) {
                    appender.rows(*stream, rows)?;
                    rows.clear();
                }
                added.tokens += run.len();
                since_checkpoint += run.len();
                if since_checkpoint + self.profile.run > CHECKPOINT {
                    appender.checkpoint()?;
                    since_checkpoint = 0;
                }
                let read = done + index * self.profile.run + run.len();
                let bytes = span.start + ends[read - 1] as usize;
                if watch(Reading { bytes, of: text.len(), tokens: added.tokens }).is_break() {
                    appender.checkpoint()?;
                    added.interrupted = true;
                    return Ok(added);
                }
            }
            let mut words = Builder::new(Analysis::default());
            words.add_tokens(part.as_bytes(), &ends, BLOCK_TOKENS);
            appender.rows(StreamId::LEXICAL, &words.finish())?;
            appender.end_section();
        }
        appender.finish()?;
        Ok(added)
    }
}
