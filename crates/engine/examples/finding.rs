//! Measures which heads find, beside words, and what a run's length does.
//!
//! `cargo run --release -p longleaf-engine --example finding -- MODEL HEADS RUN DISTANCE squad FILE QUESTIONS`: all
//! paragraphs of a file in SQuAD's form (v2) as one text; is the answer's block found, for questions that people wrote?
//!
//! `… -- MODEL HEADS RUN DISTANCE hidden TOKENS FACTS FILE…`: facts of every kind (see `needle`) hidden in novels.
//!
//! `… -- MODEL trial`: the trial by which a model without a profile gets one.
//!
//! HEADS are `layer.head,layer.head`; RUN is how many tokens are read together, DISTANCE how far away every key seems.
//! Printed is how often the block is among the first 1, 8 and 32: by heads, by words, and by both in turns.
use longleaf_engine::kernel::{Compute, Precision};
use longleaf_engine::memory::{Asking, Stages, calibrate};
use longleaf_engine::needle::{self, Kind};
use longleaf_engine::{Document, Memory, Model, Special};
use longleaf_memory::finder::{Head, Profile};
use serde_json::Value;
use std::error::Error;
use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A question, and where in the text its answer may stand.
struct Asked {
    kind: &'static str,
    question: String,
    places: Vec<Range<usize>>,
}

const WAYS: [(&str, Stages); 3] = [
    ("heads", Stages { finder: true, lexical: false, meaning: false, rerank: false }),
    ("words", Stages { finder: false, lexical: true, meaning: false, rerank: false }),
    ("both", Stages { finder: true, lexical: true, meaning: false, rerank: false }),
];
const DEPTHS: [usize; 3] = [1, 8, 32];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: finding MODEL trial, or finding MODEL HEADS RUN DISTANCE squad|hidden …";
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let open = |model: &String| {
        let model = Model::open(Path::new(model), &Arc::new(Compute::new(threads)))?;
        Ok::<_, Box<dyn Error>>(model.with_precision(Precision::Fast))
    };
    if let [model, mode] = arguments.as_slice()
        && mode == "trial"
    {
        return trial(&open(model)?);
    }
    let [model, heads, run, distance, rest @ ..] = arguments.as_slice() else { return Err(usage.into()) };
    let model = open(model)?;
    let heads = heads.split(',').map(head).collect::<Result<_>>()?;
    let profile =
        Profile { heads, run: run.parse()?, distance: distance.parse()?, passages: Profile::PASSAGES };
    let (text, asked) = match rest {
        [mode, file, questions] if mode == "squad" => squad(file, questions.parse()?)?,
        [mode, tokens, facts, files @ ..] if mode == "hidden" => {
            hidden(&model, tokens.parse()?, facts.parse()?, files)?
        }
        _ => return Err(usage.into()),
    };
    report(&model, profile, text, &asked)
}

#[expect(clippy::print_stdout, reason = "this is its output")]
fn trial(model: &Model) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let found = calibrate(model, &folder.path().join("trial"), &mut |_| ControlFlow::Continue(()))?;
    println!("{:?}", found.ok_or("broken off")?);
    Ok(())
}

fn head(name: &str) -> Result<Head> {
    let (layer, head) = name.split_once('.').ok_or("a head is layer.head")?;
    Ok(Head { layer: layer.parse()?, head: head.parse()? })
}

/// Paragraphs of a file in SQuAD's form, and so many of the questions that have an answer, evenly chosen.
fn squad(file: &str, questions: usize) -> Result<(String, Vec<Asked>)> {
    let all: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let (mut text, mut asked) = (String::new(), Vec::new());
    for paragraph in list(&all, "data").iter().flat_map(|article| list(article, "paragraphs")) {
        let context = paragraph["context"].as_str().unwrap_or_default();
        for question in list(&paragraph, "qas") {
            let place = |answer: &Value| {
                let (said, at) = (answer["text"].as_str()?, answer["answer_start"].as_u64()?);
                // Places are counted in characters there.
                let (start, _) = context.char_indices().nth(usize::try_from(at).ok()?)?;
                Some(text.len() + start..text.len() + start + said.len())
            };
            let places: Vec<_> = list(&question, "answers").iter().filter_map(place).collect();
            if !places.is_empty() {
                let question = question["question"].as_str().unwrap_or_default().to_owned();
                asked.push(Asked { kind: "squad", question, places });
            }
        }
        text.push_str(context);
        text.push_str("\n\n");
    }
    let step = (asked.len() / questions.max(1)).max(1);
    Ok((text, asked.into_iter().step_by(step).take(questions).collect()))
}

/// Facts of all kinds, one after the other, hidden in as much of the files as holds so many tokens.
fn hidden(model: &Model, tokens: usize, facts: usize, files: &[String]) -> Result<(String, Vec<Asked>)> {
    let mut haystack = String::new();
    for file in files {
        haystack.push_str(Document::new("", fs::read(file)?)?.text());
    }
    let spans = model.tokenizer().encode_with_offsets(&haystack, Special::Text).spans;
    if let Some(last) = spans.get(tokens) {
        haystack.truncate(haystack.floor_char_boundary(last.start));
    }
    let kinds = [
        (Kind::Number, "number"),
        (Kind::Uuid, "uuid"),
        (Kind::Sentence, "sentence"),
        (Kind::Latent, "latent"),
    ];
    let mut all = Vec::new();
    for (kind, name) in kinds {
        all.extend(
            needle::facts(kind, facts.min(needle::most(kind)), 0).into_iter().map(|fact| (name, fact)),
        );
    }
    // Kinds stand among each other: every k-th, so that each kind has all depths.
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|index| index * 37 % all.len().max(1));
    let facts: Vec<_> = order.iter().map(|index| all[*index].1.clone()).collect();
    let (text, places) = needle::hide(&haystack, &facts);
    let asked = order.iter().zip(facts).zip(places).map(|((index, fact), place)| Asked {
        kind: all[*index].0,
        question: fact.question,
        places: vec![place],
    });
    Ok((text, asked.collect()))
}

#[expect(clippy::print_stdout, reason = "this is its output")]
fn report(model: &Model, profile: Profile, text: String, asked: &[Asked]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let layers = profile.layers();
    let mut memory = Memory::with_profile(&folder.path().join("memory"), model, profile)?;
    let document = Document::new("text", text.into_bytes())?;
    let start = Instant::now();
    let read = memory.add(&document, &mut |_| ControlFlow::Continue(()))?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{} tokens of {layers} layers read in {seconds:.1} s", read.tokens);
    let mut kinds: Vec<&str> = asked.iter().map(|asked| asked.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let asked: Vec<_> = asked.iter().filter(|asked| asked.kind == kind).collect();
        for (way, stages) in WAYS {
            let asking = Asking { stages, candidates: DEPTHS[2], ..Asking::default() };
            let mut found = [0; DEPTHS.len()];
            for asked in &asked {
                let hits = memory.search(&asked.question, &asking)?;
                let holds = |place: &Range<usize>, start: u64, end: u64| {
                    start < place.end as u64 && (place.start as u64) < end
                };
                let rank = hits
                    .iter()
                    .position(|hit| asked.places.iter().any(|place| holds(place, hit.start, hit.end)));
                for (depth, found) in DEPTHS.iter().zip(&mut found) {
                    *found += usize::from(rank.is_some_and(|rank| rank < *depth));
                }
            }
            let share = found.map(|found| found as f64 / asked.len() as f64);
            println!(
                "{kind} ({}) by {way}: @1 {:.2} @8 {:.2} @32 {:.2}",
                asked.len(),
                share[0],
                share[1],
                share[2]
            );
        }
    }
    Ok(())
}
