//! Chat templates against the prompts that transformers makes of the same conversations.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a broken test stops at once and says why")]

#[path = "support/vocabularies.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod support;

use longleaf_text::{ChatTemplate, Message, Role};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What `templates/make.py` wrote.
#[derive(Deserialize)]
struct Expected {
    /// Templates whose prompts are kept whole; of others there is a hash.
    whole: Vec<String>,
    cases: Vec<Case>,
    /// By template; null where transformers refuses.
    prompts: BTreeMap<String, Vec<Option<String>>>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    messages: Vec<Value>,
    tools: Vec<Value>,
    add_generation_prompt: bool,
}

fn message(value: &Value) -> Message {
    let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let role = match value["role"].as_str().unwrap() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => Role::Tool,
    };
    Message {
        tool_calls: value.get("tool_calls").and_then(Value::as_array).cloned().unwrap_or_default(),
        tool_call_id: text("tool_call_id"),
        name: text("name"),
        ..Message::new(role, text("content").unwrap())
    }
}

/// 64-bit FNV-1a, as hexadecimal digits.
fn hash(text: &str) -> String {
    let step = |value: u64, byte: u8| (value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Prompts that differ for a reason: this template declares parts of the prompt safe for HTML, and in Python that
/// escapes what is added to them (`&quot;` for a quotation mark), which no model was meant to read.
const DIFFERENT: &[&str] = &["meetkai-functionary-medium-v3.1: tool"];

#[test]
fn prompts_equal_those_of_transformers() {
    let expected: Expected = serde_json::from_str(include_str!("templates/expected.json")).unwrap();
    let (mut equal, mut different) = (0, Vec::new());
    for (name, prompts) in &expected.prompts {
        let whole = expected.whole.contains(name);
        let template = ChatTemplate::new(&support::template(name), "<BOS>", "<EOS>");
        // 2026-11-23 12:34:56
        let template = template.map(|template| template.at(1_795_437_296));
        for (case, prompt) in expected.cases.iter().zip(prompts) {
            let messages: Vec<Message> = case.messages.iter().map(message).collect();
            let rendered = match &template {
                Ok(template) => template.render(&messages, &case.tools, case.add_generation_prompt),
                Err(error) => panic!("{name}: {error}"),
            };
            match (prompt, rendered) {
                (Some(prompt), Ok(text)) if whole => assert_eq!(&text, prompt, "{name}: {}", case.name),
                (Some(prompt), Ok(text)) if &hash(&text) == prompt => equal += 1,
                (None, Err(_)) => equal += 1,
                // Python refuses more than has a reason: what it renders is what counts.
                (None, Ok(_)) if !whole => {}
                (_, result) => {
                    let error = result.err().map(|error| error.to_string());
                    different.push(format!("{name}: {}: {error:?}", case.name));
                }
            }
        }
    }
    different.retain(|line| !DIFFERENT.iter().any(|name| line.starts_with(name)));
    assert!(different.is_empty(), "{equal} equal, different:\n{}", different.join("\n"));
    assert!(equal > 450, "{equal}");
}
