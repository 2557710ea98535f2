//! Adaptive attention looked into: which rule finds the blocks that matter, whether bounds hold, and where far blocks
//! should stand.
//!
//! ```text
//! cargo run --release -p longleaf-engine --example adaptive -- recall    MODEL FILE TOKENS
//! cargo run --release -p longleaf-engine --example adaptive -- bound     MODEL FILE TOKENS
//! cargo run --release -p longleaf-engine --example adaptive -- positions MODEL FILE TOKENS WINDOWS
//! cargo run --release -p longleaf-engine --example adaptive -- budgets   MODEL FILE TOKENS
//! ```
mod bound;
mod recall;

use longleaf_engine::adaptive::{Budget, Positions, Settings};
use longleaf_engine::kernel::Compute;
use longleaf_engine::scoring::{Score, score_watched};
use longleaf_engine::{Attending, Model, Special, TokenId, Visible};
use longleaf_model::{Attention, Qkv, Rotation};
use std::error::Error;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

type Done<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: adaptive recall|bound|positions|budgets MODEL FILE TOKENS [WINDOWS]";
    let [task, model, file, tokens, rest @ ..] = &arguments[..] else { return Err(usage.into()) };
    let threads = std::thread::available_parallelism()?.get();
    let model = Model::open(Path::new(model), &Arc::new(Compute::new(threads)))?;
    let count: usize = tokens.parse()?;
    let text = std::fs::read_to_string(file)?.replace("\r\n", "\n");
    let text: String = text.chars().take(25 * count).collect();
    let mut tokens = model.tokenizer().encode(&text, Special::Text);
    tokens.truncate(count);
    match task.as_str() {
        "recall" => recall::recall(&model, &tokens),
        "bound" => bound::bound(&model, &tokens),
        "budgets" => budgets(&model, &tokens),
        "positions" => positions(&model, &tokens, rest.first().map_or("4096", String::as_str).parse()?),
        _ => Err(usage.into()),
    }
}

/// Attention that keeps what passes through some layers.
#[derive(Debug)]
struct Watched<A> {
    inner: A,
    /// For each layer that is watched, `[tokens, heads, head_dim]`, not rotated.
    queries: Vec<Vec<f32>>,
    /// `[tokens, kv_heads, head_dim]`, not rotated, with their bias.
    keys: Vec<Vec<f32>>,
    every: usize,
}

impl<A> Watched<A> {
    fn new(inner: A, layers: usize, every: usize) -> Self {
        let none = || vec![Vec::new(); layers.div_ceil(every)];
        Self { inner, queries: none(), keys: none(), every }
    }
}

impl<A: Attention> Attention for Watched<A> {
    type Error = A::Error;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), A::Error> {
        if layer.is_multiple_of(self.every) {
            let index = layer / self.every;
            self.queries[index].extend_from_slice(qkv.queries);
            let bias = qkv.key_bias.unwrap_or(&[0.0]).iter().cycle();
            self.keys[index].extend(qkv.keys.iter().zip(bias).map(|(key, bias)| key + bias));
        }
        self.inner.attend(layer, positions, qkv, out)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `ln Σ e^x`.
fn log_sum(logs: impl Iterator<Item = f32> + Clone) -> f32 {
    let max = logs.clone().fold(f32::NEG_INFINITY, f32::max);
    max + logs.map(|log| (log - max).exp()).sum::<f32>().ln()
}

/// Rows of `row` numbers, rotated to positions of which the first is `first`, those after it `step` further each.
fn rotated(model: &Model, rows: &[f32], row: usize, first: i64, step: i64) -> Vec<f32> {
    let config = model.config();
    let mut rotation = Rotation::new(&config.rope, 0);
    let mut rows = rows.to_vec();
    for (index, row) in (0..).zip(rows.chunks_exact_mut(row)) {
        let position = first + step * index;
        let (cos, sin) = rotation.at(position..position + 1);
        model.decoder().compute().kernels().rope(row, config.head_dim, cos, sin);
    }
    rows
}

/// R2: perplexity with far blocks in their places, re-indexed, and all at one distance.
fn positions(model: &Model, tokens: &[TokenId], window: usize) -> Done {
    let adaptive = |positions, blocks| -> Attending {
        Settings { positions, budget: Budget::Blocks(blocks), sample: 0, ..Settings::default() }.into()
    };
    let mut rows: Vec<(String, Attending)> = vec![
        ("dense".to_owned(), Visible::All.into()),
        ("sinks and window".to_owned(), Visible::Local { sinks: 64, window: 1024 }.into()),
    ];
    for blocks in [8, 16, 32] {
        for (name, positions) in [
            ("in place", Positions::Fitting),
            ("contiguous", Positions::Contiguous),
            ("at 1", Positions::Level(1)),
            ("at 1024", Positions::Level(1024)),
        ] {
            rows.push((format!("{blocks} blocks {name}"), adaptive(positions, blocks)));
        }
    }
    for (name, attending) in rows {
        if matches!(attending, Attending::Dense(_)) && window > model.config().window {
            continue;
        }
        let mut sum = Score::default();
        for piece in tokens.chunks(window) {
            sum = sum.plus(score_watched(model, piece, window / 2, attending, &mut |_, _| ())?.0);
        }
        let (low, high) = sum.perplexity_interval();
        let perplexity = sum.perplexity();
        writeln!(io::stdout(), "{name:>24}: {perplexity:.4} ({low:.3} to {high:.3}), n = {}", sum.tokens)?;
    }
    Ok(())
}

/// Perplexity of the second half of `tokens` beside the blocks that were read for it, with a small window, so that there
/// is much to choose from.
fn budgets(model: &Model, tokens: &[TokenId]) -> Done {
    let adaptive =
        |budget| -> Attending { Settings { window: 4, sample: 0, budget, ..Settings::default() }.into() };
    let mut rows: Vec<(String, Attending)> = vec![("dense".to_owned(), Visible::All.into())];
    rows.extend([0, 4, 8, 12].map(|n| (format!("{n} blocks"), adaptive(Budget::Blocks(n)))));
    let shares = [0.4, 0.3, 0.2, 0.1, 0.05];
    rows.extend(shares.map(|share| (format!("all but {share}"), adaptive(Budget::Mass(share)))));
    for (name, attending) in rows {
        let (score, choices) = score_watched(model, tokens, tokens.len() / 2, attending, &mut |_, _| ())?;
        let read = choices.map_or(0.0, |choices| choices.mean_read());
        let perplexity = score.perplexity();
        writeln!(io::stdout(), "{name:>12}: {perplexity:.4}, {read:.2} blocks read, n = {}", score.tokens)?;
    }
    Ok(())
}
