//! What the rows of a run come to: a cell for each score, and tables of them.
use crate::interval::wilson;
use crate::run::Row;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

/// The score of a method on a task at a length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The suite.
    pub suite: String,
    /// The task.
    pub task: String,
    /// Tokens asked for.
    pub length: usize,
    /// Who answered.
    pub method: String,
    /// The model's name.
    pub model: String,
    /// How closely it computed: exact or fast.
    #[serde(default)]
    pub precision: String,
    /// Mean score; of `ppl`, the perplexity.
    pub score: f64,
    /// Its 95 % interval.
    pub low: f64,
    /// Its 95 % interval.
    pub high: f64,
    /// Rows.
    pub n: usize,
}

/// The suite whose scores are no shares.
pub(crate) const PERPLEXITY: &str = "ppl";

/// Suites whose tasks are averaged, as they are published.
const AVERAGED: [&str; 2] = ["ruler", "babilong"];

/// Suite, length, method, model and precision of an average.
type Averaged = (String, usize, String, String, String);

/// A cell for each task, length, method, model and precision, in the order of the rows; then, where it is usual, the
/// average of the tasks. An item that was answered several times counts once, with its last row: the others were asked
/// in words that have changed since, or were lost half-way.
pub fn cells(rows: &[Row]) -> Vec<Cell> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut add = |row, overlap: bool, score| match groups.iter_mut().find(|group| group.has(row, overlap)) {
        Some(group) => group.scores.push(score),
        None => groups.push(Group { row, overlap, scores: vec![score] }),
    };
    for row in last(rows) {
        add(row, false, row.score);
        if let Some(f1) = row.f1 {
            add(row, true, f1);
        }
    }
    let mut cells: Vec<Cell> = groups.iter().map(Group::cell).collect();
    let mut averages: BTreeMap<Averaged, Vec<(f64, usize)>> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| AVERAGED.contains(&cell.suite.as_str())) {
        let (method, model, precision) = (cell.method.clone(), cell.model.clone(), cell.precision.clone());
        let key = (cell.suite.clone(), cell.length, method, model, precision);
        averages.entry(key).or_default().push((cell.score, cell.n));
    }
    for ((suite, length, method, model, precision), tasks) in averages {
        // Each task counts alike, however many rows it has.
        if tasks.len() > 1 {
            let score = tasks.iter().map(|(score, _)| score).sum::<f64>() / tasks.len() as f64;
            let n = tasks.iter().map(|(_, n)| n).sum();
            let (low, high) = wilson(score, n);
            let task = format!("average of {}", tasks.len());
            cells.push(Cell { suite, task, length, method, model, precision, score, low, high, n });
        }
    }
    cells
}

/// Of rows about the same item the last, in the order in which the items first came.
fn last(rows: &[Row]) -> Vec<&Row> {
    let mut places = BTreeMap::new();
    let mut last: Vec<&Row> = Vec::new();
    for row in rows {
        let at = *places.entry((key(row), row.seed, row.item)).or_insert(last.len());
        if at == last.len() { last.push(row) } else { last[at] = row }
    }
    last
}

/// What the rows of a cell have in common.
fn key(row: &Row) -> (&str, &str, usize, [&str; 3]) {
    (&row.suite, &row.task, row.length, [&row.method, &row.model, &row.precision])
}

/// Rows that make one cell.
#[derive(Debug)]
struct Group<'r> {
    /// The first of them.
    row: &'r Row,
    /// The cell is about the overlap in words.
    overlap: bool,
    scores: Vec<f64>,
}

impl Group<'_> {
    fn has(&self, row: &Row, overlap: bool) -> bool {
        key(self.row) == key(row) && self.overlap == overlap
    }

    fn cell(&self) -> Cell {
        let (row, n) = (self.row, self.scores.len());
        let score = self.scores.iter().sum::<f64>() / n as f64;
        let (score, low, high) = if row.suite == PERPLEXITY {
            let spread = self.scores.iter().map(|one| (one - score).powi(2)).sum::<f64>() / n as f64;
            let half = 1.959_964 * (spread / n as f64).sqrt();
            (score.exp(), (score - half).exp(), (score + half).exp())
        } else {
            let (low, high) = wilson(score, n);
            (score, low, high)
        };
        let task = if self.overlap { format!("{} f1", row.task) } else { row.task.clone() };
        let Row { suite, length, method, model, precision, .. } = row.clone();
        Cell { suite, task, length, method, model, precision, score, low, high, n }
    }
}

/// Who answered: a method with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answerer<'c> {
    pub(crate) method: &'c str,
    /// Its name, where several models have answered.
    model: Option<&'c str>,
    /// How closely it computed, where some did more and some less.
    precision: Option<&'c str>,
}

impl<'c> Answerer<'c> {
    /// All that some cells speak of, in their order.
    pub(crate) fn all(cells: impl Iterator<Item = &'c Cell> + Clone) -> Vec<Self> {
        let of = |part: fn(&Cell) -> &str| cells.clone().map(part).collect::<BTreeSet<&str>>().len();
        let (models, precisions) = (of(|cell| &cell.model), of(|cell| &cell.precision));
        let mut all = Vec::new();
        for cell in cells {
            let one = Self {
                method: &cell.method,
                model: (models > 1).then_some(&cell.model),
                precision: (precisions > 1).then_some(&cell.precision),
            };
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    /// What tells it from others of the same method: model and precision.
    pub(crate) fn besides(self) -> Option<String> {
        let besides: Vec<&str> = [self.model, self.precision].into_iter().flatten().collect();
        (!besides.is_empty()).then(|| besides.join(", "))
    }

    pub(crate) fn has(self, cell: &Cell) -> bool {
        cell.method == self.method
            && self.model.is_none_or(|model| model == cell.model)
            && self.precision.is_none_or(|precision| precision == cell.precision)
    }
}

impl fmt::Display for Answerer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.besides() {
            Some(besides) => write!(f, "{}, {besides}", self.method),
            None => f.write_str(self.method),
        }
    }
}

/// Cells as a table in Markdown: a line for each task and length, a column for each method (and model and
/// precision, if there are several), scores in percent, perplexities as they are.
pub fn table(cells: &[Cell]) -> String {
    let answerers = Answerer::all(cells.iter());
    let mut lines: Vec<(&str, usize)> = Vec::new();
    for cell in cells {
        if !lines.contains(&(cell.task.as_str(), cell.length)) {
            lines.push((&cell.task, cell.length));
        }
    }
    let names: Vec<String> = answerers.iter().map(Answerer::to_string).collect();
    let mut text =
        format!("| task | length | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (task, length) in lines {
        let _ = write!(text, "| {task} | {} |", tokens(length));
        for one in &answerers {
            let found = cells.iter().find(|cell| cell.task == task && cell.length == length && one.has(cell));
            let _ = match found {
                Some(cell) if cell.suite == PERPLEXITY => {
                    write!(text, " {:.3} ({:.2}–{:.2}), {} |", cell.score, cell.low, cell.high, cell.n)
                }
                Some(cell) => {
                    let percent = [cell.score, cell.low, cell.high].map(|share| share * 100.0);
                    write!(text, " {:.1} ({:.0}–{:.0}), {} |", percent[0], percent[1], percent[2], cell.n)
                }
                None => write!(text, " – |"),
            };
        }
        text.push('\n');
    }
    text
}

/// `4K`, `1M`, and what is neither in full. K is 1,024.
pub fn tokens(length: usize) -> String {
    match length {
        0 => "all".to_owned(),
        _ if length.is_multiple_of(1 << 20) => format!("{}M", length >> 20),
        _ if length.is_multiple_of(1 << 10) => format!("{}K", length >> 10),
        _ => length.to_string(),
    }
}
