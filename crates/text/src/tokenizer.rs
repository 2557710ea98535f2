//! Text to tokens and back.

mod bpe;
mod class;
mod gguf;
mod json;
mod normalize;
mod pieces;
mod special;
mod split;
mod wordpiece;
mod words;

use crate::vocabulary::{Kind, Vocabulary};
use crate::{Error, GgufVocabulary, Span, TokenId};
#[cfg(test)]
pub(crate) use bpe::byte_of;
use special::SpecialTokens;

/// Whether control tokens written out in a text are control tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `<|im_end|>` ends a turn: for prompts rendered by a template of ours.
    Parse,
    /// `<|im_end|>` is ten letters and signs: for documents and everything a user typed.
    Text,
}

/// Tokens of a text and where each came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<TokenId>,
    /// Byte range in the text of each token, in order. The pieces of one character may share it.
    pub spans: Vec<Span>,
}

/// One vocabulary and its way of cutting text. Immutable: any number of threads may use one.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    special: SpecialTokens,
    model: Model,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    ends: Vec<TokenId>,
    prefix: Vec<TokenId>,
    suffix: Vec<TokenId>,
    chat_template: Option<String>,
}

/// How ordinary text becomes tokens.
#[derive(Debug)]
enum Model {
    ByteLevel { bpe: bpe::ByteLevelBpe, nfc: bool },
    Pieces(pieces::Pieces),
    WordPiece(wordpiece::WordPiece),
    Foreign(Box<json::Foreign>),
}

impl Tokenizer {
    /// From the metadata of a GGUF file.
    ///
    /// # Errors
    /// A kind of vocabulary or pre-tokenizer that is not known, or a vocabulary that contradicts itself.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, Error> {
        gguf::tokenizer(vocabulary)
    }

    /// From a Hugging Face `tokenizer.json` and, if there is one, its `tokenizer_config.json`, which knows the
    /// chat template and which token begins and ends a text.
    ///
    /// # Errors
    /// Files that are not what they should be, or contradict themselves.
    pub fn from_json(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Self, Error> {
        json::tokenizer(tokenizer, config)
    }

    /// Token ids of a text, without [`prefix`](Self::prefix) and [`suffix`](Self::suffix).
    ///
    /// Linear in the text but for words of thousands of letters, which cost n log n.
    pub fn encode(&self, text: &str, special: Special) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        self.encode_each(text, special, |id, _| ids.push(id));
        ids
    }

    /// Token ids of a text with the bytes that each came from.
    pub fn encode_with_offsets(&self, text: &str, special: Special) -> Encoding {
        let mut encoding = Encoding::default();
        self.encode_each(text, special, |id, span| {
            encoding.ids.push(id);
            encoding.spans.push(span);
        });
        encoding
    }

    /// Calls `token` with each token of a text and its byte range, in order.
    pub fn encode_each(&self, text: &str, special: Special, mut token: impl FnMut(TokenId, Span)) {
        self.encode_quoting(text, special, &[], &mut token);
    }

    /// As [`encode_each`](Self::encode_each), but control tokens in the ranges `quoted`, ascending, are text.
    pub(crate) fn encode_quoting(
        &self,
        text: &str,
        special: Special,
        quoted: &[Span],
        token: &mut impl FnMut(TokenId, Span),
    ) {
        let mut after_special = true;
        self.special.fragments(text, special, quoted, |start, end, id| {
            if let Some(id) = id {
                token(id, Span { start, end });
                after_special = true;
            } else {
                self.model.encode(&text[start..end], after_special, |id, span| {
                    token(id, Span { start: start + span.start, end: start + span.end });
                });
                after_special = false;
            }
        });
    }

    /// Places, ascending, where a text may be cut into about `parts` parts that encode to the same tokens as
    /// the whole: for encoding on several threads. May be fewer, or none.
    pub fn cuts(&self, text: &str, parts: usize) -> Vec<usize> {
        if parts < 2 || matches!(self.model, Model::Foreign(_)) {
            return Vec::new();
        }
        let mut cuts = Vec::new();
        for part in 1..parts {
            let from = (text.len() / parts * part).max(cuts.last().map_or(0, |&cut| cut + 1));
            cuts.extend(self.cut_after(text, from));
        }
        cuts.dedup();
        cuts
    }

    /// The first safe cut at or after `from`: before a space between two letters of English, where every
    /// pre-tokenizer here cuts, unless a token of the vocabulary stands in the way.
    fn cut_after(&self, text: &str, from: usize) -> Option<usize> {
        let bytes = text.as_bytes();
        (from.max(1)..bytes.len().saturating_sub(1)).find(|&at| {
            bytes[at] == b' '
                && bytes[at - 1].is_ascii_alphabetic()
                && bytes[at + 1].is_ascii_alphabetic()
                && self.model.splits_between(char::from(bytes[at - 1]))
                && !self.special.may_cross(text, at)
        })
    }

    /// Text of tokens, without control tokens; bytes that are no UTF-8 become U+FFFD.
    ///
    /// For byte-level vocabularies `decode(encode(text, Special::Text)) == text`.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            if !self.is_control(id) {
                bytes.extend_from_slice(self.bytes(id));
            }
        }
        let start = usize::from(self.model.adds_space() && bytes.first() == Some(&b' '));
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    /// The bytes that a token stands for, perhaps part of a character; a control token's are its name.
    pub fn bytes(&self, id: TokenId) -> &[u8] {
        self.vocabulary.bytes(id)
    }

    /// Whether a token is not text: begins or ends something, pads, masks.
    pub fn is_control(&self, id: TokenId) -> bool {
        matches!(self.vocabulary.kind(id), Kind::Control)
    }

    /// The id of a control or added token by its name, such as `<|im_end|>`.
    pub fn special_id(&self, name: &str) -> Option<TokenId> {
        self.special.id(name)
    }

    /// Calls `found` with the range of each control token written out in `text`.
    pub(crate) fn controls(&self, text: &str, found: impl FnMut(Span)) {
        self.special.controls(text, found);
    }

    /// Number of tokens; ids are below it.
    pub fn len(&self) -> usize {
        self.vocabulary.len()
    }

    /// Whether there are no tokens at all; never.
    pub fn is_empty(&self) -> bool {
        self.vocabulary.len() == 0
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<TokenId> {
        self.eos
    }

    /// The tokens after which nothing more is to be generated: end of text, of turn, of message.
    pub fn ends(&self) -> &[TokenId] {
        &self.ends
    }

    /// What the model expects before a text that no template rendered: BOS, `[CLS]` or nothing.
    pub fn prefix(&self) -> &[TokenId] {
        &self.prefix
    }

    /// What the model expects after a text that it shall not continue: EOS, `[SEP]` or nothing.
    pub fn suffix(&self) -> &[TokenId] {
        &self.suffix
    }

    /// The same with another chat template, such as a model folder's `chat_template.jinja`.
    #[must_use]
    pub fn with_chat_template(mut self, source: String) -> Self {
        self.chat_template = Some(source);
        self
    }

    /// The Jinja source of the model's own chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }
}

impl Model {
    fn encode(&self, text: &str, after_special: bool, mut token: impl FnMut(TokenId, Span)) {
        match self {
            Self::ByteLevel { bpe, nfc } => {
                let normalized = if *nfc { normalize::nfc(text) } else { None };
                let source = normalized.as_ref().map_or(text, |n| n.text());
                let mut start = 0;
                bpe.encode(source, |id, length| {
                    let span = Span { start, end: start + length };
                    start += length;
                    if id != bpe::NONE {
                        token(id, normalized.as_ref().map_or(span, |n| n.original(span)));
                    }
                });
            }
            Self::Pieces(pieces) => pieces.encode(text, after_special, token),
            Self::WordPiece(wordpiece) => wordpiece.encode(text, token),
            Self::Foreign(foreign) => foreign.encode(text, token),
        }
    }

    /// Whether a letter of English and the space after it are never in one token.
    fn splits_between(&self, letter: char) -> bool {
        match self {
            Self::ByteLevel { .. } | Self::WordPiece(_) => true,
            Self::Pieces(pieces) => !pieces.adds_space() && pieces.splits_after(letter),
            Self::Foreign(_) => false,
        }
    }

    fn adds_space(&self) -> bool {
        match self {
            Self::Pieces(pieces) => pieces.adds_space(),
            _ => false,
        }
    }
}
