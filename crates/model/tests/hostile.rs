//! Broken files end in an error: never a panic, never an allocation out of proportion to the file.
//!
//! The counter of allocations counts the whole process, so tests here take turns.
use longleaf_kernel::DType;
use longleaf_model::fuzzing;
use longleaf_model::gguf::Writer;
use longleaf_model::{Checkpoint, Error, Gguf};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::path::Path;
use std::sync::Mutex;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;
static TURN: Mutex<()> = Mutex::new(());

/// Loading and two steps of a model allocate less than this many times the file in all, one after another:
/// the bytes themselves, what the header says (at most eight times the header), the packed weights, a block of
/// keys and values a layer.
const FACTOR: usize = 16;
/// Threads' buffers, blocks of keys and values, the errors' texts.
const CONSTANT: usize = 1 << 20;

/// What `load` says of `bytes`, having checked what it allocated.
fn check(load: Load, bytes: &[u8]) -> Result<(), Error> {
    let region = Region::new(ALLOCATOR);
    let result = load(bytes);
    let allocated = region.change().bytes_allocated;
    assert!(allocated <= FACTOR * bytes.len() + CONSTANT, "{allocated} bytes for a file of {}", bytes.len());
    if let Err(error) = &result {
        let text = error.to_string();
        assert!(!text.contains('\n') && text.len() < 1000, "one line: {text}");
    }
    result
}

/// Every tensor of a model with one layer, 16 wide, a vocabulary of 8: names as in GGUF and as Hugging Face has
/// them, and the shape.
const TENSORS: [(&str, &str, &[usize]); 12] = [
    ("token_embd.weight", "model.embed_tokens.weight", &[8, 16]),
    ("output_norm.weight", "model.norm.weight", &[16]),
    ("output.weight", "lm_head.weight", &[8, 16]),
    ("blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight", &[16]),
    ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", &[16, 16]),
    ("blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight", &[16, 16]),
    ("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight", &[16, 16]),
    ("blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight", &[16, 16]),
    ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight", &[16]),
    ("blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight", &[16, 16]),
    ("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight", &[16, 16]),
    ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight", &[16, 16]),
];

fn numbers(shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product()).map(|i: usize| (i * 37 % 29) as f32 / 29.0 - 0.5).collect()
}

fn metadata(architecture: &str) -> Writer {
    let mut w = Writer::new();
    w.string("general.architecture", architecture);
    w.strings("tokenizer.ggml.tokens", &["a", "b", "<s>", ""]);
    w.i32s("tokenizer.ggml.token_type", &[1, 1, 3, 1]).f32s("tokenizer.ggml.scores", &[0.0, -1.0]);
    for (key, number) in [
        ("block_count", 1),
        ("context_length", 64),
        ("embedding_length", 16),
        ("feed_forward_length", 16),
        ("attention.head_count", 1),
        ("attention.head_count_kv", 1),
    ] {
        w.u32(&format!("{architecture}.{key}"), number);
    }
    w.f32(&format!("{architecture}.attention.layer_norm_rms_epsilon"), 1e-5).boolean("flag", true);
    w
}

fn small_gguf() -> Vec<u8> {
    let mut w = metadata("llama");
    for (name, _, shape) in TENSORS {
        w.tensor_f32(name, shape, &numbers(shape));
    }
    w.finish()
}

fn small_config() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 64, "vocab_size": 8,
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0,
                            "original_max_position_embeddings": 64},
    })
}

fn small_safetensors() -> Vec<u8> {
    let all: Vec<(&str, &[usize], Vec<u8>)> = TENSORS
        .iter()
        .map(|(_, name, shape)| {
            (*name, *shape, numbers(shape).iter().flat_map(|x| x.to_le_bytes()).collect())
        })
        .collect();
    let views = all.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("as long as its shape"))
    });
    safetensors::serialize(views, None).expect("writes")
}

/// As the fuzz target takes it.
fn joined(config: &[u8], weights: &[u8]) -> Vec<u8> {
    let len = u16::try_from(config.len()).expect("a small configuration");
    [&len.to_le_bytes(), config, weights].concat()
}

fn small_folder() -> Vec<u8> {
    joined(small_config().to_string().as_bytes(), &small_safetensors())
}

type Load = fn(&[u8]) -> Result<(), Error>;

/// A way to load, a good file, and where its header ends.
type Format = (Load, Vec<u8>, usize);

fn formats() -> [Format; 2] {
    let (gguf, folder) = (small_gguf(), small_folder());
    let weights: usize = TENSORS.iter().map(|(.., shape)| shape.iter().product::<usize>() * 4).sum();
    let header = |file: &[u8]| file.len() - weights;
    let (a, b) = (header(&gguf), header(&folder));
    [(fuzzing::gguf, gguf, a), (fuzzing::folder, folder, b)]
}

#[test]
fn the_good_files_are_good() {
    let _turn = TURN.lock();
    for (load, bytes, _) in formats() {
        check(load, &bytes).expect("a good file");
    }
}

#[test]
fn every_truncation_is_refused() {
    let _turn = TURN.lock();
    for (load, bytes, _) in formats() {
        for len in 0..bytes.len() {
            assert!(check(load, &bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn every_flipped_bit_of_the_header_is_survived() {
    let _turn = TURN.lock();
    for (load, bytes, header) in formats() {
        let (mut refused, mut bytes) = (0, bytes);
        for bit in 0..header * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            refused += usize::from(check(load, &bytes).is_err());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(refused * 2 > header * 8, "{refused} of {} refused", header * 8);
    }
}

#[test]
fn oversized_numbers_anywhere_in_the_header_are_survived() {
    let _turn = TURN.lock();
    for (load, bytes, header) in formats() {
        for at in 0..header - 8 {
            for number in [u64::MAX, 1 << 63, i64::MAX as u64, 1 << 40, u64::from(u32::MAX), 0] {
                for len in [4, 8] {
                    let mut bytes = bytes.clone();
                    bytes[at..at + len].copy_from_slice(&number.to_le_bytes()[..len]);
                    let _ = check(load, &bytes);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn random_damage_is_survived(
        which in 0..2_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        moved in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..64_usize)),
    ) {
        let _turn = TURN.lock();
        let (load, mut bytes, header) = formats()[which].clone();
        for (at, value) in damage {
            bytes[at.index(header)] = value;
        }
        if let Some((from, to, len)) = moved {
            let (from, to) = (from.index(header - 64), to.index(header - 64));
            bytes.copy_within(from..from + len, to);
        }
        let _ = check(load, &bytes);
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let _turn = TURN.lock();
        prop_assert!(check(fuzzing::gguf, &noise).is_err());
        prop_assert!(check(fuzzing::gguf, &[b"GGUF\x03\0\0\0", &noise[..]].concat()).is_err());
        prop_assert!(check(fuzzing::folder, &noise).is_err());
        prop_assert!(check(fuzzing::folder, &joined(small_config().to_string().as_bytes(), &noise)).is_err());
        prop_assert!(check(|b| fuzzing::index(b).map(|_| ()), &noise).is_err());
    }
}

type Change = fn(&mut Writer) -> &mut Writer;

/// The message for a GGUF file.
fn message(bytes: &[u8]) -> String {
    check(fuzzing::gguf, bytes).expect_err("a bad file").to_string()
}

#[test]
fn contradictions_in_gguf_are_named() {
    let _turn = TURN.lock();
    // Metadata, one change each.
    let with = |change: Change| {
        let mut w = metadata("llama");
        for (name, _, shape) in TENSORS {
            w.tensor_f32(name, shape, &numbers(shape));
        }
        change(&mut w);
        message(&w.finish())
    };
    let changes: [(&str, Change); 14] = [
        ("a key occurs twice", |w| w.u32("llama.block_count", 1)),
        ("occurs twice", |w| w.tensor_f32("output.weight", &[8, 16], &numbers(&[8, 16]))),
        ("general.alignment is no power of two", |w| w.u32("general.alignment", 48)),
        ("general.alignment is no power of two", |w| w.string("general.alignment", "32")),
        ("longrope\" is not supported, only: none, linear", |w| {
            w.string("llama.rope.scaling.type", "longrope")
        }),
        ("rope scaling is -1", |w| {
            w.string("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", -1.0)
        }),
        ("rope base is NaN", |w| w.f32("llama.rope.freq_base", f32::NAN)),
        ("attention.key_length is a string, expected a whole number", |w| {
            w.string("llama.attention.key_length", "16")
        }),
        ("head dimension is 17, expected a multiple of 16", |w| w.u32("llama.attention.key_length", 17)),
        ("attention.value_length is 32", |w| w.u32("llama.attention.value_length", 32)),
        ("mixture of experts", |w| w.u32("llama.expert_count", 8)),
        ("blk.0.attn_q.weight is [16, 16], expected [32, 16]", |w| w.u32("llama.attention.key_length", 32)),
        ("rope_freqs.weight is [3], expected [8]", |w| w.tensor_f32("rope_freqs.weight", &[3], &[1.0; 3])),
        ("rope scaling", |w| w.tensor_f32("rope_freqs.weight", &[8], &[0.0; 8])),
    ];
    for (text, change) in changes {
        let found = with(change);
        assert!(found.contains(text), "{found:?} should say {text:?}");
    }

    // A tensor missing or of another shape, each in turn.
    for (skip, ..) in TENSORS {
        let mut w = metadata("llama");
        for (name, _, shape) in TENSORS.iter().filter(|t| t.0 != skip) {
            w.tensor_f32(name, shape, &numbers(shape));
        }
        if skip != "output.weight" {
            assert!(message(&w.finish()).contains(&format!("{skip} is missing")));
        }
        let mut longer = TENSORS.iter().find(|t| t.0 == skip).expect("in the table").2.to_vec();
        longer[0] += 1;
        w.tensor_f32(skip, &longer, &numbers(&longer));
        assert!(message(&w.finish()).contains("expected ["), "{skip}");
    }

    let unknown = metadata("mamba").finish();
    assert_eq!(
        message(&unknown),
        "fuzz.gguf: architecture \"mamba\" is not supported, only: llama, qwen2, qwen3"
    );
    assert!(message(&Writer::new().finish()).ends_with("general.architecture is missing"));
    assert_eq!(message(b"GGML, not"), "fuzz.gguf: corrupt at byte 0: not a GGUF file");
    assert!(message(b"GGUF\0\0\0\x03aaaaaaaaaaaaaaaa").contains("big-endian"));
    assert!(message(b"GGUF\x01\0\0\0aaaaaaaaaaaaaaaa").contains("version"));
}

#[test]
fn contradictions_in_the_tensor_table_are_named() {
    let _turn = TURN.lock();
    // Two tensors of 32 numbers: 128 bytes each. The table is the last thing before the padding.
    let mut w = Writer::new();
    w.tensor_f32("a", &[2, 16], &[0.0; 32]).tensor_f32("b", &[2, 16], &[0.0; 32]);
    let good = w.finish();
    Gguf::from_bytes(Path::new("x"), good.clone()).expect("a good file");
    let entry = 8 + 1 + 4 + 16 + 4 + 8;
    let second = 24 + entry;
    for (at, bytes, text) in [
        (second + entry - 8, &96_u64.to_le_bytes()[..], "two tensors overlap"),
        (second + entry - 8, &1_u64.to_le_bytes(), "not aligned"),
        (second + entry - 8, &4096_u64.to_le_bytes(), "beyond the end"),
        (second + entry - 8, &(u64::MAX - 31).to_le_bytes(), "beyond the end"),
        (second + entry - 12, &10_u32.to_le_bytes(), "no whole number of blocks"),
        (
            second + entry - 12,
            &20_u32.to_le_bytes(),
            "\"IQ4_NL\" is not supported, only: F32, F16, BF16, Q4_0",
        ),
        (second + entry - 12, &99_u32.to_le_bytes(), "an unknown format of numbers"),
        (second + 9, &0_u32.to_le_bytes(), "1 to 4 dimensions"),
        (second + 9, &5_u32.to_le_bytes(), "1 to 4 dimensions"),
        (second + 13, &0_u64.to_le_bytes(), "dimension is 0"),
        (second + 21, &(1_u64 << 30).to_le_bytes(), "beyond the end"),
        (second + 8, b"a", "name occurs twice"),
        (second + 8, b"\xff", "not UTF-8"),
        (8, &u64::MAX.to_le_bytes(), "more tensors than the file can hold"),
        (16, &u64::MAX.to_le_bytes(), "more metadata than the file can hold"),
    ] {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        let found = message(&bad);
        assert!(found.contains(text), "{found:?} should say {text:?}");
    }
}

#[test]
fn arrays_of_arrays_have_a_depth() {
    let _turn = TURN.lock();
    let mut file = Vec::from(*b"GGUF\x03\0\0\0");
    file.extend([0_u64.to_le_bytes(), 1_u64.to_le_bytes()].concat());
    file.extend([&1_u64.to_le_bytes()[..], b"k", &9_u32.to_le_bytes()].concat());
    for _ in 0..100_000 {
        file.extend([&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat());
    }
    assert!(message(&file).contains("nested too deeply"));
}

#[test]
fn contradictions_in_folders_are_named() {
    let _turn = TURN.lock();
    let weights = small_safetensors();
    let message = |key: &str, value: Value| {
        let mut config = small_config();
        config[key] = value;
        let bytes = joined(config.to_string().as_bytes(), &weights);
        check(fuzzing::folder, &bytes).expect_err(key).to_string()
    };
    for (key, value, text) in [
        (
            "model_type",
            json!("mamba"),
            "model_type \"mamba\" is not supported, only: llama, mistral, qwen2, qwen3",
        ),
        ("model_type", json!(7), "model_type is 7, expected a string"),
        ("model_type", Value::Null, "model_type is missing"),
        ("hidden_size", json!(32), "expected ["),
        ("hidden_size", json!(0), "expected"),
        ("hidden_size", json!(-16), "expected a whole number"),
        ("num_hidden_layers", json!(2), "model.layers.1.input_layernorm.weight is missing"),
        ("num_hidden_layers", json!(u64::MAX), "number of layers"),
        ("num_attention_heads", json!(0), "number of heads is 0"),
        ("num_key_value_heads", json!(3), "a divisor of the number of heads"),
        ("head_dim", json!(15), "a multiple of 16"),
        ("hidden_act", json!("gelu"), "hidden_act \"gelu\" is not supported"),
        ("mlp_bias", json!(true), "mlp_bias"),
        ("attention_bias", json!(true), "self_attn.q_proj.bias is missing"),
        ("quantization_config", json!({"quant_method": "gptq"}), "quantisation \"gptq\""),
        ("vocab_size", json!(1_u64 << 40), "vocabulary size"),
        ("max_position_embeddings", json!(1_u64 << 60), "context window is 1152921504606846976"),
        ("rms_norm_eps", json!(-1.0), "norm epsilon"),
        ("rope_parameters", json!({"rope_type": "longrope"}), "rope scaling \"longrope\""),
        ("rope_parameters", json!({"rope_type": "linear"}), "factor is missing"),
        ("rope_parameters", json!({"rope_type": "yarn", "factor": 0.0}), "rope scaling"),
        ("rope_parameters", json!({"full_attention": {}}), "one per kind of layer"),
        ("rope_parameters", json!({"partial_rotary_factor": 1.5}), "rope dimension is 24"),
    ] {
        let found = message(key, value.clone());
        assert!(found.contains(text), "{key} = {value}: {found:?} should say {text:?}");
    }
}

#[test]
fn an_index_names_files_of_its_folder_only() {
    let _turn = TURN.lock();
    for file in ["../x.safetensors", "/x.safetensors", "a/b.safetensors", "x.bin", "", ".."] {
        let index = json!({"weight_map": {"a": file}}).to_string();
        assert!(fuzzing::index(index.as_bytes()).is_err(), "{file}");
    }
    assert_eq!(fuzzing::index(br#"{"weight_map": {"a": "x.safetensors"}}"#).expect("good"), 1);
}

#[test]
fn formats_of_numbers_that_are_not_read_are_refused_by_name() {
    let _turn = TURN.lock();
    let bytes = [0; 8 * 16];
    let view = TensorView::new(Dtype::F8_E4M3, vec![8, 16], &bytes).expect("as long as its shape");
    let weights = safetensors::serialize([("model.embed_tokens.weight", view)], None).expect("writes");
    let found = check(fuzzing::folder, &joined(small_config().to_string().as_bytes(), &weights));
    let found = found.expect_err("F8 is not read").to_string();
    assert!(found.contains("number format \"F8_E4M3\" is not supported, only: F32, F16, BF16"), "{found}");
}

#[test]
fn a_path_that_is_nothing_says_so() {
    let _turn = TURN.lock();
    let found = Checkpoint::open(Path::new("/nonexistent/model.gguf")).expect_err("nothing there");
    assert!(matches!(found, Error::Io { .. }) && found.to_string().starts_with("/nonexistent/model.gguf: "));
    assert!(DType::ALL.len() == 13);
}

/// The corpus of the fuzz targets, replayed.
#[test]
fn the_corpus_is_survived() {
    let _turn = TURN.lock();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let targets: [(&str, Load); 3] =
        [("gguf", fuzzing::gguf), ("folder", fuzzing::folder), ("index", |b| fuzzing::index(b).map(|_| ()))];
    for (name, load) in targets {
        let files = std::fs::read_dir(corpus.join(name)).expect("a corpus");
        let mut count = 0;
        for file in files {
            let bytes = std::fs::read(file.expect("a readable folder").path()).expect("a readable file");
            let _ = check(load, &bytes);
            count += 1;
        }
        assert!(count >= 3, "{count} files for {name}");
    }
}
