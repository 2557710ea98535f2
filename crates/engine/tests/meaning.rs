//! Laws of a memory's vectors, on tiny models: whatever the way there, the same vectors; what is asked for in a window's
//! own words is found there.
use longleaf_engine::kernel::Compute;
use longleaf_engine::memory::{Asking, Stages, Way};
use longleaf_engine::store::meaning::Streams;
use longleaf_engine::{Document, Embedder, Memory, Model};
use longleaf_memory::finder::{Head, Profile};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MEANING: Stages = Stages { finder: false, lexical: false, meaning: true, rerank: false };

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(name)
}

fn models(threads: usize) -> (Model, Embedder) {
    let compute = Arc::new(Compute::new(threads));
    let model = Model::open(&folder("smollm2"), &compute).expect("the tiny model");
    (model, Embedder::open(&folder("bert"), &compute).expect("the tiny encoder"))
}

fn profile() -> Profile {
    Profile {
        heads: vec![Head { layer: 0, head: 1 }, Head { layer: 1, head: 2 }],
        run: 256,
        distance: 100,
        passages: 3,
    }
}

fn text(seed: usize, sentences: usize) -> String {
    let words =
        ["tree", "meadow", "leaves", "evening", "wind", "letter", "trunk", "rain", "branch", "Älpler"];
    let sentence = |i: usize| {
        let word = |j: usize| words[(i * 31 + j * 17 + seed * 7 + i * i % 13) % words.len()];
        let end = if i.is_multiple_of(5) { "\n\n" } else { " " };
        format!("{} {i} saw the {} and the {}.{end}", word(0), word(1), word(2))
    };
    (0..sentences).map(sentence).collect()
}

fn add(memory: &mut Memory<'_>, name: &str, text: &str) {
    let document = Document::new(name, text.as_bytes().to_vec()).expect("a text");
    memory.add(&document, &mut |_| ControlFlow::Continue(())).expect("it is read");
}

fn go_on(memory: &mut Memory<'_>) -> usize {
    let added = memory.add_meaning(&mut |_| ControlFlow::Continue(())).expect("vectors");
    assert!(!added.interrupted);
    added.tokens
}

/// Ends and vectors of all sections of a document.
fn kept(memory: &Memory<'_>, name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let store = memory.store();
    let Streams { ends, vectors } = memory.vector_streams().expect("streams of vectors");
    let sections = &store.find(name).expect("the document").sections;
    let read = |id, stream| store.read_all(id, stream).expect("readable");
    sections.iter().map(|id| (read(*id, ends), read(*id, vectors))).collect()
}

#[test]
fn vectors_are_the_same_on_every_way_there() {
    let home = tempfile::tempdir().unwrap();
    let ((model, embedder), (other_model, other_embedder)) = (models(1), models(3));
    let (long, short) = (text(1, 2500), text(2, 60));
    let open = |name: &str| Memory::with_profile(&home.path().join(name), &model, profile()).unwrap();

    let mut whole = open("whole").with_meaning(&embedder).unwrap();
    add(&mut whole, "long", &long);
    add(&mut whole, "short", &short);
    let tokens = go_on(&mut whole);
    assert!(tokens > 20_000, "{tokens} tokens");
    assert_eq!(go_on(&mut whole), 0, "nothing is read twice");
    let expected = kept(&whole, "long");
    assert!(
        expected.len() > 1 && expected.iter().all(|(ends, vectors)| !ends.is_empty() && !vectors.is_empty())
    );

    // Broken off after every step, each time by a new process, on other threads; one document after the other.
    let path = home.path().join("steps");
    let mut steps = 0;
    for (name, text) in [("short", &short), ("long", &long)] {
        let mut memory = Memory::with_profile(&path, &other_model, profile()).unwrap();
        add(&mut memory, name, text);
        drop(memory);
        loop {
            let memory = Memory::with_profile(&path, &other_model, profile()).unwrap();
            let mut memory = memory.with_meaning(&other_embedder).unwrap();
            let added = memory.add_meaning(&mut |_| ControlFlow::Break(())).unwrap();
            steps += 1;
            if !added.interrupted {
                assert!(
                    kept(&memory, name) == if name == "long" { expected.clone() } else { kept(&whole, name) }
                );
                break;
            }
        }
    }
    assert!(steps > 8, "{steps} steps");

    // What is shared with another document is not read again.
    let mut edited = long.clone();
    edited.push_str("One more sentence about rain.\n");
    add(&mut whole, "edited", &edited);
    let again = go_on(&mut whole);
    assert!(again > 0 && again < tokens / 2, "{again} of {tokens}");
    whole.store().verify(&mut |_, _| ()).expect("sound");
}

#[test]
fn a_window_is_found_by_its_own_words() {
    let home = tempfile::tempdir().unwrap();
    let (model, embedder) = models(2);
    let long = text(3, 1500);
    let mut memory = Memory::with_profile(&home.path().join("m"), &model, profile()).unwrap();
    add(&mut memory, "long", &long);
    assert_eq!(memory.vector_streams(), None);
    assert!(!memory.has_vectors(embedder.path()).unwrap());

    let mut memory = memory.with_meaning(&embedder).unwrap();
    let asking = Asking { stages: MEANING, candidates: 4, ..Asking::default() };
    assert!(memory.search("rain", &asking).unwrap().is_empty(), "nothing has vectors yet");
    go_on(&mut memory);
    assert!(memory.has_vectors(embedder.path()).unwrap());
    let (ends, _) = &kept(&memory, "long")[0];
    let ends: Vec<usize> = ends.as_chunks().0.iter().map(|end| u32::from_le_bytes(*end) as usize).collect();
    for window in [1, 100, ends.len() / 2] {
        let (start, end) = (ends[window - 1], ends[window]);
        let query = &long[start..end];
        let overlaps = |from: u64, to: u64| (from as usize) < end && start < to as usize;
        let hits = memory.search(query, &asking).unwrap();
        assert_eq!(hits[0].document, "long");
        assert!(overlaps(hits[0].start, hits[0].end), "{query:?} is at {start}, not in {hits:?}");
        let found = memory.passages(query, Stages { lexical: true, ..MEANING }, 5).unwrap();
        for passage in &found {
            assert_eq!(passage.text, long[passage.start as usize..passage.end as usize]);
        }
        let ours =
            found.iter().find(|passage| overlaps(passage.start, passage.end)).expect("it is among them");
        let both =
            Way::ALL.iter().zip(ours.ranks).filter(|(_, rank)| rank.is_some()).map(|(way, _)| way.name());
        assert_eq!(both.collect::<Vec<_>>(), ["lexical", "meaning"]);
        assert!(found.is_sorted_by(|a, b| a.score >= b.score) && found.len() <= 5);
    }
    // The same from disk.
    let ranked = memory.passages("leaves in the wind", MEANING, 8).unwrap();
    memory.set_ram(0);
    assert_eq!(memory.passages("leaves in the wind", MEANING, 8).unwrap(), ranked);
    assert!(
        memory
            .search("rain", &Asking { stages: Stages { meaning: false, ..MEANING }, ..asking })
            .unwrap()
            .is_empty()
    );
}
