//! `longleaf memory`
use crate::args::{Memory, MemoryCommand};
use crate::commands::add;
use crate::output;
use crate::settings::Settings;
use anyhow::{Result, anyhow};
use longleaf_engine::memory::Depth;
use longleaf_engine::store::{Fingerprint, Store};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

pub(crate) fn memory(args: &Memory, settings: &Settings) -> Result<()> {
    match &args.command {
        MemoryCommand::List => list(settings),
        MemoryCommand::Show { memory } => show(memory, settings),
        MemoryCommand::Verify { memory } => verify(memory, settings),
        MemoryCommand::Remove { memory, documents } => remove(memory, documents, settings),
        MemoryCommand::Compact { memory } => compact(memory, settings),
    }
}

fn list(settings: &Settings) -> Result<()> {
    // A folder that is not there yet holds no memories.
    let entries = fs::read_dir(settings.memories()).into_iter().flatten();
    let mut names: Vec<_> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let line = match Store::inspect(&settings.memory(&name)) {
            Ok(store) if settings.json => {
                let (depth, disk) = (Depth::of(&store).to_string(), store.usage().disk);
                json!({ "memory": name, "documents": documents(&store), "depth": depth, "bytes_on_disk": disk })
                    .to_string()
            }
            Ok(store) => {
                let disk = output::megabytes(store.usage().disk);
                format!("{name}: {} documents at {} depth, {disk}", documents(&store), Depth::of(&store))
            }
            Err(error) if settings.json => json!({ "memory": name, "error": error.to_string() }).to_string(),
            Err(error) => format!("{name}: {error}"),
        };
        output::text(&(line + "\n"))?;
    }
    Ok(())
}

fn documents(store: &Store) -> usize {
    store.documents().filter(|document| document.finished).count()
}

fn show(name: &str, settings: &Settings) -> Result<()> {
    let store = Store::inspect(&settings.memory(name))?;
    for document in store.documents() {
        let (bytes, tokens) = (document.bytes(&store), document.tokens(&store));
        output::text(&if settings.json {
            let finished = document.finished;
            let name = &document.name;
            let depth = Depth::of(&store).to_string();
            json!({ "document": name, "bytes": bytes, "tokens": tokens, "finished": finished, "depth": depth })
                .to_string()
                + "\n"
        } else {
            let partly = if document.finished { "" } else { ", read in part" };
            format!("{}: {bytes} bytes, {tokens} tokens{partly}\n", document.name)
        })?;
    }
    if settings.json {
        return Ok(());
    }
    let usage = store.usage();
    output::text(&format!(
        "read at {} depth; {} on disk, {} of them could be given back by compact\n",
        Depth::of(&store),
        output::megabytes(usage.disk),
        output::megabytes(usage.dead)
    ))
}

fn verify(name: &str, settings: &Settings) -> Result<()> {
    let store = Store::inspect(&settings.memory(name))?;
    let bar = output::bar("checking {wide_bar} {bytes}/{total_bytes} {eta}");
    store.verify(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let disk = store.usage().disk;
    if settings.json {
        output::json(&json!({ "memory": name, "intact": true, "bytes_on_disk": disk }))
    } else {
        output::text(&format!("{name}: every checksum holds, {}\n", output::megabytes(disk)))
    }
}

fn remove(name: &str, documents: &[String], settings: &Settings) -> Result<()> {
    let mut store = open(name, settings)?;
    let mut ids = BTreeSet::new();
    for document in documents {
        // Whole ones and what was read of others; by the name they have, or that of the file from here.
        let named = [document.clone(), add::document_name(Path::new(document))?];
        let found: Vec<_> = store.documents().filter(|known| named.contains(&known.name)).collect();
        ids.extend(found.iter().map(|known| known.id));
        if found.is_empty() {
            return Err(anyhow!(
                "{name}: no document {document:?}; `longleaf memory show {name}` lists them"
            ));
        }
    }
    for id in &ids {
        store.remove(*id)?;
    }
    if settings.json { output::json(&json!({ "memory": name, "removed": ids.len() })) } else { Ok(()) }
}

fn compact(name: &str, settings: &Settings) -> Result<()> {
    let mut store = open(name, settings)?;
    let before = store.usage().disk;
    let bar = output::bar("compacting {wide_bar} {pos}/{len} {eta}");
    let usage = store.compact(&mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    if settings.json {
        output::json(&json!({ "memory": name, "bytes_before": before, "bytes_on_disk": usage.disk }))
    } else {
        let (before, after) = (output::megabytes(before), output::megabytes(usage.disk));
        output::text(&format!("{name}: {before} before, {after} now\n"))
    }
}

/// Open to change, without the model: what is removed needs none.
fn open(name: &str, settings: &Settings) -> Result<Store> {
    let path = settings.memory(name);
    let fingerprint: Fingerprint = Store::inspect(&path)?.fingerprint();
    Ok(Store::open(&path, fingerprint)?)
}
