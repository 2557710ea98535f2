//! Broken tokenizers, templates and documents end in an error or load as something sane: never a panic, never
//! memory out of proportion to the file.

use longleaf_text::fuzzing;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// A file of every kind that `tokenizer.json` comes in, as small as they get.
fn jsons() -> Vec<Value> {
    let added = json!([
        {"id": 0, "content": "<s>", "special": true, "normalized": false, "lstrip": false, "rstrip": true},
        {"id": 1, "content": "  ", "special": false, "normalized": false, "lstrip": false, "rstrip": false},
    ]);
    let bytes = json!({"<s>": 0, "  ": 1, "a": 2, "b": 3, "Ġ": 4, "ab": 5, "Ġab": 6, "e": 7, "l": 8, "el": 9, "Ã": 10});
    let merges = json!([["a", "b"], ["Ġ", "ab"], ["e", "l"]]);
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let split = json!({"type": "Split", "pattern": {"Regex": r" ?\p{L}+|\p{N}{1,2}|\s+(?!\S)|\s+"}, "behavior": "Isolated", "invert": false});
    let mut pieces = serde_json::Map::new();
    for (id, text) in ["<s>", "  ", "▁", "a", "e", "l", "el", "▁a"].into_iter().enumerate() {
        pieces.insert(text.to_owned(), id.into());
    }
    for byte in 0..256 {
        pieces.insert(format!("<0x{byte:02X}>"), (8 + byte).into());
    }
    vec![
        json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
            "decoder": byte_level, "model": {"type": "BPE", "dropout": null, "unk_token": null,
                "ignore_merges": true, "vocab": bytes, "merges": merges}}),
        json!({"added_tokens": added, "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "unk_token": "<s>", "fuse_unk": true, "byte_fallback": true, "vocab": pieces,
                "merges": ["e l", "▁ a"]}}),
        json!({"added_tokens": [{"id": 0, "content": "[UNK]", "special": true, "normalized": false, "lstrip": false,
                "rstrip": false, "single_word": false}],
            "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "[UNK]"},
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[UNK]", 0], "cls": ["[UNK]", 0]},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "hello": 1, "world": 2, "##s": 3, "'": 4}}}),
        json!({"added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁",
                "prepend_scheme": "always", "split": true}, "post_processor": null,
            "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false,
                "vocab": [["<unk>", 0.0], ["▁", -1.5], ["a", -2.0], ["el", -3.0], ["▁Hel", -2.5]]}}),
    ]
}

const GGUFS: [&str; 4] = [
    "gpt2\nqwen2\n3 0 <s>\n1 0 a\n1 0 b\n1 0 Ġ\n1 0 ab\n4 0 WORLD\n1 0 Ġab\n\na b\nĠ ab\n",
    "llama\ndefault\n3 0 <s>\n2 0 <unk>\n6 0 <0x41>\n6 0 <0xE4>\n1 -1 ▁\n1 -2 l\n1 -3 ll\n1 -4 ▁l\n1 -0.5 e\n",
    "bert\n\n3 0 [CLS]\n2 0 [UNK]\n1 0 ▁hello\n1 0 s\n1 0 ▁,\n",
    "gemma4\n\n3 0 <s>\n6 0 <0x41>\n1 0 l\n1 0 ll\n1 0 ▁\n1 0 \\n\n\nl l\n",
];

const TEMPLATES: [&str; 3] = [
    "{%- for m in messages %}\n{{ m.role.title() + ': ' + m.content.strip() | trim }}\n{% endfor -%}",
    "{% macro f(x, n) %}{% if n > 0 %}{{ x | tojson(indent=n) }}{{ f(x, n - 1) }}{% endif %}{% endmacro %}{{ f(tools, 3) }}",
    "{% generation %}{{ strftime_now('%Y-%m-%d %H') }}{% endgeneration %}{% set ns = namespace(a=[1, 2]) %}{{ ns.a[::-1] }}",
];

/// The sources load as they are.
#[test]
fn undamaged_files_load() {
    for json in jsons() {
        fuzzing::tokenizer_json(json.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("{error}: {json}"));
    }
    for gguf in &GGUFS[..3] {
        fuzzing::gguf_vocabulary(gguf.as_bytes()).unwrap();
    }
    for template in TEMPLATES {
        fuzzing::template(template.as_bytes()).unwrap();
    }
}

#[test]
fn truncated_files_are_survived() {
    let files = jsons().into_iter().map(|json| json.to_string());
    for json in files {
        for end in 0..json.len() {
            assert!(fuzzing::tokenizer_json(&json.as_bytes()[..end]).is_err());
        }
    }
    for gguf in GGUFS {
        (0..gguf.len()).for_each(|end| drop(fuzzing::gguf_vocabulary(&gguf.as_bytes()[..end])));
    }
    for template in TEMPLATES {
        (0..template.len()).for_each(|end| drop(fuzzing::template(&template.as_bytes()[..end])));
    }
}

/// Values of a JSON file, deep and shallow, by number: the `n`th is replaced.
fn replace(json: &mut Value, n: &mut usize, with: &Value) -> bool {
    if *n == 0 {
        json.clone_from(with);
        return true;
    }
    *n -= 1;
    match json {
        Value::Array(values) => values.iter_mut().any(|value| replace(value, n, with)),
        Value::Object(values) => values.values_mut().any(|value| replace(value, n, with)),
        _ => false,
    }
}

/// Every value of every file replaced by each of several others.
#[test]
fn contradictions_are_survived() {
    let strange = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(4_294_967_295_u64),
        json!(1e300),
        json!(""),
        json!("▁"),
        json!("<s>"),
        json!([]),
        json!({}),
        json!(["a", "b"]),
        json!([0]),
        json!("(a+)+$"),
    ];
    let mut tried = 0;
    for json in jsons() {
        for with in &strange {
            for n in 0.. {
                let mut changed = json.clone();
                if !replace(&mut changed, &mut n.clone(), with) {
                    break;
                }
                let _ = fuzzing::tokenizer_json(changed.to_string().as_bytes());
                tried += 1;
                if n > 400 {
                    break;
                }
            }
        }
    }
    assert!(tried > 5000, "{tried}");
}

/// A small file with a huge id, or a huge length, is refused and not allocated for.
#[test]
fn huge_numbers_are_refused() {
    let mut json = jsons().remove(0);
    json["model"]["vocab"]["a"] = json!(4_000_000_000_u32);
    let error = fuzzing::tokenizer_json(json.to_string().as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "corrupt vocabulary: far beyond the number of tokens: id 4000000000");
    let mut json = jsons().remove(0);
    json["added_tokens"][0]["id"] = json!(3);
    let error = fuzzing::tokenizer_json(json.to_string().as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "corrupt vocabulary: an added token and another have the id 3");
}

/// Expressions that a backtracking engine takes for ever over are refused, not run.
#[test]
fn expressions_that_explode_are_refused() {
    let mut json = jsons().remove(0);
    for expression in [r"(a+)+b(?=c)", r"(?<=a)b", r"^a+$", r"(.)\1"] {
        json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(expression);
        let error = fuzzing::tokenizer_json(json.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("pre-tokenizer \"{expression}\" is not supported")), "{error}");
    }
}

/// The body of a fuzz target.
type Target = fn(&[u8]);

/// The corpus of the fuzz targets, replayed.
#[test]
fn the_corpus_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let targets: [(&str, Target); 4] = [
        ("tokenizer_json", |bytes| drop(fuzzing::tokenizer_json(bytes))),
        ("gguf_vocabulary", |bytes| drop(fuzzing::gguf_vocabulary(bytes))),
        ("template", |bytes| drop(fuzzing::template(bytes))),
        ("document", |bytes| drop(fuzzing::document(bytes))),
    ];
    for (name, target) in targets {
        let files = std::fs::read_dir(corpus.join(name)).expect("a corpus");
        let count = files.map(|file| target(&std::fs::read(file.unwrap().path()).unwrap())).count();
        assert!(count >= 3, "{count} files for {name}");
    }
}

/// Some bytes of a file changed, removed or repeated.
fn damaged(sources: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let places = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6);
    (proptest::sample::select(sources), places).prop_map(|(mut bytes, places)| {
        for (place, byte, how) in places {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => drop(bytes.drain(at..(at + usize::from(byte % 16)).min(bytes.len()))),
                _ => {
                    let piece = bytes[at..(at + usize::from(byte)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_json_is_survived(bytes in damaged(jsons().iter().map(|json| json.to_string().into_bytes()).collect())) {
        let _ = fuzzing::tokenizer_json(&bytes);
    }

    #[test]
    fn damaged_gguf_vocabularies_are_survived(bytes in damaged(GGUFS.map(|gguf| gguf.as_bytes().to_vec()).to_vec())) {
        let _ = fuzzing::gguf_vocabulary(&bytes);
    }

    #[test]
    fn damaged_templates_are_survived(bytes in damaged(TEMPLATES.map(|text| text.as_bytes().to_vec()).to_vec())) {
        let _ = fuzzing::template(&bytes);
    }

    #[test]
    fn any_document_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = fuzzing::document(&bytes);
    }
}
