//! Chat templates: messages to a prompt, by the Jinja source that comes with a model.
//!
//! The environment is the one of Hugging Face's `apply_chat_template`: blocks trimmed, Python's methods on
//! strings, lists and dictionaries, `tojson` as Python's `json.dumps` writes it, `raise_exception`,
//! `strftime_now`, and `{% generation %}`, which only marks and is ignored. Templates are files from strangers:
//! they see the messages, nothing else, and run on a limited amount of fuel.

mod json;
mod quote;
mod time;

use crate::{Error, Special, TokenId, Tokenizer};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, Value, context};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the model is told about its task.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool that the model called.
    Tool,
}

/// One message of a conversation.
#[derive(Debug, Clone, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Calls that an assistant made, as OpenAI writes them: `{"type": "function", "function": {"name", "arguments"}}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<serde_json::Value>,
    /// Which call a tool's message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The tool's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None, name: None }
    }
}

/// Steps a template may take: thousands of messages' worth, and an end to malice.
const FUEL: u64 = 20_000_000;

/// Templates for models that bring none, by name.
const BUILT_IN: &[(&str, &str)] = &[
    ("chatml", include_str!("template/chatml.jinja")),
    ("llama2", include_str!("template/llama2.jinja")),
    ("llama3", include_str!("template/llama3.jinja")),
    ("gemma", include_str!("template/gemma.jinja")),
];
const BUILT_IN_NAMES: &str = "chatml, llama2, llama3, gemma";

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    now: Option<u64>,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of the tokens that templates know by these names.
    ///
    /// # Errors
    /// Source that is no Jinja.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(template_error)?);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", json::tojson);
        // Python's None cannot be iterated over, and templates ask that of `tools`.
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let source = without_generation_marks(source);
        environment.add_template_owned("chat", source).map_err(template_error)?;
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned(), now: None })
    }

    /// One of the templates built in: "chatml", "llama2", "llama3", "gemma".
    ///
    /// # Errors
    /// Another name.
    pub fn named(name: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        let (_, source) =
            found.ok_or_else(|| Error::UnknownTemplate { found: name.to_owned(), known: BUILT_IN_NAMES })?;
        Self::new(source, bos, eos)
    }

    /// The model's own template, or the built-in one that its control tokens call for; `None` if it has neither:
    /// a base model that was never taught to talk.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        let text = |id: Option<_>| {
            id.map_or_else(String::new, |id| String::from_utf8_lossy(tokenizer.bytes(id)).into_owned())
        };
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        if let Some(source) = tokenizer.chat_template() {
            return Self::new(source, &bos, &eos).map(Some);
        }
        let marks =
            [("<|im_start|>", "chatml"), ("<|start_header_id|>", "llama3"), ("<start_of_turn>", "gemma")];
        let name = marks.iter().find(|(mark, _)| tokenizer.special_id(mark).is_some());
        name.map(|(_, name)| Self::named(name, &bos, &eos)).transpose()
    }

    /// Lets `strftime_now` tell this time, in seconds since 1970 in UTC, instead of the clock's: prompts that
    /// carry a date are then the same every day.
    #[must_use]
    pub fn at(mut self, unix_seconds: u64) -> Self {
        self.now = Some(unix_seconds);
        self
    }

    /// The prompt for a conversation, to be encoded with [`Special::Parse`](crate::Special::Parse). It contains
    /// the BOS token if the template writes one.
    ///
    /// `tools` are JSON schemas as OpenAI writes them, empty if there are none; `add_generation_prompt` ends the
    /// prompt with the opening of the assistant's turn.
    ///
    /// # Errors
    /// What the template refuses, by `raise_exception` or by failing.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let now = self.now.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
        });
        let strftime_now = Value::from_function(move |format: &str| time::format(now, format));
        let tools = if tools.is_empty() { Value::from(()) } else { Value::from(Serde(tools)) };
        let context = context! {
            messages => Value::from(Serde(messages)),
            tools,
            documents => Value::from(()),
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            strftime_now,
        };
        let template = self.environment.get_template("chat").map_err(template_error)?;
        template.render(context).map_err(template_error)
    }
}

impl ChatTemplate {
    /// The tokens of the prompt for a conversation. Control tokens that the template writes are control tokens;
    /// those written out in messages and tools are text, so that nobody can end a turn but the template.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        tools: &[serde_json::Value],
        add_generation_prompt: bool,
    ) -> Result<Vec<TokenId>, Error> {
        let quotes = quote::Quotes::new(messages, tools);
        let messages = quotes.messages(messages, tokenizer);
        let tools: Vec<_> = tools.iter().map(|tool| quotes.json(tool, tokenizer)).collect();
        let (text, quoted) = quotes.remove(&self.render(&messages, &tools, add_generation_prompt)?);
        let mut ids = Vec::new();
        tokenizer.encode_quoting(&text, Special::Parse, &quoted, &mut |id, _| ids.push(id));
        Ok(ids)
    }
}

fn template_error(error: minijinja::Error) -> Error {
    Error::Template { line: error.line().unwrap_or(0), source: Box::new(error) }
}

/// `{% generation %}` … `{% endgeneration %}` as a condition that always holds: the same text and the same
/// trimming of white space.
fn without_generation_marks(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open);
        let Some(close) = tag[2..].find("%}").map(|at| at + 2) else { break };
        let (tag, after) = tag.split_at(close);
        result.push_str(before);
        let name = tag[2..].trim_matches(['-', '+', ' ', '\n', '\t', '\r']);
        match name {
            "generation" => result.push_str(&tag.replace(name, "if true")),
            "endgeneration" => result.push_str(&tag.replace(name, "endif")),
            _ => result.push_str(tag),
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

/// The keyword arguments of a filter, for [`json::tojson`].
type Arguments = Kwargs;

#[cfg(test)]
mod tests;
