//! `longleaf ask`
use crate::args::{self, Ask, Stage, UsageError};
use crate::commands::{add, interrupt, meaning, pull};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result, anyhow};
use longleaf_engine::memory::{Asking, Depth, Reply, Stage as AskStage, Stages};
use longleaf_engine::store::ContentHash;
use longleaf_engine::{FinishReason, Memory, Progress, Request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub(crate) fn ask(args: &Ask, settings: &Settings) -> Result<()> {
    let folder = match (is_text(args, settings), args.depth) {
        (true, _) => read_texts(args, settings)?,
        (false, None) => memory_of(args, settings)?,
        (false, Some(_)) => {
            let what =
                "--depth is for files and folders; `longleaf add MEMORY --depth …` brings a memory there";
            return Err(UsageError(what.to_owned()).into());
        }
    };
    let model = pull::open_to_find(&args.model, settings)?;
    let mut memory = Memory::read_only(&folder, &model)?;
    memory.set_ram(settings.ram);
    let encoder = meaning::of(&memory, &args.encoder.encoder, &model, settings)?;
    if let Some(encoder) = &encoder {
        memory = memory.with_meaning(encoder)?;
    }
    let stages = Stages {
        finder: !args.without.contains(&Stage::Finder),
        lexical: !args.without.contains(&Stage::Lexical),
        meaning: !args.without.contains(&Stage::Meaning),
        rerank: !args.without.contains(&Stage::Rerank),
    };
    let request = Request {
        max_tokens: Some(args.max_tokens),
        sampling: args.sampling.sampling(),
        ..Asking::default().request
    };
    let Ask { candidates, passages, hops, attend, guess, .. } = *args;
    let [evidence, wording] = [Stage::Evidence, Stage::Wording].map(|stage| !args.without.contains(&stage));
    let like = args.like.clone();
    let asking =
        Asking { stages, candidates, passages, hops, like, attend, guess, evidence, wording, request };
    let interrupted = interrupt()?;
    let mut printed = Ok(());
    let bar = output::bar("{spinner} {msg}");
    let mut stage = |stage| match stage {
        AskStage::Locate => bar.set_message("finding"),
        AskStage::Rerank(done, of) => bar.set_message(format!("ranking passages, {done} of {of}")),
        AskStage::Reread | AskStage::Attend => bar.set_message("reading what was found"),
    };
    let reply = memory.ask(&args.question, &asking, &mut stage, &mut |progress| {
        if matches!(progress, Progress::Text(_)) {
            bar.finish_and_clear();
        }
        if let Progress::Text(text) = progress
            && !settings.json
            && !text.is_empty()
        {
            printed = output::text(text);
        }
        if interrupted() || printed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bar.finish_and_clear();
    printed?;
    if settings.json {
        output::json(&to_json(&reply, memory.depth()))
    } else {
        output::text(&sources(&reply))
    }
}

/// Whether a file was named, or a folder that is no memory and is not called like one.
fn is_text(args: &Ask, settings: &Settings) -> bool {
    let is_memory = |folder: &Path| folder.join("MANIFEST").is_file();
    let named = memory_of(args, settings).is_ok_and(|folder| is_memory(&folder));
    args.memory.is_file() || args.memory.is_dir() && !is_memory(&args.memory) && !named
}

/// A memory of its own for a file, or the files of a folder, read as far as it is not yet.
fn read_texts(args: &Ask, settings: &Settings) -> Result<PathBuf> {
    let file = args.memory.canonicalize().with_context(|| args.memory.display().to_string())?;
    let files = add::files(std::slice::from_ref(&file))?;
    if files.is_empty() {
        return Err(anyhow!("{}: no files to read here", args.memory.display()));
    }
    let model = add::open_to_read(&args.model, settings)?;
    let key = ContentHash::of_parts(&[file.as_os_str().as_encoded_bytes(), &Memory::fingerprint(&model)?.0]);
    let folder = settings.home.join("files").join(key.hex(12));
    let mut memory = Memory::open_or_create(&folder, &model)?;
    memory.set_ram(settings.ram);
    let names: BTreeSet<String> = files.iter().map(|file| add::document_name(file)).collect::<Result<_>>()?;
    let known: Vec<String> = memory.store().documents().map(|document| document.name.clone()).collect();
    for gone in known.iter().filter(|name| !names.contains(*name)) {
        memory.remove(gone)?;
    }
    let asked = args.depth.map_or(Depth::Finder, args::Depth::depth);
    // What was read deeper stays so.
    let depth = if memory.store().is_empty() { asked } else { asked.max(memory.depth()) };
    let read = add::read(&mut memory, &files, Some(depth))?;
    if read.interrupted {
        return Err(anyhow!("interrupted while reading {}; the same command goes on", args.memory.display()));
    }
    Ok(folder)
}

fn memory_of(args: &Ask, settings: &Settings) -> Result<PathBuf> {
    let name =
        args.memory.to_str().ok_or_else(|| anyhow!("{} is no name of a memory", args.memory.display()))?;
    Ok(settings.memory(name))
}

/// What stands below an answer.
fn sources(reply: &Reply) -> String {
    let mut text = String::new();
    let sure = 100.0 * reply.confidence;
    match reply.answer.as_ref().map(|answer| answer.finish_reason) {
        Some(FinishReason::Length) => text.push_str(" … (cut here; -n allows more tokens)"),
        Some(FinishReason::Interrupted) => text.push_str(" … (broken off)"),
        Some(FinishReason::Stop) | None => (),
    }
    let _ = match (reply.found, &reply.answer) {
        (true, _) => writeln!(text),
        (false, Some(_)) => {
            writeln!(text, "\nA guess: what was found reaches {sure:.0} % of what it takes to be sure.")
        }
        (false, None) if reply.citations.is_empty() => {
            writeln!(text, "Not found: this memory holds nothing.")
        }
        (false, None) => writeln!(
            text,
            "Not found: nothing in this memory stands out for this question. What comes nearest reaches {sure:.0} % of \
             what it takes to be sure (--guess answers from it):"
        ),
    };
    if !reply.trail.is_empty() {
        let _ = writeln!(text, "By way of {}:", reply.trail.join(", "));
    }
    for (index, citation) in reply.citations.iter().enumerate() {
        let quote = citation.quote.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            text,
            "[{}] {}, bytes {}–{}: “{quote}”",
            index + 1,
            output::document(&citation.document),
            citation.start,
            citation.end
        );
    }
    let coverage = &reply.coverage;
    let _ = writeln!(
        text,
        "{} of {} blocks scored, {}; located in {:.2} s, first token after {:.2} s",
        coverage.blocks_scored,
        coverage.blocks_total,
        match coverage.blocks_attended {
            0 => format!("{} re-read", coverage.blocks_read),
            attended => format!("{attended} attended to"),
        },
        reply.timings.locate_s,
        reply.timings.first_token_s
    );
    text
}

fn to_json(reply: &Reply, depth: Depth) -> Value {
    let citations: Vec<_> = reply
        .citations
        .iter()
        .map(|citation| {
            json!({
                "document": citation.document,
                "start": citation.start,
                "end": citation.end,
                "quote": citation.quote,
                "weight": citation.weight,
            })
        })
        .collect();
    let (coverage, timings) = (&reply.coverage, &reply.timings);
    json!({
        "answer": reply.answer.as_ref().map_or("", |answer| &answer.text),
        "finish_reason": reply.answer.as_ref().map(|answer| answer.finish_reason.name()),
        "found": reply.found,
        "confidence": reply.confidence,
        "citations": citations,
        "trail": reply.trail,
        "depth": depth.to_string(),
        "coverage": {
            "blocks_total": coverage.blocks_total,
            "blocks_scored": coverage.blocks_scored,
            "blocks_read": coverage.blocks_read,
            "blocks_attended": coverage.blocks_attended,
            "unread_mass": coverage.unread_mass,
            // Every block is scored exactly: nothing about the unread ones is an estimate.
            "delta": 0.0,
        },
        "timings": {
            "load_s": timings.load_s,
            "locate_s": timings.locate_s,
            "rerank_s": timings.rerank_s,
            "attend_s": timings.attend_s,
            "reread_s": timings.reread_s,
            "first_token_s": timings.first_token_s,
            "total_s": timings.total_s,
        },
    })
}
