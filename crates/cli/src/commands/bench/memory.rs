//! `longleaf bench memory`: what it costs to read a long text, and to ask it.
use super::median;
use crate::args::BenchMemory;
use crate::commands::{add, pull};
use crate::machine;
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use longleaf_engine::kernel::Precision;
use longleaf_engine::memory::{Asking, Reply};
use longleaf_engine::needle::{Fact, Kind, facts};
use longleaf_engine::store::ContentHash;
use longleaf_engine::{Document, Memory, Model, Request, Special, Visible, speed};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A length on one method.
#[derive(Debug, Serialize)]
struct Row {
    model: String,
    phase: &'static str,
    /// `longleaf`, or `dense`: all of the text as one prompt.
    method: &'static str,
    /// How deep the text was read.
    depth: String,
    memory_tokens: u64,
    threads: usize,
    ram_bytes: usize,
    read_tokens_per_s: Option<f64>,
    read_last_tenth_tokens_per_s: Option<f64>,
    /// Cost of a token in the last tenth, in costs of a token at the shortest length.
    cost_ratio: Option<f64>,
    /// The most that reading held in RAM, weights included.
    read_peak_rss_bytes: Option<u64>,
    ask_peak_rss_bytes: Option<u64>,
    bytes_on_disk: Option<u64>,
    cold: Option<Latency>,
    warm: Latency,
    decode_tokens_per_s: f64,
}

/// Seconds from the question on.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "they are JSON names, which carry their unit")]
struct Latency {
    /// Opening the model.
    model_s: f64,
    /// Opening the memory, and loading what is searched.
    load_s: f64,
    locate_s: f64,
    rerank_s: f64,
    reread_s: f64,
    /// All of it.
    first_token_s: f64,
}

/// What is kept of reading, so that a measurement that was interrupted goes on: for each tenth of the text, the
/// tokens that were read while the clock ran, and its seconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Clock {
    tokens: [usize; 10],
    seconds: [f64; 10],
    peak_rss_bytes: Option<u64>,
}

impl Clock {
    fn speed(&self, tenths: std::ops::Range<usize>) -> Option<f64> {
        let tokens: usize = self.tokens[tenths.clone()].iter().sum();
        (tokens > 0).then(|| tokens as f64 / self.seconds[tenths].iter().sum::<f64>())
    }
}

/// A text to be read: whole documents, the last one cut off.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    /// Bytes of its text.
    bytes: usize,
}

pub(crate) fn memory(args: &BenchMemory, settings: &Settings) -> Result<()> {
    let mut table = Table { json: settings.json, begun: false };
    // Gone before anything is measured: peaks are those of one model.
    let (name, texts) = {
        let model = pull::open(&args.model, settings)?;
        let longest = args.memory_tokens.iter().copied().max().unwrap_or(0);
        let files = if args.file.is_empty() { Vec::new() } else { add::files(&args.file)? };
        let documents = count(&files, &model, longest)?;
        let texts: Vec<_> = args
            .memory_tokens
            .iter()
            .map(|&tokens| cut(&documents, &model, tokens))
            .collect::<Result<_>>()?;
        let mut bench = speed::Bench::new(&model, Visible::All, 4096 + args.decode, 0);
        bench.prefill_s(4096, &mut |_| ());
        let decode = args.decode as f64 / bench.decode_s(args.decode, &mut |_| ());
        table.note(&format!("decode at a depth of 4,096 tokens: {decode:.1} tokens/s"))?;
        (model.name(), texts)
    };
    let mut shortest: Option<f64> = None;
    for (&tokens, parts) in args.memory_tokens.iter().zip(&texts) {
        let fact = facts(Kind::Number, 1, args.seed).remove(0);
        let (folder, clock) = read(args, settings, parts, (tokens, &fact))?;
        let first = clock.speed(0..10);
        let last = clock.speed(9..10);
        shortest = shortest.or(first);
        let asked = ask(args, settings, &folder, &fact.question)?;
        table.print(&Row {
            model: name.clone(),
            phase: "memory",
            method: "longleaf",
            depth: asked.depth,
            memory_tokens: asked.tokens,
            threads: settings.threads,
            ram_bytes: settings.ram,
            read_tokens_per_s: first,
            read_last_tenth_tokens_per_s: last,
            cost_ratio: shortest.zip(last).map(|(shortest, last)| shortest / last),
            read_peak_rss_bytes: clock.peak_rss_bytes,
            ask_peak_rss_bytes: asked.peak_rss,
            bytes_on_disk: Some(asked.disk),
            cold: Some(asked.cold),
            warm: asked.warm,
            decode_tokens_per_s: asked.decode,
        })?;
        if tokens <= args.dense {
            table.print(&dense(args, settings, tokens)?)?;
        }
    }
    for memory in &args.memory {
        let question = args.question.clone().unwrap_or_else(|| "Who carried the silver compass?".to_owned());
        let asked = ask(args, settings, &settings.memory(memory), &question)?;
        table.print(&Row {
            model: name.clone(),
            phase: "memory",
            method: "longleaf",
            depth: asked.depth,
            memory_tokens: asked.tokens,
            threads: settings.threads,
            ram_bytes: settings.ram,
            read_tokens_per_s: None,
            read_last_tenth_tokens_per_s: None,
            cost_ratio: None,
            read_peak_rss_bytes: None,
            ask_peak_rss_bytes: asked.peak_rss,
            bytes_on_disk: Some(asked.disk),
            cold: Some(asked.cold),
            warm: asked.warm,
            decode_tokens_per_s: asked.decode,
        })?;
    }
    Ok(())
}

/// The documents that the longest text needs, with their tokens.
fn count(files: &[PathBuf], model: &Model, longest: usize) -> Result<Vec<(PathBuf, usize)>> {
    let bar = output::bar("counting tokens {wide_bar} {human_pos}/{human_len} {eta}");
    bar.set_length(longest as u64);
    let (mut counted, mut tokens) = (Vec::new(), 0);
    for path in files {
        if tokens >= longest {
            break;
        }
        let document = document(path)?;
        let here = model.tokenizer().encode(document.text(), Special::Text).len();
        tokens += here;
        counted.push((path.clone(), here));
        bar.set_position(tokens as u64);
    }
    bar.finish_and_clear();
    if tokens < longest {
        bail!("the files hold {tokens} tokens, {longest} were asked for; give more files");
    }
    Ok(counted)
}

fn document(path: &Path) -> Result<Document> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(Document::new(path.display().to_string(), bytes)?)
}

/// As much of the documents as `tokens` are.
fn cut(documents: &[(PathBuf, usize)], model: &Model, tokens: usize) -> Result<Vec<Part>> {
    let mut left = tokens;
    let mut parts = Vec::new();
    for (path, here) in documents {
        if left == 0 {
            break;
        }
        let text = document(path)?;
        let mut bytes = text.text().len();
        if *here > left {
            let encoding = model.tokenizer().encode_with_offsets(text.text(), Special::Text);
            bytes = text.text().ceil_char_boundary(encoding.spans[left - 1].end);
        }
        parts.push(Part { path: path.clone(), bytes });
        left = left.saturating_sub(*here);
    }
    Ok(parts)
}

/// Read a text into a memory of its own, or what is missing of it, by the clock.
fn read(
    args: &BenchMemory,
    settings: &Settings,
    parts: &[Part],
    (tokens, fact): (usize, &Fact),
) -> Result<(PathBuf, Clock)> {
    let names: Vec<String> =
        parts.iter().map(|part| format!("{}:{}", part.path.display(), part.bytes)).collect();
    let key = ContentHash::of_parts(&[names.join("\n").as_bytes(), args.model.as_bytes()]);
    let name = format!("{tokens}-{:?}-{}", args.depth.depth(), key.hex(6)).to_lowercase();
    let folder = settings.home.join("bench").join(name);
    let kept = folder.with_extension("clock.json");
    let mut clock: Clock =
        fs::read(&kept).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    machine::reset_peak_rss();
    // A model of its own, as `add` has one: the peak is that of reading alone.
    let model = add::open_to_read(&args.model, settings)?;
    let mut memory = Memory::open_or_create(&folder, &model)?;
    memory.set_ram(settings.ram);
    memory.set_depth(args.depth.depth())?;
    let total: usize = parts.iter().map(|part| part.bytes).sum();
    let mut before = 0;
    let interrupted = crate::commands::interrupt()?;
    let bar = output::bar("reading {wide_bar} {bytes}/{total_bytes} {eta}");
    bar.set_length(total as u64);
    let mut documents = vec![Document::new("a hidden fact", fact.text.clone().into_bytes())?];
    let mut parts = parts.iter();
    while let Some(document) = documents.pop() {
        let mut read = 0;
        let mut latest = Instant::now();
        let added = memory.add(&document, &mut |reading| {
            let done = before + reading.bytes;
            let tenth = (done * 10 / total.max(1)).min(9);
            clock.tokens[tenth] += reading.tokens - read;
            clock.seconds[tenth] += latest.elapsed().as_secs_f64();
            (read, latest) = (reading.tokens, Instant::now());
            bar.set_position(done as u64);
            if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        // Ending a document takes time too: its last words, the last checkpoint.
        let tenth = ((before + document.text().len()) * 10 / total.max(1)).min(9);
        if added.tokens > 0 {
            clock.seconds[tenth] += latest.elapsed().as_secs_f64();
        }
        before += document.text().len();
        clock.peak_rss_bytes = clock.peak_rss_bytes.max(machine::peak_rss());
        fs::write(&kept, serde_json::to_vec(&clock)?).with_context(|| kept.display().to_string())?;
        if added.interrupted {
            bail!("interrupted; the same command goes on from here");
        }
        if let Some(part) = parts.next() {
            let bytes = fs::read(&part.path).with_context(|| part.path.display().to_string())?;
            let whole = Document::new(part.path.display().to_string(), bytes)?;
            let text = whole.text().as_bytes()[..part.bytes].to_vec();
            documents.push(Document::new(part.path.display().to_string(), text)?);
        }
    }
    bar.finish_and_clear();
    Ok((folder, clock))
}

/// What asking cost.
struct Asked {
    tokens: u64,
    depth: String,
    disk: u64,
    cold: Latency,
    warm: Latency,
    decode: f64,
    peak_rss: Option<u64>,
}

/// Ask a memory, at first with nothing of it and of the model in the page cache, then some more times.
fn ask(args: &BenchMemory, settings: &Settings, folder: &Path, question: &str) -> Result<Asked> {
    let request = Request { max_tokens: Some(args.decode), ignore_end: true, ..Request::default() };
    let asking = Asking { request, attend: args.attend, ..Asking::default() };
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())?.flatten() {
        machine::drop_cache(&entry.path());
    }
    let model = pull::open(&args.model, settings)?;
    machine::drop_cache(model.path());
    drop(model);
    machine::reset_peak_rss();
    let start = Instant::now();
    let model =
        pull::open(&args.model, settings)?.with_precision(settings.precision.unwrap_or(Precision::Exact));
    let model_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut memory = Memory::read_only(folder, &model)?;
    memory.set_ram(settings.ram);
    let open_s = start.elapsed().as_secs_f64();
    let mut ask = || memory.ask(question, &asking, &mut |_| (), &mut |_| ControlFlow::Continue(()));
    let mut cold = latency(&ask()?);
    cold.model_s = model_s;
    cold.load_s += open_s;
    cold.first_token_s += model_s + open_s;
    let (mut runs, mut speeds) = (Vec::new(), Vec::new());
    for _ in 0..args.repeat.get() {
        let reply = ask()?;
        runs.push(latency(&reply));
        if let Some(answer) = &reply.answer {
            speeds.push(answer.completion_tokens.saturating_sub(1) as f64 / answer.decode_s.max(1e-9));
        }
    }
    let middle = |of: fn(&Latency) -> f64| median(&runs.iter().map(of).collect::<Vec<_>>());
    let warm = Latency {
        model_s: 0.0,
        load_s: middle(|run| run.load_s),
        locate_s: middle(|run| run.locate_s),
        rerank_s: middle(|run| run.rerank_s),
        reread_s: middle(|run| run.reread_s),
        first_token_s: middle(|run| run.first_token_s),
    };
    let decode = if speeds.is_empty() { 0.0 } else { median(&speeds) };
    let peak_rss = machine::peak_rss();
    let store = memory.store();
    let tokens = store.documents().map(|document| document.tokens(store)).sum();
    let depth = memory.depth().to_string();
    Ok(Asked { tokens, depth, disk: store.usage().disk, cold, warm, decode, peak_rss })
}

fn latency(reply: &Reply) -> Latency {
    let timings = &reply.timings;
    Latency {
        model_s: 0.0,
        load_s: timings.load_s,
        locate_s: timings.locate_s,
        rerank_s: timings.rerank_s,
        reread_s: timings.reread_s,
        // Without an answer, what a user waits for is to hear that there is none.
        first_token_s: if reply.answer.is_some() { timings.first_token_s } else { timings.total_s },
    }
}

/// The same number of tokens as one prompt.
fn dense(args: &BenchMemory, settings: &Settings, tokens: usize) -> Result<Row> {
    machine::reset_peak_rss();
    let model = pull::open(&args.model, settings)?;
    let bar = output::bar("dense attention {wide_bar} {human_pos}/{human_len} tokens {eta}");
    bar.set_length(tokens as u64);
    let mut bench = speed::Bench::new(&model, Visible::All, tokens + args.decode, args.seed);
    let seconds = bench.prefill_s(tokens, &mut |done| bar.set_position(done as u64));
    let decode = args.decode as f64 / bench.decode_s(args.decode, &mut |_| ());
    bar.finish_and_clear();
    let first_token = Latency { reread_s: seconds, first_token_s: seconds, ..Latency::default() };
    Ok(Row {
        model: model.name(),
        phase: "memory",
        method: "dense",
        depth: "full".to_owned(),
        memory_tokens: tokens as u64,
        threads: settings.threads,
        ram_bytes: settings.ram,
        read_tokens_per_s: Some(tokens as f64 / seconds),
        read_last_tenth_tokens_per_s: None,
        cost_ratio: None,
        read_peak_rss_bytes: machine::peak_rss(),
        ask_peak_rss_bytes: None,
        bytes_on_disk: None,
        cold: None,
        warm: first_token,
        decode_tokens_per_s: decode,
    })
}

/// Rows as they come: JSON lines, or a table as README has it.
#[derive(Debug)]
struct Table {
    json: bool,
    begun: bool,
}

impl Table {
    fn note(&self, text: &str) -> Result<()> {
        if self.json { Ok(()) } else { output::text(&format!("{text}\n\n")) }
    }

    fn print(&mut self, row: &Row) -> Result<()> {
        if self.json {
            return output::json(row);
        }
        let mut out = String::new();
        if !self.begun {
            self.begun = true;
            out.push_str(
                "| tokens | method | read tok/s | last tenth | cost | peak MB | disk MB | cold first token s \
                 | warm: locate s | first token s | decode tok/s |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
            );
        }
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let megabytes = |bytes: Option<u64>| number(bytes.map(|bytes| bytes as f64 / 1e6), 0);
        let peak = row.read_peak_rss_bytes.max(row.ask_peak_rss_bytes);
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {:.3} | {:.2} | {:.1} |",
            row.memory_tokens,
            row.method,
            number(row.read_tokens_per_s, 0),
            number(row.read_last_tenth_tokens_per_s, 0),
            number(row.cost_ratio, 2),
            megabytes(peak),
            megabytes(row.bytes_on_disk),
            number(row.cold.map(|cold| cold.first_token_s), 2),
            row.warm.locate_s,
            row.warm.first_token_s,
            row.decode_tokens_per_s,
        )?;
        output::text(&out)
    }
}
