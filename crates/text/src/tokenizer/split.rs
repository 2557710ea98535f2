//! Pre-tokenizers: where byte-level BPE may not merge across.
//!
//! Every family publishes a regular expression, or several applied in turn: each cuts the pieces of the one
//! before, and what lies between two matches is a piece as well. The common ones are scanned by hand, an order
//! of magnitude faster than by an engine; the expressions stand in the documentation of [`Stage`] and are what
//! the scanners are tested against. All of them run in linear time, and none looks left of where it starts.

mod scan;

use super::class::{self, class};
use crate::Error;
use regex::Regex;

/// One cutting step.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*`
    /// `|\s*[\r\n]+|\s+(?!\S)|\s+`; with `marks`, `\p{M}` stands beside `\p{L}` in the run of letters and in
    /// the class of other characters.
    Cl100k { digits: usize, marks: bool },
    /// `[^\r\n\p{L}\p{N}]?[U]*[W]+C?|[^\r\n\p{L}\p{N}]?[U]+[W]*C?|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*`
    /// `|\s*[\r\n]+|\s+(?!\S)|\s+` with U = `\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}`, W = `\p{Ll}\p{Lm}\p{Lo}\p{M}` and
    /// C = `(?i:'s|'t|'re|'ve|'m|'ll|'d)` if `contractions`.
    O200k { digits: usize, contractions: bool },
    /// `\p{N}`, each by itself.
    EachNumber,
    /// `\p{N}+`
    Numbers,
    /// `[0-9][0-9][0-9]`
    ThreeDigits,
    /// `[\p{P}$+<=>^~|]+`, and the backtick if `backtick`.
    Punctuation { backtick: bool },
    /// Any other expression without look-around.
    Pattern(Regex),
    /// An expression whose last alternatives are `\s+(?!\S)|\s+`, here written `\s+`: a run of white space
    /// leaves its last character to what follows.
    PatternThenSpace(Regex),
}

/// The stages of one pre-tokenizer.
#[derive(Debug, Clone)]
pub(crate) struct Splitter {
    stages: Vec<Stage>,
}

/// A pre-tokenizer that GGUF names, and whether whole words are looked up before merging.
struct Named {
    names: &'static [&'static str],
    ignore_merges: bool,
    add_bos: bool,
    stages: fn() -> Vec<Stage>,
}

const CJK: &str = r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+";

#[rustfmt::skip]
const NAMED: &[Named] = &[
    Named { names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "modern-bert",
                     "roberta-bpe", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code",
                     "gigachat", "a.x-4.0", "mellum"],
            ignore_merges: false, add_bos: false, stages: || vec![Stage::Gpt2] },
    Named { names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
            ignore_merges: false, add_bos: false, stages: || vec![Stage::EachNumber, Stage::Gpt2] },
    Named { names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
            ignore_merges: true, add_bos: true, stages: || vec![Stage::Cl100k { digits: 3, marks: false }] },
    Named { names: &["glm4", "glm5"],
            ignore_merges: true, add_bos: false, stages: || vec![Stage::Cl100k { digits: 3, marks: false }] },
    Named { names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
            ignore_merges: false, add_bos: false, stages: || vec![Stage::Cl100k { digits: 3, marks: false }] },
    Named { names: &["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "solar-open", "grok-2", "kormo"],
            ignore_merges: false, add_bos: false, stages: || vec![Stage::Cl100k { digits: 1, marks: false }] },
    Named { names: &["qwen35"],
            ignore_merges: false, add_bos: false, stages: || vec![Stage::Cl100k { digits: 1, marks: true }] },
    Named { names: &["gpt-4o", "llama4", "kanana2", "minimax-m2"],
            ignore_merges: false, add_bos: false, stages: || vec![Stage::O200k { digits: 3, contractions: true }] },
    Named { names: &["tekken"],
            ignore_merges: true, add_bos: true, stages: || vec![Stage::O200k { digits: 1, contractions: false }] },
    Named { names: &["deepseek-llm"], ignore_merges: false, add_bos: false, stages: deepseek_llm },
    Named { names: &["deepseek-coder"], ignore_merges: false, add_bos: false, stages: deepseek_coder },
    Named { names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
            ignore_merges: false, add_bos: false, stages: deepseek_v3 },
    Named { names: &["falcon"], ignore_merges: false, add_bos: false,
            stages: || vec![Stage::Punctuation { backtick: true }, Stage::Gpt2, Stage::ThreeDigits] },
    Named { names: &["default"], ignore_merges: false, add_bos: false,
            stages: || vec![Stage::Punctuation { backtick: false }, Stage::Gpt2, Stage::Numbers, Stage::ThreeDigits] },
];

fn pattern(expression: &str) -> Regex {
    Regex::new(expression).expect("the expressions in this file are constants, compiled by a test")
}

fn deepseek_llm() -> Vec<Stage> {
    // The published class lists the letters of the alphabets that have case, of the scripts up to Unicode 13.
    const CASED: &str = concat!(
        r"[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}",
        r"\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}",
        r"\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}",
        r"\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}",
        r"\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}",
        r"\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}",
        r"\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}",
        r"\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}",
        r"\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}",
        r"\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}",
        r"\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}",
        r"\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}",
        r"\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]",
    );
    vec![
        Stage::Pattern(pattern(r"[\r\n]")),
        Stage::Pattern(pattern(&format!(r"\s?{CASED}+"))),
        Stage::Pattern(pattern(
            r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+",
        )),
        Stage::Pattern(pattern(r"\s+$")),
        Stage::Pattern(pattern(r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+")),
        Stage::Numbers,
    ]
}

fn deepseek_coder() -> Vec<Stage> {
    vec![
        Stage::Pattern(pattern(r"[\r\n]")),
        Stage::Pattern(pattern(r"\s?\p{L}+")),
        Stage::Pattern(pattern(r"\s?\p{P}+")),
        Stage::Pattern(pattern(r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+")),
        Stage::EachNumber,
    ]
}

fn deepseek_v3() -> Vec<Stage> {
    vec![
        Stage::Pattern(pattern(r"\p{N}{1,3}")),
        Stage::Pattern(pattern(CJK)),
        Stage::PatternThenSpace(pattern(concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+",
        ))),
    ]
}

/// What a GGUF's `tokenizer.ggml.pre` means.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    pub(crate) splitter: Splitter,
    /// A word that is a token is not merged together but taken.
    pub(crate) ignore_merges: bool,
    /// Whether prompts begin with the BOS token if the file does not say.
    pub(crate) add_bos: bool,
}

impl PreTokenizer {
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        let named = NAMED.iter().find(|named| named.names.contains(&name)).ok_or_else(|| {
            Error::UnknownPreTokenizer { found: name.to_owned(), known: Self::known_names().join(", ") }
        })?;
        Ok(Self {
            splitter: Splitter::new((named.stages)()),
            ignore_merges: named.ignore_merges,
            add_bos: named.add_bos,
        })
    }

    pub(crate) fn known_names() -> Vec<&'static str> {
        NAMED.iter().flat_map(|named| named.names).copied().collect()
    }
}

impl Splitter {
    pub(crate) fn new(stages: Vec<Stage>) -> Self {
        Self { stages }
    }

    /// Calls `piece` with the start and end of every piece of `text`, in order, without gaps.
    pub(crate) fn split(&self, text: &str, mut piece: impl FnMut(usize, usize)) {
        cut(&self.stages, text, 0, &mut piece);
    }
}

/// Cuts `text[..]`, which begins at `base` of the whole, by all stages.
fn cut(stages: &[Stage], text: &str, base: usize, piece: &mut dyn FnMut(usize, usize)) {
    let Some((stage, rest)) = stages.split_first() else {
        if !text.is_empty() {
            piece(base, base + text.len());
        }
        return;
    };
    if let (Stage::Gpt2 | Stage::Cl100k { .. } | Stage::O200k { .. }, []) = (stage, rest) {
        // the common case, without recursion at every piece
        let mut at = 0;
        while at < text.len() {
            let end = at + scan::next(stage, &text[at..]);
            piece(base + at, base + end);
            at = end;
        }
        return;
    }
    stage.matches(text, &mut |start, end| cut(rest, &text[start..end], base + start, piece));
}

impl Stage {
    /// Calls `part` for every match and every gap between matches.
    fn matches(&self, text: &str, part: &mut dyn FnMut(usize, usize)) {
        match self {
            Self::Gpt2 | Self::Cl100k { .. } | Self::O200k { .. } => {
                let mut at = 0;
                while at < text.len() {
                    let end = at + scan::next(self, &text[at..]);
                    part(at, end);
                    at = end;
                }
            }
            Self::EachNumber => runs(text, 1, |c| class(c) & class::NUMBER != 0, part),
            Self::Numbers => runs(text, usize::MAX, |c| class(c) & class::NUMBER != 0, part),
            Self::Punctuation { backtick } => runs(
                text,
                usize::MAX,
                |c| {
                    class(c) & class::PUNCTUATION != 0
                        || matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|')
                        || (*backtick && c == '`')
                },
                part,
            ),
            Self::ThreeDigits => three_digits(text, part),
            Self::Pattern(regex) => {
                let mut at = 0;
                for found in regex.find_iter(text) {
                    if found.start() > at {
                        part(at, found.start());
                    }
                    if !found.is_empty() {
                        part(found.start(), found.end());
                    }
                    at = found.end();
                }
                if at < text.len() {
                    part(at, text.len());
                }
            }
            Self::PatternThenSpace(regex) => pattern_then_space(regex, text, part),
        }
    }
}

/// Matches are runs of at most `limit` characters of a class.
fn runs(text: &str, limit: usize, is: impl Fn(char) -> bool, part: &mut dyn FnMut(usize, usize)) {
    let (mut start, mut length, mut inside) = (0, 0, false);
    for (at, c) in text.char_indices() {
        let matching = is(c);
        if at > start && (matching != inside || (inside && length == limit)) {
            part(start, at);
            (start, length) = (at, 0);
        }
        inside = matching;
        length += 1;
    }
    if start < text.len() {
        part(start, text.len());
    }
}

fn three_digits(text: &str, part: &mut dyn FnMut(usize, usize)) {
    let bytes = text.as_bytes();
    let (mut gap, mut at) = (0, 0);
    while at + 3 <= bytes.len() {
        if bytes[at..at + 3].iter().all(u8::is_ascii_digit) {
            if at > gap {
                part(gap, at);
            }
            part(at, at + 3);
            at += 3;
            gap = at;
        } else {
            at += 1;
        }
    }
    if gap < bytes.len() {
        part(gap, bytes.len());
    }
}

fn pattern_then_space(regex: &Regex, text: &str, part: &mut dyn FnMut(usize, usize)) {
    let (mut gap, mut at) = (0, 0);
    while let Some(found) = regex.find_at(text, at) {
        let (start, mut end) = (found.start(), found.end());
        if start == end {
            break;
        }
        // Only the `\s+` alternative ends in white space other than a line end.
        let last = found.as_str().chars().next_back().expect("not empty");
        let is_space = last.is_whitespace() && !matches!(last, '\r' | '\n');
        if is_space && end < text.len() && end - start > last.len_utf8() {
            end -= last.len_utf8();
        }
        if start > gap {
            part(gap, start);
        }
        part(start, end);
        (gap, at) = (end, end);
    }
    if gap < text.len() {
        part(gap, text.len());
    }
}

#[cfg(test)]
mod tests;
