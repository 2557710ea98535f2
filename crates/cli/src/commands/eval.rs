//! `longleaf eval`
//!
//! The protocols stand in `testdata/golden/README.md`, so that others can repeat them to the token.
mod families;
mod needle;
mod rows;

use crate::args::{Attention, Depth, Eval, Kv, Suite, UsageError};
use crate::commands::{add, pull};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use longleaf_engine::adaptive::Statistics;
use longleaf_engine::kernel::KvQuantisation;
use longleaf_engine::scoring::{Quantised, Score, score, score_quantised, score_watched};
use longleaf_engine::{Model, Special, TokenId};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Of a novel only the beginning is tokenized: enough for any number of tokens asked for here.
const PPL_CHARS_PER_TOKEN: usize = 25;

#[derive(Debug, Serialize)]
struct Cell<'a> {
    suite: &'static str,
    task: &'a str,
    /// Tokens of context.
    length: usize,
    method: &'static str,
    score: f64,
    /// 95 % interval.
    low: f64,
    high: f64,
    n: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Choices>,
}

/// What adaptive attention chose, as means over its choices.
#[derive(Debug, Serialize)]
struct Choices {
    /// Far blocks to choose from.
    blocks: f64,
    blocks_read: f64,
    /// Estimated share of the attention that went to blocks which were not read.
    unread_mass: f64,
    /// The same, at most.
    delta: f64,
    /// Budgets doubled, in all.
    escalations: usize,
    /// Share of choices that stayed above the budget's mass.
    missed: f64,
}

pub(crate) fn eval(args: &Eval, settings: &Settings) -> Result<()> {
    check(args)?;
    match args.suite {
        Suite::Ppl if args.out.is_some() => families::positions(args, settings),
        Suite::Ppl => perplexity(args, settings, &pull::open(&args.model.model, settings)?),
        Suite::Lambada => lambada(args, settings, &pull::open(&args.model.model, settings)?),
        Suite::Needle => needle::needle(args, settings, &add::open_to_read(&args.model.model, settings)?),
        Suite::Ruler => families::family(longleaf_eval::Suite::Ruler, args, settings),
        Suite::Babilong => families::family(longleaf_eval::Suite::Babilong, args, settings),
        Suite::Kv => families::family(longleaf_eval::Suite::Kv, args, settings),
        Suite::Lines => families::family(longleaf_eval::Suite::Lines, args, settings),
        Suite::Xquad => families::family(longleaf_eval::Suite::Xquad, args, settings),
        Suite::Lm => families::lm(args, settings),
        Suite::Search => families::search(args, settings),
        Suite::Plot => families::plot(args, settings),
    }
}

/// What would be left out without a word is refused instead.
fn check(args: &Eval) -> Result<(), UsageError> {
    let refuse = |what: &str| Err(UsageError(what.to_owned()));
    let ppl = args.suite == Suite::Ppl;
    if !args.kv.is_empty() && !ppl {
        return refuse("--kv is for eval ppl");
    }
    if !args.kv.is_empty() && (args.out.is_some() || args.model.attention != Attention::Dense) {
        return refuse(
            "--kv compares dense attention over a whole text: neither --out nor --attention go with it",
        );
    }
    if args.score_from.get() > 1 && (args.out.is_some() || !args.kv.is_empty() || !ppl) {
        return refuse("--score-from is for eval ppl, without --out and --kv");
    }
    if args.out.is_some() && args.suite == Suite::Lambada {
        return refuse(
            "eval lambada takes some minutes and keeps no rows; `eval lm --task lambada --out` does",
        );
    }
    if args.depth != Depth::Finder && args.suite != Suite::Needle {
        return refuse("--depth is for eval needle; the task families have --method words");
    }
    if args.meaning && !matches!(args.suite, Suite::Needle | Suite::Search) {
        return refuse("--meaning is for eval needle and eval search");
    }
    Ok(())
}

fn perplexity(args: &Eval, settings: &Settings, model: &Model) -> Result<()> {
    let window = window(args, model)?;
    for path in &args.file {
        let task = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        let tokens = beginning(path, args, model)?;
        let bar = output::bar("{msg} {wide_bar} {human_pos}/{human_len} tokens {per_sec} {eta}");
        bar.set_message(task.clone().into_owned());
        bar.set_length(tokens.len() as u64);
        let forms: Vec<KvQuantisation> = args.kv.iter().map(|kv| form(*kv, model)).collect();
        let (mut sum, mut few) = (Score::default(), vec![Quantised::default(); forms.len()]);
        let (mut chosen, first) = (Statistics::default(), args.score_from.get());
        for piece in tokens.chunks(window) {
            if forms.is_empty() {
                let (found, choices) =
                    score_watched(model, piece, first, args.model.attending(), &mut |_, _| bar.inc(1))?;
                bar.inc(first.min(piece.len()) as u64);
                sum = sum.plus(found);
                chosen = chosen.plus(choices.unwrap_or_default());
            } else {
                let (plain, quantised) = score_quantised(model, piece, &forms)?;
                sum = sum.plus(plain);
                few.iter_mut().zip(quantised).for_each(|(all, one)| *all = all.plus(one));
                bar.inc(piece.len() as u64);
            }
        }
        bar.finish_and_clear();
        if sum.tokens == 0 {
            bail!("{}: fewer than two tokens, nothing to score", path.display());
        }
        let (low, high) = sum.perplexity_interval();
        let choices = (chosen.choices > 0).then(|| Choices {
            blocks: chosen.blocks as f64 / chosen.choices as f64,
            blocks_read: chosen.mean_read(),
            unread_mass: chosen.unread_share(),
            delta: chosen.bound_share(),
            escalations: chosen.escalations,
            missed: chosen.missed as f64 / chosen.choices as f64,
        });
        let cell = Cell {
            suite: "ppl",
            task: &task,
            length: window,
            method: args.model.attention.name(),
            score: sum.perplexity(),
            low,
            high,
            n: sum.tokens,
            choices,
        };
        print(settings, &cell, "perplexity")?;
        for (kv, few) in args.kv.iter().zip(few) {
            print_quantised(settings, *kv, (&cell, sum), few)?;
        }
    }
    Ok(())
}

/// Tokens that are read as one sequence.
fn window(args: &Eval, model: &Model) -> Result<usize> {
    let (window, limit) = (args.window.get(), model.config().window);
    if window > limit && args.model.attention != Attention::Adaptive {
        let message = format!(
            "--window {window} is more than the model's window of {limit}; --attention adaptive reads any length, with \
             --budget 0 by sinks and window alone"
        );
        return Err(UsageError(message).into());
    }
    Ok(window)
}

/// The first tokens of a text, as many as are asked for.
fn beginning(path: &Path, args: &Eval, model: &Model) -> Result<Vec<TokenId>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let text = String::from_utf8(bytes).with_context(|| path.display().to_string())?;
    // Lines end with \n whatever ends them in the file, as Python reads text.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let text: String = text.chars().take(args.tokens.get() * PPL_CHARS_PER_TOKEN).collect();
    let mut tokens = model.tokenizer().encode(&text, Special::Text);
    tokens.truncate(args.tokens.get());
    Ok(tokens)
}

fn form(kv: Kv, model: &Model) -> KvQuantisation {
    let ((keys, values), config) = (kv.bits(), model.config());
    KvQuantisation { keys, values, kv_heads: config.kv_heads, head_dim: config.head_dim }
}

/// What few bits change, beside the cell with bf16.
fn print_quantised(
    settings: &Settings,
    kv: Kv,
    (plain, sum): (&Cell<'_>, Score),
    few: Quantised,
) -> Result<()> {
    let (low, high) = few.score.perplexity_interval();
    let n = few.score.tokens as f64;
    let more = few.score.perplexity() / sum.perplexity() - 1.0;
    let (divergence, agreed) = (few.divergence / n, few.agreed as f64 / n);
    if settings.json {
        return output::json(&serde_json::json!({
            "suite": plain.suite, "task": plain.task, "length": plain.length, "method": kv.name(),
            "score": few.score.perplexity(), "low": low, "high": high, "n": few.score.tokens,
            "more_than_bf16": more, "divergence": divergence, "agreed": agreed,
        }));
    }
    output::text(&format!(
        "{} {}: perplexity {:.4} ({:+.3} %), divergence {divergence:.6} nats a token, {:.2} % of first choices agree, {}\n",
        plain.suite,
        plain.task,
        few.score.perplexity(),
        100.0 * more,
        100.0 * agreed,
        kv.name()
    ))
}

fn lambada(args: &Eval, settings: &Settings, model: &Model) -> Result<()> {
    let bar = output::bar("lambada {wide_bar} {human_pos}/{human_len} items {eta}");
    bar.set_length(args.items.get() as u64);
    let (mut right, mut n, mut longest) = (0, 0, 0);
    for path in &args.file {
        for (number, line) in lines(path)?.enumerate() {
            if n == args.items.get() {
                break;
            }
            let place = || format!("{}, line {}", path.display(), number + 1);
            let line = line.with_context(place)?;
            let item: serde_json::Value = serde_json::from_str(&line).with_context(place)?;
            let text = item["text"].as_str().with_context(|| format!("{}: no \"text\"", place()))?;
            let (context, word) =
                text.rsplit_once(' ').with_context(|| format!("{}: a single word", place()))?;
            let mut tokens = model.tokenizer().encode(context, Special::Text);
            let first = tokens.len();
            tokens.extend(model.tokenizer().encode(&format!(" {word}"), Special::Text));
            if first == 0 {
                bail!("{}: nothing before the last word", place());
            }
            let found = score(model, &tokens, first, args.model.attending())?;
            let is_right = found.best == found.tokens;
            right += usize::from(is_right);
            longest = longest.max(tokens.len());
            n += 1;
            bar.inc(1);
            if settings.json {
                let row = serde_json::json!({
                    "suite": "lambada", "item": n - 1, "expected": word, "right": is_right, "nll": found.nll,
                });
                bar.suspend(|| output::json(&row))?;
            }
        }
    }
    bar.finish_and_clear();
    if n == 0 {
        bail!("no items in the files given");
    }
    let (low, high) = wilson(right, n);
    let (suite, method) = ("lambada", args.model.attention.name());
    let cell = Cell {
        suite,
        task: "last word",
        length: longest,
        method,
        score: right as f64 / n as f64,
        low,
        high,
        n,
        choices: None,
    };
    print(settings, &cell, "accuracy")
}

fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<String>>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    Ok(BufReader::new(file).lines())
}

fn print(settings: &Settings, cell: &Cell<'_>, measure: &str) -> Result<()> {
    if settings.json {
        return output::json(cell);
    }
    output::text(&format!(
        "{} {}: {measure} {:.4} (95 %: {:.4} to {:.4}), n = {}, {}\n",
        cell.suite, cell.task, cell.score, cell.low, cell.high, cell.n, cell.method
    ))?;
    let Some(Choices { blocks, blocks_read, unread_mass, delta, .. }) = &cell.choices else { return Ok(()) };
    output::text(&format!(
        "  {blocks_read:.1} of {blocks:.1} far blocks read, {unread_mass:.4} of the attention unread, at most {delta:.4}\n"
    ))
}

/// The 95 % interval of a share.
fn wilson(right: usize, n: usize) -> (f64, f64) {
    longleaf_eval::wilson(right as f64 / n as f64, n)
}
