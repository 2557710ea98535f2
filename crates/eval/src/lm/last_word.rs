//! LAMBADA: is the last word of a passage the model's first choice, token by token?
use super::{Question, blank, json_lines};
use crate::run::Row;
use crate::{Error, Event};
use longleaf_engine::scoring::score;
use longleaf_engine::{Model, Special, TokenId, Visible};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// A passage cut before its last word.
#[derive(Debug)]
pub(super) struct Passage {
    text: String,
    word: String,
}

pub(super) fn lambada(folder: &Path) -> Result<Vec<Passage>, Error> {
    json_lines(&folder.join("lambada_test.jsonl"), "text of several words", |row| {
        let (text, word) = row["text"].as_str()?.trim_end().rsplit_once(' ')?;
        (!text.trim().is_empty()).then(|| Passage { text: text.to_owned(), word: word.to_owned() })
    })
}

impl Question for Passage {
    fn blanks(&self) -> Vec<Row> {
        vec![blank("lambada acc", &[&self.text, &self.word], self.word.clone())]
    }

    fn answer(
        &self,
        model: &Model,
        rows: &mut [Row],
        _: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let start = Instant::now();
        let mut tokens = model.plain_prompt(&self.text);
        let first = tokens.len();
        tokens.extend::<Vec<TokenId>>(model.tokenizer().encode(&format!(" {}", self.word), Special::Text));
        let found = score(model, &tokens, first, Visible::All)?;
        let row = &mut rows[0];
        row.score = f64::from(u8::from(found.best == found.tokens));
        // What the model would have said instead is not asked for; its probability of the right word is.
        row.answer = format!("ln p = {:.4}", -found.nll);
        row.prompt_tokens = tokens.len();
        row.timings.prefill_s = start.elapsed().as_secs_f64();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_asked_for() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("lambada_test.jsonl");
        std::fs::write(&path, "{\"text\": \"She went into the old garden\"}\n").unwrap();
        let passages = lambada(data.path()).unwrap();
        assert_eq!(
            (passages[0].text.as_str(), passages[0].word.as_str()),
            ("She went into the old", "garden")
        );
        let model = crate::tests::model();
        let mut rows = passages[0].blanks();
        passages[0].answer(&model, &mut rows, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(rows[0].answer.starts_with("ln p = -") && rows[0].prompt_tokens > 5);
        std::fs::write(&path, "{\"text\": \"word\"}\n").unwrap();
        assert!(matches!(lambada(data.path()), Err(Error::Format { line: 1, .. })));
    }
}
