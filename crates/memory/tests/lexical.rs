//! The lexical index against the formula itself, and through the store.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longleaf_memory::lexical::{Analysis, Builder, Hit, Index, StoredIndex, for_each_term};
use longleaf_memory::{Begin, ContentHash, Fingerprint, Ram, Reading, SectionId, Store, StreamId};

/// Small numbers in no order.
struct Noise(u64);

impl Noise {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }

    /// A word of a vocabulary in which few words are frequent.
    fn word(&mut self) -> String {
        let bound = [3, 20, 20, 400, 5000][self.below(5)];
        let n = self.below(bound);
        let ending = ["", "s", "ing", "-7", "'s", ".", "é", ", 1,000"][n % 8];
        format!("w{}{ending}", char::from(b'a' + (n % 26) as u8).to_string().repeat(n / 26 % 9 + 1))
    }

    fn text(&mut self, words: usize) -> String {
        (0..words).map(|_| self.word() + " ").collect()
    }
}

fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    for_each_term(text, Analysis::default(), &mut |_, term| terms.push(term.to_owned()));
    terms
}

/// Every unit's score by the formula, term by term of the query, in double precision.
fn oracle(units: &[String], query: &str) -> Vec<f64> {
    let units: Vec<Vec<String>> = units.iter().map(|unit| terms(unit)).collect();
    let mean = units.iter().map(Vec::len).sum::<usize>() as f64 / units.len() as f64;
    let count = |unit: &Vec<String>, term: &String| unit.iter().filter(|other| *other == term).count() as f64;
    let mut scores = vec![0.0; units.len()];
    for term in terms(query) {
        let df = units.iter().filter(|unit| unit.contains(&term)).count() as f64;
        let idf = (1.0 + (units.len() as f64 - df + 0.5) / (df + 0.5)).ln();
        for (score, unit) in scores.iter_mut().zip(&units) {
            let tf = count(unit, &term);
            *score += idf * tf * 1.9 / (tf + 0.9 * (0.6 + 0.4 * unit.len() as f64 / mean));
        }
    }
    scores
}

/// The units in parts that end before each of `cuts`.
fn index(units: &[String], cuts: &[usize]) -> Index {
    let mut index = Index::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([units.len()]) {
        let mut builder = Builder::new(Analysis::default());
        units[start..end].iter().for_each(|unit| builder.add(unit));
        index.push(&builder.finish()).unwrap();
        start = end;
    }
    index
}

#[test]
fn scores_are_those_of_the_formula_however_the_units_are_spread() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for round in 0..30 {
        let count = 1 + noise.below(300);
        let units: Vec<String> = (0..count)
            .map(|_| {
                let words = noise.below(90);
                noise.text(words)
            })
            .collect();
        let whole = index(&units, &[]);
        let mut cuts: Vec<usize> = (0..noise.below(12)).map(|_| noise.below(count + 1)).collect();
        cuts.sort_unstable();
        let parts = index(&units, &cuts);
        assert_eq!((parts.units(), parts.parts()), (count, cuts.len() + 1));
        for _ in 0..20 {
            let words = noise.below(12);
            let query = noise.text(words);
            let expected = oracle(&units, &query);
            let (mut one, mut many) = (vec![0.0; count], vec![0.0; count]);
            whole.score(&query, &mut one);
            parts.score(&query, &mut many);
            assert_eq!(one, many, "round {round}: parts must not matter");
            for (unit, (score, expected)) in one.iter().zip(&expected).enumerate() {
                let error = (f64::from(*score) - expected).abs();
                assert!(error <= 1e-5 * expected.max(1.0), "unit {unit}: {score}, not {expected}");
            }
            let hits = parts.search(&query, 10);
            let mut ranked: Vec<usize> = (0..count).filter(|unit| one[*unit] > 0.0).collect();
            ranked.sort_by(|a, b| one[*b].total_cmp(&one[*a]).then(a.cmp(b)));
            ranked.truncate(10);
            let first = |part: usize| if part == 0 { 0 } else { cuts[part - 1] };
            let found: Vec<usize> = hits.iter().map(|hit| first(hit.part) + hit.unit).collect();
            assert_eq!(found, ranked, "round {round}: {query}");
        }
    }
}

#[test]
fn the_order_of_words_in_a_query_does_not_matter_and_unknown_words_find_nothing() {
    let units =
        ["The whale swam.", "A white whale, the white one", "Numbers: 1,250 and 3.14"].map(String::from);
    let index = index(&units, &[2]);
    assert_eq!(index.search("white whales", 5), index.search("whale WHITE", 5));
    let best = |query| index.search(query, 1).first().map(|hit: &Hit| (hit.part, hit.unit));
    assert_eq!(best("white whales"), Some((0, 1)));
    assert_eq!(best("1250"), Some((1, 0)));
    assert_eq!(best("3.14"), Some((1, 0)));
    assert_eq!(best("harpoon"), None);
    assert_eq!(best(""), None);
    assert!(Index::new().search("whale", 3).is_empty());
    assert!(index.search("whale", 0).is_empty());
}

#[test]
fn damaged_parts_are_refused_or_harmless() {
    let mut noise = Noise(77);
    let mut builder = Builder::new(Analysis::default());
    for _ in 0..20 {
        builder.add(&noise.text(50));
    }
    let part = builder.finish();
    let query = noise.text(30);
    let mut refused = 0;
    for at in 0..part.len() {
        let mut damaged = part.clone();
        damaged[at] ^= 1 << noise.below(8);
        let mut index = Index::new();
        // Checksums are the store's: here it only must not panic, nor allocate beyond reason.
        if index.push(&damaged).is_ok() {
            index.search(&query, 5);
        } else {
            refused += 1;
            assert_eq!((index.units(), index.parts()), (0, 0));
        }
        assert!(Index::new().push(&part[..at]).is_err() || at == 0);
    }
    assert!(refused > part.len() / 3, "{refused} of {}", part.len());
}

#[test]
fn words_belong_to_the_block_in_which_they_begin() {
    let text = "unbelievable stories";
    // Tokens "un", "believable", " stor", "ies"; blocks of two tokens.
    let mut builder = Builder::new(Analysis::default());
    builder.add_tokens(text.as_bytes(), &[2, 12, 17, 20], 2);
    let mut cut = Builder::new(Analysis::default());
    cut.add_tokens(text.as_bytes(), &[2, 12, 17, 20], 1);
    for (builder, units, word, story) in [(builder, 2, 0, 1), (cut, 4, 0, 2)] {
        let mut index = Index::new();
        index.push(&builder.finish()).unwrap();
        assert_eq!(index.units(), units);
        assert_eq!(index.search("unbelievable", 9).iter().map(|hit| hit.unit).collect::<Vec<_>>(), [word]);
        assert_eq!(index.search("story", 9).iter().map(|hit| hit.unit).collect::<Vec<_>>(), [story]);
    }
}

/// Words as tokens, blocks of 8.
fn tokens(text: &str) -> (Vec<u32>, Vec<u32>) {
    let ends: Vec<u32> = text.match_indices(' ').map(|(at, _)| at as u32 + 1).collect();
    ((0..ends.len() as u32).collect(), ends)
}

fn add(store: &mut Store, name: &str, texts: &[&str]) {
    let Begin::Read(mut reading) = store.begin(name, ContentHash::of(texts.concat().as_bytes())).unwrap()
    else {
        return;
    };
    for text in texts {
        if let Reading::Partial(_) = reading.section(ContentHash::of(text.as_bytes())).unwrap() {
            let (ids, ends) = tokens(text);
            reading.text(text.as_bytes()).unwrap();
            reading.tokens(&ids, &ends).unwrap();
            let mut builder = Builder::new(Analysis::default());
            builder.add_tokens(text.as_bytes(), &ends, 8);
            reading.rows(StreamId::LEXICAL, &builder.finish()).unwrap();
            reading.end_section();
        }
    }
    reading.finish().unwrap();
}

#[test]
fn rare_terms_have_the_idf_of_the_formula_and_unknown_ones_none() {
    let mut store = Store::create_in(Arc::new(Ram::new()), Fingerprint([1; 32])).unwrap();
    // Blocks of eight words: one has "lamps", three have "the".
    add(&mut store, "a", &["the sea the gulls the cliffs the lamps the sea the gulls", "the end"]);
    let index = StoredIndex::open(&store, usize::MAX).unwrap();
    let idf = |df: f64| (1.0 + (index.units() as f64 - df + 0.5) / (df + 0.5)).ln();
    let found = index.idfs(&store, "Where was the lamp?").unwrap();
    assert_eq!(index.units(), 3);
    assert_eq!(found, BTreeMap::from([("the".to_owned(), idf(3.0)), ("lamp".to_owned(), idf(1.0))]));
}

#[test]
fn the_store_keeps_it_and_it_can_be_made_again_from_the_text() {
    let ram = Ram::new();
    let mut store = Store::create_in(Arc::new(ram.clone()), Fingerprint([1; 32])).unwrap();
    let mut noise = Noise(5);
    let texts: Vec<String> = (0..4).map(|_| noise.text(100)).collect();
    let query = noise.text(6);
    add(&mut store, "a", &[&texts[0], &texts[1]]);
    add(&mut store, "b", &[&texts[2]]);
    add(&mut store, "a", &[&texts[0], &texts[3]]);
    drop(store);

    let mut store = Store::open_in(Arc::new(ram), Fingerprint([1; 32])).unwrap();
    let hits = |store: &Store| {
        let index = StoredIndex::open(store, usize::MAX).unwrap();
        let hits = index.search(store, &query, 20).unwrap();
        // Kept, in part, or read for every query: the same hits, bit for bit.
        for ram in [0, index.bytes() / 3, index.bytes() / 2] {
            let small = StoredIndex::open(store, ram).unwrap();
            let lengths = 4 * small.units();
            assert!(small.bytes() <= ram + lengths && small.bytes() < index.bytes());
            assert_eq!(small.search(store, &query, 20).unwrap(), hits);
            assert_eq!(small.idfs(store, &query).unwrap(), index.idfs(store, &query).unwrap());
        }
        let of = |(unit, score): (usize, f32)| {
            let (section, block) = index.place(unit);
            (section, block, score.to_bits())
        };
        hits.into_iter().map(of).collect::<BTreeSet<_>>()
    };
    let found = hits(&store);
    assert!(found.len() > 5);
    // What was replaced does not count any more, as if it had never been there.
    let fresh = Ram::new();
    let mut other = Store::create_in(Arc::new(fresh), Fingerprint([1; 32])).unwrap();
    add(&mut other, "b", &[&texts[2]]);
    add(&mut other, "a", &[&texts[0], &texts[3]]);
    let scores = |found: &BTreeSet<(SectionId, usize, u32)>| {
        let mut counts = BTreeMap::<(usize, u32), usize>::new();
        for (_, block, score) in found {
            *counts.entry((*block, *score)).or_default() += 1;
        }
        counts
    };
    assert_eq!(scores(&found), scores(&hits(&other)), "neither order nor history matters");

    let sections: Vec<_> = store.sections().map(|section| section.id).collect();
    for section in sections {
        let before = store.read_all(section, StreamId::LEXICAL).unwrap();
        let text = store.read_all(section, StreamId::TEXT).unwrap();
        let ends = store.read_u32(section, StreamId::ENDS).unwrap();
        store.clear(section, StreamId::LEXICAL).unwrap();
        let mut builder = Builder::new(Analysis::default());
        builder.add_tokens(&text, &ends, 8);
        store.deepen(section, StreamId::LEXICAL, &builder.finish()).unwrap();
        store.commit().unwrap();
        assert_eq!(store.read_all(section, StreamId::LEXICAL).unwrap(), before);
    }
    store.reload().unwrap();
    assert_eq!(hits(&store), found);
    let before = store.usage();
    let after = store.compact(&mut |_, _| ()).unwrap();
    assert!(before.dead > 0 && after.dead == 0 && after.disk < before.disk);
    assert_eq!(hits(&store), found);
}
