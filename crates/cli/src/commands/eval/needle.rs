//! `longleaf eval needle`: are facts found that were hidden in a long text, and answered?
use super::{Cell, print, wilson};
use crate::args::{Eval, NeedleKind};
use crate::commands::add;
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use longleaf_engine::memory::{Asking, Stages};
use longleaf_engine::needle::{self, Kind};
use longleaf_engine::store::ContentHash;
use longleaf_engine::{Document, Memory, Model, Request, Special};
use std::fmt::Write;
use std::fs;
use std::ops::ControlFlow;

/// Which ways of finding are compared, and what they are called in the results.
const METHODS: [(&str, Stages); 3] = [
    ("finder", Stages { finder: true, lexical: false, rerank: false }),
    ("lexical", Stages { finder: false, lexical: true, rerank: false }),
    ("longleaf", Stages { finder: true, lexical: true, rerank: false }),
];
/// How many blocks may be looked at.
const DEPTHS: [usize; 3] = [1, 8, 32];

pub(crate) fn needle(args: &Eval, settings: &Settings, model: &Model) -> Result<()> {
    let haystack = haystack(args, model)?;
    for kind in &args.kind {
        let (kind, task) = match kind {
            NeedleKind::Number => (Kind::Number, "number"),
            NeedleKind::Uuid => (Kind::Uuid, "uuid"),
            NeedleKind::Sentence => (Kind::Sentence, "sentence"),
        };
        cell(args, settings, model, (&haystack, kind, task))?;
    }
    Ok(())
}

/// As much of the files as is asked for.
fn haystack(args: &Eval, model: &Model) -> Result<String> {
    let mut haystack = String::new();
    let mut tokens = 0;
    for path in &args.file {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let document = Document::new(path.display().to_string(), bytes)?;
        let encoding = model.tokenizer().encode_with_offsets(document.text(), Special::Text);
        let wanted = args.memory_tokens.get() - tokens;
        if encoding.ids.len() >= wanted {
            let end = document.text().ceil_char_boundary(encoding.spans[wanted - 1].end);
            haystack.push_str(&document.text()[..end]);
            return Ok(haystack);
        }
        tokens += encoding.ids.len();
        haystack.push_str(document.text());
    }
    bail!("the files hold {tokens} tokens, {} were asked for; give more files", args.memory_tokens)
}

fn cell(
    args: &Eval,
    settings: &Settings,
    model: &Model,
    (haystack, kind, task): (&str, Kind, &'static str),
) -> Result<()> {
    let facts = needle::facts(kind, args.items.get().min(256), args.seed);
    let (text, places) = needle::hide(haystack, &facts);
    // A memory for this text and model, kept so that the same measurement does not read again.
    let key = ContentHash::of_parts(&[text.as_bytes(), model.path().as_os_str().as_encoded_bytes()]);
    let name = key.0[..12].iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    });
    let mut memory = Memory::open_or_create(&settings.home.join("eval").join(name), model)?;
    let document = Document::new("haystack", text.into_bytes())?;
    let bytes = document.text().len() as u64;
    if add::read_documents(&mut memory, bytes, std::iter::once(Ok(document)))?.interrupted {
        bail!("interrupted; the same command goes on from here");
    }

    let n = facts.len();
    let mut recalled = [[0; DEPTHS.len()]; METHODS.len()];
    let (mut answered, mut cited, mut found) = (0, 0, 0);
    let bar = output::bar("{msg} {wide_bar} {pos}/{len} questions {eta}");
    bar.set_message(task);
    bar.set_length(n as u64);
    for (index, (fact, place)) in facts.iter().zip(&places).enumerate() {
        let overlaps = |start: u64, end: u64| start < place.end as u64 && (place.start as u64) < end;
        let mut ranks = Vec::new();
        for ((_, stages), recalled) in METHODS.iter().zip(&mut recalled) {
            let asking =
                Asking { stages: *stages, candidates: DEPTHS[DEPTHS.len() - 1], ..Asking::default() };
            let hits = memory.search(&fact.question, &asking)?;
            let rank = hits.iter().position(|hit| overlaps(hit.start, hit.end));
            for (depth, recalled) in DEPTHS.iter().zip(recalled) {
                *recalled += usize::from(rank.is_some_and(|rank| rank < *depth));
            }
            ranks.push(rank);
        }
        let mut row = serde_json::json!({
            "suite": "needle", "task": task, "length": args.memory_tokens, "item": index,
            "question": fact.question, "expected": fact.answer,
            "rank_finder": ranks[0], "rank_lexical": ranks[1], "rank": ranks[2],
        });
        if args.answers {
            let request = Request { max_tokens: Some(64), ..Request::default() };
            let asking = Asking { request, ..Asking::default() };
            let reply =
                memory.ask(&fact.question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(()))?;
            let text = reply.answer.map(|answer| answer.text).unwrap_or_default();
            let right = text.to_lowercase().contains(&fact.answer.to_lowercase());
            let cites = reply.citations.iter().any(|citation| overlaps(citation.start, citation.end));
            found += usize::from(reply.found);
            answered += usize::from(right);
            cited += usize::from(right && cites);
            row["answer"] = text.into();
            row["right"] = right.into();
            row["cited"] = cites.into();
            row["confidence"] = reply.confidence.into();
            row["timings"] = serde_json::json!({
                "locate_s": reply.timings.locate_s, "rerank_s": reply.timings.rerank_s,
                "first_token_s": reply.timings.first_token_s,
            });
        }
        if settings.json {
            bar.suspend(|| output::json(&row))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let share = |task: String, method: &'static str, right: usize, n: usize| {
        let (low, high) = wilson(right, n);
        let score = right as f64 / n as f64;
        print(
            settings,
            &Cell {
                suite: "needle",
                task: &task,
                length: args.memory_tokens.get(),
                method,
                score,
                low,
                high,
                n,
            },
            "share",
        )
    };
    for ((method, _), recalled) in METHODS.iter().zip(recalled) {
        for (depth, recalled) in DEPTHS.iter().zip(recalled) {
            share(format!("{task} recall@{depth}"), method, recalled, n)?;
        }
    }
    if args.answers {
        share(format!("{task} found"), "longleaf", found, n)?;
        share(format!("{task} answered"), "longleaf", answered, n)?;
        if answered > 0 {
            share(format!("{task} cited, of those answered"), "longleaf", cited, answered)?;
        }
    }
    Ok(())
}
