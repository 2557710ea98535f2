//! Which ending of several does the model find likeliest? PIQA and HellaSwag.
//!
//! `acc` takes the sum of the ending's log-probabilities, `acc_norm` divides it by the ending's bytes.
use super::{Question, blank};
use crate::run::{Row, RowTimings};
use crate::{Error, Event};
use longleaf_engine::scoring::score;
use longleaf_engine::{Model, Special, TokenId, Visible};
use serde_json::Value;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// Endings of a context, one of them right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    task: &'static str,
    context: String,
    endings: Vec<String>,
    right: usize,
}

impl Question for Choice {
    fn blanks(&self) -> Vec<Row> {
        let mut parts = vec![self.context.as_str()];
        parts.extend(self.endings.iter().map(String::as_str));
        let row = |score| blank(&format!("{} {score}", self.task), &parts, self.right.to_string());
        ["acc", "acc_norm"].map(row).into()
    }

    fn answer(
        &self,
        model: &Model,
        rows: &mut [Row],
        _: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let start = Instant::now();
        let likelihoods: Vec<f64> = self
            .endings
            .iter()
            .map(|ending| log_prob(model, &self.context, ending))
            .collect::<Result<_, _>>()?;
        let seconds = start.elapsed().as_secs_f64();
        let by_byte: Vec<f64> = likelihoods
            .iter()
            .zip(&self.endings)
            .map(|(sum, ending)| sum / ending.len().max(1) as f64)
            .collect();
        for (row, values) in rows.iter_mut().zip([&likelihoods, &by_byte]) {
            let best = first_best(values);
            row.answer = best.to_string();
            row.score = f64::from(u8::from(best == self.right));
            row.timings = RowTimings { prefill_s: seconds, ..RowTimings::default() };
        }
        Ok(())
    }
}

/// `ln P(ending | context)`, a space between them.
fn log_prob(model: &Model, context: &str, ending: &str) -> Result<f64, Error> {
    let tokenizer = model.tokenizer();
    let mut tokens = model.plain_prompt(context);
    let first = tokens.len();
    tokens.extend::<Vec<TokenId>>(tokenizer.encode(&format!(" {ending}"), Special::Text));
    Ok(-score(model, &tokens, first, Visible::All)?.nll)
}

/// The first of the greatest.
fn first_best(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, at| if values[at] > values[best] { at } else { best })
}

pub(super) fn piqa(folder: &Path) -> Result<Vec<Choice>, Error> {
    let (path, labels) = (folder.join("piqa_valid.jsonl"), folder.join("piqa_valid_labels.lst"));
    let text = fs::read_to_string(&path).map_err(Error::data(&path))?;
    let labels = fs::read_to_string(&labels).map_err(Error::data(&labels))?;
    let choice = |(line, label): (&str, &str)| {
        let row: Value = serde_json::from_str(line).ok()?;
        let right = label.trim().parse().ok().filter(|right| *right < 2)?;
        let part = |name: &str| row[name].as_str().map(|part| part.trim().to_owned());
        Some(Choice {
            task: "piqa",
            context: format!("Question: {}\nAnswer:", part("goal")?),
            endings: vec![part("sol1")?, part("sol2")?],
            right,
        })
    };
    let lines = text.lines().zip(labels.lines()).enumerate();
    lines
        .map(|line| {
            let number = line.0 + 1;
            choice(line.1).ok_or(Error::Format {
                path: path.clone(),
                expected: "goal, sol1, sol2 and a label",
                line: number,
            })
        })
        .collect()
}

/// Six lines an item: context, number of the right ending, four endings.
pub(super) fn hellaswag(folder: &Path) -> Result<Vec<Choice>, Error> {
    let path = folder.join("hellaswag_val_first2000.txt");
    let text = fs::read_to_string(&path).map_err(Error::data(&path))?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let choice = |(number, lines): (usize, &[&str])| {
        let right = lines.get(1).and_then(|right| right.parse().ok()).filter(|right: &usize| *right < 4);
        let right = right.filter(|_| lines.len() == 6);
        let expected = "six lines an item: context, number, four endings";
        let right = right.ok_or(Error::Format { path: path.clone(), expected, line: number * 6 + 1 })?;
        let endings = lines[2..].iter().map(|ending| (*ending).to_owned()).collect();
        Ok(Choice { task: "hellaswag", context: lines[0].to_owned(), endings, right })
    };
    lines.chunks(6).enumerate().map(choice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::model;

    #[test]
    fn rows_of_both_tasks() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("lm_sanity");
        fs::create_dir(&folder).unwrap();
        let row = |goal: &str| {
            serde_json::json!({"goal": goal, "sol1": "a leaf ", "sol2": "the whole tree"}).to_string()
        };
        fs::write(folder.join("piqa_valid.jsonl"), [row("rake"), row("fell")].join("\n")).unwrap();
        fs::write(folder.join("piqa_valid_labels.lst"), "0\n1\n").unwrap();
        fs::write(
            folder.join("hellaswag_val_first2000.txt"),
            "A tree: it\n2\nfalls.\nflies.\ngrows.\nsings.\n",
        )
        .unwrap();
        assert_eq!(piqa(&folder).unwrap()[1].context, "Question: fell\nAnswer:");
        assert_eq!(piqa(&folder).unwrap()[0].endings, ["a leaf", "the whole tree"]);
        let model = model();
        let go = |task: &str, known: &[Row]| {
            let mut made = 0;
            let mut keep = |_: &Row| {
                made += 1;
                Ok::<_, Error>(())
            };
            let rows = crate::lm((task, 9), data.path(), &model, known, &mut keep, &mut |_| {
                ControlFlow::Continue(())
            });
            (rows.unwrap(), made)
        };
        let (rows, made) = go("piqa", &[]);
        assert_eq!((rows.len(), made), (4, 4));
        let (again, made) = go("piqa", &rows);
        assert_eq!((again, made), (rows, 0));
        let (rows, _) = go("hellaswag", &[]);
        assert_eq!(
            (rows.len(), rows[1].task.as_str(), rows[1].expected[0].as_str()),
            (2, "hellaswag acc_norm", "2")
        );
        fs::write(
            folder.join("hellaswag_val_first2000.txt"),
            "A tree: it\n7\nfalls.\nflies.\ngrows.\nsings.\n",
        )
        .unwrap();
        assert!(matches!(hellaswag(&folder), Err(Error::Format { line: 1, .. })));
    }

    #[test]
    fn an_ending_is_scored_by_its_own_tokens() {
        let model = model();
        let both = log_prob(&model, "The leaf", "falls down").unwrap();
        let parts = log_prob(&model, "The leaf", "falls").unwrap()
            + log_prob(&model, "The leaf falls", "down").unwrap();
        assert!((both - parts).abs() < 1e-6 * both.abs(), "{both} {parts}");
    }
}
