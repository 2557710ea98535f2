//! Our tokenizers against the tokenizers library on the same vocabularies.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a broken test stops at once and says why")]

#[path = "support/oracle.rs"]
mod oracle;
#[path = "support/vocabularies.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod support;

use longleaf_text::{Special, Tokenizer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const BYTE_LEVEL: [&str; 6] = ["gpt-2", "llama-bpe", "qwen2", "qwen35", "starcoder", "command-r"];

/// One vocabulary three ways: from GGUF, from `tokenizer.json`, and the library's.
struct Three {
    gguf: Tokenizer,
    json: Tokenizer,
    library: tokenizers::Tokenizer,
}

impl Three {
    fn new(name: &str) -> Self {
        let vocabulary = support::vocabulary(name);
        let json = oracle::json(&vocabulary);
        Self {
            gguf: Tokenizer::from_gguf(vocabulary).unwrap(),
            json: Tokenizer::from_json(json.as_bytes(), None).unwrap(),
            library: oracle::oracle(&json),
        }
    }

    fn check(&self, text: &str) -> Result<(), TestCaseError> {
        let expected = self.library.encode_fast(text, false).unwrap();
        prop_assert_eq!(&self.json.encode(text, Special::Text), expected.get_ids(), "json {:?}", text);
        prop_assert_eq!(&self.gguf.encode(text, Special::Text), expected.get_ids(), "gguf {:?}", text);
        prop_assert_eq!(&self.gguf.decode(expected.get_ids()), text);
        Ok(())
    }
}

/// Text of many kinds, of characters that all versions of Unicode in use agree on.
fn texts() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        8 => proptest::sample::select(" etaoinshrdluETAOIN\n".chars().collect::<Vec<_>>()),
        2 => proptest::char::range('\u{0}', '\u{7f}'),
        1 => proptest::char::range('\u{a0}', '\u{17e}'),
        1 => proptest::char::range('\u{400}', '\u{45f}'),
        1 => proptest::char::range('\u{4e00}', '\u{9f00}'),
        1 => proptest::sample::select("\u{301}\u{308}²½२»“”。\u{a0}\u{2003}\u{85}\u{200d}🌿😀".chars().collect::<Vec<_>>()),
    ];
    proptest::collection::vec(character, 0..200).prop_map(String::from_iter)
}

#[test]
fn byte_level_bpe_agrees_on_random_text() {
    for name in BYTE_LEVEL {
        let three = Three::new(name);
        let mut runner = TestRunner::new(Config { cases: 300, ..Config::default() });
        runner.run(&texts(), |text| three.check(&text)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn byte_level_bpe_agrees_on_prose() {
    let Some(data) = support::shared_data() else { return };
    for (name, novel) in BYTE_LEVEL.iter().zip(novels(&data, 300_000)) {
        Three::new(name).check(&novel).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Words beyond the length at which merging turns from a scan to a heap, and beyond what is remembered.
#[test]
fn long_words_agree() {
    let three = Three::new("gpt-2");
    for length in [40, 47, 48, 49, 50, 95, 500, 20_000] {
        let words = ["a", "ab", "theand", "qzxj", "é", "aaaaaaaab"];
        for word in words {
            let text: String = word.chars().cycle().take(length).collect();
            three.check(&text).unwrap();
        }
    }
}

/// The first `limit` bytes or so of each novel.
fn novels(data: &std::path::Path, limit: usize) -> impl Iterator<Item = String> {
    let mut paths: Vec<_> =
        std::fs::read_dir(data.join("prose")).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().filter(|path| !path.ends_with("README.md")).map(move |path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.char_indices().take_while(|&(at, _)| at < limit).map(|(_, c)| c).collect()
    })
}

/// BPE of characters with spaces as `▁`, as Llama 2 and Gemma have it in `tokenizer.json`.
#[test]
fn pieces_agree() {
    let vocabulary = support::vocabulary("gemma-4");
    let kind = |id: usize| vocabulary.token_types[id];
    let mut vocab = serde_json::Map::new();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        if kind(id) != 3 {
            vocab.insert(text.clone(), id.into());
        }
    }
    let merges: Vec<_> = vocabulary
        .merges
        .iter()
        .map(|merge| {
            let first = merge.chars().next().unwrap().len_utf8();
            let at = merge[first..].find(' ').unwrap() + first;
            [&merge[..at], &merge[at + 1..]]
        })
        .filter(|[left, right]| {
            [*left, *right, &format!("{left}{right}")].iter().all(|part| vocab.contains_key(*part))
        })
        .collect();
    let replace = serde_json::json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = serde_json::json!({"type": "Prepend", "prepend": "▁"});
    let sequence = serde_json::json!({"type": "Sequence", "normalizers": [prepend, replace]});
    let data = support::shared_data();
    let novel = data.and_then(|data| novels(&data, 100_000).next()).unwrap_or_default();
    for normalizer in [replace, sequence] {
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": normalizer, "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        })
        .to_string();
        let ours = Tokenizer::from_json(json.as_bytes(), None).unwrap();
        let library = oracle::oracle(&json);
        let check = |text: &str| {
            let expected = library.encode_fast(text, false).unwrap();
            prop_assert_eq!(&ours.encode(text, Special::Text), expected.get_ids(), "{:?}", text);
            prop_assert_eq!(&ours.decode(expected.get_ids()), &text.replace('▁', " "));
            Ok(())
        };
        let mut runner = TestRunner::new(Config { cases: 300, ..Config::default() });
        runner.run(&texts(), |text| check(&text)).unwrap();
        check(&novel).unwrap();
    }
}
