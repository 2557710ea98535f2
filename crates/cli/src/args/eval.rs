//! `longleaf eval`, declared.
use super::{Depth, EncoderArgs, ModelArgs, tokens};
use clap::{Args as ClapArgs, ValueEnum};
use longleaf_engine::kernel::KvBits;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Measure a model's quality: on files of yours, or by public task families at any length
///
/// ruler, babilong, kv, lines, xquad, lm and search take their texts from --data, a folder with one folder for each source; what
/// lies where, and what was found, stands in docs/quality.md. Every answer is a row; rows in --out are not made again.
#[derive(Debug, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, not states")]
pub(crate) struct Eval {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) suite: Suite,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// ppl, needle: text files; lambada: a file of JSON lines with "text"
    #[arg(long, num_args = 1.., required_if_eq_any([("suite", "ppl"), ("suite", "lambada"), ("suite", "needle")]))]
    pub(crate) file: Vec<PathBuf>,
    /// ppl: score the first N tokens of each file
    #[arg(long, value_name = "N", default_value = "8000")]
    pub(crate) tokens: NonZeroUsize,
    /// ppl: cut them into windows of N tokens, each read alone from position 0
    #[arg(long, value_name = "N", default_value = "2048")]
    pub(crate) window: NonZeroUsize,
    /// ppl: also with keys and values in these bits, and how far that is from bf16 (dense attention)
    #[arg(long, value_enum, value_delimiter = ',', value_name = "BITS,BITS")]
    pub(crate) kv: Vec<Kv>,
    /// ppl: of each window, score the tokens from position N on
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) score_from: NonZeroUsize,
    /// Items of each task; lambada: score the first N items; needle: hide N facts of each kind (256 at most)
    #[arg(long, value_name = "N", default_value = "500")]
    pub(crate) items: NonZeroUsize,
    /// Tokens of context, with K (1,024) or M; several for several lengths [default: 4K; needle: 128000]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = tokens)]
    pub(crate) memory_tokens: Vec<usize>,
    /// Where the task families' data lie
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Only these tasks, or those whose names begin so
    #[arg(long, value_delimiter = ',', value_name = "TASK,TASK")]
    pub(crate) task: Vec<String>,
    /// Who answers
    #[arg(long, value_enum, value_delimiter = ',', value_name = "METHOD,METHOD", default_values = ["longleaf", "dense", "truncated", "lexical"])]
    pub(crate) method: Vec<Method>,
    /// Keep the rows in this file of JSON lines, and go on from those in it; ppl: perplexity by position, a row from each
    /// power of two to the next
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// needle: kinds of facts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND,KIND", default_values = ["number", "sentence"])]
    pub(crate) kind: Vec<NeedleKind>,
    /// Decides what is random about the items
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// needle: have the questions answered too, not only located, and ask as many about what is not there
    #[arg(long)]
    pub(crate) answers: bool,
    /// needle: with --answers, also ask the model each question in a prompt of 2,000 tokens that holds its facts
    #[arg(long, requires = "answers")]
    pub(crate) control: bool,
    /// needle: with --answers and --depth full, attend to what is kept of the passages instead of re-reading them
    #[arg(long, requires = "answers")]
    pub(crate) attend: bool,
    /// needle: how deep the text is read
    #[arg(long, value_enum, default_value = "finder")]
    pub(crate) depth: Depth,
    /// needle, search: let meaning find too
    #[arg(long)]
    pub(crate) meaning: bool,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

/// Bits of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kv {
    /// Both in 8 bits
    Int8,
    /// Keys in 8 bits, values in 4: what memories of full depth keep
    Int8Int4,
    /// Both in 4 bits
    Int4,
}

impl Kv {
    pub(crate) fn bits(self) -> (KvBits, KvBits) {
        match self {
            Self::Int8 => (KvBits::Eight, KvBits::Eight),
            Self::Int8Int4 => (KvBits::Eight, KvBits::Four),
            Self::Int4 => (KvBits::Four, KvBits::Four),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int8Int4 => "int8-int4",
            Self::Int4 => "int4",
        }
    }
}

/// A measurement of quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Perplexity of texts: no BOS, windows without overlap, every token but a window's first is a target
    Ppl,
    /// Share of passages whose last word is the model's first choice, token by token
    Lambada,
    /// Share of facts, hidden in the files with look-alikes, that a memory finds
    Needle,
    /// RULER's thirteen tasks (prose, `ruler_sources`)
    Ruler,
    /// bAbI's facts between sentences of prose; 0 for the story alone (babi, prose)
    Babilong,
    /// The value of a key among many (`lost_in_the_middle`)
    Kv,
    /// The number in one of many lines (`longchat_lines`)
    Lines,
    /// Questions on a collection of paragraphs as one text (`xquad_en`)
    Xquad,
    /// PIQA, HellaSwag, LAMBADA and GSM8K: does the engine do the model no harm? (`lm_sanity`)
    Lm,
    /// SciFact: which abstracts does a claim concern? (scifact)
    Search,
    /// The table of the rows in --file, and with --out their curves as SVG files in that folder
    Plot,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// The model, from what a memory of the context finds
    Longleaf,
    /// The same with a memory that was read for its words alone
    Words,
    /// The model, with all of the context, where its window holds it
    Dense,
    /// The model, with the newest part that its window holds
    Truncated,
    /// The model, with the same number of passages, found by BM25 alone
    Lexical,
}

/// A kind of hidden fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NeedleKind {
    /// A number that belongs to a name
    Number,
    /// 128 bits in hexadecimal that belong to a name
    Uuid,
    /// Who did what, in a sentence
    Sentence,
    /// Two numbers in one question, which stand far apart
    Multi,
    /// Something that answers a question with which it shares no content word
    Latent,
}
