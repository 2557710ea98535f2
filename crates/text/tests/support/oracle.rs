//! The tokenizers library on the same vocabularies, as the oracle of our byte-level BPE.

use longleaf_text::GgufVocabulary;
use serde_json::{Value, json};

/// The vocabulary as a `tokenizer.json`, with the pre-tokenizer that its family publishes.
pub(crate) fn json(vocabulary: &GgufVocabulary) -> String {
    let split = |expression: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]})
    };
    let byte_level = json!(
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let pre_tokenizer = match vocabulary.pre.as_deref() {
        Some("gpt-2" | "mpt") => byte_level,
        Some("smollm" | "starcoder" | "refact" | "command-r") => {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true}, byte_level,
            ]})
        }
        Some("llama-bpe") => split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        Some("qwen2") => split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        Some("qwen35") => split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        other => panic!("no pre-tokenizer of the library for {other:?}"),
    };
    let kind = |id: usize| vocabulary.token_types.get(id).copied().unwrap_or(1);
    let mut vocab = serde_json::Map::new();
    let mut added = Vec::new();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        if matches!(kind(id), 3 | 4) {
            added.push(json!({
                "id": id, "content": text, "special": kind(id) == 3, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            }));
        } else {
            vocab.insert(text.clone(), id.into());
        }
    }
    let ignore_merges = vocabulary.pre.as_deref() == Some("llama-bpe");
    // The library demands that both sides and the join of every merge are tokens of the model itself.
    let merges: Vec<Value> = vocabulary
        .merges
        .iter()
        .map(|merge| merge.split_once(' ').unwrap())
        .filter(|(left, right)| {
            [*left, *right, &format!("{left}{right}")].iter().all(|part| vocab.contains_key(*part))
        })
        .map(|(left, right)| json!([left, right]))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": added,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": ignore_merges, "vocab": vocab, "merges": merges,
        },
    })
    .to_string()
}

/// The library's tokenizer, which takes control tokens for text.
pub(crate) fn oracle(json: &str) -> tokenizers::Tokenizer {
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).unwrap();
    tokenizer.set_encode_special_tokens(true);
    tokenizer
}
