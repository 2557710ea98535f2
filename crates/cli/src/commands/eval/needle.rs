//! `longleaf eval needle`: are facts found that were hidden in a long text, and answered?
mod row;

use super::{Cell, print, rows, wilson};
use crate::args::{Eval, NeedleKind};
use crate::commands::{add, interrupt, meaning};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use longleaf_engine::memory::{self, Asking, Depth, Stages};
use longleaf_engine::needle::{self, Kind, Question};
use longleaf_engine::store::ContentHash;
use longleaf_engine::{Document, Embedder, Memory, Model, Request, Session, Special, Visible};
use row::{Answered, Control, DEPTHS, Row, Share, Timings, shares};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::{ControlFlow, Range};

/// Tokens of context, unless it was said.
const LENGTH: usize = 128_000;
/// Answers are cut after so many tokens.
const ANSWER_TOKENS: usize = 64;

pub(crate) fn needle(args: &Eval, settings: &Settings, model: &Model) -> Result<()> {
    let lengths = if args.memory_tokens.is_empty() { vec![LENGTH] } else { args.memory_tokens.clone() };
    let encoder = args.meaning.then(|| meaning::open(&args.encoder.encoder, model, settings)).transpose()?;
    let (known, out) = args.out.as_deref().map(rows::go_on).transpose()?.unzip();
    let mut kept = Kept { known: known.unwrap_or_default(), out };
    for length in lengths {
        at_length(args, settings, (model, encoder.as_ref()), length, &mut kept)?;
    }
    Ok(())
}

fn at_length(
    args: &Eval,
    settings: &Settings,
    (model, encoder): (&Model, Option<&Embedder>),
    length: usize,
    kept: &mut Kept,
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
        cell(args, settings, (model, encoder), (&haystack, length, kind, task), kept)?;
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
    kept: &mut Kept,
) -> Result<()> {
    let count = args.items.get().min(needle::most(kind)).min(256);
    let facts = needle::facts(kind, count, args.seed);
    let (text, places) = needle::hide(haystack, &facts);
    // A memory for this text and model, kept so that the same measurement does not read again.
    let layout = model.finder().map(|profile| profile.layout()).unwrap_or_default();
    let mut parts = vec![text.as_bytes(), model.path().as_os_str().as_encoded_bytes(), layout.as_bytes()];
    let depth = args.depth.depth();
    let named = depth.to_string();
    if depth != Depth::Finder {
        parts.push(named.as_bytes());
    }
    let name = ContentHash::of_parts(&parts).hex(12);
    let mut memory = Memory::open_or_create(&settings.home.join("eval").join(&name), model)?;
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
    let bar = output::bar("{msg} {wide_bar} {pos}/{len} questions {eta}");
    bar.set_message(task);
    bar.set_length(questions.len() as u64);
    let interrupted = interrupt()?;
    let mut rows = Vec::new();
    for (item, question) in questions.iter().enumerate() {
        let places: Vec<_> = question.facts.iter().map(|fact| places[*fact].clone()).collect();
        let how =
            format!("{:?}", [args.answers, args.control && !places.is_empty(), args.attend, args.meaning]);
        let prompt = [name.as_bytes(), question.text.as_bytes(), how.as_bytes()];
        let mut row = Row {
            suite: "needle".to_owned(),
            task: task.to_owned(),
            length,
            item,
            seed: args.seed,
            model: model.name(),
            precision: format!("{:?}", model.decoder().precision()).to_lowercase(),
            prompt: ContentHash::of_parts(&prompt).hex(8),
            question: question.text.clone(),
            expected: question.answers.clone(),
            present: !places.is_empty(),
            depth: question.facts.first().map(|first| (first * 10 / facts.len()) as f64 / 10.0),
            ..Row::default()
        };
        if let Some(known) = kept.known.iter().find(|known| known.is(&row)) {
            row = known.clone();
        } else {
            if row.present {
                locate(&mut memory, question, &places, &mut row)?;
            }
            if args.answers {
                row.answered = Some(answer(&mut memory, args.attend, question, &places)?);
            }
            if args.control && row.present {
                let said: Vec<_> = question.facts.iter().map(|fact| facts[*fact].text.as_str()).collect();
                row.control = Some(control(model, haystack, &said, question)?);
            }
            kept.keep(&row)?;
        }
        if settings.json {
            bar.suspend(|| output::json(&row))?;
        }
        rows.push(row);
        bar.inc(1);
        if interrupted() {
            bail!("interrupted; with --out the same command goes on from here");
        }
    }
    bar.finish_and_clear();
    for Share { task, method, right, n } in shares(&rows, task, args.meaning) {
        let (score, (low, high)) = (right as f64 / n as f64, wilson(right, n));
        let cell = Cell { suite: "needle", task: &task, length, method, score, low, high, n, choices: None };
        print(settings, &cell, "share")?;
    }
    Ok(())
}

/// The rows of earlier runs, and where those of this one go.
struct Kept {
    known: Vec<Row>,
    out: Option<File>,
}

impl Kept {
    fn keep(&mut self, row: &Row) -> Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        Ok(out.write_all((serde_json::to_string(row)? + "\n").as_bytes())?)
    }
}

/// Where each way of finding puts the facts.
fn locate(
    memory: &mut Memory<'_>,
    question: &Question,
    places: &[Range<usize>],
    row: &mut Row,
) -> Result<()> {
    let mut rank = |(finder, lexical, meaning): (bool, bool, bool)| -> Result<Option<usize>> {
        let stages = Stages { finder, lexical, meaning, rerank: false };
        let asking = Asking { stages, candidates: DEPTHS[DEPTHS.len() - 1], ..Asking::default() };
        let hits = memory.search(&question.text, &asking)?;
        let rank = |place: &Range<usize>| hits.iter().position(|hit| overlaps(place, hit.start, hit.end));
        // The worst: a question that asks for two facts has found nothing before it has both.
        let ranks: Option<Vec<_>> = places.iter().map(rank).collect();
        Ok(ranks.and_then(|ranks| ranks.into_iter().max()))
    };
    row.rank_finder = rank((true, false, false))?;
    row.rank_lexical = rank((false, true, false))?;
    row.rank_meaning = rank((false, false, true))?;
    row.rank_longleaf = rank((true, true, true))?;
    Ok(())
}

/// The whole way.
fn answer(
    memory: &mut Memory<'_>,
    attend: bool,
    question: &Question,
    places: &[Range<usize>],
) -> Result<Answered> {
    let request = Request { max_tokens: Some(ANSWER_TOKENS), ..Asking::default().request };
    let asking = Asking { attend, request, ..Asking::default() };
    let reply = memory.ask(&question.text, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(()))?;
    let answer = reply.answer.map(|answer| answer.text).unwrap_or_default();
    let cited = |place: &Range<usize>| {
        reply.citations.iter().any(|citation| overlaps(place, citation.start, citation.end))
    };
    let rank = |place: &Range<usize>| reply.ranked.iter().position(|hit| overlaps(place, hit.start, hit.end));
    Ok(Answered {
        found: reply.found,
        right: is_right(question, &answer),
        answer,
        cited: !places.is_empty() && places.iter().all(cited),
        rank_reranked: places.iter().filter_map(rank).min(),
        confidence: reply.confidence,
        blocks_read: reply.coverage.blocks_read,
        blocks_attended: reply.coverage.blocks_attended,
        timings: Timings {
            locate_s: reply.timings.locate_s,
            rerank_s: reply.timings.rerank_s,
            first_token_s: reply.timings.first_token_s,
            total_s: reply.timings.total_s,
        },
    })
}

/// What the same model makes of the same question in the same words where it can see everything: a prompt of 2,000
/// tokens with the facts, no look-alikes, and text around them.
fn control(model: &Model, haystack: &str, said: &[&str], question: &Question) -> Result<Control> {
    const TOKENS: usize = 2000;
    // Rarely more than 8 bytes a token; what is too much is cut.
    let some = &haystack[..haystack.floor_char_boundary(TOKENS * 8)];
    let spans = model.tokenizer().encode_with_offsets(some, Special::Text).spans;
    let end = some.floor_char_boundary(spans.get(TOKENS).map_or(some.len(), |span| span.start));
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
    Ok(Control { right: is_right(question, &answer.text), answer: answer.text })
}

fn is_right(question: &Question, answer: &str) -> bool {
    let answer = answer.to_lowercase();
    !question.answers.is_empty()
        && question.answers.iter().all(|expected| answer.contains(&expected.to_lowercase()))
}

fn overlaps(place: &Range<usize>, start: u64, end: u64) -> bool {
    start < place.end as u64 && (place.start as u64) < end
}
