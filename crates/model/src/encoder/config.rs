//! What an encoder is, in numbers, and the families that are read.
use crate::config::{MAX_LAYERS, MAX_SIZE};
use crate::error::Error;
use crate::families::{Object, unsupported};
use crate::weights::Stored;
use std::path::Path;

/// One row of the table.
#[derive(Debug)]
struct Family {
    /// `model_type` in `config.json`, and the name we use.
    name: &'static str,
    /// What a checkpoint with a head of its own puts before the tensors' names.
    prefix: &'static str,
    /// Whether positions are counted from the one after `pad_token_id` (`RoBERTa`) rather than from 0.
    behind_padding: bool,
}

const FAMILIES: [Family; 3] = [
    Family { name: "bert", prefix: "bert.", behind_padding: false },
    Family { name: "roberta", prefix: "roberta.", behind_padding: true },
    Family { name: "xlm-roberta", prefix: "roberta.", behind_padding: true },
];

/// The shape and constants of an encoder, as its file gives them. Every number has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// The family's name in our table.
    pub family: &'static str,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream, and numbers of a token's vector.
    pub hidden_size: usize,
    /// Heads; divides `hidden_size`.
    pub heads: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Rows of the embedding of words.
    pub vocab_size: usize,
    /// Rows of the embedding of positions.
    pub positions: usize,
    /// The row of a sequence's first token.
    pub first_position: usize,
    /// Rows of the embedding of types, of which only the first is used: one text at a time.
    pub types: usize,
    /// The ε of its norms.
    pub norm_eps: f32,
}

impl EncoderConfig {
    /// Numbers in one head; a multiple of 16.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// Tokens that a sequence may have.
    pub fn window(&self) -> usize {
        self.positions - self.first_position
    }

    /// What a `config.json` says of its model.
    pub(super) fn from_hugging_face(path: &Path, json: &serde_json::Value) -> Result<Self, Error> {
        let config = Object { path, json };
        let name = config.need("model_type", config.string("model_type")?)?;
        let family = FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| {
            let known: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
            unsupported(path, "model_type of an encoder", name, known.join(", "))
        })?;
        if let Some(quantization) = config.get("quantization_config") {
            let method = quantization.get("quant_method").and_then(serde_json::Value::as_str);
            return Err(unsupported(path, "quantisation", method.unwrap_or("unnamed"), "F32, F16, BF16"));
        }
        for (key, known) in [("hidden_act", "gelu"), ("position_embedding_type", "absolute")] {
            let found = config.string(key)?.unwrap_or(known);
            if found != known {
                return Err(unsupported(path, key, found, known));
            }
        }
        if config.boolean("is_decoder")?.unwrap_or(false) {
            return Err(unsupported(path, "kind of layer", "is_decoder", "attention in both directions"));
        }
        let size = |key| config.need(key, config.size(key)?);
        let padding = config.size("pad_token_id")?.unwrap_or(1);
        Self {
            family: family.name,
            layers: size("num_hidden_layers")?,
            hidden_size: size("hidden_size")?,
            heads: size("num_attention_heads")?,
            intermediate_size: size("intermediate_size")?,
            vocab_size: size("vocab_size")?,
            positions: size("max_position_embeddings")?,
            first_position: if family.behind_padding { padding.saturating_add(1) } else { 0 },
            types: config.size("type_vocab_size")?.unwrap_or(2),
            norm_eps: config.number("layer_norm_eps")?.unwrap_or(1e-12) as f32,
        }
        .check(path)
    }

    /// Refuse what no encoder can have.
    fn check(self, path: &Path) -> Result<Self, Error> {
        let refuse = |what, found: String, expected| {
            Err(Error::Config { path: path.to_owned(), what, found, expected })
        };
        for (what, size) in [
            ("hidden size", self.hidden_size),
            ("number of heads", self.heads),
            ("intermediate size", self.intermediate_size),
            ("vocabulary size", self.vocab_size),
            ("number of positions", self.positions),
            ("number of types", self.types),
        ] {
            if !(1..=MAX_SIZE).contains(&size) {
                return refuse(what, size.to_string(), "between 1 and 2^24");
            }
        }
        if !(1..=MAX_LAYERS).contains(&self.layers) {
            return refuse("number of layers", self.layers.to_string(), "between 1 and 4096");
        }
        if !self.hidden_size.is_multiple_of(self.heads) || !self.head_dim().is_multiple_of(16) {
            return refuse("number of heads", self.heads.to_string(), "heads of a multiple of 16 numbers");
        }
        if self.first_position >= self.positions {
            let found = self.first_position.to_string();
            return refuse("first position", found, "below the number of positions");
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return refuse("norm epsilon", self.norm_eps.to_string(), "a small positive number");
        }
        Ok(self)
    }

    /// What stands before every tensor's name, as `find` shows it.
    pub(super) fn prefix<'a>(
        &self,
        find: impl Fn(String) -> Result<Option<Stored<'a>>, Error>,
    ) -> Result<&'static str, Error> {
        let prefix = FAMILIES.iter().find(|family| family.name == self.family).map_or("", |f| f.prefix);
        let there = find(format!("{prefix}embeddings.word_embeddings.weight"))?.is_some();
        Ok(if there { prefix } else { "" })
    }
}
