//! One file per command.
pub(crate) mod add;
pub(crate) mod ask;
pub(crate) mod bench;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod meaning;
pub(crate) mod memory;
pub(crate) mod pull;
pub(crate) mod run;
pub(crate) mod search;

use anyhow::{Context, Result};
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether Ctrl-C was pressed since. The first one asks the command to end in order, a second one ends the program.
pub(crate) fn interrupt() -> Result<impl Fn() -> bool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    flag::register_conditional_default(SIGINT, Arc::clone(&interrupted)).context("Ctrl-C")?;
    flag::register(SIGINT, Arc::clone(&interrupted)).context("Ctrl-C")?;
    Ok(move || interrupted.load(Ordering::Relaxed))
}
