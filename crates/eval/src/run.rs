//! A suite from its first item to its last, resumable: rows that are there already are not made again.
use crate::item::Item;
use crate::method::{Answering, Method, Taken};
use crate::score::Scorer;
use crate::{Error, Event, Source, Suite};
use longleaf_engine::Model;
use longleaf_engine::kernel::Precision;
use longleaf_engine::store::ContentHash;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The suite.
    pub suite: Suite,
    /// Its tasks, in its order.
    pub tasks: Vec<&'static str>,
    /// Tokens of context, prompt and answer together.
    pub lengths: Vec<usize>,
    /// Items of each task at each length.
    pub items: usize,
    /// Decides what is random about the items.
    pub seed: u64,
    /// Who answers.
    pub methods: Vec<Method>,
}

/// One answer of one method: a line of JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The suite.
    pub suite: String,
    /// The task.
    pub task: String,
    /// Tokens asked for.
    pub length: usize,
    /// Number in its cell.
    pub item: usize,
    /// Who answered.
    pub method: String,
    /// The model's name.
    pub model: String,
    /// How closely it computed: exact or fast.
    #[serde(default)]
    pub precision: String,
    /// The seed of the items.
    pub seed: u64,
    /// Hash of the whole context with its prompt: rows of other contexts or prompts are not taken for this one.
    pub prompt: String,
    /// Where the answer stands, as a share of the context.
    pub depth: Option<f64>,
    /// What the model said.
    pub answer: String,
    /// What a right answer says.
    pub expected: Vec<String>,
    /// From 0 to 1; of `ppl`, nats a token.
    pub score: f64,
    /// The overlap in words, where the score is for an exact match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
    /// Tokens that the model read at once to answer.
    pub prompt_tokens: usize,
    /// Tokens that were read into the memory for this item, because no item before it had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_tokens: Option<usize>,
    /// Blocks of the memory that it read, of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks_read: Option<usize>,
    /// The text that the model read in the context's place, where that is not the context or its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
    /// Share of what the answer needs that stands in it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<f64>,
    /// What is known about the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<RowCoverage>,
    /// How surely something was found: from 1 on it counts as found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Seconds.
    pub timings: RowTimings,
}

/// How much of the memory was read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RowCoverage {
    /// Blocks in the memory.
    pub blocks_total: usize,
    /// Share of them that the model read.
    pub share: f64,
}

/// Seconds that an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RowTimings {
    /// Reading into the memory what it had not.
    pub read_s: f64,
    /// Finding.
    pub find_s: f64,
    /// Reading the prompt.
    pub prefill_s: f64,
    /// Writing the answer.
    pub decode_s: f64,
}

impl Row {
    /// Whether both are answers of the same model to the same question.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let key = |row: &Self| {
            (row.suite.clone(), row.task.clone(), row.length, row.item, row.method.clone(), row.model.clone())
        };
        key(self) == key(other)
            && self.seed == other.seed
            && self.prompt == other.prompt
            && self.precision == other.precision
    }
}

/// Make all rows of a plan that are not among `known`; each is handed to `keep` as soon as it is there. Comes back
/// with all rows of the plan, the known ones included, in the plan's order.
///
/// # Errors
/// Those of the data, the model and its memory; [`Error::Interrupted`] if `watch` breaks it off.
pub fn run<E: From<Error>>(
    plan: &Plan,
    source: &mut dyn Source,
    answering: &mut Answering<'_>,
    known: &[Row],
    keep: &mut dyn FnMut(&Row) -> Result<(), E>,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Vec<Row>, E> {
    let mut rows = Vec::new();
    let model = answering.model;
    for &length in &plan.lengths {
        for &task in &plan.tasks {
            for index in 0..plan.items {
                let Some(item) = source.item(task, length, index)? else { break };
                answering.last.clear();
                for &method in &plan.methods {
                    let mut row = blank(plan, &item, method, model);
                    if let Some(known) = known.iter().find(|known| known.is(&row)) {
                        rows.push(known.clone());
                        continue;
                    }
                    if watch(Event::Item { task, length, index, method: method.name() }).is_break() {
                        return Err(Error::Interrupted.into());
                    }
                    let Some(taken) = answering.answer(&item, method, watch)? else { continue };
                    fill(&mut row, &item, &taken);
                    keep(&row)?;
                    rows.push(row);
                }
            }
        }
    }
    Ok(rows)
}

fn blank(plan: &Plan, item: &Item, method: Method, model: &Model) -> Row {
    let frame = &item.frame;
    Row {
        suite: plan.suite.name().to_owned(),
        task: item.task.clone(),
        length: item.length,
        item: item.index,
        method: method.name().to_owned(),
        model: model.name(),
        precision: precision(model).to_owned(),
        seed: plan.seed,
        prompt: hash(&[&frame.example, &frame.before, &item.context, &frame.after, &frame.prefix]),
        depth: item.depth,
        expected: item.expected.clone(),
        ..Row::default()
    }
}

/// How closely a model computes.
pub(crate) fn precision(model: &Model) -> &'static str {
    match model.decoder().precision() {
        Precision::Exact => "exact",
        Precision::Fast => "fast",
        Precision::Coarse => "coarse",
    }
}

/// What is asked, in 16 digits.
pub(crate) fn hash(parts: &[&str]) -> String {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    ContentHash::of_parts(&parts).hex(8)
}

fn fill(row: &mut Row, item: &Item, taken: &Taken) {
    row.answer.clone_from(&taken.text);
    row.score = item.scorer.score(&taken.text, &item.expected);
    row.f1 = (item.scorer == Scorer::Exact).then(|| Scorer::WordF1.score(&taken.text, &item.expected));
    row.prompt_tokens = taken.prompt_tokens;
    row.blocks_read = taken.blocks.map(|(_, read)| read);
    row.coverage = taken.blocks.map(|(blocks_total, read)| RowCoverage {
        blocks_total,
        share: read as f64 / blocks_total.max(1) as f64,
    });
    row.confidence = taken.confidence;
    row.added_tokens = taken.added_tokens;
    row.held = taken.read.as_ref().filter(|_| !item.needs.is_empty()).map(|read| {
        let there = item.needs.iter().filter(|needed| read.contains(needed.as_str())).count();
        there as f64 / item.needs.len() as f64
    });
    row.read.clone_from(&taken.read);
    row.timings = RowTimings {
        read_s: taken.read_s,
        find_s: taken.find_s,
        prefill_s: taken.prefill_s,
        decode_s: taken.decode_s,
    };
}
