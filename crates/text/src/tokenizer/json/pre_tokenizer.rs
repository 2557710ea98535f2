//! Pre-tokenizers and normalizers of `tokenizer.json`, as far as our own tokenizers know them.

use super::{steps, type_of};
use crate::Error;
use crate::tokenizer::split::{PreTokenizer, Stage};
use regex::RegexBuilder;
use serde_json::Value;

/// The published expressions that [`Stage`] scans by hand, as they stand in `tokenizer.json` files.
pub(in crate::tokenizer) const EXPRESSIONS: &[(&str, Stage)] = &[
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Stage::Cl100k { digits: 3, marks: false },
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Stage::Cl100k { digits: 1, marks: false },
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Stage::Cl100k { digits: 1, marks: true },
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Stage::O200k { digits: 3, contractions: true },
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Stage::O200k { digits: 1, contractions: false },
    ),
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Stage::Gpt2),
];

/// The stages of a byte-level pre-tokenizer, or `None` if it is none.
///
/// # Errors
/// An expression that cannot be run in linear time.
pub(super) fn stages(pre_tokenizer: &Value) -> Result<Option<Vec<Stage>>, Error> {
    let mut stages = Vec::new();
    let mut byte_level = false;
    for step in steps(pre_tokenizer) {
        if byte_level {
            return Ok(None); // what comes after sees bytes written as characters
        }
        let flag = |key, default| step.get(key).and_then(Value::as_bool).unwrap_or(default);
        let isolated = step.get("behavior").and_then(Value::as_str) == Some("Isolated");
        let expression = step.get("pattern").and_then(|pattern| pattern.get("Regex")?.as_str());
        match (type_of(step), expression) {
            ("ByteLevel", _) if !flag("add_prefix_space", true) => {
                if flag("use_regex", true) {
                    stages.push(Stage::Gpt2);
                }
                byte_level = true;
            }
            ("Digits", _) if flag("individual_digits", false) => stages.push(Stage::EachNumber),
            ("Digits", _) => stages.push(Stage::Numbers),
            ("Split", Some(expression)) if isolated && !flag("invert", false) => {
                stages.push(stage(expression)?);
            }
            _ => return Ok(None),
        }
    }
    Ok(byte_level.then_some(stages))
}

/// One expression: by hand, or by an engine that takes linear time and knows no look-around.
fn stage(expression: &str) -> Result<Stage, Error> {
    if let Some((_, stage)) = EXPRESSIONS.iter().find(|(known, _)| *known == expression) {
        return Ok(stage.clone());
    }
    let unknown = || Error::UnknownPreTokenizer {
        found: expression.to_owned(),
        known: format!(
            "expressions without look-around, and those of {}",
            PreTokenizer::known_names().join(", ")
        ),
    };
    // Anchors mean lines in one engine and the whole text in the other.
    let anchored = expression.replace("[^", "").contains('^') || expression.contains('$');
    let body = expression.strip_suffix(r"|\s+(?!\S)|\s+");
    let source = body.map_or_else(|| expression.to_owned(), |body| format!(r"{body}|\s+"));
    if anchored || source.is_empty() {
        return Err(unknown());
    }
    let regex = RegexBuilder::new(&source).size_limit(1 << 21).build().map_err(|_| unknown())?;
    Ok(if body.is_some() { Stage::PatternThenSpace(regex) } else { Stage::Pattern(regex) })
}

/// Refuses expressions that the library's engine, which backtracks, could take for ever over: all that repeat
/// more than once or have groups.
pub(super) fn check_expressions(component: &Value) -> Result<(), Error> {
    match component {
        Value::Array(parts) => parts.iter().try_for_each(check_expressions),
        Value::Object(parts) => parts.iter().try_for_each(|(key, part)| match part.as_str() {
            Some(expression) if key == "Regex" => {
                let repeats = expression.matches(['*', '+', '{', '?']).count();
                if repeats <= 1 && !expression.contains(['(', '\\']) || expression == r"\s+" {
                    return Ok(());
                }
                Err(Error::UnknownPreTokenizer {
                    found: expression.to_owned(),
                    known: "expressions with one repetition and no group".to_owned(),
                })
            }
            _ => check_expressions(part),
        }),
        _ => Ok(()),
    }
}

/// Whether text gets a space before it, if the two steps do nothing but write spaces as `▁`; `None` if they do
/// anything else.
pub(super) fn space_prefix(normalizer: Option<&Value>, pre_tokenizer: Option<&Value>) -> Option<bool> {
    const SPACE: &str = "▁";
    let text = |step: &Value, key: &str| step.get(key).and_then(Value::as_str).map(str::to_owned);
    let (mut prefix, mut replaced) = (false, false);
    for step in normalizer.filter(|step| !step.is_null()).map(steps).unwrap_or_default() {
        match type_of(step) {
            "Prepend" if text(step, "prepend")? == SPACE && !prefix && !replaced => prefix = true,
            "Replace"
                if step.get("pattern")?.get("String")?.as_str()? == " "
                    && text(step, "content")? == SPACE =>
            {
                replaced = true;
            }
            _ => return None,
        }
    }
    for step in pre_tokenizer.filter(|step| !step.is_null()).map(steps).unwrap_or_default() {
        match type_of(step) {
            // After the replacement there is nothing to split at.
            "Split" if replaced && step.get("pattern")?.get("String")?.as_str()? == " " => {}
            _ => return None,
        }
    }
    replaced.then_some(prefix)
}
