//! `longleaf eval needle`: are facts found that were hidden in a long text, and answered?
use super::{Cell, print, wilson};
use crate::args::{Eval, NeedleKind};
use crate::commands::{add, meaning};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use longleaf_engine::memory::{self, Asking, Depth, Stages};
use longleaf_engine::needle::{self, Kind, Question};
use longleaf_engine::store::ContentHash;
use longleaf_engine::{Document, Embedder, Memory, Model, Request, Session, Special, Visible};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::ops::{ControlFlow, Range};

/// Which ways of finding are compared, and what they are called in the results.
const METHODS: [(&str, Stages); 4] = [
    ("finder", Stages { finder: true, lexical: false, meaning: false, rerank: false }),
    ("lexical", Stages { finder: false, lexical: true, meaning: false, rerank: false }),
    (MEANING, Stages { finder: false, lexical: false, meaning: true, rerank: false }),
    ("longleaf", Stages { finder: true, lexical: true, meaning: true, rerank: false }),
];
/// Tokens of context, unless it was said.
const LENGTH: usize = 128_000;
/// The one that needs vectors.
const MEANING: &str = "meaning";
/// How many blocks may be looked at.
const DEPTHS: [usize; 3] = [1, 8, 32];
/// Answers are cut after so many tokens.
const ANSWER_TOKENS: usize = 64;

pub(crate) fn needle(args: &Eval, settings: &Settings, model: &Model) -> Result<()> {
    let lengths = if args.memory_tokens.is_empty() { vec![LENGTH] } else { args.memory_tokens.clone() };
    let encoder = args.meaning.then(|| meaning::open(&args.encoder.encoder, model, settings)).transpose()?;
    for length in lengths {
        at_length(args, settings, (model, encoder.as_ref()), length)?;
    }
    Ok(())
}

fn at_length(
    args: &Eval,
    settings: &Settings,
    (model, encoder): (&Model, Option<&Embedder>),
    length: usize,
) -> Result<()> {
    let haystack = haystack(args, model, length)?;
    for kind in &args.kind {
        let (kind, task) = match kind {
            NeedleKind::Number => (Kind::Number, "number"),
            NeedleKind::Uuid => (Kind::Uuid, "uuid"),
            NeedleKind::Sentence => (Kind::Sentence, "sentence"),
            NeedleKind::Multi => (Kind::Multi, "multi"),
            NeedleKind::Latent => (Kind::Latent, "latent"),
        };
        cell(args, settings, (model, encoder), (&haystack, length, kind, task))?;
    }
    Ok(())
}

/// As much of the files as is asked for.
fn haystack(args: &Eval, model: &Model, length: usize) -> Result<String> {
    let mut haystack = String::new();
    let mut tokens = 0;
    for path in &args.file {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let document = Document::new(path.display().to_string(), bytes)?;
        let encoding = model.tokenizer().encode_with_offsets(document.text(), Special::Text);
        let wanted = length.max(1) - tokens;
        if encoding.ids.len() >= wanted {
            let end = document.text().ceil_char_boundary(encoding.spans[wanted - 1].end);
            haystack.push_str(&document.text()[..end]);
            return Ok(haystack);
        }
        tokens += encoding.ids.len();
        haystack.push_str(document.text());
    }
    bail!("the files hold {tokens} tokens, {length} were asked for; give more files")
}

fn cell(
    args: &Eval,
    settings: &Settings,
    (model, encoder): (&Model, Option<&Embedder>),
    (haystack, length, kind, task): (&str, usize, Kind, &'static str),
) -> Result<()> {
    let count = args.items.get().min(needle::most(kind)).min(256);
    let facts = needle::facts(kind, count, args.seed);
    let (text, places) = needle::hide(haystack, &facts);
    // A memory for this text and model, kept so that the same measurement does not read again.
    let layout = model.finder().map(|profile| profile.layout()).unwrap_or_default();
    let mut parts = vec![text.as_bytes(), model.path().as_os_str().as_encoded_bytes(), layout.as_bytes()];
    let depth = args.depth.depth();
    if depth == Depth::Full {
        parts.push(b"full");
    }
    let key = ContentHash::of_parts(&parts);
    let name = key.0[..12].iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    });
    let mut memory = Memory::open_or_create(&settings.home.join("eval").join(name), model)?;
    memory.set_ram(settings.ram);
    memory.set_depth(depth)?;
    let document = Document::new("haystack", text.into_bytes())?;
    let bytes = document.text().len() as u64;
    if add::read_documents(&mut memory, bytes, std::iter::once(Ok(document)))?.interrupted {
        bail!("interrupted; the same command goes on from here");
    }
    if let Some(encoder) = encoder {
        memory = memory.with_meaning(encoder)?;
        if meaning::read(&mut memory)?.interrupted {
            bail!("interrupted; the same command goes on from here");
        }
    }

    let mut questions = needle::questions(kind, &facts);
    if args.answers {
        questions.extend(needle::absent(kind, count, args.seed));
    }
    let mut tally = Tally::default();
    let bar = output::bar("{msg} {wide_bar} {pos}/{len} questions {eta}");
    bar.set_message(task);
    bar.set_length(questions.len() as u64);
    for (index, question) in questions.iter().enumerate() {
        let places: Vec<_> = question.facts.iter().map(|fact| places[*fact].clone()).collect();
        let mut row = serde_json::json!({
            "suite": "needle", "task": task, "length": length, "item": index,
            "question": question.text, "expected": question.answers, "present": !places.is_empty(),
        });
        if let Some(first) = question.facts.first() {
            row["depth"] = ((first * 10 / facts.len()) as f64 / 10.0).into();
            locate(&mut memory, question, &places, &mut tally, &mut row)?;
        }
        if args.answers {
            answer(&mut memory, args.attend, question, &places, &mut tally, &mut row)?;
        }
        if args.control && !places.is_empty() {
            let said: Vec<_> = question.facts.iter().map(|fact| facts[*fact].text.as_str()).collect();
            control(model, haystack, &said, question, &mut tally, &mut row)?;
        }
        if settings.json {
            bar.suspend(|| output::json(&row))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    for share in tally.shares(args, task) {
        let (score, (low, high)) = (share.right as f64 / share.n as f64, wilson(share.right, share.n));
        let Share { task, method, n, .. } = share;
        let task = task.as_str();
        print(
            settings,
            &Cell { suite: "needle", task, length, method, score, low, high, n, choices: None },
            "share",
        )?;
    }
    Ok(())
}

/// What came out so far.
#[derive(Debug, Default)]
struct Tally {
    /// Questions whose facts are in the text, and questions about nothing.
    present: usize,
    absent: usize,
    /// All facts among the first blocks, by method and depth.
    recalled: [[usize; DEPTHS.len()]; METHODS.len()],
    /// A fact of the question in the best passage after re-ranking.
    reranked: usize,
    answered: usize,
    cited: usize,
    /// Called not found: what is there, and what is not.
    missed: usize,
    refused: usize,
    /// Answered from a short prompt.
    control: usize,
    first_token_s: f64,
}

#[derive(Debug)]
struct Share {
    task: String,
    method: &'static str,
    right: usize,
    n: usize,
}

impl Tally {
    fn shares(&self, args: &Eval, task: &str) -> Vec<Share> {
        let mut shares = Vec::new();
        let mut share = |what: &str, method, right, n| {
            if n > 0 {
                shares.push(Share { task: format!("{task} {what}"), method, right, n });
            }
        };
        let measured = |method: &str| args.meaning || method != MEANING;
        for ((method, _), recalled) in METHODS.iter().zip(self.recalled).filter(|((m, _), _)| measured(m)) {
            for (depth, recalled) in DEPTHS.iter().zip(recalled) {
                share(&format!("recall@{depth}"), *method, recalled, self.present);
            }
        }
        if args.answers {
            share("re-ranked recall@1", "longleaf", self.reranked, self.present);
            share("answered", "longleaf", self.answered, self.present);
            share("cited, of those answered", "longleaf", self.cited, self.answered);
            share("present but called not found", "longleaf", self.missed, self.present);
            share("absent and called not found", "longleaf", self.refused, self.absent);
        }
        if args.control {
            share("answered from 2,000 tokens", "dense", self.control, self.present);
        }
        shares
    }
}

/// Where each way of finding puts the facts.
fn locate(
    memory: &mut Memory<'_>,
    question: &Question,
    places: &[Range<usize>],
    tally: &mut Tally,
    row: &mut Value,
) -> Result<()> {
    tally.present += 1;
    for ((method, stages), recalled) in METHODS.iter().zip(&mut tally.recalled) {
        let asking = Asking { stages: *stages, candidates: DEPTHS[DEPTHS.len() - 1], ..Asking::default() };
        let hits = memory.search(&question.text, &asking)?;
        let rank = |place: &Range<usize>| hits.iter().position(|hit| overlaps(place, hit.start, hit.end));
        // The worst: a question that asks for two facts has found nothing before it has both.
        let ranks: Option<Vec<_>> = places.iter().map(rank).collect();
        let rank = ranks.and_then(|ranks| ranks.into_iter().max());
        for (depth, recalled) in DEPTHS.iter().zip(recalled) {
            *recalled += usize::from(rank.is_some_and(|rank| rank < *depth));
        }
        row[format!("rank_{method}")] = rank.into();
    }
    Ok(())
}

/// The whole way.
fn answer(
    memory: &mut Memory<'_>,
    attend: bool,
    question: &Question,
    places: &[Range<usize>],
    tally: &mut Tally,
    row: &mut Value,
) -> Result<()> {
    let request = Request { max_tokens: Some(ANSWER_TOKENS), ..Asking::default().request };
    let asking = Asking { attend, request, ..Asking::default() };
    let reply = memory.ask(&question.text, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(()))?;
    let text = reply.answer.map(|answer| answer.text).unwrap_or_default();
    let is_right = is_right(question, &text);
    let cited = |place: &Range<usize>| {
        reply.citations.iter().any(|citation| overlaps(place, citation.start, citation.end))
    };
    let cites = !places.is_empty() && places.iter().all(cited);
    let rank = |place: &Range<usize>| reply.ranked.iter().position(|hit| overlaps(place, hit.start, hit.end));
    let first = places.iter().filter_map(rank).min();
    if places.is_empty() {
        tally.absent += 1;
        tally.refused += usize::from(!reply.found);
    } else {
        tally.missed += usize::from(!reply.found);
        tally.reranked += usize::from(first == Some(0));
        tally.answered += usize::from(is_right);
        tally.cited += usize::from(is_right && cites);
        row["rank_reranked"] = first.into();
        row["right"] = is_right.into();
        row["cited"] = cites.into();
    }
    tally.first_token_s += reply.timings.first_token_s;
    row["found"] = reply.found.into();
    row["answer"] = text.into();
    row["confidence"] = reply.confidence.into();
    row["blocks_read"] = reply.coverage.blocks_read.into();
    row["blocks_attended"] = reply.coverage.blocks_attended.into();
    row["timings"] = serde_json::json!({
        "locate_s": reply.timings.locate_s, "rerank_s": reply.timings.rerank_s,
        "first_token_s": reply.timings.first_token_s, "total_s": reply.timings.total_s,
    });
    Ok(())
}

/// What the same model makes of the same question in the same words where it can see everything: a prompt of 2,000
/// tokens with the facts, no look-alikes, and text around them.
fn control(
    model: &Model,
    haystack: &str,
    said: &[&str],
    question: &Question,
    tally: &mut Tally,
    row: &mut Value,
) -> Result<()> {
    const TOKENS: usize = 2000;
    // Rarely more than 8 bytes a token; what is too much is cut.
    let some = &haystack[..haystack.floor_char_boundary(TOKENS * 8)];
    let spans = model.tokenizer().encode_with_offsets(some, Special::Text).spans;
    let end = spans.get(TOKENS).map_or(some.len(), |span| span.start);
    let mut text = String::new();
    let (mut copied, count) = (0, said.len());
    for (index, said) in said.iter().enumerate() {
        let wanted = some.ceil_char_boundary(end * (index + 1) / (count + 1));
        let cut = some[wanted..end].find('\n').map_or(end, |at| wanted + at + 1);
        text.push_str(&some[copied..cut]);
        copied = cut;
        let _ = write!(text, "\n{said}\n");
    }
    text.push_str(&some[copied..end]);
    let prompt = memory::prompt(model, &[&text], &question.text)?;
    let request = Request { prompt, max_tokens: Some(ANSWER_TOKENS), ..Asking::default().request };
    let length = model.config().window;
    let mut session = Session::new(model, Visible::All, length);
    let answer = session.generate(&request, &mut |_| ControlFlow::Continue(()))?;
    let right = is_right(question, &answer.text);
    tally.control += usize::from(right);
    row["control"] = serde_json::json!({ "answer": answer.text, "right": right });
    Ok(())
}

fn is_right(question: &Question, answer: &str) -> bool {
    let answer = answer.to_lowercase();
    !question.answers.is_empty()
        && question.answers.iter().all(|expected| answer.contains(&expected.to_lowercase()))
}

fn overlaps(place: &Range<usize>, start: u64, end: u64) -> bool {
    start < place.end as u64 && (place.start as u64) < end
}
