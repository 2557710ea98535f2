//! What holds for adaptive attention, whatever the weights: it is dense attention where it reads everything, and what
//! it reads depends neither on how a text is cut nor on threads nor on where blocks come from.
use longleaf_kernel::{BLOCK_TOKENS, Compute, KvFormat};
use longleaf_memory::adaptive::{
    Adaptive, Budget, FarBlocks, Positions, RamBlocks, Settings, Statistics, Summarizer,
};
use longleaf_model::{Attention, Decoder, Dense, Scratch, Visible};
use std::path::Path;
use std::sync::Arc;

const MODELS: [&str; 5] = ["smollm2", "mistral", "qwen2", "qwen3", "gguf/smollm2-q4_1.gguf"];

fn load(name: &str, threads: usize) -> Decoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(name);
    Decoder::load(&path, &Arc::new(Compute::new(threads))).expect("a good model")
}

fn text(decoder: &Decoder, len: usize) -> Vec<u32> {
    let vocab = decoder.config().vocab_size as u64;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab) as u32
    };
    (0..len).map(|_| next()).collect()
}

fn adaptive(decoder: &Decoder, format: KvFormat, settings: Settings, length: usize) -> Adaptive<RamBlocks> {
    let config = decoder.config();
    let none = RamBlocks::new(format, config.layers, config.kv_size());
    Adaptive::new(config, decoder.compute(), format, settings, none, length)
}

fn dense(decoder: &Decoder, format: KvFormat, length: usize) -> Dense {
    Dense::new(decoder.config(), Arc::clone(decoder.compute()), format, Visible::All, length)
}

/// The logits after every token from `first` on, `tokens` being taken in in pieces that end at `cuts` and at the end.
fn logits<A: Attention>(
    decoder: &Decoder,
    attention: &mut A,
    first: usize,
    tokens: &[u32],
    cuts: &[usize],
) -> Vec<f32> {
    let (mut scratch, mut all, mut start) = (Scratch::new(), Vec::new(), 0);
    for end in cuts.iter().copied().chain([tokens.len()]) {
        decoder
            .forward_all(&tokens[start..end], first + start, attention, &mut scratch, &mut |_, logits| {
                all.extend_from_slice(logits);
            })
            .expect("blocks in RAM do not fail");
        start = end;
    }
    all
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// The largest difference, as a share of the largest number.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "as many logits");
    let largest = b.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn unlimited_is_dense_bit_for_bit() {
    for name in MODELS {
        let decoder = load(name, 2);
        let tokens = text(&decoder, 900);
        let expected = logits(&decoder, &mut dense(&decoder, KvFormat::F32, 900), 0, &tokens, &[]);
        let settings =
            Settings { sinks: BLOCK_TOKENS, window: 2, budget: Budget::Unlimited, ..Settings::default() };
        for cuts in [&[][..], &[1, 2, 127, 128, 129, 513]] {
            let mut all = adaptive(&decoder, KvFormat::F32, settings, 900);
            let found = logits(&decoder, &mut all, 0, &tokens, cuts);
            assert!(bits(&expected) == bits(&found), "{name}, cut at {cuts:?}");
        }
        // Sinks that are no whole block shift the blocks, and with them the order of sums.
        let mut all = adaptive(&decoder, KvFormat::F32, Settings { sinks: 5, ..settings }, 900);
        let found = logits(&decoder, &mut all, 0, &tokens, &[]);
        assert!(difference(&found, &expected) < 1e-4, "{name}: {}", difference(&found, &expected));
    }
}

/// Reads a text by dense attention and keeps its blocks as far text.
fn read(decoder: &Decoder, tokens: &[u32]) -> RamBlocks {
    let config = decoder.config();
    let mut hidden = Vec::new();
    let mut scratch = Scratch::new();
    let mut dense = dense(decoder, KvFormat::F32, 4096);
    let mut far = RamBlocks::new(KvFormat::F32, config.layers, config.kv_size());
    let mut summarizer = Summarizer::new(config, Arc::clone(decoder.compute()), 4096);
    for (index, piece) in tokens.chunks(BLOCK_TOKENS).enumerate() {
        let first = index * BLOCK_TOKENS;
        decoder.embed(piece, &mut hidden);
        for layer in 0..config.layers {
            let qkv = decoder.project_qkv(layer, &hidden, &mut scratch);
            let mut summary = Vec::new();
            summarizer.summarize(qkv.queries, qkv.keys, qkv.key_bias, &mut summary);
            far.push(layer, qkv.keys, qkv.values, &summary);
            let positions = first..first + piece.len();
            let Ok(()) =
                decoder.run_layers(layer..layer + 1, positions, &mut hidden, &mut dense, &mut scratch);
        }
    }
    far
}

#[test]
fn far_text_need_not_be_read_again() {
    for name in ["smollm2", "qwen2", "qwen3"] {
        let decoder = load(name, 2);
        let tokens = text(&decoder, 4 * BLOCK_TOKENS + 150);
        let (before, after) = tokens.split_at(4 * BLOCK_TOKENS);
        let whole = logits(&decoder, &mut dense(&decoder, KvFormat::F32, 4096), 0, &tokens, &[]);
        let vocab = decoder.config().vocab_size;
        let settings = Settings { sinks: 20, window: 4, budget: Budget::Unlimited, ..Settings::default() };
        let far = read(&decoder, before);
        assert_eq!((far.len(), far.tokens(3)), (4, BLOCK_TOKENS));
        let mut all = Adaptive::new(decoder.config(), decoder.compute(), KvFormat::F32, settings, far, 4096);
        let found = logits(&decoder, &mut all, 0, after, &[30]);
        let difference = difference(&found, &whole[before.len() * vocab..]);
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

fn tight(positions: Positions) -> Settings {
    // The windows of these models are small.
    let share = 100.0;
    Settings {
        sinks: 6,
        window: 2,
        budget: Budget::Blocks(2),
        positions,
        share,
        sample: 2,
        ..Settings::default()
    }
}

#[test]
fn neither_cuts_nor_threads_nor_ram_change_a_bit() {
    for name in ["smollm2", "qwen2"] {
        let decoder = load(name, 2);
        let tokens = text(&decoder, 1000);
        for positions in [Positions::Fitting, Positions::Contiguous, Positions::Level(64)] {
            for budget in [Budget::Blocks(2), Budget::Mass(0.4)] {
                let settings = Settings { budget, ..tight(positions) };
                let mut whole = adaptive(&decoder, KvFormat::Bf16, settings, 1);
                let expected = bits(&logits(&decoder, &mut whole, 0, &tokens, &[]));
                let Statistics { choices, blocks, read, .. } = whole.statistics();
                // Random weights attend evenly: little can be left unread.
                let all = matches!(budget, Budget::Mass(_));
                assert!(choices > 0 && read > 0 && (all || read < blocks), "{name}: {read} of {blocks}");
                let one = load(name, 1);
                let singly: Vec<usize> = (1..1000).collect();
                for (decoder, cuts) in
                    [(&one, &[5, 6, 7, 390][..]), (&decoder, &[128, 134, 600]), (&one, &singly)]
                {
                    let mut again = adaptive(decoder, KvFormat::Bf16, settings, 1);
                    let found = bits(&logits(decoder, &mut again, 0, &tokens, cuts));
                    assert!(expected == found, "{name}, {positions:?}, {budget:?}, {} cuts", cuts.len());
                    // Sums over layers, which come in another order.
                    let (found, expected) = (again.statistics(), whole.statistics());
                    assert_eq!((found.read, found.escalations), (expected.read, expected.escalations));
                    assert!((found.bound - expected.bound).abs() < 1e-9, "{found:?}, {expected:?}");
                }
            }
        }
    }
}

#[test]
fn more_budget_comes_nearer_to_dense() {
    let decoder = load("smollm2", 2);
    let tokens = text(&decoder, 1500);
    let expected = logits(&decoder, &mut dense(&decoder, KvFormat::F32, 1500), 0, &tokens, &[]);
    let mut last = f32::INFINITY;
    for blocks in [0, 3, 9, 100] {
        let settings =
            Settings { window: 1, budget: Budget::Blocks(blocks), share: 100.0, ..tight(Positions::Fitting) };
        let mut some = adaptive(&decoder, KvFormat::F32, settings, 1);
        let found = logits(&decoder, &mut some, 0, &tokens, &[]);
        let off: f32 = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).sum();
        assert!(off < last, "{blocks} blocks: {off} after {last}");
        last = off;
        if blocks == 100 {
            assert!(difference(&found, &expected) < 1e-4, "all blocks are dense attention");
            assert!(some.statistics().bound_share() < 1e-9, "nothing unread, nothing in doubt");
        }
    }
}

/// Shares of the far attention choose first; if what is unread is still more than the budget's mass of all that is read,
/// more is read.
#[test]
fn a_bound_above_the_budget_reads_more() {
    let decoder = load("smollm2", 2);
    let tokens = text(&decoder, 2500);
    let of = |budget: Budget| {
        let settings = Settings { window: 1, budget, share: 100.0, ..tight(Positions::Fitting) };
        let mut some = adaptive(&decoder, KvFormat::F32, settings, 1);
        logits(&decoder, &mut some, 0, &tokens, &[]);
        some.statistics()
    };
    // Nothing else decides how many blocks come first: a number has no bound to keep.
    let (number, mass) = (of(Budget::Blocks(4)), of(Budget::Mass(0.5)));
    assert_eq!((number.escalations, number.missed), (0, 0), "{number:?}");
    assert!(mass.escalations > 0 && mass.missed == 0, "{mass:?}");
    assert!(mass.bound_share() < number.bound_share(), "{mass:?} {number:?}");
}

#[test]
fn a_pinned_choice_stays_and_forgets_nothing_since() {
    let decoder = load("smollm2", 2);
    let tokens = text(&decoder, 10 * BLOCK_TOKENS);
    let far = read(&decoder, &tokens[..6 * BLOCK_TOKENS]);
    let mut pinned = Adaptive::new(
        decoder.config(),
        decoder.compute(),
        KvFormat::F32,
        tight(Positions::Contiguous),
        far,
        4096,
    );
    let own = &tokens[6 * BLOCK_TOKENS..];
    let mut scratch = Scratch::new();
    decoder.read(&own[..6], 0, &mut pinned, &mut scratch).expect("RAM");
    pinned.pin();
    decoder.read(&own[6..40], 6, &mut pinned, &mut scratch).expect("RAM");
    let chosen: Vec<_> = pinned.chosen().collect();
    assert!(chosen.iter().all(|blocks| blocks.len() == 2), "{chosen:?}");
    decoder.read(&own[40..], 40, &mut pinned, &mut scratch).expect("RAM");
    assert_eq!(pinned.chosen().collect::<Vec<_>>(), chosen, "long after");
    pinned.release();
    decoder.read(&tokens[..200], own.len(), &mut pinned, &mut scratch).expect("RAM");
    assert!(pinned.statistics().choices > chosen.len(), "chosen anew");
}
