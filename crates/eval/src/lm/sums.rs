//! GSM8K: sums told in words, after five that are solved step by step.
//!
//! The form is the usual harness's five-shot one: `Question: …\nAnswer: …`, raw, at most 256 tokens, up to the next
//! `Question:`; the last number counts. The five examples are the last ones of the same file, which are not asked
//! themselves, since the training set is not among the data.
use super::{Question, blank, json_lines};
use crate::run::Row;
use crate::score::Scorer;
use crate::{Error, Event};
use longleaf_engine::{Model, Progress, Request, Session, Visible};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const SHOTS: usize = 5;
const ANSWER: usize = 256;

/// A sum told in words.
#[derive(Debug)]
pub(super) struct Sum {
    examples: Arc<str>,
    question: String,
    result: String,
}

pub(super) fn gsm8k(folder: &Path) -> Result<Vec<Sum>, Error> {
    let path = folder.join("gsm8k_test.jsonl");
    let mut all = json_lines(&path, "question, and answer with its result behind ####", |row| {
        let part = |name: &str| row[name].as_str().map(|part| part.trim().to_owned());
        let (question, answer) = (part("question")?, part("answer")?);
        let result = answer.rsplit_once("####")?.1.trim().to_owned();
        Some((question, answer, result))
    })?;
    let shots = all.split_off(all.len().saturating_sub(SHOTS));
    let mut examples = String::new();
    for (question, answer, _) in &shots {
        let _ = write!(examples, "Question: {question}\nAnswer: {answer}\n\n");
    }
    let examples: Arc<str> = examples.into();
    let sum = |(question, _, result)| Sum { examples: Arc::clone(&examples), question, result };
    Ok(all.into_iter().map(sum).collect())
}

impl Question for Sum {
    fn blanks(&self) -> Vec<Row> {
        vec![blank("gsm8k", &[&self.examples, &self.question], self.result.clone())]
    }

    fn answer(
        &self,
        model: &Model,
        rows: &mut [Row],
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let prompt = model.plain_prompt(&format!("{}Question: {}\nAnswer:", self.examples, self.question));
        let length = (prompt.len() + ANSWER).min(model.config().window);
        let stop = vec!["Question:".to_owned()];
        let request = Request { prompt, max_tokens: Some(ANSWER), stop, ..Request::default() };
        let mut interrupted = false;
        let answer = Session::new(model, Visible::All, length).generate(&request, &mut |progress| {
            let flow = watch(match progress {
                Progress::Read { tokens, of } => Event::Prompt { tokens, of },
                Progress::Text(_) => Event::Answer,
            });
            interrupted |= flow.is_break();
            flow
        })?;
        if interrupted {
            return Err(Error::Interrupted);
        }
        let row = &mut rows[0];
        row.score = Scorer::LastNumber.score(&answer.text, &row.expected);
        row.prompt_tokens = answer.prompt_tokens;
        row.timings.prefill_s = answer.prefill_s;
        row.timings.decode_s = answer.decode_s;
        row.answer = answer.text;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_not_asked() {
        let data = tempfile::tempdir().unwrap();
        let row = |number: usize| {
            let (question, answer) = (format!("Twice {number}?"), format!("It is so.\n#### {}", 2 * number));
            serde_json::json!({"question": question, "answer": answer}).to_string()
        };
        let path = data.path().join("gsm8k_test.jsonl");
        std::fs::write(&path, (0..7).map(row).collect::<Vec<_>>().join("\n")).unwrap();
        let sums = gsm8k(data.path()).unwrap();
        assert_eq!(sums.len(), 2);
        assert_eq!((sums[1].question.as_str(), sums[1].result.as_str()), ("Twice 1?", "2"));
        assert!(sums[1].examples.starts_with("Question: Twice 2?\nAnswer: It is so.\n#### 4\n\nQuestion:"));
        assert!(!sums[1].examples.contains("Twice 1?"));
        std::fs::write(&path, "{\"question\": \"x\", \"answer\": \"no result\"}").unwrap();
        assert!(matches!(gsm8k(data.path()), Err(Error::Format { line: 1, .. })));
    }
}
