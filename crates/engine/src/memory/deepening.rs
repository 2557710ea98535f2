//! From finder depth to full depth: keys and values for what was read without them.
//!
//! ```text
//! Store: tokens of a section ─► all layers, stride by stride ─► blocks, summaries ─► Store
//! ```
//! Text, tokens, words and finder keys stay as they are, so that finding gives what it gave before; blocks and summaries
//! are those that a reading at full depth would have kept.
use super::depth::{full_reader, layout};
use super::reading::CHECKPOINT;
use super::{Added, Depth, Memory, Plan, Reading};
use crate::Error;
use longleaf_memory::full::Layout;
use longleaf_memory::{SectionId, Store, StreamId};
use std::ops::ControlFlow;

/// Bytes of text that are read to see how fast that goes.
const SAMPLE: usize = 16 << 10;

impl Memory<'_> {
    /// How many tokens were read without the keys and values of all layers, and have none yet: those of a memory that
    /// is to be at full depth and was not always.
    pub fn shallow_tokens(&self) -> u64 {
        if self.depth == Depth::Finder {
            return 0;
        }
        self.shallow().iter().map(|section| tokens_of(&self.store, *section)).sum()
    }

    /// The sections that are read and not at full depth.
    fn shallow(&self) -> Vec<SectionId> {
        let layout = layout(self.model);
        let whole = self.store.sections().filter(|section| section.whole).map(|section| section.id);
        whole.filter(|section| !layout.holds(&self.store, *section)).collect()
    }

    /// What [`deepen`](Self::deepen) will take; `None` if there is nothing to do. Reads some strides to see how fast
    /// that goes.
    ///
    /// # Errors
    /// Those of the store.
    pub fn plan_deepening(&self) -> Result<Option<Plan>, Error> {
        let tokens = self.shallow_tokens();
        let Some(section) = self.shallow().first().copied().filter(|_| tokens > 0) else { return Ok(None) };
        let mut sample = self.store.read_all(section, StreamId::TEXT)?;
        sample.truncate(SAMPLE);
        let plan = self.plan(0, &String::from_utf8_lossy(&sample));
        let text = self.shallow().iter().map(|section| text_of(&self.store, *section)).sum();
        Ok(Some(Plan {
            bytes: text,
            tokens,
            seconds: tokens as f64 / plan.tokens_per_s,
            disk_bytes: (tokens as f64 * layout(self.model).token_bytes() * 1.002) as u64,
            ..plan
        }))
    }

    /// Bring what was read at finder depth to full depth, if the memory is to be so deep
    /// ([`set_depth`](Self::set_depth)); nothing that it has is read again or changed. `watch` is called after every
    /// stride, its bytes being those of all sections that were not so deep, and may break off.
    ///
    /// # Errors
    /// Those of the store. What was read up to the last checkpoint is kept, and calling this again goes on from there.
    pub fn deepen(&mut self, watch: &mut dyn FnMut(Reading) -> ControlFlow<()>) -> Result<Added, Error> {
        let mut added = Added::default();
        let sections = self.shallow();
        if self.depth == Depth::Finder || sections.is_empty() {
            return Ok(added);
        }
        self.view = None;
        let layout = layout(self.model);
        let [blocks, summaries] =
            layout.streams().map(|(name, bytes)| self.store.stream(&name, bytes as u32));
        let kept = [blocks?, summaries?];
        self.store.commit()?;
        let mut reader = full_reader(self.model, &self.profile);
        let of = sections.iter().map(|section| text_of(&self.store, *section) as usize).sum();
        let (mut before, mut waiting) = (0, 0);
        for section in sections {
            let ids = self.store.read_u32(section, StreamId::TOKENS)?;
            let ends = self.store.read_u32(section, StreamId::ENDS)?;
            let mut read = self.resume_deepening(layout, kept, section, reader.stride())?;
            added.known_tokens += read;
            reader.begin(&reader.kept(&self.store, section, read)?);
            for stride in ids[read..].chunks(reader.stride()) {
                let mut rows = [Vec::new(), Vec::new()];
                reader.deepen(stride, &mut rows);
                for (stream, rows) in kept.iter().zip(&rows) {
                    self.store.deepen(section, *stream, rows)?;
                }
                read += stride.len();
                added.tokens += stride.len();
                waiting += stride.len();
                if waiting + reader.stride() > CHECKPOINT {
                    self.store.commit()?;
                    waiting = 0;
                }
                let bytes = before + ends.get(read - 1).map_or(0, |end| *end as usize);
                if watch(Reading { bytes, of, tokens: added.tokens }).is_break() {
                    self.store.commit()?;
                    added.interrupted = true;
                    return Ok(added);
                }
            }
            before += text_of(&self.store, section) as usize;
        }
        self.store.commit()?;
        Ok(added)
    }

    /// How many of a section's tokens have their blocks and summaries. What cannot be gone on from is dropped.
    fn resume_deepening(
        &mut self,
        layout: Layout,
        kept: [StreamId; 2],
        section: SectionId,
        stride: usize,
    ) -> Result<usize, Error> {
        let done = layout.tokens(&self.store, section);
        if done.is_multiple_of(stride) && (done as u64) < tokens_of(&self.store, section) {
            return Ok(done);
        }
        for stream in kept {
            self.store.clear(section, stream)?;
        }
        Ok(0)
    }
}

fn tokens_of(store: &Store, section: SectionId) -> u64 {
    store.section(section).map_or(0, |section| section.bytes(StreamId::TOKENS) / 4)
}

fn text_of(store: &Store, section: SectionId) -> u64 {
    store.section(section).map_or(0, |section| section.bytes(StreamId::TEXT))
}
