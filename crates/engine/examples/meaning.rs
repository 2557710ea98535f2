//! Measures finding by meaning. ENCODER is a folder of a sentence encoder.
//!
//! `cargo run --release -p longleaf-engine --example meaning -- latent ENCODER TOKENS,TOKENS FILE…`: latent facts (see
//! `needle`) hidden in the files' first 530 kB, about 128,000 tokens; how often the block of 560 bytes that holds the
//! fact is among the first 1, 8 and 32, by words and by the vectors of windows of so many tokens.
//!
//! `… -- scifact ENCODER FOLDER`: ranking quality on a folder of `corpus.jsonl`, `queries_test.jsonl` and
//! `qrels_test.tsv` in BEIR's form, by words, by vectors and by both, for several ways to join them.
//!
//! `… -- match ENCODER FILE`: how far vectors are from those in a file of JSON lines with "text" and "vector", as stored
//! and in bytes.
//!
//! `… -- speed ENCODER FILE`: tokens a second, and the largest difference that 8 bits make.
use longleaf_engine::embedder::cosine;
use longleaf_engine::kernel::Compute;
use longleaf_engine::needle::{self, Kind};
use longleaf_engine::passages::{By, Passages};
use longleaf_engine::{Document, Embedder};
use longleaf_memory::lexical::{Analysis, Builder, Index};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Words' and vectors' scores of all passages to one of each.
type Join<'a> = &'a dyn Fn(&[f32], &[f32]) -> Vec<f32>;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, encoder, rest @ ..] = arguments.as_slice() else {
        return Err("usage: meaning latent|scifact|match|speed ENCODER …".into());
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let compute = Arc::new(Compute::new(threads));
    let embedder = Embedder::open(Path::new(encoder), &compute)?;
    match (mode.as_str(), rest) {
        ("latent", [tokens, files @ ..]) => latent(&embedder, tokens, files),
        ("scifact", [folder]) => scifact(&embedder, folder),
        ("match", [file]) => matches(&embedder, &Embedder::open_exact(Path::new(encoder), &compute)?, file),
        ("speed", [file]) => speed(&embedder, &Embedder::open_exact(Path::new(encoder), &compute)?, file),
        _ => Err("usage: meaning latent|scifact|match|speed ENCODER …".into()),
    }
}

const BLOCK: usize = 560;

#[expect(clippy::print_stdout, reason = "this is its output")]
fn latent(embedder: &Embedder, tokens: &str, files: &[String]) -> Result<()> {
    let mut haystack = String::new();
    for file in files {
        haystack.push_str(Document::new("", fs::read(file)?)?.text());
    }
    haystack.truncate(haystack.floor_char_boundary(530_000));
    let facts = needle::facts(Kind::Latent, needle::most(Kind::Latent), 0);
    let (text, places) = needle::hide(&haystack, &facts);
    let blocks = text.len().div_ceil(BLOCK);
    println!("{} facts, {} bytes, {blocks} blocks", facts.len(), text.len());
    let report = |name: &str, scores: &mut dyn FnMut(&str) -> Vec<f32>| {
        let mut recalled = [0; 3];
        for (fact, place) in facts.iter().zip(&places) {
            let scores = scores(&fact.question);
            let mut order: Vec<usize> = (0..blocks).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
            let holds = |block: &usize| block * BLOCK < place.end && place.start < (block + 1) * BLOCK;
            let rank = order.iter().position(holds).unwrap_or(blocks);
            for (depth, recalled) in [1, 8, 32].into_iter().zip(&mut recalled) {
                *recalled += usize::from(rank < depth);
            }
        }
        let share = recalled.map(|n| n as f64 / facts.len() as f64);
        println!("{name}: recall@1 {:.2} @8 {:.2} @32 {:.2}", share[0], share[1], share[2]);
    };
    let mut builder = Builder::new(Analysis::default());
    let starts: Vec<usize> = (0..blocks).map(|block| block * BLOCK).collect();
    builder.add_blocks(text.as_bytes(), &starts);
    let part = builder.finish();
    let mut index = Index::new();
    index.push(&part)?;
    report("words", &mut |question| {
        let mut scores = vec![0.0; blocks];
        for hit in index.search(question, blocks) {
            scores[hit.unit] = hit.score;
        }
        scores
    });
    for tokens in tokens.split(',') {
        let windows = embedder.windows(&text, tokens.parse()?);
        let vectors = embedder.vectors(&windows, &mut |_| ());
        report(&format!("windows of {tokens} ({} of them)", windows.len()), &mut |question| {
            let asked = embedder.embed(question);
            let mut scores = vec![f32::NEG_INFINITY; blocks];
            for (window, vector) in windows.iter().zip(vectors.chunks_exact(embedder.width())) {
                let block = usize::midpoint(window.start, window.end) / BLOCK;
                scores[block] = scores[block].max(cosine(&asked, vector));
            }
            scores
        });
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is its output")]
fn scifact(embedder: &Embedder, folder: &str) -> Result<()> {
    let lines = |name: &str| -> Result<Vec<Value>> {
        let text = fs::read_to_string(format!("{folder}/{name}"))?;
        Ok(text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?)
    };
    let field = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let (mut relevant, qrels) = (BTreeMap::<String, BTreeSet<String>>::new(), "qrels_test.tsv");
    for line in fs::read_to_string(format!("{folder}/{qrels}"))?.lines().skip(1) {
        let mut columns = line.split('\t');
        if let (Some(query), Some(document), Some(score)) = (columns.next(), columns.next(), columns.next())
            && score.trim() != "0"
        {
            relevant.entry(query.into()).or_default().insert(document.into());
        }
    }
    let corpus = lines("corpus.jsonl")?;
    let ids: Vec<String> = corpus.iter().map(|line| field(line, "_id")).collect();
    let texts: Vec<String> =
        corpus.iter().map(|line| format!("{} {}", field(line, "title"), field(line, "text"))).collect();
    let start = Instant::now();
    let passages = Passages::new(texts.iter().map(String::as_str), embedder, &mut |_| ());
    println!("{} passages taken in in {:.1} s", passages.len(), start.elapsed().as_secs_f64());
    let queries: Vec<(Vec<f32>, Vec<f32>, BTreeSet<String>)> = lines("queries_test.jsonl")?
        .iter()
        .filter_map(|line| Some((field(line, "text"), relevant.get(&field(line, "_id"))?.clone())))
        .map(|(text, wanted)| {
            (passages.scores(&text, By::Words), passages.scores(&text, By::Meaning), wanted)
        })
        .collect();
    let report = |name: &str, score: Join<'_>| {
        let (mut ndcg, mut recall) = (0.0, 0.0);
        for (words, meaning, wanted) in &queries {
            let scores = score(words, meaning);
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
            let found: Vec<bool> = order[..100].iter().map(|at| wanted.contains(&ids[*at])).collect();
            let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
            let got: f64 = (0..10).filter(|rank| found[*rank]).map(gain).sum();
            ndcg += got / (0..wanted.len().min(10)).map(gain).sum::<f64>();
            recall += found.iter().filter(|found| **found).count() as f64 / wanted.len() as f64;
        }
        let n = queries.len() as f64;
        println!("{name}: nDCG@10 {:.4}, recall@100 {:.4}", ndcg / n, recall / n);
    };
    report("words", &|words, _| words.to_vec());
    report("meaning", &|_, meaning| meaning.to_vec());
    for k in [1.0, 10.0, 60.0] {
        report(&format!("reciprocal ranks, k = {k}"), &|words, meaning| {
            let ranks = |scores: &[f32]| {
                let mut order: Vec<usize> = (0..scores.len()).collect();
                order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
                let mut shares = vec![0.0; scores.len()];
                order.iter().enumerate().for_each(|(rank, at)| shares[*at] = 1.0 / (k + rank as f32 + 1.0));
                shares
            };
            ranks(words).iter().zip(ranks(meaning)).map(|(a, b)| a + b).collect()
        });
    }
    for share in [0.2_f32, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] {
        report(
            &format!("{share} words + {:.1} meaning, each from 0 to 1", 1.0 - share),
            &|words, meaning| {
                let spread = |scores: &[f32]| {
                    let least = scores.iter().copied().fold(f32::INFINITY, f32::min);
                    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    scores.iter().map(|x| (x - least) / (most - least).max(1e-9)).collect::<Vec<_>>()
                };
                spread(words)
                    .iter()
                    .zip(spread(meaning))
                    .map(|(w, m)| share * w + (1.0 - share) * m)
                    .collect()
            },
        );
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is its output")]
fn matches(fast: &Embedder, exact: &Embedder, file: &str) -> Result<()> {
    for line in fs::read_to_string(file)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let text = line["text"].as_str().unwrap_or_default();
        let expected: Vec<f32> = serde_json::from_value(line["vector"].clone())?;
        let (found, rounded) = (exact.embed(text), fast.embed(text));
        let far = found.iter().zip(&expected).fold(0_f32, |most, (a, b)| most.max((a - b).abs()));
        println!("as stored {far:.1e}, in bytes: cosine {:.5}: {text}", cosine(&rounded, &expected));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is its output")]
fn speed(fast: &Embedder, exact: &Embedder, file: &str) -> Result<()> {
    let text = fs::read_to_string(file)?;
    for tokens in [32, 64, 128, 254] {
        let mut windows = fast.windows(&text, tokens);
        windows.truncate(16_384 / tokens);
        let count: usize = windows.iter().map(|window| window.tokens.len()).sum();
        let mut seconds = [f64::INFINITY; 2];
        let mut vectors = [Vec::new(), Vec::new()];
        for (embedder, (seconds, vectors)) in
            [fast, exact].into_iter().zip(seconds.iter_mut().zip(&mut vectors))
        {
            for _ in 0..3 {
                let start = Instant::now();
                *vectors = embedder.vectors(&windows, &mut |_| ());
                *seconds = seconds.min(start.elapsed().as_secs_f64());
            }
        }
        let [a, b] = &vectors;
        let width = fast.width();
        let least = a.chunks(width).zip(b.chunks(width)).map(|(a, b)| cosine(a, b)).fold(1.0, f32::min);
        println!(
            "windows of {tokens}: {:.0} tokens/s in bytes, {:.0} exact; least cosine of the two {least:.5}",
            count as f64 / seconds[0],
            count as f64 / seconds[1]
        );
    }
    Ok(())
}
