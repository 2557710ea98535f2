//! Vectors of texts, on the tiny encoders.
use longleaf_engine::embedder::cosine;
use longleaf_engine::kernel::Compute;
use longleaf_engine::{Embedder, Error};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(name)
}

/// The sentences of a golden file, and their vectors as transformers has them.
fn golden(name: &str) -> (Vec<String>, Vec<Vec<f32>>) {
    let file = folder("encoders").join(format!("{name}.json"));
    let golden: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).expect("a golden file")).expect("JSON");
    let sentences = serde_json::from_value(golden["sentences"].clone()).expect("sentences");
    let text = golden["vectors_f32_base64"].as_str().expect("a string");
    let digit = |c: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|d| *d == c)
    };
    let bits: Vec<u8> = text
        .bytes()
        .filter_map(digit)
        .flat_map(|digit| (0..6).rev().map(move |bit| (digit >> bit & 1) as u8))
        .collect();
    let byte = |bits: &[u8]| bits.iter().fold(0, |byte, bit| byte << 1 | bit);
    let bytes: Vec<u8> = bits.chunks_exact(8).map(byte).collect();
    let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (sentences, numbers.chunks_exact(32).map(<[f32]>::to_vec).collect())
}

#[test]
fn vectors_of_sentences_are_those_of_transformers() {
    let compute = Arc::new(Compute::new(2));
    for name in ["bert", "roberta"] {
        let exact = Embedder::open_exact(&folder(name), &compute).expect("the tiny encoder");
        let fast = Embedder::open(&folder(name), &compute).expect("the tiny encoder");
        let (sentences, vectors) = golden(name);
        for (sentence, expected) in sentences.iter().zip(&vectors) {
            let found = exact.embed(sentence);
            let far = found.iter().zip(expected).fold(0_f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(far < 2e-4, "{name}: {sentence} differs by {far}");
            assert!(cosine(&fast.embed(sentence), expected) > 0.995, "{name}: {sentence} in bytes");
        }
    }
}

#[test]
fn a_text_of_any_length_has_a_vector() {
    let embedder = Embedder::open(&folder("bert"), &Arc::new(Compute::new(2))).expect("the tiny encoder");
    for text in ["", " \n\t", "\u{fe0f}"] {
        assert!(embedder.embed(text).iter().all(|x| *x == 0.0), "{text:?} has no words");
    }
    let long = "The tree in the meadow has long leaves. ".repeat(100);
    let vector = embedder.embed(&long);
    assert!((cosine(&vector, &vector) - 1.0).abs() < 1e-5);
    // A control token written out is text, and words that are none are spelled.
    assert_ne!(embedder.embed("[CLS] leaf"), embedder.embed("leaf"));
    // The mean over windows, in whatever company they go through the encoder.
    let windows = embedder.windows(&long, 40);
    assert!(windows.len() > 20);
    let together = embedder.vectors(&windows, &mut |_| ());
    let alone: Vec<f32> = windows
        .iter()
        .flat_map(|window| embedder.vectors(std::slice::from_ref(window), &mut |_| ()))
        .collect();
    assert!(together == alone);
}

#[test]
fn other_ways_of_pooling_are_refused_by_name() {
    let copy = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(folder("bert").join(file), copy.path().join(file)).expect("copied");
    }
    let compute = Arc::new(Compute::new(1));
    let text = "Every leaf has a vein.";
    let mean = Embedder::open(copy.path(), &compute).expect("no word about pooling").embed(text);
    let pooling = copy.path().join("1_Pooling");
    std::fs::create_dir(&pooling).expect("made");
    let open = |config: &str| {
        std::fs::write(pooling.join("config.json"), config).expect("written");
        Embedder::open(copy.path(), &compute)
    };
    assert_eq!(open(r#"{"pooling_mode_mean_tokens": true}"#).expect("known").embed(text), mean);
    assert_ne!(open(r#"{"pooling_mode_cls_token": true}"#).expect("known").embed(text), mean);
    let error = open(r#"{"pooling_mode_max_tokens": true}"#).expect_err("unknown").to_string();
    assert!(
        error.contains("pooling \"max_tokens\" is not supported, only: mean_tokens, cls_token"),
        "{error}"
    );
    assert!(matches!(open("[]"), Err(Error::Model(longleaf_model::Error::Json { .. }))));
}
