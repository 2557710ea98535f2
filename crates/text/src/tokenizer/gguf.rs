//! Tokenizers from GGUF metadata.

use super::bpe::{self, ByteLevelBpe, Merges, NONE};
use super::pieces::{Order, Pieces, binders};
use super::special::{SpecialToken, SpecialTokens};
use super::split::PreTokenizer;
use super::wordpiece::WordPiece;
use super::{Model, Tokenizer};
use crate::vocabulary::{Kind, Vocabulary, byte_token, gguf_kinds};
use crate::{Error, GgufVocabulary, TokenId};
use foldhash::fast::FixedState;
use std::collections::HashMap;

/// The kinds of vocabulary that are read here, by the name GGUF has for them.
const MODELS: &str = "gpt2, llama, gemma4, bert";

/// Names of tokens that end a turn or a message in the families there are. GGUF names one end token, chat models
/// often have two.
pub(super) const END_NAMES: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end▁of▁sentence|>",
    "<｜end▁of▁sentence｜>",
    "<|EOT|>",
];

pub(super) fn tokenizer(source: GgufVocabulary) -> Result<Tokenizer, Error> {
    let kinds = gguf_kinds(&source)?;
    let tokens = source.tokens.len();
    let ids = [
        source.bos,
        source.eos,
        source.eot,
        source.eom,
        source.unknown,
        source.separator,
        source.padding,
        source.cls,
        source.mask,
    ];
    if let Some(&id) = ids.iter().flatten().find(|&&id| id as usize >= tokens) {
        return Err(Error::Vocabulary {
            what: "a special token has the id, beyond the vocabulary,",
            index: id as usize,
        });
    }
    let (vocabulary, model, defaults) = match source.model.as_str() {
        "gpt2" => byte_level(&source, &kinds)?,
        "llama" => by_score(&source, &kinds)?,
        "gemma4" => by_merges(&source, &kinds)?,
        "bert" => wordpiece(&source, &kinds)?,
        other => {
            return Err(Error::UnknownModel { found: other.to_owned(), known: MODELS.to_owned() });
        }
    };
    let special = special_tokens(&source, &kinds)?;
    let bos = source.bos.or(defaults.bos).filter(|&id| (id as usize) < tokens);
    let eos = source.eos.or(defaults.eos).filter(|&id| (id as usize) < tokens);
    let mut ends: Vec<TokenId> = [eos, source.eot, source.eom].into_iter().flatten().collect();
    ends.extend(
        END_NAMES
            .iter()
            .filter_map(|name| special.id(name))
            .filter(|&id| kinds[id as usize] == Kind::Control),
    );
    ends.sort_unstable();
    ends.dedup();
    let prefix = if source.add_bos.unwrap_or(defaults.add_bos) { defaults.first.or(bos) } else { None };
    let suffix = if source.add_eos.unwrap_or(defaults.add_eos) { defaults.last.or(eos) } else { None };
    Ok(Tokenizer {
        vocabulary,
        special,
        model,
        bos,
        eos,
        ends,
        prefix: prefix.into_iter().collect(),
        suffix: suffix.into_iter().collect(),
        chat_template: source.chat_template,
    })
}

/// What a kind of vocabulary takes for granted where the file is silent.
#[derive(Debug, Default)]
struct Defaults {
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    add_bos: bool,
    add_eos: bool,
    /// What is added, if not BOS and EOS.
    first: Option<TokenId>,
    last: Option<TokenId>,
}

type Parts = (Vocabulary, Model, Defaults);

fn special_tokens(source: &GgufVocabulary, kinds: &[Kind]) -> Result<SpecialTokens, Error> {
    let tokens = source.tokens.iter().zip(kinds).enumerate();
    let special =
        tokens.filter(|(_, (_, kind))| matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown));
    SpecialTokens::new(
        special
            .map(|(id, (text, kind))| SpecialToken {
                text: text.clone(),
                id: id as TokenId,
                control: *kind != Kind::UserDefined,
                strip_left: false,
                strip_right: false,
            })
            .collect(),
    )
}

/// Ids by text; the first of equal texts counts.
fn ids_of(tokens: &[String]) -> HashMap<&str, TokenId, FixedState> {
    let mut ids = HashMap::with_capacity_and_hasher(tokens.len(), FixedState::default());
    for (id, token) in tokens.iter().enumerate() {
        ids.entry(token.as_str()).or_insert(id as TokenId);
    }
    ids
}

/// The list of merges as pairs of tokens.
fn merges_of(source: &GgufVocabulary, kinds: &[Kind]) -> Result<Merges, Error> {
    let ids = ids_of(&source.tokens);
    let mut merges = Merges::with_capacity(source.merges.len());
    let mut joined = String::new();
    for (rank, merge) in source.merges.iter().enumerate() {
        let unknown = Error::Vocabulary { what: "a part is not in the vocabulary: merge", index: rank };
        // A token may itself begin with a space in vocabularies that do not write bytes.
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let split = merge[first..].find(' ').map(|at| at + first);
        let Some(split) = split else { return Err(unknown) };
        let (left, right) = (&merge[..split], &merge[split + 1..]);
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        match (ids.get(left), ids.get(right), ids.get(joined.as_str())) {
            // No text may merge into a control token, whatever the file says.
            (_, _, Some(&merged)) if kinds[merged as usize] == Kind::Control => {}
            (Some(&left), Some(&right), Some(&merged)) => merges.push((left, right), rank, merged)?,
            _ => return Err(unknown),
        }
    }
    Ok(merges)
}

fn byte_level(source: &GgufVocabulary, kinds: &[Kind]) -> Result<Parts, Error> {
    let pre = PreTokenizer::named(source.pre.as_deref().unwrap_or("default"))?;
    let mut vocabulary = Vocabulary::with_capacity(source.tokens.len());
    let mut bytes = [NONE; 256];
    let mut whole = HashMap::default();
    for (id, (text, &kind)) in source.tokens.iter().zip(kinds).enumerate() {
        let id = id as TokenId;
        let spelled = if kind == Kind::Normal { bpe::bytes_of(text) } else { None };
        let Some(spelled) = spelled else {
            vocabulary.push(text.as_bytes(), kind);
            continue;
        };
        vocabulary.push(&spelled, kind);
        if let [byte] = spelled[..]
            && bytes[usize::from(byte)] == NONE
        {
            bytes[usize::from(byte)] = id;
        }
        if pre.ignore_merges {
            whole.entry(spelled.into_boxed_slice()).or_insert(id);
        }
    }
    if bytes.iter().all(|&id| id == NONE) {
        return Err(Error::Vocabulary { what: "single-byte tokens of 256:", index: 0 });
    }
    let bpe = ByteLevelBpe { splitter: pre.splitter, merges: merges_of(source, kinds)?, bytes, whole };
    let defaults = Defaults { add_bos: pre.add_bos, ..Defaults::default() };
    Ok((vocabulary, Model::ByteLevel { bpe, nfc: false }, defaults))
}

/// Tokens of a vocabulary that writes spaces as `▁`, with spaces.
struct Spelled {
    vocabulary: Vocabulary,
    ids: HashMap<Box<str>, TokenId, FixedState>,
    bytes: [TokenId; 256],
}

fn spelled(source: &GgufVocabulary, kinds: &[Kind]) -> Spelled {
    let mut vocabulary = Vocabulary::with_capacity(source.tokens.len());
    let mut ids = HashMap::with_capacity_and_hasher(source.tokens.len(), FixedState::default());
    let mut bytes = [NONE; 256];
    for (id, (text, &kind)) in source.tokens.iter().zip(kinds).enumerate() {
        let id = id as TokenId;
        if let Some(byte) = (kind == Kind::Byte).then(|| byte_token(text)).flatten() {
            bytes[usize::from(byte)] = id;
            vocabulary.push(&[byte], kind);
            continue;
        }
        let text = text.replace('▁', " ");
        vocabulary.push(text.as_bytes(), kind);
        // Control tokens are never spelled: text that looks like one is text.
        if !matches!(kind, Kind::Control | Kind::Unknown) {
            ids.entry(text.into_boxed_str()).or_insert(id);
        }
    }
    Spelled { vocabulary, ids, bytes }
}

fn by_score(source: &GgufVocabulary, kinds: &[Kind]) -> Result<Parts, Error> {
    if source.scores.len() != source.tokens.len() {
        return Err(Error::Vocabulary {
            what: "one score a token is needed, found",
            index: source.scores.len(),
        });
    }
    if let Some(index) = source.scores.iter().position(|score| !score.is_finite()) {
        return Err(Error::Vocabulary { what: "a score is not a number: token", index });
    }
    let Spelled { vocabulary, ids, bytes } = spelled(source, kinds);
    let binders = binders(ids.keys().map(AsRef::as_ref));
    let pieces = Pieces {
        binders,
        ids,
        order: Order::Scores(source.scores.clone()),
        bytes,
        unknown: source.unknown,
        space_prefix: source.add_space_prefix.unwrap_or(true),
        lines: false,
    };
    let defaults = Defaults { bos: Some(1), eos: Some(2), add_bos: true, ..Defaults::default() };
    Ok((vocabulary, Model::Pieces(pieces), defaults))
}

fn by_merges(source: &GgufVocabulary, kinds: &[Kind]) -> Result<Parts, Error> {
    let Spelled { vocabulary, ids, bytes } = spelled(source, kinds);
    let binders = binders(ids.keys().map(AsRef::as_ref));
    let pieces = Pieces {
        binders,
        ids,
        order: Order::Merges(merges_of(source, kinds)?),
        bytes,
        unknown: source.unknown,
        space_prefix: source.add_space_prefix.unwrap_or(false),
        lines: true,
    };
    Ok((vocabulary, Model::Pieces(pieces), Defaults::default()))
}

fn wordpiece(source: &GgufVocabulary, kinds: &[Kind]) -> Result<Parts, Error> {
    let mut vocabulary = Vocabulary::with_capacity(source.tokens.len());
    let marked = kinds.iter().position(|&kind| kind == Kind::Unknown).map(|id| id as TokenId);
    let unknown = source.unknown.or(marked).unwrap_or(100);
    let mut model =
        WordPiece { starts: HashMap::default(), continuations: HashMap::default(), unknown, longest: 0 };
    if model.unknown as usize >= source.tokens.len() {
        return Err(Error::Vocabulary { what: "no unknown token, tokens:", index: source.tokens.len() });
    }
    for (id, (text, &kind)) in source.tokens.iter().zip(kinds).enumerate() {
        let id = id as TokenId;
        if kind != Kind::Normal {
            vocabulary.push(text.as_bytes(), kind);
            continue;
        }
        model.longest = model.longest.max(text.len());
        if let Some(start) = text.strip_prefix('▁') {
            vocabulary.push(format!(" {start}").as_bytes(), kind);
            model.starts.entry(start.into()).or_insert(id);
        } else {
            vocabulary.push(text.as_bytes(), kind);
            model.continuations.entry(text.as_str().into()).or_insert(id);
        }
    }
    let first = source.cls.or(source.bos);
    let last = source.separator.or(source.eos);
    let defaults = Defaults { add_bos: true, add_eos: true, first, last, ..Defaults::default() };
    Ok((vocabulary, Model::WordPiece(model), defaults))
}
