//! Measures the store: `cargo run --release -p longleaf-memory --example store -- FOLDER TOKENS`.
//!
//! Writes that many tokens at finder depth of a small model (4 bytes of text, 8 of token and end, 64 of finder key, 2 of
//! lexical index a token) with a checkpoint every 4,096, then opens it, scans all keys and verifies. The folder is new
//! and is left there.
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use longleaf_memory::{Begin, ContentHash, Fingerprint, Reading, Store, StreamId};

const CHECKPOINT: usize = 4096;
const SECTION: usize = 16_384;
const KEY: usize = 64;

/// Seconds this thread has run on a core, where the system says so (else NaN): others on the machine do not count.
fn cpu_seconds() -> f64 {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedule.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e9)
}

#[expect(clippy::print_stdout, reason = "this is its output")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, tokens] = arguments.as_slice() else { return Err("usage: store FOLDER TOKENS".into()) };
    let (path, tokens) = (Path::new(folder), tokens.parse::<usize>()?);
    let fingerprint = Fingerprint([1; 32]);
    let mut store = Store::create(path, fingerprint)?;
    let keys = store.stream("finder", KEY as u32)?;
    let rows: Vec<u8> = (0..CHECKPOINT * KEY).map(|i| ((i * i) >> 7) as u8).collect();
    let start = Instant::now();
    let (mut slowest, mut spent, mut checkpoints) = (0.0_f64, 0.0, 0_u32);
    let Begin::Read(mut reading) = store.begin("novel", ContentHash([2; 32]))? else {
        return Err("not new".into());
    };
    for section in 0..tokens / SECTION {
        let Reading::Partial(_) = reading.section(ContentHash::of(&section.to_le_bytes()))? else { continue };
        for part in 0..SECTION / CHECKPOINT {
            reading.text(&rows[..CHECKPOINT * 4])?;
            let range = (part * CHECKPOINT) as u32..((part + 1) * CHECKPOINT) as u32;
            let ends: Vec<u32> = range.clone().map(|i| 4 * i + 4).collect();
            reading.tokens(&range.collect::<Vec<_>>(), &ends)?;
            reading.rows(keys, &rows)?;
            let start = Instant::now();
            reading.checkpoint()?;
            let time = start.elapsed().as_secs_f64();
            (slowest, spent, checkpoints) = (slowest.max(time), spent + time, checkpoints + 1);
        }
        reading.rows(StreamId::LEXICAL, &rows[..SECTION * 2])?;
        reading.end_section();
    }
    reading.finish()?;
    let seconds = start.elapsed().as_secs_f64();
    let usage = store.usage();
    let tokens = tokens as f64;
    println!(
        "wrote {:.0} MB in {seconds:.2} s: {:.2} µs and {:.1} bytes a token; checkpoint {:.2} ms, at worst {:.1} ms",
        usage.disk as f64 / 1e6,
        seconds / tokens * 1e6,
        usage.disk as f64 / tokens,
        spent / f64::from(checkpoints) * 1e3,
        slowest * 1e3
    );
    drop(store);
    let start = Instant::now();
    let store = Store::read_only(path, fingerprint)?;
    println!("opened in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let mut buffer = vec![0; 1 << 20];
    for round in 0..3 {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let (mut bytes, mut sum) = (0, 0_u64);
        for section in store.sections() {
            for extent in section.extents(keys) {
                let mut at = 0;
                while at < extent.len {
                    let step = (extent.len - at).min(buffer.len() as u64);
                    store.read_segment(extent.segment, extent.start + at, &mut buffer[..step as usize])?;
                    sum += u64::from(buffer[0]);
                    (at, bytes) = (at + step, bytes + step);
                }
            }
        }
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        println!(
            "scan {round}: {} MB, every page checked ({sum}): {:.2} GB/s, {:.2} GB a second on the core",
            bytes / 1_000_000,
            bytes as f64 / seconds / 1e9,
            bytes as f64 / cpu / 1e9
        );
    }
    let start = Instant::now();
    store.verify(&mut |_, _| ())?;
    println!("verified in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}
