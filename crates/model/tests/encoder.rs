//! The tiny encoders under `testdata/models` give the vectors that transformers gave, and what an encoder promises.
use longleaf_kernel::{Compute, Precision, best, by_name, supported};
use longleaf_model::{Encoder, EncoderScratch, Error, Folder, Packing};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[path = "support/base64.rs"]
mod base64;

/// Largest difference allowed, relative to the largest number.
const BOUND: f32 = 1e-3;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models")
}

fn golden(name: &str) -> (Vec<Vec<u32>>, Vec<f32>) {
    let file = models().join("encoders").join(format!("{name}.json"));
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(file).expect("a golden file")).expect("JSON");
    let sequences = serde_json::from_value(golden["sequences"].clone()).expect("lists of tokens");
    (sequences, base64::floats(golden["hidden_f32_base64"].as_str().expect("a string")))
}

fn load(name: &str, packing: Packing, compute: &Arc<Compute>) -> Encoder {
    Encoder::load(&models().join(name), packing, compute).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn run(encoder: &Encoder, sequences: &[Vec<u32>]) -> Vec<f32> {
    let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    encoder.forward(&sequences, &mut EncoderScratch::new()).to_vec()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0_f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0_f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// The kernel set that `LONGLEAF_KERNELS` names, as the command line takes it, else the best.
#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn compute() -> Arc<Compute> {
    let kernels = std::env::var("LONGLEAF_KERNELS")
        .map_or_else(|_| best(), |name| by_name(&name).expect("a kernel set of this machine"));
    Arc::new(Compute::with(kernels, 2))
}

#[test]
fn vectors_are_those_of_transformers() {
    let compute = compute();
    for name in ["bert", "roberta"] {
        let (sequences, expected) = golden(name);
        let far = difference(&run(&load(name, Packing::Stored, &compute), &sequences), &expected);
        assert!(far <= BOUND, "{name}: vectors differ by {far:e}");
        // Eight bits cost something, and not much.
        for (precision, bound) in [(Precision::Exact, 0.04), (Precision::Fast, 0.08)] {
            let rounded = load(name, Packing::Bytes, &compute).with_precision(precision);
            let far = difference(&run(&rounded, &sequences), &expected);
            assert!(far <= bound, "{name} in bytes, {precision:?}: vectors differ by {far:e}");
            assert!(far > 0.0);
        }
    }
}

#[test]
fn a_sequence_has_the_same_bits_in_any_company_and_on_any_threads() {
    let (sequences, _) = golden("bert");
    for kernels in supported() {
        for (packing, precision) in [(Packing::Stored, Precision::Exact), (Packing::Bytes, Precision::Fast)] {
            let encoder = |threads| {
                load("bert", packing, &Arc::new(Compute::with(kernels, threads))).with_precision(precision)
            };
            let together = run(&encoder(1), &sequences);
            let alone: Vec<f32> =
                sequences.iter().flat_map(|one| run(&encoder(1), std::slice::from_ref(one))).collect();
            assert!(together == alone, "{}: alone", kernels.name());
            // So many that they are shared out sequence by sequence.
            let many: Vec<Vec<u32>> = sequences.iter().cycle().take(24).cloned().collect();
            let shared = run(&encoder(3), &many);
            assert!(shared[..together.len()] == together[..], "{}: in a crowd", kernels.name());
            assert!(run(&encoder(1), &many) == shared, "{}: threads", kernels.name());
        }
    }
}

#[test]
fn buffers_serve_one_encoder_after_the_other() {
    let compute = compute();
    let (sequences, _) = golden("bert");
    let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    let mut scratch = EncoderScratch::new();
    let exact = load("bert", Packing::Stored, &compute);
    let first = exact.forward(&sequences, &mut scratch).to_vec();
    let fast = load("roberta", Packing::Bytes, &compute).with_precision(Precision::Fast);
    fast.forward(&sequences[1..3], &mut scratch);
    assert!(exact.forward(&sequences, &mut scratch) == first);
    assert!(exact.forward(&[], &mut scratch).is_empty());
}

#[test]
fn what_is_no_encoder_is_refused_by_name() {
    let folder = models().join("bert");
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).expect("reads")).expect("JSON");
    let weights = std::fs::read(folder.join("model.safetensors")).expect("reads");
    let compute = Arc::new(Compute::new(1));
    let refused = |config: Value| -> Error {
        let folder = Folder::from_bytes(Path::new("x"), config, weights.clone()).expect("opens");
        Encoder::from_folder(&folder, Packing::Stored, &compute).expect_err("must be refused")
    };
    for (key, value, message) in [
        ("model_type", json!("llama"), "model_type of an encoder \"llama\""),
        ("model_type", json!(null), "model_type is missing"),
        ("hidden_act", json!("relu"), "hidden_act \"relu\""),
        ("position_embedding_type", json!("relative_key"), "position_embedding_type \"relative_key\""),
        ("quantization_config", json!({"quant_method": "gptq"}), "quantisation \"gptq\""),
        ("is_decoder", json!(true), "is_decoder"),
        ("num_attention_heads", json!(3), "number of heads is 3"),
        ("num_attention_heads", json!(4), "number of heads is 4"),
        ("num_attention_heads", json!(0), "number of heads is 0"),
        ("num_hidden_layers", json!(0), "number of layers is 0"),
        ("num_hidden_layers", json!(1_u64 << 40), "number of layers"),
        ("num_hidden_layers", json!(3), "encoder.layer.2.attention.output.dense.weight is missing"),
        ("vocab_size", json!(u64::MAX), "vocabulary size"),
        ("vocab_size", json!(321), "embeddings.word_embeddings.weight is [320, 32], expected [321, 32]"),
        ("max_position_embeddings", json!(-1), "max_position_embeddings is -1, expected a whole number"),
        ("max_position_embeddings", json!(1 << 20), "embeddings.position_embeddings.weight is [160, 32]"),
        ("type_vocab_size", json!(0), "number of types is 0"),
        ("intermediate_size", json!(1 << 24), "intermediate.dense.weight is [64, 32]"),
        ("layer_norm_eps", json!(-1.0), "norm epsilon is -1"),
        ("layer_norm_eps", json!("x"), "layer_norm_eps is \"x\""),
    ] {
        let mut config = config.clone();
        config[key] = value;
        let error = refused(config).to_string();
        assert!(error.contains(message), "{key}: {error}");
    }
    let mut roberta = config;
    roberta["model_type"] = json!("roberta");
    roberta["pad_token_id"] = json!(u64::MAX);
    assert!(refused(roberta).to_string().contains("first position"), "no row is left");
}
