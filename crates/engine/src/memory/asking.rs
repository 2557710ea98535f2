//! A question to a memory: locate, re-rank, re-read or attend, answer.
mod alike;
mod answer;
pub mod chain;
mod evidence;
mod fusion;
mod likeness;
mod passage;
mod rarity;
mod rerank;
mod sentence;

pub(super) use answer::after;
pub use answer::prompt;
pub use evidence::{Keep, evidence};
pub(super) use fusion::fused;
pub(super) use passage::Passage;
pub use rarity::Rarity;

use super::Memory;
use crate::session::{Answer, Progress, Request, Session};
use crate::{Error, Model, Wording};
use answer::{cite, fitting};
use chain::Trail;
use longleaf_memory::finder::Reader;
use longleaf_model::Visible;
use longleaf_text::{Special, TokenId};
use rerank::{Ranking, narrow, rerank};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Instant;

/// How a question is answered. Every stage can be left out, to measure what it does.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, not states")]
pub struct Asking {
    /// Which stages to go through.
    pub stages: Stages,
    /// Blocks that are re-ranked, from each way of finding.
    pub candidates: usize,
    /// At most so many passages are re-read, of each step; `None` for as many as the model bears.
    pub passages: Option<usize>,
    /// Ask again about the names that were found, so many times at most: for questions whose answer takes several
    /// steps. What all steps found is read together.
    pub hops: usize,
    /// Sentences worded as those that are looked for: if there are any, only sentences that have a word of the question,
    /// or a name that was found on the way ([`hops`](Self::hops)), are found, those first that are worded most like one of
    /// these and like each other, and no others are read or ranked. Of examples that fill more than half of the model's
    /// window the first rank, and all are compared word by word.
    pub like: Vec<String>,
    /// Attend in every layer to the keys and values that a memory of full depth keeps of the passages, instead of
    /// reading them again.
    pub attend: bool,
    /// Answer from the best passages even where it would be said that nothing was found.
    pub guess: bool,
    /// Of a passage, show the model only the sentences around what was ranked that speak of the question; otherwise all
    /// of it.
    pub evidence: bool,
    /// Copy codes and numbers letter by letter where what was found has long ones: see [`Wording::codes`].
    pub wording: bool,
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
        let (candidates, passages, hops, like) = (8, None, 0, Vec::new());
        let (attend, guess, evidence, wording) = (false, false, true, true);
        Self { stages, candidates, passages, hops, like, attend, guess, evidence, wording, request }
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
    /// What is kept of the passages is being attended to.
    Attend,
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
    /// Blocks whose kept keys and values every layer attended to.
    pub blocks_attended: usize,
    /// Share of what stood out for the finders that was neither re-read nor attended to.
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
    /// Attending to the passages as they are kept, until the first token of the answer was known.
    pub attend_s: f64,
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
    /// What the model said; nothing if nothing was found, unless a [guess](Asking::guess) was asked for.
    pub answer: Option<Answer>,
    /// Whether the memory holds something about the question.
    pub found: bool,
    /// How surely that is so: found from 1 on; 0 if nothing was re-ranked.
    pub confidence: f64,
    /// The passages, best first; if nothing was found, those that come nearest.
    pub citations: Vec<Citation>,
    /// The names that the steps led to (see [`Asking::hops`]), in their order; the last step's were not asked about.
    pub trail: Vec<String>,
    /// All text that was looked at closely, best first; the first [`Coverage::blocks_read`] of it were re-read.
    pub ranked: Vec<Hit>,
    /// What was seen.
    pub coverage: Coverage,
    /// What it took.
    pub timings: Timings,
}

impl Timings {
    /// What it took together.
    fn add(&mut self, step: Self) {
        self.load_s += step.load_s;
        self.locate_s += step.locate_s;
        self.rerank_s += step.rerank_s;
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
        if asking.attend {
            self.expect_full_depth()?;
        }
        let start = Instant::now();
        let mut sought = self.seek(question, asking, stage)?;
        let alike = !asking.like.is_empty();
        let follows = asking.hops > 0 && !alike && (sought.found || asking.guess);
        if follows {
            sought = self.seek_on(question, sought, asking, stage)?;
        }
        let Sought { mut passages, rarity, near, found, confidence, located, timings, trail } = sought;
        let ranked = passages.iter().map(Passage::hit).collect();
        passages.truncate(near);
        let chosen = follows || alike;
        for passage in passages.iter_mut().filter(|_| asking.evidence && !chosen) {
            narrow(passage);
            passage.focus(question, &rarity);
        }
        let answers = found || asking.guess && !passages.is_empty();
        let coverage = located.coverage(asking.stages, if answers { &passages } else { &[] });
        let citations = Vec::new();
        let trail = trail.names;
        let mut reply =
            Reply { answer: None, found, confidence, citations, trail, ranked, coverage, timings };
        if answers {
            let mut request = asking.request.clone();
            if asking.wording && request.wording.is_none() {
                let texts: Vec<&str> = passages.iter().map(|passage| passage.text.as_str()).collect();
                request.wording = Wording::codes(&texts.join("\n"), question);
            }
            let answer = if asking.attend {
                stage(Stage::Attend);
                let (answer, attended) = self.attend_to(question, &passages, &request, watch)?;
                (reply.coverage.blocks_read, reply.coverage.blocks_attended) = (0, attended);
                reply.timings.attend_s = answer.prefill_s;
                answer
            } else {
                stage(Stage::Reread);
                request.prompt = fitting(self.model, question, &mut passages, &request)?;
                reply.coverage.blocks_read = blocks(&passages).len();
                let room = request.max_tokens.unwrap_or(self.model.config().window);
                let length = (request.prompt.len() + room).min(self.model.config().window);
                let answer = Session::new(self.model, Visible::All, length).generate(&request, watch)?;
                reply.timings.reread_s = answer.prefill_s;
                answer
            };
            reply.timings.first_token_s = start.elapsed().as_secs_f64() - answer.decode_s;
            reply.answer = Some(answer);
        }
        let said = reply.answer.as_ref().map_or("", |answer| &answer.text);
        reply.citations = cite(&passages, question, said);
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
        let Sought { passages, near, found, confidence, located, mut timings, .. } =
            self.seek(question, asking, stage)?;
        let near = if found { near } else { 0 };
        let coverage = located.coverage(asking.stages, &[]);
        let excerpts = passages.iter().map(Passage::excerpt).collect();
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
        if !asking.like.is_empty() {
            return self.seek_alike(question, asking, timings, stage);
        }

        stage(Stage::Locate);
        let asked = Instant::now();
        let located = self.locate(question, asking)?;
        timings.locate_s = asked.elapsed().as_secs_f64();

        let reranked = Instant::now();
        let rarity = self.rarity(question)?;
        let mut passages =
            located.blocks.iter().map(|block| self.passage(*block)).collect::<Result<Vec<_>, _>>()?;
        let most = asking.passages.unwrap_or(self.profile.passages);
        let ranking = if asking.stages.rerank {
            Some(rerank(self.model, question, &rarity, &mut passages, most, stage))
        } else {
            None
        };
        timings.rerank_s = reranked.elapsed().as_secs_f64();
        let Ranking { near, confidence } =
            ranking.unwrap_or(Ranking { near: most.min(passages.len()), confidence: 0.0 });
        let found = near > 0 && (ranking.is_none() || confidence >= 1.0);
        let trail = Trail::default();
        Ok(Sought { passages, rarity, near, found, confidence, located, timings, trail })
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

    /// The blocks worth a closer look, best first.
    pub(super) fn locate(&self, question: &str, asking: &Asking) -> Result<Located, Error> {
        let view = self.view.as_ref().expect("made before");
        let total = view.finder.blocks().len();
        let mut located = Located { total, ..Located::default() };
        let mut ways = Vec::new();
        if asking.stages.finder && view.finder.keyed() > 0 {
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
            ways.push(order.into_iter().map(|block| (block, located.scores[block])).collect());
        }
        if asking.stages.lexical {
            ways.push(view.lexical.search(&self.store, question, asking.candidates)?);
        }
        if asking.stages.meaning {
            ways.push(self.by_meaning(question, asking.candidates)?);
        }
        located.blocks = fused(&ways).into_iter().map(|(block, _)| block).collect();
        located.ways = ways;
        Ok(located)
    }
}

/// The tokens that finder heads are asked with, and how many of the first are the frame around the question.
pub(super) fn question_tokens(model: &Model, question: &str) -> (Vec<TokenId>, usize) {
    let frame = model.tokenizer().encode("Question:", Special::Text).len();
    let tokens = model.tokenizer().encode(&format!("Question: {question}"), Special::Text);
    let frame = frame.min(tokens.len() - 1);
    (tokens, frame)
}

/// What finding gave.
#[derive(Debug, Default)]
pub(super) struct Located {
    /// Best first.
    pub(super) blocks: Vec<usize>,
    /// What each way gave that was asked: blocks and their scores, best first.
    pub(super) ways: Vec<Vec<(usize, f32)>>,
    /// The finders' scores of all blocks, if they were asked.
    scores: Vec<f32>,
    total: usize,
}

/// What [`Memory::ask`] goes on from.
#[derive(Debug)]
struct Sought {
    /// Best first.
    passages: Vec<Passage>,
    /// How rare the question's words are.
    rarity: Rarity,
    /// How many of them are worth reading again, if anything is.
    near: usize,
    found: bool,
    confidence: f64,
    located: Located,
    timings: Timings,
    /// Where further steps led.
    trail: Trail,
}

/// The blocks that passages stand around; several may come from one.
fn blocks(passages: &[Passage]) -> BTreeSet<usize> {
    passages.iter().map(|passage| passage.block).collect()
}

impl Located {
    /// What was seen if these passages are read again.
    fn coverage(&self, stages: Stages, read: &[Passage]) -> Coverage {
        Coverage {
            blocks_total: self.total,
            blocks_scored: if stages.finder || stages.lexical || stages.meaning { self.total } else { 0 },
            blocks_read: blocks(read).len(),
            blocks_attended: 0,
            unread_mass: self.unread(blocks(read).into_iter()),
        }
    }

    /// The share of what stood out for the finders that is outside `read`.
    fn unread(&self, read: impl Iterator<Item = usize>) -> f64 {
        let all: f64 = self.scores.iter().map(|score| f64::from(*score)).sum();
        if all > 0.0 { 1.0 - read.map(|block| f64::from(self.scores[block])).sum::<f64>() / all } else { 1.0 }
    }
}
