//! The sentence encoder of memories that are found in by meaning.
use crate::commands::{interrupt, pull};
use crate::output;
use crate::settings::Settings;
use anyhow::Result;
use longleaf_engine::{Embedder, Location, Memory, Model};
use std::ops::ControlFlow;
use std::time::Instant;

/// The encoder of that name or path, on the model's threads; pulled first if it is not here.
pub(crate) fn open(name: &str, model: &Model, settings: &Settings) -> Result<Embedder> {
    Ok(Embedder::open(&pull::path(name, settings)?, model.decoder().compute())?)
}

/// The encoder of that name or path if it is here and has given this memory vectors.
pub(crate) fn of(
    memory: &Memory<'_>,
    name: &str,
    model: &Model,
    settings: &Settings,
) -> Result<Option<Embedder>> {
    let Ok(Location::Here(path)) = settings.library.locate(name) else { return Ok(None) };
    if !memory.has_vectors(&path)? {
        return Ok(None);
    }
    Ok(Some(Embedder::open(&path, model.decoder().compute())?))
}

/// What was read for its vectors.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) tokens: usize,
    pub(crate) seconds: f64,
    pub(crate) interrupted: bool,
}

/// Give a memory's text the vectors it does not have, with progress. Ctrl-C ends it with what there is.
pub(crate) fn read(memory: &mut Memory<'_>) -> Result<Read> {
    let interrupted = interrupt()?;
    let bar = output::bar("meaning: {msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    let start = Instant::now();
    let added = memory.add_meaning(&mut |reading| {
        bar.set_length(reading.of as u64);
        bar.set_position(reading.bytes as u64);
        let speed = reading.tokens as f64 / start.elapsed().as_secs_f64();
        bar.set_message(format!("{} tokens, {speed:.0}/s", reading.tokens));
        if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bar.finish_and_clear();
    Ok(Read { tokens: added.tokens, seconds: start.elapsed().as_secs_f64(), interrupted: added.interrupted })
}
