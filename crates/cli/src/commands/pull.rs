//! `longleaf pull`
use crate::args::Pull;
use crate::commands::interrupt;
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result};
use longleaf_engine::kernel::Precision;
use longleaf_engine::memory::{self, Profiles};
use longleaf_engine::{Location, Model};
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) fn pull(args: &Pull, settings: &Settings) -> Result<()> {
    let bar = output::bar(output::PULL_BAR);
    let path = settings.library.pull(&args.name, &mut output::watch_pull(&bar))?;
    bar.finish_and_clear();
    if settings.json {
        output::json(&serde_json::json!({ "model": args.name, "path": path }))
    } else {
        output::text(&format!("{}\n", path.display()))
    }
}

/// The model of that name or path, pulled first if it is not here.
pub(crate) fn open(name: &str, settings: &Settings) -> Result<Model> {
    let path = path(name, settings)?;
    let model = Model::open(&path, &Arc::new(settings.compute()))?;
    Ok(match settings.precision {
        Some(precision) => model.with_precision(precision),
        None => model,
    })
}

/// The same for one that is to read into memories or answer from them: how it finds is found out if nobody knows.
pub(crate) fn open_to_find(name: &str, settings: &Settings) -> Result<Model> {
    let model = open(name, settings)?;
    if model.finder().is_some() {
        return Ok(model);
    }
    let profiles = Profiles::new(settings.home.join("profiles"));
    if let Some(profile) = profiles.load(&model)? {
        return Ok(model.with_finder(profile));
    }
    output::note(&format!(
        "which attention heads of {name} find is not known yet; finding out, once, in a few minutes"
    ));
    let model = model.with_precision(Precision::Fast);
    let bar = output::bar("{msg} {wide_bar} {percent} % {eta}");
    bar.set_message("trials");
    bar.set_length(1000);
    let interrupted = interrupt()?;
    let folder = profiles.path(&model)?.with_extension("trial");
    let found = memory::calibrate(&model, &folder, &mut |trial| {
        bar.set_position((trial.done * 1000.0) as u64);
        if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bar.finish_and_clear();
    let found = found.context("interrupted while trying heads; the same command goes on from here")?;
    fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    profiles.save(&model, &found)?;
    let heads: Vec<_> =
        found.profile.heads.iter().map(|head| format!("{} of layer {}", head.head, head.layer)).collect();
    output::note(&format!(
        "{name} finds with head {}: of {} facts that were not used to choose it {:.0} % come first among {} blocks, \
         {:.0} % among the first 8",
        heads.join(" and "),
        found.facts,
        found.recall_at_1 * 100.0,
        found.blocks,
        found.recall_at_8 * 100.0,
    ));
    Ok(model.with_precision(settings.precision.unwrap_or_default()).with_finder(found.profile))
}

/// Where the model of that name or path lies, pulled first if it is not here.
pub(crate) fn path(name: &str, settings: &Settings) -> Result<PathBuf> {
    match settings.library.locate(name)? {
        Location::Here(path) => Ok(path),
        Location::Elsewhere { bytes } => {
            let size = bytes.map_or_else(String::new, |bytes| format!(" ({})", output::megabytes(bytes)));
            let folder = settings.library.folder().display();
            output::note(&format!("{name} is not on this machine yet; pulling it{size} to {folder}"));
            let bar = output::bar(output::PULL_BAR);
            let path = settings.library.pull(name, &mut output::watch_pull(&bar))?;
            bar.finish_and_clear();
            Ok(path)
        }
    }
}
