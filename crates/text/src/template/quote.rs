//! Quotation marks around control tokens that users wrote, for the way through a template: two characters of
//! private use that occur nowhere in what they wrote.

use super::Message;
use crate::{Span, Tokenizer};
use serde_json::Value;

/// The two characters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quotes {
    open: char,
    close: char,
}

impl Quotes {
    /// Marks that occur nowhere in these messages and tools.
    pub(super) fn new(messages: &[Message], tools: &[Value]) -> Self {
        let mut unused: Vec<char> = ('\u{e000}'..='\u{f8ff}').collect();
        let mut strike = |text: &str| {
            if text.chars().any(|c| ('\u{e000}'..='\u{f8ff}').contains(&c)) {
                unused.retain(|&mark| !text.contains(mark));
            }
        };
        for message in messages {
            strike(&message.content);
            for call in &message.tool_calls {
                strings(call, &mut strike);
            }
            for text in message.name.iter().chain(&message.tool_call_id) {
                strike(text);
            }
        }
        for tool in tools {
            strings(tool, &mut strike);
        }
        // A text that uses all 6,400 is no text; its control tokens are then told apart by the last two, badly.
        let close = unused.pop().unwrap_or('\u{f8ff}');
        Self { open: unused.pop().unwrap_or('\u{f8fe}'), close }
    }

    pub(super) fn messages(self, messages: &[Message], tokenizer: &Tokenizer) -> Vec<Message> {
        let text = |text: &String| self.text(text, tokenizer);
        messages
            .iter()
            .map(|message| Message {
                role: message.role,
                content: text(&message.content),
                tool_calls: message.tool_calls.iter().map(|call| self.json(call, tokenizer)).collect(),
                tool_call_id: message.tool_call_id.as_ref().map(text),
                name: message.name.as_ref().map(text),
            })
            .collect()
    }

    /// A copy with quotes in all strings; keys are left alone.
    pub(super) fn json(self, value: &Value, tokenizer: &Tokenizer) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text, tokenizer)),
            Value::Array(values) => values.iter().map(|value| self.json(value, tokenizer)).collect(),
            Value::Object(values) => {
                values.iter().map(|(key, value)| (key.clone(), self.json(value, tokenizer))).collect()
            }
            other => other.clone(),
        }
    }

    fn text(self, text: &str, tokenizer: &Tokenizer) -> String {
        let (mut quoted, mut at) = (String::with_capacity(text.len()), 0);
        tokenizer.controls(text, |span| {
            quoted.push_str(&text[at..span.start]);
            quoted.push(self.open);
            quoted.push_str(&text[span.range()]);
            quoted.push(self.close);
            at = span.end;
        });
        quoted.push_str(&text[at..]);
        quoted
    }

    /// The text without quotes, and what stood in them.
    pub(super) fn remove(self, text: &str) -> (String, Vec<Span>) {
        let (mut plain, mut quoted) = (String::with_capacity(text.len()), Vec::new());
        let mut start = None;
        for c in text.chars() {
            if c == self.open {
                start = Some(plain.len());
            } else if c == self.close {
                quoted.extend(start.take().map(|start| Span { start, end: plain.len() }));
            } else {
                plain.push(c);
            }
        }
        (plain, quoted)
    }
}

fn strings(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(values) => values.iter().for_each(|value| strings(value, visit)),
        Value::Object(values) => values.values().for_each(|value| strings(value, visit)),
        _ => {}
    }
}
