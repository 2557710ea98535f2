//! `longleaf pull`
use crate::args::Pull;
use crate::output;
use crate::settings::Settings;
use anyhow::Result;

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
