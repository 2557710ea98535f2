//! Every tiny model under `testdata/models` gives the logits and the greedy tokens that transformers gave.
use longleaf_kernel::{Compute, KvFormat, best, by_name};
use longleaf_model::{Checkpoint, Decoder, Dense, RopeScaling, Scratch, Visible};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[path = "support/base64.rs"]
mod base64;

/// Largest difference allowed, relative to the largest logit.
const BOUND: f32 = 1e-3;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models")
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|n| n.as_u64().expect("a number") as u32).collect()
}

fn arg_max(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("a vocabulary is not empty").0 as u32
}

/// The golden files by name, each with its model's path.
fn cases() -> Vec<(String, PathBuf, Value)> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(models().join("golden")).expect("golden outputs") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if name == "tokenizer" {
            continue;
        }
        let gguf = models().join("gguf").join(format!("{name}.gguf"));
        let model = if gguf.exists() { gguf } else { models().join(&name) };
        let text = std::fs::read_to_string(&path).expect("a golden file");
        cases.push((name, model, serde_json::from_str(&text).expect("JSON")));
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

/// Logits at the golden positions differ by at most this much of the largest.
fn worst(decoder: &Decoder, golden: &Value) -> f32 {
    let prompt = numbers(&golden["prompt"]);
    let positions = numbers(&golden["positions"]);
    let expected = base64::floats(golden["logits_f32_base64"].as_str().expect("a string"));
    let vocab = decoder.config().vocab_size;
    assert_eq!(expected.len(), positions.len() * vocab, "the model's vocabulary");

    let mut found = Vec::new();
    let mut dense = dense(decoder, prompt.len());
    decoder
        .forward_all(&prompt, 0, &mut dense, &mut Scratch::new(), &mut |position, logits| {
            if positions.contains(&(position as u32)) {
                found.extend_from_slice(logits);
            }
        })
        .expect("dense attention cannot fail");
    let largest = expected.iter().fold(0_f32, |m, x| m.max(x.abs()));
    let difference = found.iter().zip(&expected).fold(0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|x| x.is_finite()), "a logit is no number");
    difference / largest
}

fn dense(decoder: &Decoder, length: usize) -> Dense {
    let compute = Arc::clone(decoder.compute());
    Dense::new(decoder.config(), compute, KvFormat::F32, Visible::All, length)
}

/// Greedy tokens with a cache. Where the frequencies depend on the length of the pass, every token gets a fresh one.
fn greedy(decoder: &Decoder, prompt: &[u32], count: usize) -> Vec<u32> {
    let fresh = matches!(decoder.config().rope.scaling, RopeScaling::DynamicNtk { .. });
    let mut scratch = Scratch::new();
    let mut tokens = prompt.to_vec();
    let mut cache = dense(decoder, prompt.len());
    while tokens.len() < prompt.len() + count {
        if fresh {
            cache = dense(decoder, tokens.len());
        }
        let first = cache.len();
        let logits = decoder.forward(&tokens[first..], first, &mut cache, &mut scratch);
        tokens.push(arg_max(logits.expect("dense attention cannot fail")));
    }
    tokens.split_off(prompt.len())
}

/// The kernel set that `LONGLEAF_KERNELS` names, as the command line takes it, else the best.
#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn compute() -> Compute {
    let kernels = std::env::var("LONGLEAF_KERNELS")
        .map_or_else(|_| best(), |name| by_name(&name).expect("a kernel set of this machine"));
    Compute::with(kernels, 2)
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    let compute = Arc::new(compute());
    let cases = cases();
    assert!(cases.len() >= 31, "{} golden files", cases.len());
    let mut failures = Vec::new();
    for (name, path, golden) in &cases {
        let decoder = Decoder::load(path, &compute).unwrap_or_else(|error| panic!("{name}: {error}"));
        let worst = worst(&decoder, golden);
        if worst > BOUND {
            failures.push(format!("{name}: logits differ by {worst:e}"));
        }
        let expected = numbers(&golden["greedy"]);
        let found = greedy(&decoder, &numbers(&golden["prompt"]), expected.len());
        if found != expected {
            let at = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            failures.push(format!("{name}: greedy tokens differ from token {at} on"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_folder_and_its_gguf_twin_say_the_same_of_themselves() {
    for (folder, gguf) in [
        ("llama", "llama-f32"),
        ("smollm2", "smollm2-f16"),
        ("llama-linear", "llama-linear-f16"),
        ("llama-yarn", "llama-yarn-f16"),
        ("qwen2", "qwen2-f16"),
        ("qwen2-yarn", "qwen2-yarn-f16"),
        ("qwen3", "qwen3-f16"),
    ] {
        let config = |path: PathBuf| Checkpoint::open(&path).expect("opens").config().expect("known");
        let mut a = config(models().join(folder));
        let mut b = config(models().join("gguf").join(format!("{gguf}.gguf")));
        // GGUF keeps its numbers in f32.
        for config in [&mut a, &mut b] {
            if let RopeScaling::Yarn { attention, .. } = &mut config.rope.scaling {
                *attention = f64::from(*attention as f32);
            }
        }
        assert_eq!(a, b, "{folder}");
    }
}
