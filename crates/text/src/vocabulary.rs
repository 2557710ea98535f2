//! Tokens by number: their bytes and their kinds.

use crate::Error;

/// A token's number in its vocabulary.
pub type TokenId = u32;

/// The tokenizer metadata of a GGUF file (`tokenizer.ggml.*`), as plain data, field for key.
///
/// Absent keys stay empty or `None`; each vocabulary kind has its own defaults.
#[derive(Debug, Clone, Default)]
pub struct GgufVocabulary {
    /// `model`: "gpt2" (byte-level BPE), "llama" (SentencePiece), "bert" (WordPiece), "gemma4".
    pub model: String,
    /// `pre`: the pre-tokenizer of a "gpt2" model.
    pub pre: Option<String>,
    /// `tokens`: text of each token; its index is its id.
    pub tokens: Vec<String>,
    /// `scores`: of each token, "llama" only.
    pub scores: Vec<f32>,
    /// `token_type`: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte; empty: all normal.
    pub token_types: Vec<i32>,
    /// `merges`: two tokens with a space between, best first.
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos: Option<TokenId>,
    /// `eos_token_id`.
    pub eos: Option<TokenId>,
    /// `eot_token_id`: end of turn.
    pub eot: Option<TokenId>,
    /// `eom_token_id`: end of message.
    pub eom: Option<TokenId>,
    /// `unknown_token_id`.
    pub unknown: Option<TokenId>,
    /// `seperator_token_id` (spelled so in the format).
    pub separator: Option<TokenId>,
    /// `padding_token_id`.
    pub padding: Option<TokenId>,
    /// `cls_token_id`.
    pub cls: Option<TokenId>,
    /// `mask_token_id`.
    pub mask: Option<TokenId>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn from_gguf(number: i32) -> Option<Self> {
        Some(match number {
            0 | 1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// The bytes each token decodes to, in one buffer, and its kind.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    kinds: Vec<Kind>,
}

impl Vocabulary {
    pub(crate) fn with_capacity(tokens: usize) -> Self {
        Self { bytes: Vec::new(), ends: Vec::with_capacity(tokens), kinds: Vec::with_capacity(tokens) }
    }

    pub(crate) fn push(&mut self, bytes: &[u8], kind: Kind) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
        self.kinds.push(kind);
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The token's bytes; none for an id outside the vocabulary.
    pub(crate) fn bytes(&self, id: TokenId) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start..end]
    }

    pub(crate) fn kind(&self, id: TokenId) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Unused)
    }
}

/// Kinds of all tokens of a GGUF vocabulary, checked for length and range.
pub(crate) fn gguf_kinds(vocabulary: &GgufVocabulary) -> Result<Vec<Kind>, Error> {
    let tokens = vocabulary.tokens.len();
    if tokens == 0 || tokens > TokenId::MAX as usize / 2 {
        return Err(Error::Vocabulary { what: "number of tokens is", index: tokens });
    }
    if vocabulary.token_types.is_empty() {
        return Ok(vec![Kind::Normal; tokens]);
    }
    if vocabulary.token_types.len() != tokens {
        return Err(Error::Vocabulary {
            what: "one token type a token is needed, found",
            index: vocabulary.token_types.len(),
        });
    }
    vocabulary
        .token_types
        .iter()
        .enumerate()
        .map(|(index, &number)| {
            Kind::from_gguf(number).ok_or(Error::Vocabulary { what: "unknown type of token", index })
        })
        .collect()
}

/// `<0x41>` as SentencePiece writes byte tokens.
pub(crate) fn byte_token(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 || !hex.is_ascii() {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}
