//! A question to a memory: locate, re-rank, re-read, answer.
mod answer;
mod rerank;

pub use answer::prompt;

use super::Memory;
use crate::session::{Answer, Progress, Request, Session};
use crate::{Error, Model};
use answer::{cite, fitting};
use longleaf_memory::finder::{Block, Reader};
use longleaf_memory::{SectionId, StreamId};
use longleaf_model::Visible;
use longleaf_text::{Special, TokenId};
use rerank::{Ranking, narrow, rerank};
use std::ops::{ControlFlow, Range};
use std::time::Instant;

/// How a question is answered. Every stage can be left out, to measure what it does.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Which stages to go through.
    pub stages: Stages,
    /// Blocks that are re-ranked, from each way of finding.
    pub candidates: usize,
    /// At most so many passages are re-read; `None` for as many as the model bears.
    pub passages: Option<usize>,
    /// The answer's generation: sampling, stop strings, length. Its prompt is replaced.
    pub request: Request,
}

/// The ways and stages of finding that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, not states")]
pub struct Stages {
    /// Finder heads.
    pub finder: bool,
    /// Words in common.
    pub lexical: bool,
    /// Vectors, if the memory has any (see [`Memory::with_meaning`]).
    pub meaning: bool,
    /// The best blocks ranked anew, by how probable the question is after each.
    pub rerank: bool,
}

impl Default for Asking {
    fn default() -> Self {
        let stages = Stages { finder: true, lexical: true, meaning: true, rerank: true };
        let request = Request { stop_circles: true, ..Request::default() };
        Self { stages, candidates: 8, passages: None, request }
    }
}

/// What happens while a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// All blocks are being scored.
    Locate,
    /// The best ones are being ranked anew: so many are done, of so many.
    Rerank(usize, usize),
    /// The passages are being read again.
    Reread,
}

/// Where an answer comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Citation {
    /// The document's name.
    pub document: String,
    /// First byte of the quoted text in the document's text.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The text.
    pub quote: String,
    /// The passage's share of all that were re-read; they add up to 1.
    pub weight: f64,
}

/// Text that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The document's name.
    pub document: String,
    /// First byte in the document's text.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

/// How much of the memory an answer has seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Blocks in the memory.
    pub blocks_total: usize,
    /// Blocks whose keys and words were scored, exactly: all of them, unless a stage was left out.
    pub blocks_scored: usize,
    /// Blocks that were re-read.
    pub blocks_read: usize,
    /// Share of what stood out for the finders that was not re-read.
    pub unread_mass: f64,
}

/// Seconds each stage took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// Loading what is searched; 0 if an earlier question did it.
    pub load_s: f64,
    /// Scoring all blocks.
    pub locate_s: f64,
    /// Ranking the best anew.
    pub rerank_s: f64,
    /// Reading the passages again, until the first token of the answer was known.
    pub reread_s: f64,
    /// From the question to that token.
    pub first_token_s: f64,
    /// From the question to the end of the answer.
    pub total_s: f64,
}

/// Some text of a memory, found for a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Excerpt {
    /// The document's name.
    pub document: String,
    /// First byte in the document's text.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The text: a block, a little of what is around it, whole sentences.
    pub text: String,
    /// How much more probable the question is after it than after nothing, in nats; 0 if nothing was re-ranked.
    pub gain: f64,
}

/// What a question finds, before anything is answered.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Best first; none overlaps a better one if they were re-ranked.
    pub excerpts: Vec<Excerpt>,
    /// How many of them [`Memory::ask`] would read again; 0 if it would say "not found".
    pub near: usize,
    /// How surely the memory holds something about the question: found from 1 on; 0 if nothing was re-ranked.
    pub confidence: f64,
    /// What was seen; nothing is re-read yet.
    pub coverage: Coverage,
    /// What it took so far.
    pub timings: Timings,
}

/// An answer with its sources.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What the model said; empty if nothing was found.
    pub answer: Option<Answer>,
    /// Whether the memory holds something about the question.
    pub found: bool,
    /// How surely that is so: found from 1 on; 0 if nothing was re-ranked.
    pub confidence: f64,
    /// The passages, best first.
    pub citations: Vec<Citation>,
    /// All text that was looked at closely, best first; the first [`Coverage::blocks_read`] of it were re-read.
    pub ranked: Vec<Hit>,
    /// What was seen.
    pub coverage: Coverage,
    /// What it took.
    pub timings: Timings,
}

/// Tokens before and after a block that are read with it, for what the cut went through.
const MARGIN: (usize, usize) = (24, 40);

/// Some text of one section that is read again.
#[derive(Debug)]
pub(super) struct Passage {
    /// The block it stands around.
    block: usize,
    /// Its name and where in that document's text it stands.
    pub(super) document: String,
    pub(super) start: usize,
    pub(super) text: String,
    /// The part of the text that was ranked.
    pub(super) core: Range<usize>,
    /// How probable it makes the question: `ln P`, less that of no passage.
    gain: f64,
}

impl Passage {
    fn overlaps(&self, other: &Self) -> bool {
        self.document == other.document
            && self.start < other.start + other.text.len()
            && other.start < self.start + self.text.len()
    }

    fn hit(&self) -> Hit {
        let (start, end) = (self.start as u64, (self.start + self.text.len()) as u64);
        Hit { document: self.document.clone(), start, end }
    }
}

impl Memory<'_> {
    /// Answer `question` from everything in the memory. `stage` is told what is being done, `watch` is given the
    /// answer as it is written and may break it off.
    ///
    /// # Errors
    /// Those of the store, and of the session that answers.
    pub fn ask(
        &mut self,
        question: &str,
        asking: &Asking,
        stage: &mut dyn FnMut(Stage),
        watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Reply, Error> {
        let start = Instant::now();
        let Sought { mut passages, near, confidence, located, timings } =
            self.seek(question, asking, stage)?;
        let ranked = passages.iter().map(Passage::hit).collect();
        passages.truncate(near);
        passages.iter_mut().for_each(narrow);
        let found = near > 0;
        let coverage = located.coverage(asking.stages, &passages);
        let citations = Vec::new();
        let mut reply = Reply { answer: None, found, confidence, citations, ranked, coverage, timings };
        if found {
            stage(Stage::Reread);
            let prompt = fitting(self.model, question, &mut passages, &asking.request)?;
            reply.coverage.blocks_read = passages.len();
            let room = asking.request.max_tokens.unwrap_or(self.model.config().window);
            let length = (prompt.len() + room).min(self.model.config().window);
            let request = Request { prompt, ..asking.request.clone() };
            let answer = Session::new(self.model, Visible::All, length).generate(&request, watch)?;
            reply.timings.reread_s = answer.prefill_s;
            reply.citations = cite(&passages, question, &answer.text);
            reply.timings.first_token_s = start.elapsed().as_secs_f64() - answer.decode_s;
            reply.answer = Some(answer);
        }
        reply.timings.total_s = start.elapsed().as_secs_f64();
        Ok(reply)
    }

    /// What [`ask`](Self::ask) would answer from, and what came after it: all candidates, located and re-ranked.
    /// Callers that have a prompt of their own go on from here.
    ///
    /// # Errors
    /// Those of the store, and of the session that ranks.
    pub fn find(
        &mut self,
        question: &str,
        asking: &Asking,
        stage: &mut dyn FnMut(Stage),
    ) -> Result<Finding, Error> {
        let start = Instant::now();
        let Sought { passages, near, confidence, located, mut timings } =
            self.seek(question, asking, stage)?;
        let coverage = located.coverage(asking.stages, &[]);
        let excerpt = |passage: Passage| Excerpt {
            document: passage.document,
            start: passage.start as u64,
            end: (passage.start + passage.text.len()) as u64,
            text: passage.text,
            gain: passage.gain,
        };
        let excerpts = passages.into_iter().map(excerpt).collect();
        timings.total_s = start.elapsed().as_secs_f64();
        Ok(Finding { excerpts, near, confidence, coverage, timings })
    }

    /// Locate and re-rank.
    fn seek(
        &mut self,
        question: &str,
        asking: &Asking,
        stage: &mut dyn FnMut(Stage),
    ) -> Result<Sought, Error> {
        let start = Instant::now();
        let mut timings = Timings::default();
        self.view()?;
        timings.load_s = start.elapsed().as_secs_f64();

        stage(Stage::Locate);
        let asked = Instant::now();
        let located = self.locate(question, asking)?;
        timings.locate_s = asked.elapsed().as_secs_f64();

        let reranked = Instant::now();
        let mut passages =
            located.blocks.iter().map(|block| self.passage(*block)).collect::<Result<Vec<_>, _>>()?;
        let most = asking.passages.unwrap_or(self.profile.passages);
        let ranking = if asking.stages.rerank {
            Some(rerank(self.model, question, &mut passages, most, stage))
        } else {
            None
        };
        timings.rerank_s = reranked.elapsed().as_secs_f64();
        let Ranking { near, confidence } =
            ranking.unwrap_or(Ranking { near: most.min(passages.len()), confidence: 0.0 });
        let found = near > 0 && (ranking.is_none() || confidence >= 1.0);
        let near = if found { near } else { 0 };
        Ok(Sought { passages, near, confidence, located, timings })
    }

    /// The blocks that a question finds, best first, neither re-ranked nor read: at most
    /// [`candidates`](Asking::candidates) of them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn search(&mut self, question: &str, asking: &Asking) -> Result<Vec<Hit>, Error> {
        self.view()?;
        let mut blocks = self.locate(question, asking)?.blocks;
        blocks.truncate(asking.candidates);
        blocks.into_iter().map(|block| self.hit(block)).collect()
    }

    /// The bytes of one block.
    pub(super) fn hit(&self, block: usize) -> Result<Hit, Error> {
        let Place { document, start, ends, first, last, .. } = self.place(block)?;
        let end_of = |token: usize| if token == 0 { 0 } else { u64::from(ends[token - 1]) };
        let start = start as u64;
        Ok(Hit { document, start: start + end_of(first), end: start + end_of(last) })
    }

    /// The blocks worth a closer look, best first.
    pub(super) fn locate(&self, question: &str, asking: &Asking) -> Result<Located, Error> {
        let view = self.view.as_ref().expect("made before");
        let total = view.finder.blocks().len();
        let mut located = Located { total, ..Located::default() };
        let mut ways = Vec::new();
        if asking.stages.finder && total > 0 {
            let (tokens, frame) = question_tokens(self.model, question);
            let queries = Reader::new(self.model.decoder(), &self.profile).queries(&tokens);
            located.scores = view.finder.scores(&self.store, &queries, frame)?;
            let mut order: Vec<usize> = (0..total).collect();
            let by_score =
                |a: &usize, b: &usize| located.scores[*b].total_cmp(&located.scores[*a]).then(a.cmp(b));
            let count = asking.candidates.min(total);
            if count < total {
                order.select_nth_unstable_by(count, by_score);
                order.truncate(count);
            }
            order.sort_unstable_by(by_score);
            ways.push(order);
        }
        if asking.stages.lexical {
            let hits = view.lexical.search(&self.store, question, asking.candidates)?;
            ways.push(hits.into_iter().map(|(block, _)| block).collect());
        }
        if asking.stages.meaning {
            ways.push(self.by_meaning(question, asking.candidates)?);
        }
        located.blocks = in_turns(&ways);
        Ok(located)
    }

    /// Where a block stands.
    fn place(&self, block: usize) -> Result<Place, Error> {
        let view = self.view.as_ref().expect("made before");
        let Block { section, first, tokens } = view.finder.blocks()[block];
        let ends = self.store.read_u32(section, StreamId::ENDS)?;
        let document = self.store.documents().find(|document| document.sections.contains(&section));
        let sections = document.iter().flat_map(|document| &document.sections);
        let before = sections.take_while(|id| **id != section).filter_map(|id| self.store.section(*id));
        let start = before.map(|section| section.bytes(StreamId::TEXT) as usize).sum();
        let document = document.map(|document| document.name.clone()).unwrap_or_default();
        let (first, last) = (first as usize, (first + tokens) as usize);
        if last > ends.len() {
            let (keys, words) = (last, ends.len());
            return Err(Error::Halves { path: self.path.clone(), keys, words });
        }
        Ok(Place { section, document, start, ends, first, last })
    }

    /// The text around one block, as much of it as is re-read.
    pub(super) fn passage(&self, block: usize) -> Result<Passage, Error> {
        let Place { section, document, start, ends, first, last } = self.place(block)?;
        let bytes = self.store.read_all(section, StreamId::TEXT)?;
        let text = String::from_utf8_lossy(&bytes);
        let end_of = |token: usize| if token == 0 { 0 } else { ends[token.min(ends.len()) - 1] as usize };
        let from = text.floor_char_boundary(end_of(first.saturating_sub(MARGIN.0)));
        let to = text.ceil_char_boundary(end_of(last + MARGIN.1));
        let range = widen(&text, from..to);
        let (start, text) = (start + range.start, text[range].to_owned());
        Ok(Passage { block, document, start, core: 0..text.len(), text, gain: 0.0 })
    }
}

/// The tokens that finder heads are asked with, and how many of the first are the frame around the question.
pub(super) fn question_tokens(model: &Model, question: &str) -> (Vec<TokenId>, usize) {
    let frame = model.tokenizer().encode("Question:", Special::Text).len();
    let tokens = model.tokenizer().encode(&format!("Question: {question}"), Special::Text);
    let frame = frame.min(tokens.len() - 1);
    (tokens, frame)
}

/// Where a block stands.
#[derive(Debug)]
struct Place {
    section: SectionId,
    document: String,
    /// Where the section begins in the document's text.
    start: usize,
    /// Where each of the section's tokens ends in the section's text.
    ends: Vec<u32>,
    /// The block's first token.
    first: usize,
    /// One past its last.
    last: usize,
}

/// What finding gave.
#[derive(Debug, Default)]
pub(super) struct Located {
    /// Best first.
    pub(super) blocks: Vec<usize>,
    /// The finders' scores of all blocks, if they were asked.
    scores: Vec<f32>,
    total: usize,
}

/// What [`Memory::ask`] goes on from.
#[derive(Debug)]
struct Sought {
    /// Best first.
    passages: Vec<Passage>,
    /// How many of them are worth reading again.
    near: usize,
    confidence: f64,
    located: Located,
    timings: Timings,
}

impl Located {
    /// What was seen if these passages are read again.
    fn coverage(&self, stages: Stages, read: &[Passage]) -> Coverage {
        Coverage {
            blocks_total: self.total,
            blocks_scored: if stages.finder || stages.lexical || stages.meaning { self.total } else { 0 },
            blocks_read: read.len(),
            unread_mass: self.unread(read.iter().map(|passage| passage.block)),
        }
    }

    /// The share of what stood out for the finders that is outside `read`.
    fn unread(&self, read: impl Iterator<Item = usize>) -> f64 {
        let all: f64 = self.scores.iter().map(|score| f64::from(*score)).sum();
        if all > 0.0 { 1.0 - read.map(|block| f64::from(self.scores[block])).sum::<f64>() / all } else { 1.0 }
    }
}

/// One list from several, in turns, each block once.
fn in_turns(lists: &[Vec<usize>]) -> Vec<usize> {
    let mut all = Vec::new();
    for index in 0..lists.iter().map(Vec::len).max().unwrap_or(0) {
        for block in lists.iter().filter_map(|list| list.get(index)) {
            if !all.contains(block) {
                all.push(*block);
            }
        }
    }
    all
}

/// Widen a range to the ends of the sentences that it cuts through, by at most this many bytes a side.
fn widen(text: &str, range: Range<usize>) -> Range<usize> {
    const MOST: usize = 200;
    let is_end = |(_, c): &(usize, char)| matches!(c, '.' | '!' | '?' | '\n');
    let low = text.floor_char_boundary(range.start.saturating_sub(MOST));
    let before = text[low..range.start].char_indices().rfind(is_end);
    let start = before.map_or(range.start, |(at, c)| low + at + c.len_utf8());
    let high = text.ceil_char_boundary((range.end + MOST).min(text.len()));
    let after = text[range.end..high].char_indices().find(is_end);
    let end = after.map_or(range.end, |(at, c)| range.end + at + c.len_utf8());
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_turns() {
        assert_eq!(in_turns(&[vec![5, 1, 2], vec![1, 7], vec![9]]), [5, 1, 9, 7, 2]);
        assert_eq!(in_turns(&[vec![], vec![3]]), [3]);
        assert_eq!(in_turns(&[]), [0; 0]);
    }

    #[test]
    fn ranges_widen_to_sentences() {
        let text = "One is here. Two is cut. Three is after.";
        assert_eq!(&text[widen(text, 18..22)], " Two is cut.");
        assert_eq!(&text[widen(text, 0..text.len())], text);
    }
}
