//! Measures the lexical index.
//!
//! `cargo run --release -p longleaf-memory --example lexical -- scifact FOLDER`: ranking quality on a folder of
//! `corpus.jsonl`, `queries_test.jsonl` and `qrels_test.tsv` in BEIR's form, each abstract one unit.
//!
//! `… -- scale TOKENS FILE…`: cuts the files' text, over and over with a fresh word in each block, into blocks of 560
//! bytes (about 128 tokens) until there are that many tokens; prints bytes a token, build and query time.
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::time::Instant;

use longleaf_memory::lexical::{Analysis, Builder, Index};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((mode, [folder])) if mode == "scifact" => scifact(folder),
        Some((mode, [tokens, files @ ..])) if mode == "scale" => scale(tokens.parse()?, files),
        _ => Err("usage: lexical scifact FOLDER | scale TOKENS FILE…".into()),
    }
}

/// The text behind `"name": "` in a line of JSON, without its escapes (none of which matters for words).
fn field(line: &str, name: &str) -> Option<String> {
    let start = line.find(&format!("\"{name}\": \""))? + name.len() + 5;
    let mut out = String::new();
    let mut letters = line[start..].chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Some(out),
            '\\' => match letters.next()? {
                'u' => {
                    let code = u32::from_str_radix(&letters.by_ref().take(4).collect::<String>(), 16).ok()?;
                    out.push(char::from_u32(code).unwrap_or(' '));
                }
                'n' | 't' | 'r' => out.push(' '),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}

#[expect(clippy::print_stdout, reason = "this is its output")]
fn scifact(folder: &str) -> Result<(), Box<dyn Error>> {
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}"));
    let corpus = read("corpus.jsonl")?;
    let queries = read("queries_test.jsonl")?;
    let mut relevant = BTreeMap::<String, BTreeSet<String>>::new();
    for line in read("qrels_test.tsv")?.lines().skip(1) {
        let mut columns = line.split('\t');
        if let (Some(query), Some(document), Some(score)) = (columns.next(), columns.next(), columns.next())
            && score.trim() != "0"
        {
            relevant.entry(query.into()).or_default().insert(document.into());
        }
    }
    for stems in [false, true] {
        let (mut builder, mut ids) = (Builder::new(Analysis { stems }), Vec::new());
        for line in corpus.lines() {
            ids.push(field(line, "_id").ok_or("a document has no _id")?);
            let title = field(line, "title").unwrap_or_default();
            builder.add(&format!("{title} {}", field(line, "text").unwrap_or_default()));
        }
        let part = builder.finish();
        let mut index = Index::new();
        index.push(&part)?;
        let (mut ndcg, mut recall, mut count) = (0.0, 0.0, 0.0);
        for line in queries.lines() {
            let id = field(line, "_id").ok_or("a query has no _id")?;
            let Some(wanted) = relevant.get(&id) else { continue };
            let hits = index.search(&field(line, "text").ok_or("a query has no text")?, 100);
            let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
            let found: Vec<bool> = hits.iter().map(|hit| wanted.contains(&ids[hit.unit])).collect();
            let dcg: f64 =
                found.iter().take(10).enumerate().filter(|(_, hit)| **hit).map(|(rank, _)| gain(rank)).sum();
            ndcg += dcg / (0..wanted.len().min(10)).map(gain).sum::<f64>();
            recall += found.iter().filter(|hit| **hit).count() as f64 / wanted.len() as f64;
            count += 1.0;
        }
        println!(
            "stems {stems}: nDCG@10 {:.4}, recall@100 {:.4} over {count} queries, {} bytes",
            ndcg / count,
            recall / count,
            part.len()
        );
    }
    Ok(())
}

/// Seconds this thread has run on a core, where the system says so: others on the machine do not count.
fn now(start: Instant) -> f64 {
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let running = schedule.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
    running.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

const BLOCK_BYTES: usize = 560;
/// Blocks in one part: a section of 16,384 tokens.
const SECTION: usize = 128;

#[expect(clippy::print_stdout, reason = "this is its output")]
fn scale(tokens: usize, files: &[String]) -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    for file in files {
        text.push_str(&fs::read_to_string(file)?);
    }
    let mut sections = Vec::new();
    let (mut at, mut block) = (0, 0);
    while block < tokens / 128 {
        let (mut section, mut starts) = (String::new(), Vec::new());
        for _ in 0..SECTION {
            starts.push(section.len());
            let end = text.ceil_char_boundary(at + BLOCK_BYTES);
            // When the text comes round again, a word in each block makes it another one.
            section.extend([" z", &block.to_string(), " "]);
            section.push_str(&text[at..end]);
            at = if end + BLOCK_BYTES >= text.len() { 0 } else { end };
            block += 1;
        }
        sections.push((section, starts));
    }
    let bytes: usize = sections.iter().map(|(section, _)| section.len()).sum();
    let clock = Instant::now();
    let start = now(clock);
    let mut parts = Vec::new();
    for (section, starts) in &sections {
        let mut builder = Builder::new(Analysis::default());
        builder.add_blocks(section.as_bytes(), starts);
        parts.push(builder.finish());
    }
    let build = now(clock) - start;
    let size: usize = parts.iter().map(Vec::len).sum();
    let (tokens, million) = ((block * 128) as f64, 1e6);
    println!(
        "{block} blocks in {} parts: {:.2} bytes a token; built in {build:.2} s, {:.1} M tokens/s, {:.1} MB of text/s",
        parts.len(),
        size as f64 / tokens,
        tokens / build / million,
        bytes as f64 / build / million
    );
    let start = now(clock);
    let mut index = Index::new();
    for part in &parts {
        index.push(part)?;
    }
    println!("loaded in {:.3} s, {:.1} MB in memory", now(clock) - start, index.bytes() as f64 / million);
    for query in [
        "What is the name of the dog that belonged to the old captain of the ship?",
        "Who did the lady meet in the garden in the evening before the day of the wedding and what was it that he said to her?",
        "z4711",
        "the number 1,250 of the house",
    ] {
        let mut times: Vec<f64> = (0..7)
            .map(|_| {
                let start = now(clock);
                assert!(!index.search(query, 32).is_empty());
                (now(clock) - start) * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{:.2} ms (median of 7): {query}", times[3]);
    }
    Ok(())
}
