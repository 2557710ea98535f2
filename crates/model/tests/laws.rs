//! What holds for every decoder, whatever its weights: results depend neither on how a run of tokens is cut, nor
//! on threads, nor on what a cache held before. (In Coarse they do depend on the cut: a short pass is Fast.)
use longleaf_kernel::{Compute, KvFormat, Precision};
use longleaf_model::{Attention, Batch, Decoder, Dense, PREFILL_TOKENS, Qkv, RopeScaling, Scratch, Visible};
use proptest::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const MODELS: [&str; 7] = [
    "smollm2",
    "mistral",
    "qwen2",
    "qwen3",
    "llama-dynamic",
    "gguf/smollm2-q4_1.gguf",
    "gguf/wide-q4_k.gguf",
];

fn load(name: &str, threads: usize) -> Decoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(name);
    Decoder::load(&path, &Arc::new(Compute::new(threads))).expect("a good model")
}

fn dense(decoder: &Decoder, format: KvFormat, visible: Visible) -> Dense {
    Dense::new(decoder.config(), Arc::clone(decoder.compute()), format, visible, 700)
}

fn prompt(decoder: &Decoder, len: usize) -> Vec<u32> {
    let vocab = decoder.config().vocab_size as u64;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab) as u32
    };
    (0..len).map(|_| next()).collect()
}

/// The bits of the logits after every token, `tokens` being taken in in pieces that end at `cuts` and at the end.
fn bits(decoder: &Decoder, dense: &mut Dense, tokens: &[u32], cuts: &[usize]) -> Vec<u32> {
    let (mut scratch, mut bits, mut start) = (Scratch::new(), Vec::new(), dense.len());
    for end in cuts.iter().copied().chain([tokens.len()]).filter(|end| *end > 0) {
        if end <= start {
            continue;
        }
        decoder
            .forward_all(&tokens[start..end], start, dense, &mut scratch, &mut |_, logits| {
                bits.extend(logits.iter().map(|x| x.to_bits()));
            })
            .expect("dense attention cannot fail");
        start = end;
    }
    bits
}

fn visibles() -> [Visible; 2] {
    [Visible::All, Visible::Local { sinks: 5, window: 150 }]
}

#[test]
fn any_cut_gives_the_same_bits() {
    for name in MODELS {
        let decoder = load(name, 2);
        let tokens = prompt(&decoder, PREFILL_TOKENS + 150);
        for visible in visibles() {
            for format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
                let whole = bits(&decoder, &mut dense(&decoder, format, visible), &tokens, &[]);
                let all: Vec<usize> = (0..tokens.len()).collect();
                for cuts in [&[1, 2, 3][..], &[127, 128, 129, 400], &[513], &all] {
                    let cut = bits(&decoder, &mut dense(&decoder, format, visible), &tokens, cuts);
                    assert!(
                        whole == cut,
                        "{name}, {visible:?}, {format:?}, cut at {:?}",
                        &cuts[..3.min(cuts.len())]
                    );
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn random_cuts_give_the_same_bits(mut cuts in prop::collection::vec(1_usize..300, 1..12), which in 0..7_usize) {
        cuts.sort_unstable();
        let decoder = load(MODELS[which], 1);
        let tokens = prompt(&decoder, 300);
        for (visible, format) in visibles().into_iter().zip([KvFormat::Bf16, KvFormat::Int8]) {
            let whole = bits(&decoder, &mut dense(&decoder, format, visible), &tokens, &[]);
            let cut = bits(&decoder, &mut dense(&decoder, format, visible), &tokens, &cuts);
            prop_assert!(whole == cut, "{} {format:?} cut at {:?}", MODELS[which], cuts);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for name in MODELS {
        let one = load(name, 1);
        let tokens = prompt(&one, 200);
        for format in [KvFormat::Bf16, KvFormat::Int8] {
            let expected = bits(&one, &mut dense(&one, format, Visible::All), &tokens, &[77, 78]);
            for threads in [2, 3, 5] {
                let many = load(name, threads);
                let found = bits(&many, &mut dense(&many, format, Visible::All), &tokens, &[77, 78]);
                assert!(expected == found, "{name}, {format:?}, on {threads} threads");
            }
        }
    }
}

#[test]
fn coarse_passes_are_the_same_on_any_number_of_threads_and_short_ones_are_fast() {
    for name in ["gguf/smollm2-q4_1.gguf", "gguf/wide-q4_k.gguf"] {
        let pass = |precision, threads, len| {
            let decoder = load(name, threads).with_precision(precision);
            bits(&decoder, &mut dense(&decoder, KvFormat::Int8, Visible::All), &prompt(&decoder, len), &[])
        };
        for len in [1, 63, 64, 200] {
            let coarse = pass(Precision::Coarse, 1, len);
            assert!(coarse == pass(Precision::Coarse, 3, len), "{name}: {len} tokens, 3 threads");
            assert!(len >= 64 || coarse == pass(Precision::Fast, 1, len), "{name}: {len} tokens");
        }
    }
}

#[test]
fn forward_and_read_agree_with_forward_all() {
    let decoder = load("qwen3", 2);
    let (vocab, tokens) = (decoder.config().vocab_size, prompt(&decoder, 600));
    let expected = bits(&decoder, &mut dense(&decoder, KvFormat::F32, Visible::All), &tokens, &[]);
    let (mut cache, mut scratch) = (dense(&decoder, KvFormat::F32, Visible::All), Scratch::new());
    decoder.read(&tokens[..540], 0, &mut cache, &mut scratch).expect("cannot fail");
    for end in [599, 600] {
        let start = cache.len();
        let logits =
            decoder.forward(&tokens[start..end], start, &mut cache, &mut scratch).expect("cannot fail");
        let found: Vec<u32> = logits.iter().map(|x| x.to_bits()).collect();
        assert!(expected[(end - 1) * vocab..end * vocab] == found, "after {end} tokens");
    }
}

#[test]
fn a_truncated_cache_is_a_fresh_one() {
    for name in MODELS {
        let decoder = load(name, 1);
        let tokens = prompt(&decoder, 420);
        for visible in visibles() {
            let expected = bits(&decoder, &mut dense(&decoder, KvFormat::Bf16, visible), &tokens, &[]);
            let per_token = decoder.config().vocab_size;
            for keep in [0, 3, 5, 128, 133, 256, 300, 419, 420] {
                let mut other = tokens.clone();
                other[keep..].reverse();
                let mut cache = dense(&decoder, KvFormat::Bf16, visible);
                bits(&decoder, &mut cache, &other, &[]);
                let kept = cache.truncate(keep);
                assert!(kept == keep || kept == 0, "{kept} of {keep}");
                if visible == Visible::All && name != "mistral" {
                    assert_eq!(kept, keep, "{name}: nothing was dropped");
                }
                let found = bits(&decoder, &mut cache, &tokens, &[]);
                assert!(expected[kept * per_token..] == found, "{name}, {visible:?}, {keep} kept as {kept}");
            }
        }
    }
}

#[test]
fn a_window_as_long_as_the_text_is_none_and_a_short_one_bounds_memory() {
    let decoder = load("smollm2", 1);
    let tokens = prompt(&decoder, 640);
    let all = bits(&decoder, &mut dense(&decoder, KvFormat::F32, Visible::All), &tokens, &[]);
    let wide = Visible::Local { sinks: 0, window: 640 };
    assert!(all == bits(&decoder, &mut dense(&decoder, KvFormat::F32, wide), &tokens, &[]));

    let local = Visible::Local { sinks: 4, window: 100 };
    let (mut cache, mut scratch) = (dense(&decoder, KvFormat::F32, local), Scratch::new());
    let mut sizes = Vec::new();
    for _ in 0..12 {
        decoder.read(&tokens[..256], cache.len(), &mut cache, &mut scratch).expect("cannot fail");
        sizes.push(cache.bytes());
    }
    assert_eq!(sizes[2], sizes[11], "memory does not grow: {sizes:?}");
}

/// Records what it is given, and attends densely.
#[derive(Debug)]
struct Recorder {
    dense: Dense,
    keys: Vec<Vec<f32>>,
}

impl Attention for Recorder {
    type Error = std::convert::Infallible;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Self::Error> {
        self.keys[layer].extend_from_slice(qkv.keys);
        self.dense.attend(layer, positions, qkv, out)
    }
}

#[test]
fn parts_of_the_depth_make_up_the_whole() {
    for name in MODELS {
        let decoder = load(name, 2);
        let (layers, tokens) = (decoder.config().layers, prompt(&decoder, 90));
        let expected = bits(&decoder, &mut dense(&decoder, KvFormat::F32, Visible::All), &tokens, &[]);

        let recorder = || Recorder {
            dense: dense(&decoder, KvFormat::F32, Visible::All),
            keys: vec![Vec::new(); layers],
        };
        let (mut attention, mut scratch, mut hidden) = (recorder(), Scratch::new(), Vec::new());
        decoder.embed(&tokens, &mut hidden);
        for layer in 0..layers {
            let keys = decoder.project_keys(layer, &hidden, &mut scratch).to_vec();
            let qkv = decoder.project_qkv(layer, &hidden, &mut scratch);
            assert!(qkv.keys == keys, "{name}: the keys alone");
            assert_eq!(qkv.key_bias.is_some(), name == "qwen2");
            assert_eq!(qkv.key_bias, decoder.key_bias(layer));
            decoder
                .run_layers(layer..layer + 1, 0..90, &mut hidden, &mut attention, &mut scratch)
                .expect("cannot fail");
            assert!(attention.keys[layer] == keys, "{name}: what attention in the layer got");
        }
        let found: Vec<u32> = decoder.logits(&hidden, &mut scratch).iter().map(|x| x.to_bits()).collect();
        assert!(expected == found, "{name}");
    }
}

#[test]
fn dynamic_scaling_is_the_only_one_that_looks_at_the_length() {
    for name in MODELS {
        let decoder = load(name, 1);
        let tokens = prompt(&decoder, 70);
        let run = |length| {
            let compute = Arc::clone(decoder.compute());
            let mut cache = Dense::new(decoder.config(), compute, KvFormat::F32, Visible::All, length);
            bits(&decoder, &mut cache, &tokens, &[])
        };
        let dynamic = matches!(decoder.config().rope.scaling, RopeScaling::DynamicNtk { .. });
        assert_eq!(run(1) != run(500), dynamic, "{name}");
    }
}

#[test]
fn sequences_side_by_side_are_as_alone() {
    for name in MODELS {
        let decoder = load(name, 2);
        let vocab = decoder.config().vocab_size;
        let lengths = [1, 130, 7, 300, 250];
        let tokens = prompt(&decoder, lengths.iter().sum());
        let mut batch = Batch::new(decoder.config(), decoder.compute(), KvFormat::Bf16, &lengths);
        let (mut scratch, mut together) = (Scratch::new(), Vec::new());
        decoder
            .forward_all(&tokens, 0, &mut batch, &mut scratch, &mut |_, logits| {
                together.extend(logits.iter().map(|x| x.to_bits()));
            })
            .expect("dense attention cannot fail");
        let mut start = 0;
        for length in lengths {
            let compute = Arc::clone(decoder.compute());
            let mut alone = Dense::new(decoder.config(), compute, KvFormat::Bf16, Visible::All, length);
            let expected = bits(&decoder, &mut alone, &tokens[start..start + length], &[]);
            assert!(expected == together[start * vocab..(start + length) * vocab], "{name}: {length} tokens");
            start += length;
        }
    }
}

#[test]
fn sequences_behind_one_beginning_are_as_if_each_had_read_it() {
    for name in MODELS {
        let decoder = load(name, 2);
        let vocab = decoder.config().vocab_size;
        let (before, lengths) = (131, [1, 130, 7]);
        let tokens = prompt(&decoder, before + lengths.iter().sum::<usize>());
        let longest = before + 130;
        let dense = || {
            let compute = Arc::clone(decoder.compute());
            Dense::new(decoder.config(), compute, KvFormat::Bf16, Visible::All, longest)
        };
        let mut beginning = dense();
        bits(&decoder, &mut beginning, &tokens[..before], &[]);
        let mut batch = Batch::after(&beginning, &lengths);
        let (mut scratch, mut together) = (Scratch::new(), Vec::new());
        decoder
            .forward_all(&tokens[before..], 0, &mut batch, &mut scratch, &mut |_, logits| {
                together.extend(logits.iter().map(|x| x.to_bits()));
            })
            .expect("dense attention cannot fail");
        let mut start = 0;
        for length in lengths {
            let own = &tokens[before + start..before + start + length];
            let expected = bits(&decoder, &mut dense(), &[&tokens[..before], own].concat(), &[before]);
            let found = &together[start * vocab..(start + length) * vocab];
            assert!(expected[before * vocab..] == *found, "{name}: {length} tokens");
            start += length;
        }
    }
}
