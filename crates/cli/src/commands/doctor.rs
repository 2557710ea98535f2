//! `longleaf doctor`
use crate::machine::{self, Cpu, Disk, Ram};
use crate::output::{self, megabytes};
use crate::settings::Settings;
use anyhow::Result;
use longleaf_engine::kernel;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    cpu: Cpu,
    ram: Option<Ram>,
    /// What a memory may keep in RAM.
    memory_ram_bytes: usize,
    disk: Disk,
    kernels: KernelSets,
    threads: usize,
    ceilings: Ceilings,
    models_folder: PathBuf,
    models: Vec<Model>,
}

#[derive(Debug, Serialize)]
struct KernelSets {
    supported: Vec<&'static str>,
    used: &'static str,
    why: &'static str,
}

/// What the kernel set's instructions reach on these threads, measured now.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "they are JSON names, which carry their unit")]
struct Ceilings {
    f32_ops_per_s: f64,
    bf16_ops_per_s: Option<f64>,
    int8_ops_per_s: Option<f64>,
    read_bytes_per_s: f64,
}

#[derive(Debug, Serialize)]
struct Model {
    name: &'static str,
    about: &'static str,
    bytes: u64,
    path: Option<PathBuf>,
}

pub(crate) fn doctor(settings: &Settings) -> Result<()> {
    let measured = kernel::ceilings(&settings.compute());
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        cpu: machine::cpu(),
        ram: machine::ram(),
        memory_ram_bytes: settings.ram,
        disk: machine::disk(&settings.home)?,
        kernels: KernelSets {
            supported: kernel::supported().iter().map(|set| set.name()).collect(),
            used: settings.kernels.name(),
            why: if settings.kernels_forced { "asked for" } else { "the fastest this CPU can run" },
        },
        threads: settings.threads,
        ceilings: Ceilings {
            f32_ops_per_s: measured.f32_ops,
            bf16_ops_per_s: measured.bf16_ops,
            int8_ops_per_s: measured.int8_ops,
            read_bytes_per_s: measured.read_bytes,
        },
        models_folder: settings.library.folder().to_owned(),
        models: settings
            .library
            .known()
            .map(|(model, path)| Model {
                name: model.name,
                about: model.about,
                bytes: model.files.iter().map(|file| file.bytes).sum(),
                path,
            })
            .collect(),
    };
    if settings.json { output::json(&report) } else { output::text(&table(&report)) }
}

fn table(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        writeln!(out, "{name:<9} {text}").expect("a string takes all");
    };
    let Report { cpu, disk, kernels, .. } = report;
    line("longleaf", report.version);
    line("cpu", &format!("{}, {} cores, {} threads", cpu.model, cpu.cores, cpu.threads));
    line("", &cpu.features.join(" "));
    line(
        "kernels",
        &format!(
            "{} ({}; there are {}; --kernels chooses)",
            kernels.used,
            kernels.why,
            kernels.supported.join(", ")
        ),
    );
    let why = if report.threads == machine::cores() {
        "one for each core; --threads chooses"
    } else {
        "as --threads says"
    };
    line("threads", &format!("{} ({why})", report.threads));
    let Ceilings { f32_ops_per_s, bf16_ops_per_s, int8_ops_per_s, read_bytes_per_s } = report.ceilings;
    let peak = |name: &str, ops: Option<f64>| ops.map(|ops| format!("{name} {:.0} Gop/s", ops / 1e9));
    let peaks =
        [peak("f32", Some(f32_ops_per_s)), peak("bf16", bf16_ops_per_s), peak("int8", int8_ops_per_s)];
    let peaks: Vec<_> = peaks.into_iter().flatten().collect();
    line("ceilings", &format!("{}, memory {:.1} GB/s", peaks.join(", "), read_bytes_per_s / 1e9));
    match &report.ram {
        Some(ram) => {
            let (available, total) = (megabytes(ram.available_bytes), megabytes(ram.total_bytes));
            line("ram", &format!("{available} available of {total}"));
        }
        None => line("ram", "not told by this system"),
    }
    let kept = megabytes(report.memory_ram_bytes as u64);
    line("memory", &format!("keeps up to {kept} in RAM (--ram chooses; the rest is read from disk)"));
    let speed = |bytes_per_s: f64| format!("{:.0} MB/s", bytes_per_s / 1e6);
    line(
        "disk",
        &format!(
            "write {}, read {}, scattered 128 KiB reads {}",
            speed(disk.write_bytes_per_s),
            speed(disk.read_bytes_per_s),
            speed(disk.random_128k_bytes_per_s)
        ),
    );
    line("models", &report.models_folder.display().to_string());
    for model in &report.models {
        let state = match &model.path {
            Some(_) => "here".to_owned(),
            None => format!("not here, {}: longleaf pull {}", megabytes(model.bytes), model.name),
        };
        line("", &format!("{}: {}", model.name, model.about));
        line("", &format!("  {state}"));
    }
    out
}
