//! What this machine has.
use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

/// Instruction sets that matter to the kernels, in the words of `/proc/cpuinfo` (x86, then Arm).
const FEATURES: [&str; 18] = [
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
];

/// The processor.
#[derive(Debug, Serialize)]
pub(crate) struct Cpu {
    /// What it calls itself.
    pub(crate) model: String,
    /// Of the instruction sets that matter here, those it has.
    pub(crate) features: Vec<&'static str>,
    /// Cores, hyper-threads not counted twice.
    pub(crate) cores: usize,
    /// Threads this process may run at once.
    pub(crate) threads: usize,
}

/// Speed of the disk that models are kept on.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "they are JSON names, which carry their unit")]
pub(crate) struct Disk {
    /// Written and flushed, one file.
    pub(crate) write_bytes_per_s: f64,
    /// Read in order, not from the page cache.
    pub(crate) read_bytes_per_s: f64,
    /// Read in pieces of 128 KiB at scattered places, one at a time.
    pub(crate) random_128k_bytes_per_s: f64,
}

/// Memory in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Ram {
    /// All there is.
    pub(crate) total_bytes: u64,
    /// What can be used without swapping.
    pub(crate) available_bytes: u64,
}

pub(crate) fn cpu() -> Cpu {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags: BTreeSet<_> =
        field(&text, "flags").or_else(|| field(&text, "Features")).unwrap_or("").split(' ').collect();
    Cpu {
        model: field(&text, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
        features: FEATURES.into_iter().filter(|feature| flags.contains(feature)).collect(),
        cores: cores(),
        threads: available(),
    }
}

/// Cores this process may use: two hyper-threads of one core share its arithmetic units.
pub(crate) fn cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores: BTreeSet<_> = text
        .split("\n\n")
        .filter_map(|cpu| Some((field(cpu, "physical id")?, field(cpu, "core id")?)))
        .collect();
    if cores.is_empty() { available() } else { cores.len().min(available()) }
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// `None` where the system does not say.
pub(crate) fn ram() -> Option<Ram> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |name| Some(field(&text, name)?.trim_end_matches(" kB").parse::<u64>().ok()? << 10);
    Some(Ram { total_bytes: bytes("MemTotal")?, available_bytes: bytes("MemAvailable")? })
}

/// The most memory this process has held, or `None` where the system does not say.
pub(crate) fn peak_rss() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    Some(field(&text, "VmHWM")?.trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// Bytes that can still be written where `folder` is, or `None` where the system does not say.
pub(crate) fn free_disk(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Ask the system to forget what it keeps of a file in its cache; some do not.
pub(crate) fn drop_cache(path: &Path) {
    if let Ok(file) = File::open(path) {
        // What is not on disk yet could not be dropped.
        let _ = file.sync_all();
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
}

/// Let [`peak_rss`] begin anew.
pub(crate) fn reset_peak_rss() {
    // Where the system does not allow it, the peak includes what came before.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Write, read and scatter-read 64 MiB in `folder`.
pub(crate) fn disk(folder: &Path) -> Result<Disk> {
    const BYTES: usize = 64 << 20;
    const PIECE: usize = 128 << 10;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let path = folder.join(format!(".disk-speed-{}", std::process::id()));
    let measure = || -> std::io::Result<Disk> {
        let mut buffer: Vec<u8> =
            (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
        let start = Instant::now();
        for _ in 0..BYTES / buffer.len() {
            file.write_all(&buffer)?;
        }
        file.sync_all()?;
        let write = start.elapsed();
        let cold = |file: &File| fadvise(file, 0, None, Advice::DontNeed);

        cold(&file)?;
        file.seek(SeekFrom::Start(0))?;
        let start = Instant::now();
        for _ in 0..BYTES / buffer.len() {
            file.read_exact(&mut buffer)?;
        }
        let read = start.elapsed();

        cold(&file)?;
        fadvise(&file, 0, None, Advice::Random)?;
        let pieces = BYTES / PIECE;
        let start = Instant::now();
        for i in 0..pieces / 2 {
            // An odd step visits every other place once, far apart.
            file.seek(SeekFrom::Start((i * 187 % pieces * PIECE) as u64))?;
            file.read_exact(&mut buffer[..PIECE])?;
        }
        let random = start.elapsed();
        Ok(Disk {
            write_bytes_per_s: BYTES as f64 / write.as_secs_f64(),
            read_bytes_per_s: BYTES as f64 / read.as_secs_f64(),
            random_128k_bytes_per_s: (BYTES / 2) as f64 / random.as_secs_f64(),
        })
    };
    let measured = measure();
    let removed = fs::remove_file(&path);
    let disk = measured.with_context(|| path.display().to_string())?;
    removed.with_context(|| path.display().to_string())?;
    Ok(disk)
}
