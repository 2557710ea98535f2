//! Documents into a memory.
//!
//! ```text
//! preparing   a section's text ─► tokens, its part of the lexical index        one section ahead
//! computing   tokens ─► run by run, no layer, the lowest or all ─► keys, values   a few runs ahead
//! writing     rows ─► Store: checksums, files, sync                            the caller's thread, which owns it
//! ```
//! Each is a thread that sends the next one what it made, in the order of the text: what is kept does not depend on
//! who waits for whom.
use super::Memory;
use super::depth::Reader;
use crate::Error;
use longleaf_kernel::BLOCK_TOKENS;
use longleaf_memory::finder::Profile;
use longleaf_memory::full::Kept;
use longleaf_memory::lexical::{Analysis, Builder};
use longleaf_memory::{Appender, Begin, ContentHash, Reading as Section, StreamId};
use longleaf_text::{Document, Span, Special, Tokenizer, sections};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

/// After so many tokens, at most, what a model has read is safe from a kill.
pub(super) const CHECKPOINT: usize = 4096;
/// Runs of a sample that are read to see how fast that goes.
const PLAN_RUNS: usize = 4;
/// Runs that are computed ahead of the writing: computing does not wait while a checkpoint is synced.
const AHEAD: usize = 4;

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

/// What reading a text is going to take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, as many to a byte as a sample has.
    pub tokens: u64,
    /// Tokens a second, measured on the sample.
    pub tokens_per_s: f64,
    /// Seconds.
    pub seconds: f64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// A document's text and its sections.
struct Cut<'a> {
    text: &'a str,
    sections: Vec<(Span, ContentHash)>,
}

/// A section that is to be read.
#[derive(Debug)]
struct Task<'a> {
    text: &'a str,
    /// Tokens of it that were read before.
    done: usize,
    /// What is needed to go on from there.
    kept: Kept,
}

/// A section's text, ready to be read.
struct Prepared {
    ids: Vec<u32>,
    ends: Vec<u32>,
    words: Vec<u8>,
    done: usize,
    kept: Kept,
}

/// What is to be written, in this order for each section.
enum Rows {
    /// Its tokens, and how many of them were read before.
    Tokens { ids: Vec<u32>, ends: Vec<u32>, done: usize },
    /// The keys of its next tokens, one buffer for each stream.
    Run { tokens: usize, keys: Vec<Vec<u8>> },
    /// Its part of the lexical index.
    Words(Vec<u8>),
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
        let tokenizer = self.model.tokenizer();
        let reader = Reader::new(self.model, &self.profile, self.depth);
        let named = reader.streams();
        let stream = |(name, bytes): &(String, usize)| self.store.stream(name, *bytes as u32);
        let streams: Vec<StreamId> = named.iter().map(stream).collect::<Result<_, _>>()?;
        // A reading that is given up takes back what is not committed, these streams too.
        self.store.commit()?;
        let text = document.text();
        let hash = ContentHash(document.hash());
        let known = match self.store.begin(document.name(), hash)? {
            Begin::Known(id) => Some(id),
            Begin::Read(_) => None,
        };
        if let Some(id) = known {
            let known = self.store.document(id).map_or(0, |known| known.tokens(&self.store));
            return Ok(Added { known_tokens: known as usize, ..Added::default() });
        }
        let hashed = |span: Span| (span, ContentHash::of(&text.as_bytes()[span.range()]));
        let cut = Cut { text, sections: sections(text).into_iter().map(hashed).collect() };
        let mut tasks = Vec::new();
        // A section that stands in the document twice is known when it comes again.
        let mut seen = BTreeSet::new();
        for (span, hash) in &cut.sections {
            let before = self.store.find_section(*hash);
            if seen.insert(*hash) && before.is_none_or(|section| !section.whole) {
                let tokens = before.map_or(0, |section| section.bytes(StreamId::TOKENS) / 4) as usize;
                let rows = streams.first().zip(named.first());
                let mut done = rows.map_or(tokens, |(stream, (_, row))| {
                    let panels = before.map_or(0, |section| section.bytes(*stream)) as usize / row;
                    (panels * Profile::PANEL).min(tokens)
                });
                let before = before.map(|section| section.id);
                if let Some(section) = before
                    && !reader.goes_on(&self.store, section, done)
                {
                    for stream in &streams {
                        self.store.clear(section, *stream)?;
                    }
                    done = 0;
                }
                let kept = match before {
                    Some(section) => reader.kept(&self.store, section, done)?,
                    None => Kept::default(),
                };
                tasks.push(Task { text: &text[span.range()], done, kept });
            }
        }
        let Begin::Read(appender) = self.store.begin(document.name(), hash)? else {
            unreachable!("a document that is to be read stays so");
        };
        let (run, checkpoint) = (reader.run(), reader.checkpoint());
        thread::scope(|scope| {
            let (ready, prepared) = sync_channel(1);
            let (computed, rows) = sync_channel(AHEAD);
            scope.spawn(move || prepare(tasks, tokenizer, &ready));
            scope.spawn(move || compute(reader, &prepared, &computed));
            write(appender, &cut, &streams, (run, checkpoint), &rows, watch)
        })
    }

    /// What reading `bytes` of text that is like `sample` will take. Reads some runs of the sample to see how fast
    /// that goes; a sample of a few thousand words is enough.
    pub fn plan(&self, bytes: u64, sample: &str) -> Plan {
        let rate = |tokens: usize, start: Instant| tokens as f64 / start.elapsed().as_secs_f64().max(1e-9);
        let start = Instant::now();
        let (tokens, ..) = tokens_and_words(sample, self.model.tokenizer());
        let prepared_per_s = rate(tokens.len(), start);
        let mut reader = Reader::new(self.model, &self.profile, self.depth);
        let mut rows = vec![Vec::new(); reader.streams().len()];
        // The first passes make room for everything.
        let mut tokens_per_s = 0.0;
        for run in tokens.chunks(reader.run()).take(PLAN_RUNS) {
            let start = Instant::now();
            reader.read(run, &mut rows);
            if run.len() == reader.run() || tokens_per_s == 0.0 {
                tokens_per_s = rate(run.len(), start);
            }
        }
        // What is slower sets the pace.
        let tokens_per_s = prepared_per_s.min(tokens_per_s);
        let tokens = (bytes as f64 * tokens.len() as f64 / sample.len().max(1) as f64).ceil();
        // The text itself, a token and its end, what is read of it, its words (about 2 bytes); a checksum for every page.
        let disk = (bytes as f64 + tokens * (4.0 + 4.0 + reader.token_bytes() + 2.0)) * 1.002;
        Plan {
            bytes,
            tokens: tokens as u64,
            tokens_per_s,
            seconds: if tokens > 0.0 { tokens / tokens_per_s } else { 0.0 },
            disk_bytes: disk as u64,
        }
    }
}

/// Tokens and words of each section; ends early if nobody wants them any more.
fn prepare(tasks: Vec<Task<'_>>, tokenizer: &Tokenizer, ready: &SyncSender<Prepared>) {
    for Task { text, done, kept } in tasks {
        let (ids, ends, words) = tokens_and_words(text, tokenizer);
        if ready.send(Prepared { ids, ends, words, done, kept }).is_err() {
            return;
        }
    }
}

/// A section's tokens, where they end, and its part of the lexical index.
fn tokens_and_words(text: &str, tokenizer: &Tokenizer) -> (Vec<u32>, Vec<u32>, Vec<u8>) {
    let encoding = tokenizer.encode_with_offsets(text, Special::Text);
    let ends: Vec<u32> = encoding.spans.iter().map(|span| span.end as u32).collect();
    let mut words = Builder::new(Analysis::default());
    words.add_tokens(text.as_bytes(), &ends, BLOCK_TOKENS);
    (encoding.ids, ends, words.finish())
}

/// Keys of each section, run by run; ends early if nobody wants them any more.
fn compute(mut reader: Reader<'_>, prepared: &Receiver<Prepared>, computed: &SyncSender<Rows>) {
    let (run, streams) = (reader.run(), reader.streams().len());
    for Prepared { ids, ends, words, done, kept } in prepared {
        let left = ids[done..].to_vec();
        if computed.send(Rows::Tokens { ids, ends, done }).is_err() {
            return;
        }
        reader.begin(&kept);
        for run in left.chunks(run) {
            let mut keys = vec![Vec::new(); streams];
            reader.read(run, &mut keys);
            if computed.send(Rows::Run { tokens: run.len(), keys }).is_err() {
                return;
            }
        }
        if computed.send(Rows::Words(words)).is_err() {
            return;
        }
    }
}

/// What was computed into the store, with checkpoints.
fn write(
    mut appender: Appender<'_>,
    Cut { text, sections }: &Cut<'_>,
    streams: &[StreamId],
    (run, checkpoint): (usize, usize),
    rows: &Receiver<Rows>,
    watch: &mut dyn FnMut(Reading) -> ControlFlow<()>,
) -> Result<Added, Error> {
    let mut added = Added::default();
    let mut since_checkpoint = 0;
    for (span, hash) in sections {
        if let Section::Whole(section) = appender.section(*hash)? {
            let known = appender.store().section(section).map_or(0, |s| s.bytes(StreamId::TOKENS) / 4);
            added.known_tokens += known as usize;
            continue;
        }
        let mut ends = Vec::new();
        let mut read = 0;
        loop {
            match rows.recv().expect("the computing thread sends whole sections, unless it panics") {
                Rows::Tokens { ids, ends: all, done } => {
                    if appender.bytes(StreamId::TEXT) == 0 {
                        appender.text(&text.as_bytes()[span.range()])?;
                        appender.tokens(&ids, &all)?;
                    }
                    added.known_tokens += done;
                    (ends, read) = (all, done);
                }
                Rows::Run { tokens, keys } => {
                    for (stream, keys) in streams.iter().zip(&keys) {
                        appender.rows(*stream, keys)?;
                    }
                    added.tokens += tokens;
                    since_checkpoint += tokens;
                    if since_checkpoint + run > checkpoint {
                        appender.checkpoint()?;
                        since_checkpoint = 0;
                    }
                    read += tokens;
                    let bytes = span.start + ends[read - 1] as usize;
                    if watch(Reading { bytes, of: text.len(), tokens: added.tokens }).is_break() {
                        appender.checkpoint()?;
                        added.interrupted = true;
                        return Ok(added);
                    }
                }
                Rows::Words(words) => {
                    appender.rows(StreamId::LEXICAL, &words)?;
                    appender.end_section();
                    break;
                }
            }
        }
    }
    appender.finish()?;
    Ok(added)
}
