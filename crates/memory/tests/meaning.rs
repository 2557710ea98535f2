//! The exact scan over vectors: what it gives, whatever the way the vectors came and wherever they lie.
use longleaf_kernel::Compute;
use longleaf_memory::meaning::{PANEL, Streams, Vectors};
use longleaf_memory::{Begin, ContentHash, Fingerprint, Ram, Reading, SectionId, Store, StreamId};
use std::sync::Arc;

const WIDTH: usize = 64;

fn store() -> Store {
    Store::create_in(Arc::new(Ram::new()), Fingerprint([7; 32])).expect("a store")
}

/// A section of `bytes` bytes, in a document of its own.
fn section(store: &mut Store, name: &str, bytes: usize) -> SectionId {
    let text: String = name.chars().cycle().take(bytes).collect();
    let hash = ContentHash::of(text.as_bytes());
    let Begin::Read(mut appender) = store.begin(name, hash).expect("RAM does not fail") else {
        panic!("not read yet")
    };
    let Reading::Partial(section) = appender.section(hash).expect("RAM does not fail") else {
        panic!("not whole yet")
    };
    appender.text(text.as_bytes()).expect("RAM does not fail");
    appender.end_section();
    appender.finish().expect("RAM does not fail");
    section
}

/// A vector of length 1.
fn vector(seed: usize) -> Vec<f32> {
    let numbers: Vec<f32> =
        (0..WIDTH).map(|i| ((seed * 977 + i * i * 31 + i) % 101) as f32 / 50.0 - 1.0).collect();
    let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    numbers.into_iter().map(|x| x / length).collect()
}

/// Give a section `count` windows of ten bytes, in goes of `go` panels.
fn fill(store: &mut Store, compute: &Compute, section: SectionId, count: usize, go: usize) {
    let streams = Streams::open(store, "test", WIDTH).expect("RAM does not fail");
    let all: Vec<usize> = (0..count).collect();
    for go in all.chunks(go * PANEL) {
        let (done, whole) = streams.done(store, section).expect("readable");
        assert_eq!((done, whole), (go[0], false));
        let ends: Vec<u32> = go.iter().map(|i| 10 * (*i as u32 + 1)).collect();
        let vectors: Vec<f32> = go.iter().flat_map(|i| vector(1000 * count + i)).collect();
        streams.add(store, section, &ends, &vectors, compute.pool()).expect("RAM does not fail");
        store.commit().expect("RAM does not fail");
    }
    assert_eq!(streams.done(store, section).expect("readable"), (count, true));
}

#[test]
fn every_window_is_scored_from_disk_as_from_ram() {
    let compute = Arc::new(Compute::new(2));
    let counts = [5, 4096, 16, 1, 5000, 33];
    let mut store = store();
    let mut sections = Vec::new();
    for (index, count) in counts.into_iter().enumerate() {
        let id = section(&mut store, &format!("s{index}"), 10 * count);
        fill(&mut store, &compute, id, count, 1 + index * 40);
        sections.push(id);
    }
    // One that has none.
    sections.insert(2, section(&mut store, "none", 100));
    let open = |ram| {
        Vectors::open(&store, sections.iter().copied(), ("test", WIDTH), &compute, ram).expect("readable")
    };
    let (all, none, some) = (open(usize::MAX), open(0), open(600_000));
    assert_eq!(all.windows().len(), counts.iter().sum::<usize>());
    assert!(all.bytes() > some.bytes() && some.bytes() > none.bytes());
    assert!(some.bytes() <= 600_000);
    let question = vector(3);
    let scores = all.scores(&store, &question).expect("readable");
    assert_eq!(none.scores(&store, &question).expect("readable"), scores);
    assert_eq!(some.scores(&store, &question).expect("readable"), scores);
    let kept: Vec<SectionId> = sections.iter().copied().filter(|id| *id != sections[2]).collect();
    let mut at = 0;
    for (section, count) in kept.into_iter().zip(counts) {
        for i in 0..count {
            let window = all.windows()[at];
            assert_eq!(
                (window.section, window.start, window.end),
                (section, 10 * i as u32, 10 * i as u32 + 10)
            );
            let cosine: f32 = vector(1000 * count + i).iter().zip(&question).map(|(a, b)| a * b).sum();
            // Rounding to 8 bits moves a number by at most 1/254 of the largest in its group.
            assert!((scores[at] - cosine).abs() < 0.01, "window {i} of {count}: {} for {cosine}", scores[at]);
            at += 1;
        }
    }
}

#[test]
fn the_same_vectors_in_any_number_of_goes_are_the_same_bytes() {
    let compute = Compute::new(1);
    let bytes = |go| {
        let mut store = store();
        let id = section(&mut store, "text", 1000);
        fill(&mut store, &compute, id, 100, go);
        let streams = Streams::find(&store, "test").expect("there");
        assert!(store.section(id).expect("there").bytes(StreamId::TEXT) == 1000);
        (store.read_all(id, streams.ends).unwrap(), store.read_all(id, streams.vectors).unwrap())
    };
    assert_eq!(bytes(1), bytes(3));
    assert_eq!(bytes(1), bytes(100));
}

#[test]
fn another_makers_vectors_are_not_there() {
    let compute = Arc::new(Compute::new(1));
    let mut store = store();
    let id = section(&mut store, "text", 50);
    fill(&mut store, &compute, id, 5, 1);
    assert_eq!(Streams::find(&store, "other"), None);
    for maker in [("other", WIDTH), ("test", 2 * WIDTH)] {
        let vectors = Vectors::open(&store, [id], maker, &compute, usize::MAX).expect("readable");
        assert!(
            vectors.windows().is_empty()
                && vectors.scores(&store, &[0.0; 128][..maker.1]).unwrap().is_empty()
        );
    }
}
