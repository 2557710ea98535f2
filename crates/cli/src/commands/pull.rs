//! `longleaf pull`
use crate::args::Pull;
use crate::output;
use crate::settings::Settings;
use anyhow::Result;
use longleaf_engine::{Location, Model};
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
