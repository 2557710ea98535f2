//! The binary `longleaf`.
//!
//! Data goes to stdout and nothing else does. Progress goes to stderr, and only to a terminal. The exit code is 0
//! when it is done, 1 when a file, a model or the network is at fault, 2 when the command line is.
#![forbid(unsafe_code)]
mod args;
mod commands;
mod machine;
mod output;
mod settings;

use args::{Args, Command};
use clap::Parser;
use settings::Settings;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = Settings::new(&args.common).and_then(|settings| match &args.command {
        Command::Run(run) => commands::run::run(run, &settings),
        Command::Bench(bench) => commands::bench::bench(bench, &settings),
        Command::Eval(eval) => commands::eval::eval(eval, &settings),
        Command::Add(add) => commands::add::add(add, &settings),
        Command::Ask(ask) => commands::ask::ask(ask, &settings),
        Command::Search(search) => commands::search::search(search, &settings),
        Command::Memory(memory) => commands::memory::memory(memory, &settings),
        Command::Pull(pull) => commands::pull::pull(pull, &settings),
        Command::Doctor(_) => commands::doctor::doctor(&settings),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough (`longleaf … | head`) is no failure.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let usage = error.downcast_ref::<args::UsageError>().is_some();
            // Nobody is left to tell if stderr is closed too.
            let _ = writeln!(io::stderr(), "longleaf: {error:#}");
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}
