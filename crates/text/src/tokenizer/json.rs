//! Tokenizers from Hugging Face files.
//!
//! Byte-level BPE with a pre-tokenizer that is known here, the kind that most models have, becomes our own; all
//! else runs in the tokenizers library. Either way control tokens are looked for here and not there, so that a
//! document cannot contain any.

mod foreign;
mod pre_tokenizer;

use super::bpe::{self, ByteLevelBpe, Merges, NONE};
use super::gguf::END_NAMES;
use super::pieces::{Order, Pieces, binders};
use super::special::{SpecialToken, SpecialTokens};
use super::split::Splitter;
use super::{Model, Tokenizer};
use crate::vocabulary::{Kind, Vocabulary, byte_token};
use crate::{Error, TokenId};
use foldhash::fast::FixedState;
pub(super) use foreign::Foreign;
#[cfg(test)]
pub(super) use pre_tokenizer::EXPRESSIONS;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

const FILE: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: Value,
}

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the file")]
struct Added {
    id: TokenId,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

/// What of `tokenizer_config.json` matters here.
#[derive(Debug, Default, Deserialize)]
struct Config {
    bos_token: Option<Value>,
    eos_token: Option<Value>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    chat_template: Option<Value>,
}

fn broken(file: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Json { file, source: source.into() }
}

pub(super) fn tokenizer(json: &[u8], config: Option<&[u8]>) -> Result<Tokenizer, Error> {
    let file: File = serde_json::from_slice(json).map_err(|error| broken(FILE, error))?;
    let config: Config = match config {
        Some(config) => serde_json::from_slice(config).map_err(|error| broken(CONFIG, error))?,
        None => Config::default(),
    };
    let tokens = tokens(&file)?;
    let vocabulary = vocabulary(&file, &tokens);
    let model = if let Some(model) = byte_level(&file, &tokens, &vocabulary)? {
        model
    } else if let Some(model) = pieces(&file, &tokens, &vocabulary)? {
        model
    } else {
        for component in [&file.normalizer, &file.pre_tokenizer, &file.decoder].into_iter().flatten() {
            pre_tokenizer::check_expressions(component)?;
        }
        let control = (0..tokens.len() as TokenId).filter(|&id| vocabulary.kind(id) == Kind::Control);
        Model::Foreign(Box::new(Foreign::new(json, control.collect())?))
    };
    let special = SpecialTokens::new(special_tokens(&file, matches!(model, Model::Foreign(_))))?;

    let named = |token: &Option<Value>| {
        let token = token.as_ref()?;
        let name = token.as_str().or_else(|| token.get("content")?.as_str())?;
        special.id(name)
    };
    let bos = named(&config.bos_token);
    let eos = named(&config.eos_token);
    let control = |&id: &TokenId| vocabulary.kind(id) == Kind::Control;
    let mut ends: Vec<TokenId> =
        END_NAMES.iter().filter_map(|name| special.id(name)).filter(control).collect();
    ends.extend(eos);
    ends.sort_unstable();
    ends.dedup();
    let (mut prefix, mut suffix) = file.post_processor.as_ref().map_or_else(Default::default, around);
    let inside = |id: &TokenId| (*id as usize) < vocabulary.len();
    prefix.retain(inside);
    suffix.retain(inside);
    match config.add_bos_token {
        Some(true) if prefix.is_empty() => prefix.extend(bos),
        Some(false) if prefix.first().copied() == bos => prefix.clear(),
        _ => {}
    }
    match config.add_eos_token {
        Some(true) if suffix.is_empty() => suffix.extend(eos),
        Some(false) if suffix.last().copied() == eos => suffix.clear(),
        _ => {}
    }
    let chat_template = config.chat_template.as_ref().and_then(default_template).map(str::to_owned);
    Ok(Tokenizer { vocabulary, special, model, bos, eos, ends, prefix, suffix, chat_template })
}

/// One template, or the one named "default" among several.
fn default_template(templates: &Value) -> Option<&str> {
    match templates {
        Value::String(template) => Some(template),
        Value::Array(templates) => templates
            .iter()
            .find(|template| template.get("name").and_then(Value::as_str) == Some("default"))?
            .get("template")?
            .as_str(),
        _ => None,
    }
}

/// The model's tokens by id, without added ones; ids may have gaps.
fn tokens(file: &File) -> Result<Vec<Option<&str>>, Error> {
    let pairs: Vec<(u64, &str)> = match file.model.get("vocab") {
        Some(Value::Object(vocabulary)) => vocabulary
            .iter()
            .enumerate()
            .map(|(index, (text, id))| {
                id.as_u64()
                    .map(|id| (id, text.as_str()))
                    .ok_or(Error::Vocabulary { what: "the id is not a number: entry", index })
            })
            .collect::<Result<_, _>>()?,
        Some(Value::Array(vocabulary)) => vocabulary
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                entry
                    .get(0)
                    .and_then(Value::as_str)
                    .map(|text| (index as u64, text))
                    .ok_or(Error::Vocabulary { what: "no text: entry", index })
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(Error::Vocabulary { what: "model.vocab is missing, tokens:", index: 0 }),
    };
    // Real files have few gaps; a single huge id must not cost memory.
    let limit = 2 * (pairs.len() + file.added_tokens.len()) as u64 + 1024;
    let added = file.added_tokens.iter().map(|token| u64::from(token.id));
    let last = pairs.iter().map(|&(id, _)| id).chain(added).max();
    let Some(last) = last else {
        return Err(Error::Vocabulary { what: "number of tokens is", index: 0 });
    };
    if last >= limit {
        return Err(Error::Vocabulary { what: "far beyond the number of tokens: id", index: last as usize });
    }
    let mut tokens = vec![None; last as usize + 1];
    for (id, text) in pairs {
        if tokens[id as usize].replace(text).is_some() {
            return Err(Error::Vocabulary { what: "two tokens have the id", index: id as usize });
        }
    }
    for token in &file.added_tokens {
        let contradicts = tokens[token.id as usize].is_some_and(|text| text != token.content);
        if contradicts {
            return Err(Error::Vocabulary {
                what: "an added token and another have the id",
                index: token.id as usize,
            });
        }
    }
    Ok(tokens)
}

fn special_tokens(file: &File, foreign: bool) -> Vec<SpecialToken> {
    file.added_tokens
        .iter()
        .filter(|token| token.special || !foreign)
        .map(|token| SpecialToken {
            text: token.content.clone(),
            id: token.id,
            control: token.special,
            strip_left: token.lstrip,
            strip_right: token.rstrip,
        })
        .collect()
}

/// How a vocabulary writes bytes.
enum Writing {
    Bytes,
    Spaces,
    Words,
}

fn vocabulary(file: &File, tokens: &[Option<&str>]) -> Vocabulary {
    let writing = match &file.decoder {
        Some(decoder) if mentions(decoder, "ByteLevel") => Writing::Bytes,
        Some(decoder) if mentions(decoder, "WordPiece") => Writing::Words,
        _ => Writing::Spaces,
    };
    let added: HashMap<TokenId, &Added> = file.added_tokens.iter().map(|token| (token.id, token)).collect();
    let unknown = file.model.get("unk_token").and_then(Value::as_str);
    let unknown_id = file.model.get("unk_id").and_then(id_of);
    let mut vocabulary = Vocabulary::with_capacity(tokens.len());
    for (id, text) in tokens.iter().enumerate() {
        if let Some(added) = added.get(&(id as TokenId)) {
            // The unknown token stands for text, even if it is listed among the special ones.
            let is_unknown = unknown == Some(&added.content) || unknown_id == Some(added.id);
            let kind = match added.special {
                true if is_unknown => Kind::Unknown,
                true => Kind::Control,
                false => Kind::UserDefined,
            };
            vocabulary.push(added.content.as_bytes(), kind);
            continue;
        }
        let Some(text) = text else {
            vocabulary.push(&[], Kind::Unused);
            continue;
        };
        match writing {
            Writing::Bytes => match bpe::bytes_of(text) {
                Some(bytes) => vocabulary.push(&bytes, Kind::Normal),
                None => vocabulary.push(text.as_bytes(), Kind::Normal),
            },
            Writing::Words => match text.strip_prefix("##") {
                Some(rest) => vocabulary.push(rest.as_bytes(), Kind::Normal),
                None => vocabulary.push(format!(" {text}").as_bytes(), Kind::Normal),
            },
            Writing::Spaces => match byte_token(text) {
                Some(byte) => vocabulary.push(&[byte], Kind::Byte),
                None => vocabulary.push(text.replace('▁', " ").as_bytes(), Kind::Normal),
            },
        }
    }
    vocabulary
}

/// Whether a component or one in its sequence is of a type.
fn mentions(component: &Value, kind: &str) -> bool {
    steps(component).iter().any(|step| type_of(step) == kind)
}

/// The components of a sequence, or the one that there is.
fn steps(component: &Value) -> Vec<&Value> {
    let inner = ["pretokenizers", "normalizers", "decoders", "processors"]
        .iter()
        .find_map(|key| component.get(key)?.as_array());
    match inner {
        Some(inner) if type_of(component) == "Sequence" => inner.iter().collect(),
        _ => vec![component],
    }
}

fn type_of(component: &Value) -> &str {
    component.get("type").and_then(Value::as_str).unwrap_or("")
}

/// Tokens that a post-processor puts before and after a single text.
fn around(processor: &Value) -> (Vec<TokenId>, Vec<TokenId>) {
    let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
    for step in steps(processor) {
        match type_of(step) {
            "TemplateProcessing" => {
                let mut into = &mut prefix;
                for part in step.get("single").and_then(Value::as_array).into_iter().flatten() {
                    if part.get("Sequence").is_some() {
                        into = &mut suffix;
                    }
                    let id = part.get("SpecialToken").and_then(|token| token.get("id")?.as_str());
                    let ids = id.and_then(|id| step.get("special_tokens")?.get(id)?.get("ids")?.as_array());
                    into.extend(ids.into_iter().flatten().filter_map(id_of));
                }
            }
            "BertProcessing" | "RobertaProcessing" => {
                let id = |key| step.get(key).and_then(|pair| id_of(pair.get(1)?));
                prefix.extend(id("cls"));
                suffix.extend(id("sep"));
            }
            _ => {}
        }
    }
    (prefix, suffix)
}

fn id_of(value: &Value) -> Option<TokenId> {
    TokenId::try_from(value.as_u64()?).ok()
}

/// Whether the model is BPE without any of the variations of these names.
fn plain_bpe(file: &File, without: &[&str]) -> bool {
    let model = &file.model;
    let unset = |key: &&str| match model.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::String(text)) => text.is_empty(),
        _ => false,
    };
    let kind = model.get("type").and_then(Value::as_str);
    kind.is_none_or(|kind| kind == "BPE")
        && model.get("merges").is_some_and(Value::is_array)
        && without.iter().all(unset)
        && !file.added_tokens.iter().any(|token| token.single_word)
}

/// The merges of a BPE model, by the ids of its tokens' texts.
fn merges(
    file: &File,
    ids: &HashMap<&str, TokenId, FixedState>,
    vocabulary: &Vocabulary,
) -> Result<Merges, Error> {
    let list = file.model.get("merges").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut merges = Merges::with_capacity(list.len());
    let mut joined = String::new();
    for (rank, merge) in list.iter().enumerate() {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            Value::Array(pair) => match &pair[..] {
                [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        let unknown = Error::Vocabulary { what: "a part is not in the vocabulary: merge", index: rank };
        let Some((left, right)) = pair else { return Err(unknown) };
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        match (ids.get(left), ids.get(right), ids.get(joined.as_str())) {
            // No text may merge into a control token, whatever the file says.
            (_, _, Some(&merged)) if vocabulary.kind(merged) == Kind::Control => {}
            (Some(&left), Some(&right), Some(&merged)) => merges.push((left, right), rank, merged)?,
            _ => return Err(unknown),
        }
    }
    Ok(merges)
}

/// Our own BPE if the file describes what it does, exactly.
fn byte_level(file: &File, tokens: &[Option<&str>], vocabulary: &Vocabulary) -> Result<Option<Model>, Error> {
    let variations =
        ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"];
    if !plain_bpe(file, &variations) {
        return Ok(None);
    }
    let nfc = match &file.normalizer {
        None | Some(Value::Null) => false,
        Some(normalizer) if type_of(normalizer) == "NFC" => true,
        Some(_) => return Ok(None),
    };
    let Some(pre_tokenizer) = &file.pre_tokenizer else { return Ok(None) };
    let Some(stages) = pre_tokenizer::stages(pre_tokenizer)? else { return Ok(None) };

    let mut ids: HashMap<&str, TokenId, FixedState> = HashMap::default();
    let mut bytes = [NONE; 256];
    let mut whole = HashMap::default();
    let ignore_merges = file.model.get("ignore_merges").and_then(Value::as_bool).unwrap_or(false);
    for (id, text) in tokens.iter().enumerate() {
        let Some(text) = text else { continue };
        ids.insert(text, id as TokenId);
        if vocabulary.kind(id as TokenId) == Kind::Control {
            continue;
        }
        let Some(spelled) = bpe::bytes_of(text) else { continue };
        if let [byte] = spelled[..] {
            bytes[usize::from(byte)] = id as TokenId;
        }
        if ignore_merges {
            whole.insert(spelled.into_boxed_slice(), id as TokenId);
        }
    }
    let merges = merges(file, &ids, vocabulary)?;
    let bpe = ByteLevelBpe { splitter: Splitter::new(stages), merges, bytes, whole };
    Ok(Some(Model::ByteLevel { bpe, nfc }))
}

/// Our own BPE of characters, as Llama 2 and Gemma have it: spaces are `▁`, and bytes spell what is not there.
fn pieces(file: &File, tokens: &[Option<&str>], vocabulary: &Vocabulary) -> Result<Option<Model>, Error> {
    let variations = ["dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"];
    let fallback = file.model.get("byte_fallback").and_then(Value::as_bool) == Some(true);
    if !fallback || !plain_bpe(file, &variations) {
        return Ok(None);
    }
    let Some(space_prefix) =
        pre_tokenizer::space_prefix(file.normalizer.as_ref(), file.pre_tokenizer.as_ref())
    else {
        return Ok(None);
    };
    let mut by_text: HashMap<&str, TokenId, FixedState> = HashMap::default();
    let mut ids = HashMap::default();
    let mut bytes = [NONE; 256];
    for (id, text) in tokens.iter().enumerate() {
        let Some(text) = text else { continue };
        by_text.insert(text, id as TokenId);
        if vocabulary.kind(id as TokenId) == Kind::Control {
            continue;
        }
        match byte_token(text) {
            Some(byte) => bytes[usize::from(byte)] = id as TokenId,
            None => {
                ids.insert(text.replace('▁', " ").into_boxed_str(), id as TokenId);
            }
        }
    }
    // What cannot be spelled would need the library's rules for unknown tokens.
    if bytes.contains(&NONE) {
        return Ok(None);
    }
    let merges = merges(file, &by_text, vocabulary)?;
    let binders = binders(ids.keys().map(AsRef::as_ref));
    let order = Order::Merges(merges);
    let pieces = Pieces { ids, order, bytes, unknown: None, space_prefix, lines: false, binders };
    Ok(Some(Model::Pieces(pieces)))
}
