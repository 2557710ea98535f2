//! `longleaf bench`
mod memory;

use crate::args::{Bench, BenchWhat};
use crate::commands::pull;
use crate::machine;
use crate::output;
use crate::settings::Settings;
use anyhow::Result;
use indicatif::ProgressBar;
use longleaf_engine::kernel::ceilings;
use longleaf_engine::{Model, speed};
use serde::Serialize;
use std::fmt::Write;

#[derive(Debug, Serialize)]
struct Row {
    model: String,
    phase: &'static str,
    tokens: usize,
    depth: usize,
    attention: &'static str,
    threads: usize,
    tokens_per_s: f64,
    peak_rss_bytes: Option<u64>,
    ceiling_share: f64,
    kernels: &'static str,
    /// Tokens a second of each run, in the order they were made.
    runs: Vec<f64>,
}

pub(crate) fn bench(args: &Bench, settings: &Settings) -> Result<()> {
    if let Some(BenchWhat::Memory(args)) = &args.what {
        return memory::memory(args, settings);
    }
    let bar = output::bar("{msg} {wide_bar} {human_pos}/{human_len} tokens {per_sec} {eta}");
    bar.set_message("measuring the machine");
    let compute = settings.compute();
    let ceilings = ceilings(&compute);
    drop(compute);
    machine::reset_peak_rss();
    let model = pull::open(&args.model.model, settings)?;
    let attending = args.model.attending();
    let visible = attending.visible(model.config());
    let row = |phase, tokens, depth, runs: Vec<f64>, work: f64, ceiling: f64| Row {
        model: model.name(),
        phase,
        tokens,
        depth,
        attention: args.model.attention.name(),
        threads: settings.threads,
        tokens_per_s: median(&runs),
        peak_rss_bytes: machine::peak_rss(),
        ceiling_share: work / tokens as f64 * median(&runs) / ceiling,
        kernels: settings.kernels.name(),
        runs,
    };
    let mut table = Table { json: settings.json, begun: false };
    for tokens in args.prefill.iter().map(|tokens| tokens.get()) {
        let mut bench = speed::Bench::new(&model, attending, tokens, args.seed);
        bench.prefill_s(tokens.min(512), &mut |_| {});
        let runs = (0..args.repeat.get())
            .map(|_| {
                start(&bar, "prefill", tokens);
                tokens as f64 / bench.prefill_s(tokens, &mut |done| bar.set_position(done as u64))
            })
            .collect();
        let work = speed::prefill_ops(model.config(), tokens, visible);
        let row = row("prefill", tokens, 0, runs, work, speed::prefill_ceiling(&ceilings));
        bar.suspend(|| table.print(&row))?;
    }
    if args.decode > 0 {
        for &depth in &args.depth {
            let row = decode(args, &model, depth, &bar, |runs| {
                let work = speed::step_bytes(&model, depth, attending) * args.decode as f64;
                row("decode", args.decode, depth, runs, work, ceilings.read_bytes)
            });
            bar.suspend(|| table.print(&row))?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn decode(
    args: &Bench,
    model: &Model,
    depth: usize,
    bar: &ProgressBar,
    row: impl FnOnce(Vec<f64>) -> Row,
) -> Row {
    let length = depth + args.decode;
    let mut bench = speed::Bench::new(model, args.model.attending(), length, args.seed);
    if depth > 0 {
        start(bar, "reading up to the depth", depth);
        bench.prefill_s(depth, &mut |done| bar.set_position(done as u64));
    }
    bench.decode_s(args.decode.min(4), &mut |_| {});
    let runs = (0..args.repeat.get())
        .map(|_| {
            start(bar, "decode", args.decode);
            args.decode as f64 / bench.decode_s(args.decode, &mut |done| bar.set_position(done as u64))
        })
        .collect();
    row(runs)
}

fn start(bar: &ProgressBar, phase: &'static str, tokens: usize) {
    bar.set_message(phase);
    bar.set_length(tokens as u64);
    bar.set_position(0);
    bar.reset_eta();
}

fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// Rows as they come: JSON lines, or columns under one head.
#[derive(Debug)]
struct Table {
    json: bool,
    begun: bool,
}

impl Table {
    fn print(&mut self, row: &Row) -> Result<()> {
        if self.json {
            return output::json(row);
        }
        let mut out = String::new();
        if !self.begun {
            self.begun = true;
            out = format!(
                "{}, {} attention, {} threads, kernels {}\n{:<8} {:>8} {:>8} {:>10} {:>10} {:>8}\n",
                row.model,
                row.attention,
                row.threads,
                row.kernels,
                "phase",
                "tokens",
                "depth",
                "tok/s",
                "peak MB",
                "ceiling"
            );
        }
        writeln!(
            out,
            "{:<8} {:>8} {:>8} {:>10.1} {:>10.0} {:>7.1}%",
            row.phase,
            row.tokens,
            row.depth,
            row.tokens_per_s,
            row.peak_rss_bytes.unwrap_or(0) as f64 / 1e6,
            row.ceiling_share * 100.0
        )?;
        output::text(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        for (runs, expected) in [(&[3.0][..], 3.0), (&[3.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 3.0], 2.5)] {
            assert!((median(runs) - expected).abs() < 1e-12);
        }
    }
}
