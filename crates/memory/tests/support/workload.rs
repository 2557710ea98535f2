//! A life of a memory that can be interrupted at any instant and gone on with: what the fault and kill tests run.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses its part, and panics if it cannot go on")]
use std::collections::BTreeMap;

use longleaf_memory::{Begin, ContentHash, Error, Fingerprint, Reading, Store, StreamId};

pub(crate) const FINGERPRINT: Fingerprint = Fingerprint([42; 32]);

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A document is read: sections given by seed and number of tokens.
    Add(&'static str, Vec<(u32, usize)>),
    /// As `Add`, but given up after so many checkpoints.
    Part(&'static str, Vec<(u32, usize)>, usize),
    Remove(&'static str),
    Compact,
    Blob(&'static str, u32),
}

/// What is going to happen; `tokens` scales the documents.
pub(crate) fn script(tokens: usize) -> Vec<Step> {
    let n = tokens;
    vec![
        Step::Add("a", vec![(1, n), (2, n / 2), (3, n)]),
        Step::Add("b", vec![(4, n / 3), (2, n / 2), (4, n / 3)]),
        Step::Blob("profile", 5),
        Step::Part("d", vec![(6, n), (7, 2 * n)], 4),
        Step::Add("a", vec![(1, n), (8, n / 2 + 1), (3, n)]),
        Step::Remove("b"),
        Step::Compact,
        Step::Blob("profile", 9),
        Step::Add("c", vec![(1, n), (8, n / 2 + 1), (3, n)]),
        Step::Add("d", vec![(6, n), (7, 2 * n)]),
        Step::Remove("a"),
        Step::Add("b", vec![(2, n / 2), (10, n)]),
        Step::Remove("c"),
        Step::Compact,
        Step::Add("e", vec![(11, 1)]),
    ]
}

/// Tokens between two checkpoints.
pub(crate) const CHECKPOINT: usize = 40;
const KEY: u32 = 48;
const PAGE_TOKENS: usize = 32;
const PAGE: u32 = 700;
const STEP: &str = "step";

fn noise(seed: u32, len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b)).rotate_left(7) as u8)
        .collect()
}

/// Everything that a memory holds, as its user sees it.
pub(crate) type View = BTreeMap<String, Vec<u8>>;

pub(crate) fn view(store: &Store) -> Result<View, Error> {
    let mut view = View::new();
    for document in store.documents() {
        for (index, section) in document.sections.iter().enumerate() {
            let whole = store.section(*section).unwrap().whole;
            let key = format!("{} {} {index} {whole}", document.name, document.finished);
            for stream in ["text", "tokens", "ends", "lexical", "keys", "pages"] {
                if let Some(id) = store.find_stream(stream) {
                    view.insert(format!("{key} {stream}"), store.read_all(*section, id)?);
                }
            }
        }
    }
    for name in store.blobs() {
        view.insert(format!("blob {name}"), store.blob(name)?.unwrap());
    }
    Ok(view)
}

/// Run what of the script has not been run yet, telling `committed` after every commit.
pub(crate) fn run(
    store: &mut Store,
    script: &[Step],
    committed: &mut dyn FnMut(&Store),
) -> Result<(), Error> {
    let done = store.blob(STEP)?.map_or(0, |bytes| bytes.len());
    for (index, step) in script.iter().enumerate().skip(done) {
        match step {
            Step::Add(name, sections) => add(store, name, sections, usize::MAX, committed)?,
            Step::Part(name, sections, stop) => add(store, name, sections, *stop, committed)?,
            Step::Remove(name) => {
                if let Some(document) = store.find(name).map(|document| document.id) {
                    store.remove(document)?;
                    committed(store);
                }
            }
            Step::Compact => {
                let before = store.usage();
                let after = store.compact(&mut |_, _| ())?;
                assert_eq!((after.dead, after.live), (0, before.live));
            }
            Step::Blob(name, seed) => store.put_blob(name, &noise(*seed, 5000))?,
        }
        store.put_blob(STEP, &vec![1; index + 1])?;
        store.commit()?;
        committed(store);
    }
    Ok(())
}

fn add(
    store: &mut Store,
    name: &str,
    sections: &[(u32, usize)],
    stop: usize,
    committed: &mut dyn FnMut(&Store),
) -> Result<(), Error> {
    let keys = store.stream("keys", KEY)?;
    let pages = store.stream("pages", PAGE)?;
    let hash =
        |&(seed, tokens): &(u32, usize)| ContentHash::of_parts(&[&seed.to_le_bytes(), &tokens.to_le_bytes()]);
    let all: Vec<_> = sections.iter().map(|section| hash(section).0).collect();
    let Begin::Read(mut reading) = store.begin(name, ContentHash::of(all.as_flattened()))? else {
        committed(store);
        return Ok(());
    };
    // Checkpoints so far, those of an earlier run among them: where it stops does not depend on interruptions.
    let mut checkpoints = 0;
    for section in sections {
        let (seed, tokens) = *section;
        if let Reading::Whole(_) = reading.section(hash(section))? {
            checkpoints += tokens.div_ceil(CHECKPOINT);
            continue;
        }
        let mut done = reading.bytes(StreamId::TOKENS) as usize / 4;
        checkpoints += done.div_ceil(CHECKPOINT);
        while done < tokens {
            if checkpoints >= stop {
                return Ok(());
            }
            let end = (done + CHECKPOINT).min(tokens);
            let range = done as u32..end as u32;
            reading.text(&noise(seed, 3 * tokens)[3 * done..3 * end])?;
            let ids: Vec<_> = range.clone().map(|i| i ^ seed).collect();
            let ends: Vec<_> = range.map(|i| 3 * i + 3).collect();
            reading.tokens(&ids, &ends)?;
            let row = KEY as usize;
            reading.rows(keys, &noise(seed ^ 1, tokens * row)[done * row..end * row])?;
            for page in done.div_ceil(PAGE_TOKENS)..end.div_ceil(PAGE_TOKENS) {
                reading.rows(pages, &noise(seed ^ page as u32, PAGE as usize))?;
            }
            reading.checkpoint()?;
            committed(reading.store());
            done = end;
            checkpoints += 1;
        }
        reading.rows(StreamId::LEXICAL, &noise(seed ^ 2, tokens / 2 + 1))?;
        reading.end_section();
    }
    reading.finish()?;
    committed(store);
    Ok(())
}

/// What the committed stores of old versions hold: documents whole, partly read and removed, and blobs.
pub(crate) fn compat(store: &mut Store) -> View {
    run(store, &script(100)[..6], &mut |_| ()).unwrap();
    view(store).unwrap()
}
