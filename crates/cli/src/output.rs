//! Writing to stdout, and progress to a terminal.
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use longleaf_engine::PullEvent;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// One line of JSON on stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    text(&line)
}

/// Text on stdout, at once.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// A line on stderr that a user should see even where it is no terminal.
pub(crate) fn note(line: &str) {
    // A closed stderr is no reason to stop.
    let _ = writeln!(io::stderr(), "longleaf: {line}");
}

/// Whether the reader of our output went away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// A bar on stderr, if that is a terminal.
pub(crate) fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a literal template");
    let bar = ProgressBar::no_length().with_style(style.progress_chars("━╸ "));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Progress of a pull.
pub(crate) fn watch_pull(bar: &ProgressBar) -> impl FnMut(PullEvent<'_>) {
    move |event| match event {
        PullEvent::File { path, bytes } => {
            bar.set_message(path.to_owned());
            bar.set_position(0);
            match bytes {
                Some(bytes) => bar.set_length(bytes),
                None => bar.unset_length(),
            }
        }
        PullEvent::Bytes(bytes) => bar.set_position(bytes),
        PullEvent::Waiting => {
            bar.suspend(|| note("another process is fetching models; waiting for it to end"));
        }
        PullEvent::Checking => bar.set_message("checking SHA-256"),
        PullEvent::Failed(failure) => bar.suspend(|| note(&format!("{failure}; trying the next source"))),
    }
}

/// How a pull's progress looks.
pub(crate) const PULL_BAR: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";

/// A document's name as one would write it here: names are whole paths, and those below this folder are shown from it.
pub(crate) fn document(name: &str) -> &str {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| Path::new(name).strip_prefix(here).ok()?.to_str());
    below.filter(|below| !below.is_empty()).unwrap_or(name)
}

/// `98.4 MB` and the like.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
