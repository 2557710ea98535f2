//! Vectors of a memory's windows: finding what a question means, in whatever words it is said.
use super::{Added, Memory, Reading, sampled};
use crate::Error;
use crate::embedder::{Embedder, Window, pooling};
use longleaf_kernel::BLOCK_TOKENS;
use longleaf_memory::meaning::{PANEL, Streams, Vectors, Window as Placed};
use longleaf_memory::{Fingerprint, SectionId, StreamId};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;

/// Tokens of a window, at most (see `docs/experiments.md`): a sentence or two.
const WINDOW: usize = 32;
/// Windows that are read in one go, and after which what was read is safe from a kill; whole panels.
const GO: usize = 8 * PANEL;

/// Who gives and reads a memory's vectors.
#[derive(Debug, Clone)]
pub(super) struct Meaning<'m> {
    embedder: &'m Embedder,
    maker: String,
}

/// The name of whoever gives vectors with the encoder at `path`: as much of a hash over its files, how it pools and
/// how windows are cut as tells them apart.
fn maker(path: &Path) -> Result<String, Error> {
    let layout = format!("{:?} windows of {WINDOW}, Q8_0 panels 1", pooling(path)?);
    Ok(Fingerprint::of(&[("encoder", &sampled(path)?), ("windows", layout.as_bytes())]).to_string())
}

impl<'m> Memory<'m> {
    /// Whether the encoder in the folder `path` has given this memory vectors.
    ///
    /// # Errors
    /// If the encoder's files cannot be read.
    pub fn has_vectors(&self, path: &Path) -> Result<bool, Error> {
        Ok(Streams::find(&self.store, &maker(path)?).is_some())
    }

    /// Where this memory's vectors lie, if it was given an embedder that has made any.
    pub fn vector_streams(&self) -> Option<Streams> {
        Streams::find(&self.store, &self.meaning.as_ref()?.maker)
    }

    /// Find by meaning too, with the vectors that `embedder` has given or is about to give this memory (see
    /// [`Memory::add_meaning`]).
    ///
    /// # Errors
    /// If the encoder's files cannot be read.
    pub fn with_meaning(mut self, embedder: &'m Embedder) -> Result<Self, Error> {
        self.meaning = Some(Meaning { embedder, maker: maker(embedder.path())? });
        self.view = None;
        Ok(self)
    }

    /// Give vectors to all that was read and has none from this embedder yet; nothing else is read again. `watch` is
    /// called every 4,096 tokens or so, its bytes being those of all sections that had none, and may break off.
    ///
    /// # Errors
    /// Those of the store. What was read up to the last checkpoint is kept, and calling this again goes on from there.
    ///
    /// # Panics
    /// Without [`Memory::with_meaning`].
    pub fn add_meaning(&mut self, watch: &mut dyn FnMut(Reading) -> ControlFlow<()>) -> Result<Added, Error> {
        let Meaning { embedder, maker } = self.meaning.clone().expect("an embedder was given");
        self.view = None;
        let streams = Streams::open(&mut self.store, &maker, embedder.width())?;
        self.store.commit()?;
        let mut sections = Vec::new();
        for section in self.store.sections().filter(|section| section.whole) {
            if !streams.done(&self.store, section.id)?.1 {
                sections.push((section.id, section.bytes(StreamId::TEXT) as usize));
            }
        }
        let of = sections.iter().map(|(_, bytes)| bytes).sum();
        let (mut added, mut before, mut waiting) = (Added::default(), 0, 0);
        for (section, bytes) in sections {
            let text = self.store.read_all(section, StreamId::TEXT)?;
            let windows = embedder.windows(&String::from_utf8_lossy(&text), WINDOW);
            let done = self.resume(streams, section, &windows)?;
            for go in windows[done..].chunks(GO) {
                let vectors = embedder.vectors(go, &mut |_| ());
                let ends: Vec<u32> = go.iter().map(|window| window.end as u32).collect();
                let pool = embedder.encoder().compute().pool();
                streams.add(&mut self.store, section, &ends, &vectors, pool)?;
                added.tokens += go.iter().map(|window| window.tokens.len()).sum::<usize>();
                waiting += go.len();
                if waiting >= GO {
                    self.store.commit()?;
                    waiting = 0;
                }
                let read = go.last().map_or(0, |window| window.end);
                if watch(Reading { bytes: before + read, of, tokens: added.tokens }).is_break() {
                    self.store.commit()?;
                    added.interrupted = true;
                    return Ok(added);
                }
            }
            before += bytes;
        }
        self.store.commit()?;
        Ok(added)
    }

    /// How many of a section's windows have their vectors. What does not fit the windows is dropped.
    fn resume(&mut self, streams: Streams, section: SectionId, windows: &[Window]) -> Result<usize, Error> {
        let (done, _) = streams.done(&self.store, section)?;
        let ends = self.store.read_u32(section, streams.ends)?;
        let ours = windows.iter().map(|window| window.end as u32);
        if done.is_multiple_of(PANEL) && done <= windows.len() && ours.take(done).eq(ends) {
            return Ok(done);
        }
        self.store.clear(section, streams.ends)?;
        self.store.clear(section, streams.vectors)?;
        Ok(0)
    }

    /// The vectors of `sections`, at most `ram` bytes of them kept there, if there is anyone to read them.
    pub(super) fn vectors(&self, sections: &[SectionId], ram: usize) -> Result<Option<Vectors>, Error> {
        let Some(Meaning { embedder, maker }) = &self.meaning else { return Ok(None) };
        let compute = embedder.encoder().compute();
        let maker = (maker.as_str(), embedder.width());
        Ok(Some(Vectors::open(&self.store, sections.iter().copied(), maker, compute, ram)?))
    }

    /// The blocks whose windows mean what the question means, each with its best window's score, at most `count`.
    pub(super) fn by_meaning(&self, question: &str, count: usize) -> Result<Vec<(usize, f32)>, Error> {
        let view = self.view.as_ref().expect("made before");
        let (Some(meaning), Some(vectors)) = (&self.meaning, &view.vectors) else { return Ok(Vec::new()) };
        let scores = vectors.scores(&self.store, &meaning.embedder.embed(question))?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        let by_score = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
        // A block has some six windows.
        let enough = 8 * count;
        if enough < order.len() {
            order.select_nth_unstable_by(enough, by_score);
            order.truncate(enough);
        }
        order.sort_unstable_by(by_score);
        let mut known = HashSet::new();
        let mut blocks = Vec::new();
        for window in order {
            for block in self.blocks_of(vectors.windows()[window])? {
                if blocks.len() < count && known.insert(block) {
                    blocks.push((block, scores[window]));
                }
            }
            if blocks.len() == count {
                break;
            }
        }
        Ok(blocks)
    }

    /// The blocks that a window lies in, that of its middle first, without those that have less than a quarter of it.
    fn blocks_of(&self, window: Placed) -> Result<Vec<usize>, Error> {
        let view = self.view.as_ref().expect("made before");
        let Some(first) = view.finder.blocks().iter().position(|block| block.section == window.section)
        else {
            return Ok(Vec::new());
        };
        let ends = self.store.read_u32(window.section, StreamId::ENDS)?;
        let quarter = window.end.saturating_sub(window.start) / 4;
        let mut blocks = Vec::new();
        for at in [window.start + 2 * quarter, window.start + quarter, window.end - quarter] {
            let token = ends.partition_point(|end| *end <= at).min(ends.len().saturating_sub(1));
            let block = first + token / BLOCK_TOKENS;
            let there = view.finder.blocks().get(block).is_some_and(|found| found.section == window.section);
            if there && !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        Ok(blocks)
    }
}
