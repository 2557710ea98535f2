//! The scan of finder keys, next to a plain loop over them, and whatever stays in RAM and however many threads.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
use longleaf_kernel::{BLOCK_TOKENS, Compute, DType, Matrix, PackedMatrix, Pool, block};
use longleaf_memory::finder::{Finder, Head, Profile, Queries};
use longleaf_memory::{Begin, ContentHash, Fingerprint, Ram, Reading, SectionId, Store, StreamId};
use longleaf_model::{Config, Decoder};
use std::path::Path;
use std::sync::Arc;

fn config() -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/smollm2");
    Decoder::load(&path, &Arc::new(Compute::new(1))).expect("a tiny model").config().clone()
}

fn profile() -> Profile {
    let heads = vec![Head { layer: 0, head: 1 }, Head { layer: 1, head: 2 }];
    Profile { heads, run: 256, distance: 100, passages: 3 }
}

/// Numbers that look random, from -1 to 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1_u64 << 23) as f32) - 1.0
    }
}

/// Keys of one stream: unlike each other, or all alike but for a few that are a hundred times as long.
fn keys(tokens: usize, width: usize, noise: &mut Noise, adversarial: bool) -> Vec<f32> {
    let alike: Vec<f32> = (0..width).map(|_| noise.next()).collect();
    let mut keys = Vec::with_capacity(tokens * width);
    for token in 0..tokens {
        let far = token % 97 == 13;
        for alike in &alike {
            keys.push(match (adversarial, far) {
                (false, _) => 4.0 * noise.next(),
                (true, false) => *alike,
                (true, true) => 100.0 * noise.next(),
            });
        }
    }
    keys
}

/// Sections of these lengths, and the keys of each stream as they are stored, token by token.
fn store(lengths: &[usize], adversarial: bool) -> (Store, Vec<SectionId>, Vec<Vec<Vec<f32>>>) {
    let (config, profile, pool) = (config(), profile(), Pool::new(1));
    let width = Profile::width(&config);
    let mut store = Store::create_in(Arc::new(Ram::new()), Fingerprint([7; 32])).unwrap();
    let named = profile.streams(&config);
    let row = Profile::panel_bytes(&config) as u32;
    let streams: Vec<StreamId> =
        named.iter().map(|stream| store.stream(&stream.name(), row).unwrap()).collect();
    let mut noise = Noise(9);
    let (mut sections, mut stored) = (Vec::new(), vec![Vec::new(); streams.len()]);
    let Begin::Read(mut appender) = store.begin("text", ContentHash([1; 32])).unwrap() else { panic!() };
    for (index, tokens) in lengths.iter().enumerate() {
        let Reading::Partial(section) = appender.section(ContentHash::of(&index.to_le_bytes())).unwrap()
        else {
            panic!()
        };
        appender.tokens(&vec![0; *tokens], &vec![0; *tokens]).unwrap();
        for (stream, stored) in streams.iter().zip(&mut stored) {
            let keys = keys(*tokens, width, &mut noise, adversarial);
            let row_bytes = DType::Q8_0.row_bytes(width).unwrap();
            for run in keys.chunks(profile.run * width) {
                let mut encoded = vec![0; run.len() / width * row_bytes];
                block::encode_q8_0(run, &mut encoded);
                let matrix = Matrix::new(DType::Q8_0, run.len() / width, width, &encoded).unwrap();
                let packed = PackedMatrix::pack(&pool, matrix);
                appender.rows(*stream, packed.panels_bytes()).unwrap();
                for token in 0..run.len() / width {
                    let mut key = vec![0.0; width];
                    packed.decode_row(token, &mut key);
                    stored.push(key);
                }
            }
        }
        appender.end_section();
        sections.push(section);
    }
    appender.finish().unwrap();
    (store, sections, stored)
}

fn queries(tokens: usize) -> Queries {
    let width = Profile::width(&config());
    let mut noise = Noise(3);
    let head = |_| (0..tokens * width).map(|_| 2.0 * noise.next()).collect();
    Queries { heads: (0..profile().heads.len()).map(head).collect(), tokens }
}

#[test]
fn a_scan_is_what_a_plain_loop_gives() {
    let (config, profile) = (config(), profile());
    let root = f64::from(config.head_dim as f32).sqrt();
    for adversarial in [false, true] {
        let lengths = [1, 130, 5000, 127, 128, 129, 9000];
        let (store, sections, stored) = store(&lengths, adversarial);
        let compute = Arc::new(Compute::new(2));
        let finder = Finder::open(&store, &sections, &profile, &config, &compute, 0);
        let queries = queries(7);
        let masses = finder.masses(&store, &queries).unwrap();
        let blocks: Vec<(usize, usize)> = lengths
            .iter()
            .scan(0, |first, len| {
                *first += len;
                Some((*first - len, *len))
            })
            .flat_map(|(first, len)| {
                let at = (0..len).step_by(BLOCK_TOKENS);
                at.map(move |at| (first + at, BLOCK_TOKENS.min(len - at)))
            })
            .collect();
        assert_eq!(finder.blocks().len(), blocks.len());
        for ((head, masses), stored) in queries.heads.iter().zip(&masses).zip(&stored) {
            for (token, query) in head.chunks_exact(Profile::width(&config)).enumerate() {
                for (block, (first, len)) in blocks.iter().enumerate() {
                    let score = |key: &Vec<f32>| {
                        key.iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>() / root
                    };
                    let scores: Vec<f64> = stored[*first..first + len].iter().map(score).collect();
                    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let mass = most + scores.iter().map(|score| (score - most).exp()).sum::<f64>().ln();
                    let found = f64::from(masses[token * blocks.len() + block]);
                    let error = (found - mass).abs() / mass.abs().max(1.0);
                    assert!(error < 2e-3, "block {block}, token {token}: {found}, not {mass}");
                }
            }
        }
    }
}

/// Sections that were read for their words alone stand among the others: they score nothing, and change no score.
#[test]
fn blocks_without_keys_score_nothing() {
    let (config, profile, compute) = (config(), profile(), Arc::new(Compute::new(2)));
    let lengths = [300, 1000, 40, 5000, 129, 700];
    let (mut store, sections, _) = store(&lengths, false);
    let queries = queries(6);
    for without in [vec![1, 4], vec![0, 1, 4, 5], vec![0, 1, 2, 3, 4, 5]] {
        let keyed: Vec<_> =
            (0..6).filter(|index| !without.contains(index)).map(|index| sections[index]).collect();
        let alone = Finder::open(&store, &keyed, &profile, &config, &compute, usize::MAX);
        let mut expected = alone.scores(&store, &queries, 2).unwrap().into_iter();
        for index in &without {
            for stream in profile.streams(&config) {
                let stream = store.find_stream(&stream.name()).unwrap();
                store.clear(sections[*index], stream).unwrap();
            }
        }
        store.commit().unwrap();
        let finder = Finder::open(&store, &sections, &profile, &config, &compute, usize::MAX);
        let blocks: usize = lengths.iter().map(|tokens| tokens.div_ceil(BLOCK_TOKENS)).sum();
        assert_eq!((finder.blocks().len(), finder.keyed()), (blocks, alone.keyed()));
        for (block, score) in finder.blocks().iter().zip(finder.scores(&store, &queries, 2).unwrap()) {
            let expected = if keyed.contains(&block.section) { expected.next().unwrap() } else { 0.0 };
            assert_eq!(score.to_bits(), expected.to_bits(), "{block:?} without {without:?}");
        }
        assert_eq!(expected.next(), None);
    }
}

#[test]
fn scores_add_up_what_stands_out() {
    let (config, profile) = (config(), profile());
    // 4 blocks, of which one can stand out for a token, and 394, of which 64 can.
    for lengths in [vec![300, 40], vec![50_000, 300]] {
        let (store, sections, _) = store(&lengths, false);
        let finder =
            Finder::open(&store, &sections, &profile, &config, &Arc::new(Compute::new(2)), usize::MAX);
        let (queries, blocks) = (queries(6), finder.blocks().len());
        let masses = finder.masses(&store, &queries).unwrap();
        let rank = if blocks == 4 { 1 } else { 64 };
        let mut expected = vec![0.0; blocks];
        for row in masses.iter().flat_map(|masses| masses.chunks_exact(blocks).skip(2)) {
            let mut sorted = row.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            for (expected, mass) in expected.iter_mut().zip(row) {
                *expected += f64::from((mass - sorted[rank]).max(0.0)) / masses.len() as f64;
            }
        }
        let scores = finder.scores(&store, &queries, 2).unwrap();
        assert!(scores.iter().any(|score| *score > 0.0));
        for (score, expected) in scores.iter().zip(expected) {
            assert!((f64::from(*score) - expected).abs() < 1e-4, "{score}, not {expected}");
        }
    }
}

#[test]
fn scores_do_not_depend_on_threads_or_on_what_stays_in_ram() {
    let (config, profile) = (config(), profile());
    let (store, sections, _) = store(&[20_000, 70, 9_000], false);
    let queries = queries(5);
    let panel = Profile::panel_bytes(&config);
    let mut expected: Option<Vec<f32>> = None;
    for threads in [1, 2, 3] {
        let compute = Arc::new(Compute::new(threads));
        for ram in [0, 600 * panel, usize::MAX] {
            let finder = Finder::open(&store, &sections, &profile, &config, &compute, ram);
            for question in 0..4 {
                let scores = finder.scores(&store, &queries, 1).unwrap();
                assert_eq!(&scores, expected.get_or_insert_with(|| scores.clone()), "question {question}");
                assert!(finder.bytes() <= ram && (finder.bytes() > 0) == (ram > 0 && question > 0));
            }
        }
    }
}

#[test]
fn a_flaw_on_disk_is_an_error_whoever_comes_upon_it() {
    let ram = Arc::new(Ram::new());
    let mut store = Store::create_in(ram.clone(), Fingerprint([7; 32])).unwrap();
    let (config, profile) = (config(), profile());
    let row = Profile::panel_bytes(&config);
    let names: Vec<String> = profile.streams(&config).iter().map(|stream| stream.name()).collect();
    let streams: Vec<StreamId> = names.iter().map(|name| store.stream(name, row as u32).unwrap()).collect();
    let Begin::Read(mut appender) = store.begin("text", ContentHash([1; 32])).unwrap() else { panic!() };
    let Reading::Partial(section) = appender.section(ContentHash([2; 32])).unwrap() else { panic!() };
    let tokens = 30_000_usize;
    appender.tokens(&vec![0; tokens], &vec![0; tokens]).unwrap();
    let panels: usize =
        (0..tokens).step_by(profile.run).map(|at| (tokens - at).min(profile.run).div_ceil(16)).sum();
    for stream in &streams {
        appender.rows(*stream, &vec![0; panels * row]).unwrap();
    }
    appender.end_section();
    appender.finish().unwrap();
    let (file, size) = ram.sizes().into_iter().find(|(name, _)| name.starts_with(&names[1])).unwrap();
    let finder = Finder::open(&store, &[section], &profile, &config, &Arc::new(Compute::new(2)), 0);
    finder.scores(&store, &queries(3), 0).unwrap();
    ram.flip(&file, size / 2, 8);
    let error = finder.scores(&store, &queries(3), 0).unwrap_err().to_string();
    assert!(error.contains("does not match its checksum"), "{error}");
}
