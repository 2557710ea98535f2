//! Short tasks that show whether an engine does a model harm.
//!
//! Prompts and scores are those of the usual harness (Gao et al., *A framework for few-shot language model
//! evaluation*): endings by likelihood ([`choices`]), the last word of a passage ([`last_word`]), sums in words
//! ([`sums`]).
mod choices;
mod last_word;
mod sums;

use crate::run::{Row, hash, precision};
use crate::{Error, Event};
use longleaf_engine::Model;
use serde_json::Value;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// The tasks: PIQA (Bisk et al., 2020), HellaSwag (Zellers et al., 2019), LAMBADA (Paperno et al., 2016), GSM8K (Cobbe et
/// al., 2021).
pub const TASKS: [&str; 4] = ["piqa", "hellaswag", "lambada", "gsm8k"];

/// What a task asks the model for.
trait Question {
    /// Rows of this item, without what the model makes of it.
    fn blanks(&self) -> Vec<Row>;
    /// Fill in the answers, scores and timings of those rows.
    fn answer(
        &self,
        model: &Model,
        rows: &mut [Row],
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error>;
}

/// A row for each of the first `items` items of a task and each of its scores, those in `known` as they are.
///
/// # Errors
/// Those of the data and the model; [`Error::Interrupted`] if `watch` breaks it off.
pub fn lm<E: From<Error>>(
    (task, items): (&str, usize),
    data: &Path,
    model: &Model,
    known: &[Row],
    keep: &mut dyn FnMut(&Row) -> Result<(), E>,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Vec<Row>, E> {
    let folder = data.join("lm_sanity");
    let questions: Vec<Box<dyn Question>> = match task {
        "piqa" => boxed(choices::piqa(&folder)?),
        "hellaswag" => boxed(choices::hellaswag(&folder)?),
        "lambada" => boxed(last_word::lambada(&folder)?),
        _ => boxed(sums::gsm8k(&folder)?),
    };
    let mut rows = Vec::new();
    for (index, question) in questions.iter().take(items).enumerate() {
        let mut made = question.blanks();
        for row in &mut made {
            "lm".clone_into(&mut row.suite);
            row.item = index;
            "dense".clone_into(&mut row.method);
            row.model = model.name();
            precision(model).clone_into(&mut row.precision);
        }
        let there: Vec<&Row> =
            made.iter().filter_map(|row| known.iter().find(|known| known.is(row))).collect();
        if there.len() == made.len() {
            rows.extend(there.into_iter().cloned());
            continue;
        }
        if watch(Event::Item { task, length: 0, index, method: "dense" }).is_break() {
            return Err(Error::Interrupted.into());
        }
        question.answer(model, &mut made, watch)?;
        for row in made {
            keep(&row)?;
            rows.push(row);
        }
    }
    Ok(rows)
}

fn boxed<Q: Question + 'static>(questions: Vec<Q>) -> Vec<Box<dyn Question>> {
    questions.into_iter().map(|question| Box::new(question) as Box<dyn Question>).collect()
}

/// A row of this task and score about these texts.
fn blank(task: &str, texts: &[&str], expected: String) -> Row {
    Row { task: task.to_owned(), prompt: hash(texts), expected: vec![expected], ..Row::default() }
}

/// Lines of JSON, each made into something; an error names the line.
fn json_lines<T>(
    path: &Path,
    expected: &'static str,
    make: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let text = fs::read_to_string(path).map_err(Error::data(path))?;
    let line = |(number, line): (usize, &str)| {
        let row = serde_json::from_str(line).ok();
        row.as_ref().and_then(&make).ok_or_else(|| Error::Format {
            path: path.to_owned(),
            expected,
            line: number + 1,
        })
    };
    text.lines().enumerate().map(line).collect()
}
