//! From one depth to a greater one: what the shallower one did not keep.
//!
//! ```text
//! Store: tokens of a section ─► the lowest layers, run by run ─► finder keys ─► Store         to finder depth
//!        tokens of a section ─► all layers, stride by stride ─► blocks, summaries ─► Store    to full depth
//! ```
//! Text, tokens, words and what else is there stay as they are, so that finding gives what it gave before; what is added
//! is what a reading at the greater depth would have kept.
use super::depth::{full_reader, layout};
use super::reading::CHECKPOINT;
use super::{Added, Depth, Memory, Plan, Reading};
use crate::{Error, Model};
use longleaf_memory::finder::{self, Profile};
use longleaf_memory::full;
use longleaf_memory::{SectionId, Store, StreamId};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Bytes of text that are read to see how fast that goes.
const SAMPLE: usize = 16 << 10;

/// What a depth keeps that the one before does not.
struct Step<'m> {
    model: &'m Model,
    profile: &'m Profile,
    maker: Maker<'m>,
}

/// Who makes it.
enum Maker<'m> {
    Keys(Box<finder::Reader<'m>>),
    Blocks(Box<full::Reader<'m>>),
}

impl<'m> Step<'m> {
    /// Those that lead from the least depth to `depth`, in their order.
    fn to(depth: Depth, model: &'m Model, profile: &'m Profile) -> Vec<Self> {
        let mut makers = Vec::new();
        if depth >= Depth::Finder {
            makers.push(Maker::Keys(Box::new(finder::Reader::new(model.decoder(), profile))));
        }
        if depth >= Depth::Full {
            makers.push(Maker::Blocks(Box::new(full_reader(model, profile))));
        }
        makers.into_iter().map(|maker| Self { model, profile, maker }).collect()
    }

    /// The streams that it fills, with the bytes of a row of each.
    fn streams(&self) -> Vec<(String, usize)> {
        match &self.maker {
            Maker::Keys(_) => self.profile.stored(self.model.config()),
            Maker::Blocks(_) => layout(self.model).streams().into(),
        }
    }

    /// Bytes kept of a token.
    fn token_bytes(&self) -> f64 {
        match &self.maker {
            Maker::Keys(_) => {
                let panels: usize = self.streams().iter().map(|(_, bytes)| bytes).sum();
                panels as f64 / Profile::PANEL as f64
            }
            Maker::Blocks(_) => layout(self.model).token_bytes(),
        }
    }

    /// Whether a section has all of it.
    fn holds(&self, store: &Store, section: SectionId) -> bool {
        match &self.maker {
            Maker::Keys(_) => self.profile.holds(store, section, self.model.config()),
            Maker::Blocks(_) => layout(self.model).holds(store, section),
        }
    }

    /// How many of a section's tokens have it, rows that are cut short counted as whole.
    fn tokens(&self, store: &Store, section: SectionId) -> usize {
        match &self.maker {
            Maker::Keys(_) => self.profile.tokens(store, section, self.model.config()),
            Maker::Blocks(_) => layout(self.model).tokens(store, section),
        }
    }

    /// What was broken off goes on only after a multiple of so many tokens.
    fn unit(&self) -> usize {
        match &self.maker {
            Maker::Keys(_) => self.profile.run,
            Maker::Blocks(reader) => reader.stride(),
        }
    }

    /// Tokens that are read together.
    fn run(&self) -> usize {
        match &self.maker {
            Maker::Keys(reader) => reader.batch(),
            Maker::Blocks(reader) => reader.stride(),
        }
    }

    /// Go to a section, of which the first `read` tokens are done.
    fn begin(&mut self, store: &Store, section: SectionId, read: usize) -> Result<(), Error> {
        if let Maker::Blocks(reader) = &mut self.maker {
            reader.begin(&reader.kept(store, section, read)?);
        }
        Ok(())
    }

    /// What comes next in the section: rows for each of [`Step::streams`].
    fn read(&mut self, tokens: &[u32]) -> Vec<Vec<u8>> {
        match &mut self.maker {
            Maker::Keys(reader) => {
                let mut rows = vec![Vec::new(); reader.streams().len()];
                reader.read(tokens, &mut rows);
                rows
            }
            Maker::Blocks(reader) => {
                let mut rows = [Vec::new(), Vec::new()];
                reader.deepen(tokens, &mut rows);
                rows.into()
            }
        }
    }
}

/// How far all of it has come.
struct Progress<'w> {
    /// Bytes of text that are done.
    before: usize,
    /// Bytes of text, once for each step that reads them.
    of: usize,
    /// Tokens read, once for each step.
    read: usize,
    added: Added,
    watch: &'w mut dyn FnMut(Reading) -> ControlFlow<()>,
}

impl Memory<'_> {
    /// How many tokens lack something that is kept at the memory's depth: they were read when it was less deep.
    pub fn shallow_tokens(&self) -> u64 {
        let lacking = lacking(Step::to(self.depth, self.model, &self.profile), &self.store);
        any_of(&lacking).into_iter().map(|section| tokens_of(&self.store, section)).sum()
    }

    /// What [`deepen`](Self::deepen) will take; `None` if there is nothing to do. Reads some runs or strides to see how
    /// fast that goes.
    ///
    /// # Errors
    /// Those of the store.
    pub fn plan_deepening(&self) -> Result<Option<Plan>, Error> {
        let lacking = lacking(Step::to(self.depth, self.model, &self.profile), &self.store);
        let sections = any_of(&lacking);
        let Some(first) = sections.first() else { return Ok(None) };
        let mut sample = self.store.read_all(*first, StreamId::TEXT)?;
        sample.truncate(SAMPLE);
        let plan = self.plan(0, &String::from_utf8_lossy(&sample));
        let tokens = |sections: &BTreeSet<SectionId>| -> u64 {
            sections.iter().map(|section| tokens_of(&self.store, *section)).sum()
        };
        let disk: f64 =
            lacking.iter().map(|(step, sections)| step.token_bytes() * tokens(sections) as f64).sum();
        Ok(Some(Plan {
            bytes: sections.iter().map(|section| text_of(&self.store, *section)).sum(),
            tokens: tokens(&sections),
            seconds: tokens(&sections) as f64 / plan.tokens_per_s,
            disk_bytes: (disk * 1.002) as u64,
            ..plan
        }))
    }

    /// Bring what was read less deeply to the memory's depth ([`set_depth`](Self::set_depth)); nothing that it has is
    /// read again or changed. `watch` is called after every run or stride, its bytes being those of all sections that
    /// were not so deep, and may break off.
    ///
    /// # Errors
    /// Those of the store. What was read up to the last checkpoint is kept, and calling this again goes on from there.
    pub fn deepen(&mut self, watch: &mut dyn FnMut(Reading) -> ControlFlow<()>) -> Result<Added, Error> {
        let profile = self.profile.clone();
        let mut lacking = lacking(Step::to(self.depth, self.model, &profile), &self.store);
        let texts = lacking.iter().flat_map(|(_, sections)| sections);
        let of = texts.map(|section| text_of(&self.store, *section) as usize).sum();
        let mut progress = Progress { before: 0, of, read: 0, added: Added::default(), watch };
        while !lacking.is_empty() {
            let (step, sections) = lacking.remove(0);
            if self.take(step, sections, &any_of(&lacking), &mut progress)?.is_break() {
                progress.added.interrupted = true;
                break;
            }
        }
        Ok(progress.added)
    }

    /// One step, for the sections that lack it. Tokens count as added with their last step: not yet where it comes `later`.
    fn take(
        &mut self,
        mut step: Step<'_>,
        sections: BTreeSet<SectionId>,
        later: &BTreeSet<SectionId>,
        progress: &mut Progress<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        self.view = None;
        let stream = |(name, bytes): &(String, usize)| self.store.stream(name, *bytes as u32);
        let streams: Vec<StreamId> = step.streams().iter().map(stream).collect::<Result<_, _>>()?;
        self.store.commit()?;
        let mut waiting = 0;
        for section in sections {
            let ids = self.store.read_u32(section, StreamId::TOKENS)?;
            let ends = self.store.read_u32(section, StreamId::ENDS)?;
            let mut read = step.tokens(&self.store, section);
            let rows =
                streams.iter().map(|stream| self.store.section(section).map_or(0, |s| s.bytes(*stream)));
            let out_of_step = read == 0 && rows.sum::<u64>() > 0;
            if out_of_step || !read.is_multiple_of(step.unit()) || read >= ids.len() {
                // Nobody can go on from there.
                for stream in &streams {
                    self.store.clear(section, *stream)?;
                }
                read = 0;
            }
            let counts = usize::from(!later.contains(&section));
            progress.added.known_tokens += counts * read;
            step.begin(&self.store, section, read)?;
            for run in ids[read..].chunks(step.run()) {
                for (stream, rows) in streams.iter().zip(step.read(run)) {
                    self.store.deepen(section, *stream, &rows)?;
                }
                read += run.len();
                progress.read += run.len();
                progress.added.tokens += counts * run.len();
                waiting += run.len();
                if waiting + step.run() > CHECKPOINT {
                    self.store.commit()?;
                    waiting = 0;
                }
                let bytes = progress.before + ends.get(read - 1).map_or(0, |end| *end as usize);
                let reading = Reading { bytes, of: progress.of, tokens: progress.read };
                if (progress.watch)(reading).is_break() {
                    self.store.commit()?;
                    return Ok(ControlFlow::Break(()));
                }
            }
            progress.before += text_of(&self.store, section) as usize;
        }
        self.store.commit()?;
        Ok(ControlFlow::Continue(()))
    }
}

/// Those of `steps` that some sections lack, and which.
fn lacking<'m>(steps: Vec<Step<'m>>, store: &Store) -> Vec<(Step<'m>, BTreeSet<SectionId>)> {
    let whole: Vec<SectionId> =
        store.sections().filter(|section| section.whole).map(|section| section.id).collect();
    let lack = |step: Step<'m>| {
        let sections: BTreeSet<_> =
            whole.iter().copied().filter(|section| !step.holds(store, *section)).collect();
        (step, sections)
    };
    steps.into_iter().map(lack).filter(|(_, sections)| !sections.is_empty()).collect()
}

/// The sections that lack any of the steps, ascending.
fn any_of(lacking: &[(Step<'_>, BTreeSet<SectionId>)]) -> BTreeSet<SectionId> {
    lacking.iter().flat_map(|(_, sections)| sections).copied().collect()
}

fn tokens_of(store: &Store, section: SectionId) -> u64 {
    store.section(section).map_or(0, |section| section.bytes(StreamId::TOKENS) / 4)
}

fn text_of(store: &Store, section: SectionId) -> u64 {
    store.section(section).map_or(0, |section| section.bytes(StreamId::TEXT))
}
