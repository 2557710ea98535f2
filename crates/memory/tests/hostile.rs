//! Bytes that no store of ours wrote, with checksums that fit: refused or harmless, never a panic.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::fs;
use std::path::Path;

use longleaf_memory::fuzzing;
use longleaf_memory::lexical::{Analysis, Builder};

type Parse = fn(&[u8]) -> bool;

const PARSERS: [(&str, Parse); 3] = [
    ("store_manifest", |bytes| fuzzing::manifest(bytes).is_ok()),
    ("store_catalogue", |bytes| fuzzing::catalogue(bytes).is_ok()),
    ("store_lexical", |bytes| fuzzing::lexical(bytes).is_ok()),
];

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

/// A document `a` of one section, twice in it, which is the ten bytes that [`fuzzing::catalogue`] provides.
fn good_catalogue() -> Vec<u8> {
    let hash = [7; 32];
    [&[1, 35, 0, 1, b'a'][..], &hash, &[2, 33, 1], &hash, &[4, 5, 1, 1, 1, 0, 10, 5, 1, 1, 6, 3, 0, 1, 1]]
        .concat()
}

#[test]
fn the_corpus_ends_as_its_names_say() {
    assert!(fuzzing::catalogue(&good_catalogue()).is_ok());
    for (target, parse) in PARSERS {
        let files = corpus(target);
        assert!(files.len() >= 2, "{target} has a good file and a bad one");
        for (name, bytes) in files {
            assert_eq!(parse(&bytes), name.starts_with("good"), "{target}/{name}");
        }
    }
}

#[test]
fn mutations_of_good_files_never_panic() {
    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut below = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % n
    };
    for (target, parse) in PARSERS {
        let good: Vec<_> = corpus(target).into_iter().filter(|(name, _)| name.starts_with("good")).collect();
        let (mut refused, rounds) = (0, 4000);
        for _ in 0..rounds {
            let mut bytes = good[below(good.len())].1.clone();
            for _ in 0..=below(3) {
                let at = below(bytes.len());
                match below(5) {
                    0 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
                    1 => bytes[at] ^= 1 << below(8),
                    2 => bytes.truncate(at.max(1)),
                    3 => bytes.insert(at, below(256) as u8),
                    _ => bytes.extend_from_within(at..),
                }
            }
            refused += usize::from(!parse(&bytes));
        }
        assert!(refused > rounds / 10, "{target}: {refused} of {rounds} refused");
    }
}

#[test]
fn lengths_that_lie_cost_nothing() {
    // Each promises more than the bytes behind it hold; being refused at once is all there is to see.
    let mut part = Builder::new(Analysis::default());
    part.add("a word");
    let part = part.finish();
    let mut lying = part.clone();
    lying.splice(9..10, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    let len = lying.len() as u32;
    lying[4..8].copy_from_slice(&len.to_le_bytes());
    assert!(fuzzing::lexical(&part).is_ok() && fuzzing::lexical(&lying).is_err());
    let huge =
        [&[4, 14, 1, 1, 1, 0][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat();
    assert!(fuzzing::catalogue(&[&good_catalogue()[..70], &huge].concat()).is_err());
    // The same ten bytes for two sections: reading both would give more than there is.
    let second = [&[2, 33, 2][..], &[8; 32], &[4, 5, 2, 1, 1, 0, 10]].concat();
    assert!(fuzzing::catalogue(&[good_catalogue(), second].concat()).is_err());
}
