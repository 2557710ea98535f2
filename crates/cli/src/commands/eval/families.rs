//! `longleaf eval ruler` and the other public task families.
use super::rows;
use crate::args::{Attention, Eval, Method, UsageError};
use crate::commands::{add, interrupt, pull};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use longleaf_engine::Embedder;
use longleaf_engine::adaptive::Budget;
use longleaf_engine::passages::{By, Passages};
use longleaf_eval::search::{Collection, Lexical, Meaning, Ranking};
use longleaf_eval::{Answering, Event, LM_TASKS, Plan, Row, Suite, cells, curves, run, table, tokens};
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// RULER's shortest published length.
const LENGTH: usize = 4096;

/// A run of rows: those that are known, those that are kept, and how it looks meanwhile.
struct Rows<'s> {
    settings: &'s Settings,
    known: Vec<Row>,
    out: Option<fs::File>,
    bar: ProgressBar,
}

impl<'s> Rows<'s> {
    fn new(args: &Eval, settings: &'s Settings, total: usize) -> Result<Self> {
        let (known, out) = args.out.as_deref().map(rows::go_on).transpose()?.unzip();
        let bar = output::bar("{msg} {wide_bar} {pos}/{len} answers {eta}");
        bar.set_length(total as u64);
        Ok(Self { settings, known: known.unwrap_or_default(), out, bar })
    }

    fn make(
        mut self,
        make: impl FnOnce(
            &[Row],
            &mut dyn FnMut(&Row) -> Result<()>,
            &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
        ) -> Result<Vec<Row>>,
    ) -> Result<()> {
        let bar = &self.bar;
        let mut keep = |row: &Row| -> Result<()> {
            let mut line = serde_json::to_string(row)?;
            line.push('\n');
            if let Some(out) = &mut self.out {
                // Whole lines, one write each: what a kill leaves can be read again.
                out.write_all(line.as_bytes())?;
            }
            bar.inc(1);
            if self.settings.json { bar.suspend(|| output::text(&line)) } else { Ok(()) }
        };
        let interrupted = interrupt()?;
        let mut watch = |event: Event<'_>| {
            match event {
                Event::Item { task, length, index, method } => {
                    bar.set_message(format!("{task} {} #{index} {method}", tokens(length)));
                }
                Event::Read { bytes, of, .. } => {
                    bar.set_message(format!(
                        "reading {:.0} of {:.0} MB",
                        bytes as f64 / 1e6,
                        of as f64 / 1e6
                    ));
                }
                Event::Prompt { .. } | Event::Answer => (),
            }
            if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let rows = make(&self.known, &mut keep, &mut watch)?;
        bar.finish_and_clear();
        let cells = cells(&rows);
        if self.settings.json {
            return cells.iter().try_for_each(output::json);
        }
        output::text(&table(&cells))
    }
}

fn data<'a>(args: &'a Eval, suite: &str) -> Result<&'a Path> {
    let missing =
        || UsageError(format!("eval {suite} needs --data DIR, the folder with the task families' data"));
    Ok(args.data.as_deref().ok_or_else(missing)?)
}

pub(crate) fn family(suite: Suite, args: &Eval, settings: &Settings) -> Result<()> {
    let data = data(args, suite.name())?;
    let tasks = suite.tasks_named(&args.task).map_err(|error| UsageError(error.to_string()))?;
    let lengths = match (suite.has_lengths(), args.memory_tokens.as_slice()) {
        (false, _) => vec![0],
        (true, []) => vec![LENGTH],
        (true, lengths) => lengths.to_vec(),
    };
    let methods = args.method.iter().map(|method| match method {
        Method::Longleaf => longleaf_eval::Method::Longleaf,
        Method::Words => longleaf_eval::Method::Words,
        Method::Dense => longleaf_eval::Method::Dense,
        Method::Truncated => longleaf_eval::Method::Truncated,
        Method::Lexical => longleaf_eval::Method::Lexical,
    });
    let methods: Vec<_> = methods.collect();
    // The baselines that keep no memory need no heads that find.
    let finds = methods.iter().any(|method| method.depth().is_some());
    let plan = Plan { suite, tasks, lengths, items: args.items.get(), seed: args.seed, methods };
    let total = plan.tasks.len() * plan.lengths.len() * plan.items * plan.methods.len();
    let rows = Rows::new(args, settings, total)?;
    let name = &args.model.model;
    let model = if finds { pull::open_to_find(name, settings)? } else { pull::open(name, settings)? };
    let reader = finds.then(|| add::open_to_read(name, settings)).transpose()?;
    let reader = reader.as_ref().unwrap_or(&model);
    let mut source = suite.open(data, args.seed, &model)?;
    let mut answering = Answering::new(&model, reader, settings.home.join("eval"), settings.ram);
    rows.make(|known, keep, watch| run(&plan, source.as_mut(), &mut answering, known, keep, watch))
}

/// `longleaf eval lm`
pub(crate) fn lm(args: &Eval, settings: &Settings) -> Result<()> {
    let data = data(args, "lm")?;
    let named = |task: &&str| args.task.is_empty() || args.task.iter().any(|name| name == task);
    let tasks: Vec<&str> = LM_TASKS.into_iter().filter(named).collect();
    if args.task.iter().any(|name| !LM_TASKS.contains(&name.as_str())) {
        return Err(UsageError(format!("lm has the tasks {}", LM_TASKS.join(", "))).into());
    }
    let rows = Rows::new(args, settings, tasks.len() * args.items.get() * 2)?;
    let model = pull::open(&args.model.model, settings)?;
    rows.make(|known, keep, watch| {
        let mut all = Vec::new();
        for task in tasks {
            all.extend(longleaf_eval::lm((task, args.items.get()), data, &model, known, keep, watch)?);
        }
        Ok(all)
    })
}

/// `longleaf eval ppl --out`
pub(crate) fn positions(args: &Eval, settings: &Settings) -> Result<()> {
    let model = pull::open(&args.model.model, settings)?;
    let window = super::window(args, &model)?;
    let method = match (args.model.attention, args.model.budget) {
        (Attention::Adaptive, Budget::Blocks(blocks)) => format!("adaptive {blocks}"),
        (Attention::Adaptive, Budget::Mass(mass)) => format!("adaptive {mass}"),
        (attention, _) => attention.name().to_owned(),
    };
    let rows = Rows::new(args, settings, args.file.len() * args.tokens.get().div_ceil(window))?;
    rows.make(|known, keep, watch| {
        let mut all = Vec::new();
        for path in &args.file {
            let task = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
            let tokens = super::beginning(path, args, &model)?;
            for (item, piece) in tokens.chunks(window).enumerate() {
                let how = (method.as_str(), args.model.attending());
                all.extend(longleaf_eval::positions((&task, item, piece), &model, how, known, keep, watch)?);
            }
        }
        Ok(all)
    })
}

/// `longleaf eval search`
pub(crate) fn search(args: &Eval, settings: &Settings) -> Result<()> {
    let collection = Collection::scifact(data(args, "search")?)?;
    // A second run takes no longer than reading the rows of the first: nothing is known beforehand.
    if args.out.is_some() {
        return Err(UsageError("eval search takes a second and keeps no rows; use --json".to_owned()).into());
    }
    let embedder = if args.meaning {
        let path = pull::path(&args.encoder.encoder, settings)?;
        Some(Embedder::open(&path, &Arc::new(settings.compute()))?)
    } else {
        None
    };
    let bar = output::bar("{msg} {wide_bar} {pos}/{len} documents {eta}");
    bar.set_message("vectors");
    bar.set_length(collection.documents.len() as u64);
    let passages = embedder.as_ref().map(|embedder| {
        let texts = collection.documents.iter().map(String::as_str);
        Passages::new(texts, embedder, &mut |done| bar.set_position(done as u64))
    });
    bar.finish_and_clear();
    let mut rankings: Vec<Box<dyn Ranking>> = vec![Box::new(Lexical::new(&collection.documents))];
    if let Some(passages) = &passages {
        for by in [By::Meaning, By::Both] {
            rankings.push(Box::new(Meaning { passages, by }));
        }
    }
    let rows = Rows::new(args, settings, args.items.get() * rankings.len())?;
    rows.make(|_, keep, watch| {
        let mut all = Vec::new();
        for ranking in &rankings {
            all.extend(collection.rows(&**ranking, args.items.get(), keep, watch)?);
        }
        Ok(all)
    })
}

/// `longleaf eval plot`
pub(crate) fn plot(args: &Eval, settings: &Settings) -> Result<()> {
    if args.file.is_empty() {
        return Err(
            UsageError("eval plot needs --file ROWS, what --out of earlier runs kept".to_owned()).into()
        );
    }
    let mut rows: Vec<Row> = Vec::new();
    for path in &args.file {
        rows.extend(rows::read(path)?);
    }
    rows.sort_by(|a, b| (&a.suite, a.length).cmp(&(&b.suite, b.length)));
    let cells = cells(&rows);
    if let Some(folder) = &args.out {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let mut drawn: Vec<(&str, &str)> = Vec::new();
        for cell in &cells {
            let what = (cell.suite.as_str(), cell.task.as_str());
            let Some(svg) = curves(&cells, what.0, what.1).filter(|_| !drawn.contains(&what)) else {
                continue;
            };
            drawn.push(what);
            let name = format!("{}-{}.svg", what.0, what.1)
                .replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
            let path = folder.join(name);
            fs::write(&path, svg).with_context(|| path.display().to_string())?;
        }
    }
    if settings.json { cells.iter().try_for_each(output::json) } else { output::text(&table(&cells)) }
}
