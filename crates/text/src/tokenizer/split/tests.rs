use super::*;
use crate::tokenizer::json::EXPRESSIONS;
use proptest::prelude::*;
use std::sync::LazyLock;
use tokenizers::tokenizer::{OffsetReferential, OffsetType};
use tokenizers::{PreTokenizedString, PreTokenizer as _, SplitDelimiterBehavior, pre_tokenizers::split};

fn pieces(splitter: &Splitter, text: &str) -> Vec<String> {
    let (mut pieces, mut end) = (Vec::new(), 0);
    splitter.split(text, |from, to| {
        assert_eq!(from, end, "{text:?}");
        assert!(to > from, "{text:?}");
        pieces.push(text[from..to].to_owned());
        end = to;
    });
    assert_eq!(end, text.len(), "{text:?}");
    pieces
}

fn check(name: &str, text: &str, expected: &[&str]) {
    assert_eq!(pieces(&PreTokenizer::named(name).unwrap().splitter, text), expected, "{name}");
}

#[test]
fn families_differ_where_they_should() {
    check("gpt-2", "I'll pay 1234  €", &["I", "'ll", " pay", " 1234", " ", " €"]);
    check("smollm", "I'll pay 1234  €", &["I", "'ll", " pay", " ", "1", "2", "3", "4", " ", " €"]);
    check("llama-bpe", "I'LL pay 1234\n\nx", &["I", "'LL", " pay", " ", "123", "4", "\n\n", "x"]);
    check("qwen2", "a-b 12\r\n  c", &["a", "-b", " ", "1", "2", "\r\n", " ", " c"]);
    check("gpt-4o", "HelloWORLD's/\n", &["Hello", "WORLD's", "/\n"]);
    check("tekken", "camelCase HTTPServer", &["camel", "Case", " HTTPServer"]);
    check("falcon", "a+b 12345", &["a", "+", "b", " ", "123", "45"]);
    check("deepseek-v3", "你好abc 1234  x", &["你好", "abc", " ", "123", "4", " ", " x"]);
}

#[test]
fn every_named_pre_tokenizer_compiles() {
    for name in PreTokenizer::known_names() {
        let splitter = PreTokenizer::named(name).unwrap().splitter;
        assert!(pieces(&splitter, "").is_empty());
        assert!(!pieces(&splitter, "a b").is_empty());
    }
    let error = PreTokenizer::named("babel").unwrap_err().to_string();
    assert!(error.starts_with("pre-tokenizer \"babel\" is not supported; supported: gpt-2, "), "{error}");
}

/// The pieces that a regular-expression engine finds.
fn oracle(expression: &str, text: &str) -> Vec<String> {
    let pattern = split::SplitPattern::Regex(expression.to_owned());
    let split = split::Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap();
    let mut string = PreTokenizedString::from(text);
    split.pre_tokenize(&mut string).unwrap();
    let splits = string.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().map(|(piece, ..)| piece.to_owned()).collect()
}

/// Characters of every class, all of them old enough for every version of Unicode in use.
fn characters() -> impl Strategy<Value = char> {
    let frequent = " \n\r\t'aAzZsStTrRvVeElLmMdD019.,/!-_<|>é";
    let others = "ſÉßǅʰªا中你あア한ñµΩω\u{301}\u{308}\u{903}\u{20dd}२½Ⅷ²€+~`^$«»“”、。\u{a0}\u{2003}\u{85}\u{200d}\u{feff}🌿😀";
    prop_oneof![
        6 => proptest::sample::select(frequent.chars().collect::<Vec<_>>()),
        2 => proptest::sample::select(others.chars().collect::<Vec<_>>()),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    proptest::collection::vec(characters(), 0..40).prop_map(String::from_iter)
}

static ALL: LazyLock<Vec<Splitter>> = LazyLock::new(|| {
    PreTokenizer::known_names().iter().map(|name| PreTokenizer::named(name).unwrap().splitter).collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn scanners_agree_with_their_expressions(text in texts()) {
        for (expression, stage) in EXPRESSIONS {
            let splitter = Splitter::new(vec![stage.clone()]);
            prop_assert_eq!(pieces(&splitter, &text), oracle(expression, &text), "{}", expression);
        }
    }

    #[test]
    fn stages_agree_with_their_expressions(text in texts()) {
        let stages = [
            (r"\p{N}", Stage::EachNumber),
            (r"\p{N}+", Stage::Numbers),
            ("[0-9][0-9][0-9]", Stage::ThreeDigits),
            (r"[\p{P}\$\+<=>\^~\|`]+", Stage::Punctuation { backtick: true }),
            (r"[\p{P}\$\+<=>\^~\|]+", Stage::Punctuation { backtick: false }),
        ];
        for (expression, stage) in stages {
            let splitter = Splitter::new(vec![stage]);
            prop_assert_eq!(pieces(&splitter, &text), oracle(expression, &text), "{}", expression);
        }
    }

    #[test]
    fn every_pre_tokenizer_leaves_nothing_out(text in texts()) {
        for splitter in ALL.iter() {
            pieces(splitter, &text);
        }
    }
}
