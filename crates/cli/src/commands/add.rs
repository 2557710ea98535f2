//! `longleaf add`
use crate::args::{Add, Depth};
use crate::commands::{interrupt, meaning, pull};
use crate::machine;
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result, anyhow};
use longleaf_engine::kernel::Precision;
use longleaf_engine::memory::Plan;
use longleaf_engine::{Document, Memory, Model};
use std::fs;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::{self, Path, PathBuf};
use std::time::Instant;

pub(crate) fn add(args: &Add, settings: &Settings) -> Result<()> {
    let files = files(&args.files)?;
    let model = open_to_read(&args.model, settings)?;
    let mut memory = Memory::open_or_create(&settings.memory(&args.memory), &model)?;
    memory.set_ram(settings.ram);
    let read = read(&mut memory, &files, args.depth.map(Depth::depth))?;
    let encoder = (args.meaning && !read.interrupted)
        .then(|| meaning::open(&args.encoder.encoder, &model, settings))
        .transpose()?;
    let mut vectors = None;
    if let Some(encoder) = &encoder {
        memory = memory.with_meaning(encoder)?;
        vectors = Some(meaning::read(&mut memory)?);
    }
    let store = memory.store();
    let documents = store.documents().filter(|document| document.finished).count();
    let tokens: u64 = store.documents().map(|document| document.tokens(store)).sum();
    let speed = read.tokens as f64 / read.seconds.max(1e-9);
    if settings.json {
        output::json(&serde_json::json!({
            "memory": memory.path(),
            "depth": memory.depth().to_string(),
            "documents": documents,
            "tokens": tokens,
            "read_tokens": read.tokens,
            "seconds": read.seconds,
            "tokens_per_s": speed,
            "bytes_on_disk": store.usage().disk,
            "peak_rss_bytes": machine::peak_rss(),
            "meaning": vectors.as_ref().map(|vectors| serde_json::json!({
                "read_tokens": vectors.tokens,
                "seconds": vectors.seconds,
            })),
            "plan": read.plan.map(|plan| serde_json::json!({
                "bytes": plan.bytes,
                "tokens": plan.tokens,
                "tokens_per_s": plan.tokens_per_s,
                "seconds": plan.seconds,
                "bytes_on_disk": plan.disk_bytes,
            })),
        }))?;
    } else {
        output::text(&format!(
            "{documents} documents, {tokens} tokens; read {} of them now in {:.1} s ({speed:.0} tokens/s); {} on disk\n",
            read.tokens,
            read.seconds,
            output::megabytes(store.usage().disk),
        ))?;
        if let Some(vectors) = &vectors {
            output::text(&format!("vectors for {} tokens in {:.1} s\n", vectors.tokens, vectors.seconds))?;
        }
    }
    if read.interrupted || vectors.is_some_and(|vectors| vectors.interrupted) {
        return Err(anyhow!("interrupted; the same command goes on from here"));
    }
    Ok(())
}

/// A model for reading: fast, unless something else was asked for. (Finder keys are kept in 8 bits anyway.)
pub(crate) fn open_to_read(name: &str, settings: &Settings) -> Result<Model> {
    let model = pull::open_to_find(name, settings)?;
    Ok(if settings.precision.is_none() { model.with_precision(Precision::Fast) } else { model })
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) tokens: usize,
    pub(crate) seconds: f64,
    pub(crate) interrupted: bool,
    /// What was expected, if it was going to take long.
    pub(crate) plan: Option<Plan>,
}

/// Texts of fewer bytes are read before anyone asks how long it takes.
const LONG: u64 = 1 << 20;
/// Bytes of text that are read to see how fast that goes.
const SAMPLE: usize = 16 << 10;

/// Read files into a memory, with progress, and if a depth is given, bring all of the memory to it. Ctrl-C ends it with
/// what there is.
pub(crate) fn read(
    memory: &mut Memory<'_>,
    files: &[PathBuf],
    depth: Option<longleaf_engine::memory::Depth>,
) -> Result<Read> {
    if let Some(depth) = depth {
        memory.set_depth(depth)?;
    }
    let total: u64 = files.iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum();
    let open = |file: &PathBuf| {
        let name = file.display().to_string();
        let bytes = fs::read(file).with_context(|| name.clone())?;
        match Document::new(document_name(file)?, bytes) {
            Ok(document) => Ok(Some(document)),
            // Among many files some are pictures; one that was named alone is an error.
            Err(_) if files.len() > 1 => {
                output::note(&format!("{name}: not a text, left out"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    };
    let plan = plan(memory, files)?;
    let documents = files.iter().filter_map(|file| open(file).transpose());
    let mut read = Read { plan, ..read_documents(memory, total, documents)? };
    if depth.is_some() && !read.interrupted {
        deepen(memory, &mut read)?;
    }
    Ok(read)
}

/// What a file's text is called in a memory: its whole path, for names of one folder mean other files in another.
pub(crate) fn document_name(file: &Path) -> Result<String> {
    let path = file.canonicalize().or_else(|_| path::absolute(file));
    Ok(path.with_context(|| file.display().to_string())?.display().to_string())
}

/// Say what a long reading is going to take, before it begins.
fn plan(memory: &Memory<'_>, files: &[PathBuf]) -> Result<Option<Plan>> {
    let store = memory.store();
    let mut sample = Vec::new();
    let mut left = 0;
    for file in files {
        let bytes = fs::metadata(file).map_or(0, |metadata| metadata.len());
        let name = document_name(file)?;
        // What is here under this name, whole or in part, is mostly what the file still holds.
        let known = store.documents().filter(|known| known.name == name).map(|known| known.bytes(store));
        let new = bytes.saturating_sub(known.max().unwrap_or(0));
        left += new;
        if new > 0 && sample.is_empty() {
            let file = fs::File::open(file).with_context(|| name)?;
            file.take(SAMPLE as u64).read_to_end(&mut sample)?;
        }
    }
    if left < LONG {
        return Ok(None);
    }
    let plan = memory.plan(left, &String::from_utf8_lossy(&sample));
    announce(memory, &plan);
    Ok(Some(plan))
}

fn announce(memory: &Memory<'_>, plan: &Plan) {
    let free = machine::free_disk(memory.path());
    output::note(&format!(
        "about {} tokens to read: {} at {:.0} tokens/s, {} on disk{}; Ctrl-C is safe, the same command goes on",
        plan.tokens,
        if plan.seconds > 90.0 {
            format!("{:.0} minutes", (plan.seconds / 60.0).ceil())
        } else {
            format!("{:.0} seconds", plan.seconds.ceil())
        },
        plan.tokens_per_s,
        output::megabytes(plan.disk_bytes),
        free.map_or(String::new(), |free| format!(" ({} are free)", output::megabytes(free)))
    ));
    if free.is_some_and(|free| free < plan.disk_bytes) {
        output::note("the disk has not that much room");
    }
}

/// Bring what a memory read less deeply to its depth, with progress.
fn deepen(memory: &mut Memory<'_>, read: &mut Read) -> Result<()> {
    let Some(plan) = memory.plan_deepening()? else { return Ok(()) };
    if plan.bytes >= LONG {
        announce(memory, &plan);
        read.plan = Some(plan);
    }
    let interrupted = interrupt()?;
    let bar = output::bar("deeper: {msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    let start = Instant::now();
    let added = memory.deepen(&mut |reading| {
        bar.set_length(reading.of as u64);
        bar.set_position(reading.bytes as u64);
        let speed = reading.tokens as f64 / start.elapsed().as_secs_f64();
        bar.set_message(format!("{} tokens, {speed:.0}/s", reading.tokens));
        if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bar.finish_and_clear();
    read.tokens += added.tokens;
    read.seconds += start.elapsed().as_secs_f64();
    read.interrupted = added.interrupted;
    Ok(())
}

/// Read documents of `total` bytes, or about that, into a memory, with progress.
pub(crate) fn read_documents(
    memory: &mut Memory<'_>,
    total: u64,
    documents: impl Iterator<Item = Result<Document>>,
) -> Result<Read> {
    let interrupted = interrupt()?;
    let bar = output::bar("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    bar.set_length(total);
    let start = Instant::now();
    let (mut before, mut read) = (0, Read::default());
    for document in documents {
        let document = document?;
        let earlier = read.tokens;
        let added = memory.add(&document, &mut |reading| {
            bar.set_position(before + reading.bytes as u64);
            let tokens = earlier + reading.tokens;
            bar.set_message(format!(
                "{tokens} tokens, {:.0}/s",
                tokens as f64 / start.elapsed().as_secs_f64()
            ));
            if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        before += document.text().len() as u64;
        read.tokens += added.tokens;
        if added.interrupted {
            read.interrupted = true;
            break;
        }
    }
    bar.finish_and_clear();
    read.seconds = start.elapsed().as_secs_f64();
    Ok(read)
}

/// The files of a list of files and folders, in a fixed order.
pub(crate) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    Ok(files)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let what = fs::metadata(path).with_context(|| path.display().to_string())?;
    if !what.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut entries: Vec<_> =
        entries.collect::<Result<_, _>>().with_context(|| path.display().to_string())?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        // Hidden files are not meant, and links could lead in circles.
        let kind = entry.file_type().with_context(|| entry.path().display().to_string())?;
        if !kind.is_symlink() && !entry.file_name().to_string_lossy().starts_with('.') {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}
