//! Questions on paragraphs of a collection (XQuAD; Artetxe et al., 2020: SQuAD's development set), the whole
//! collection being one text. `paragraph` is the control: the right paragraph and nothing else.
use crate::item::{Frame, Item, Pose, Reading};
use crate::random::Random;
use crate::score::Scorer;
use crate::{Error, Source};
use serde_json::Value;
use std::fs;
use std::path::Path;

pub(crate) const TASKS: [&str; 2] = ["collection", "paragraph"];
const ANSWER: usize = 24;

/// XQuAD over a folder of data: `xquad_en/xquad.en.json`.
#[derive(Debug)]
pub(crate) struct Xquad {
    seed: u64,
    /// All paragraphs.
    collection: String,
    questions: Vec<Question>,
}

#[derive(Debug)]
struct Question {
    text: String,
    answers: Vec<String>,
    /// Where its paragraph stands in the collection.
    paragraph: std::ops::Range<usize>,
}

impl Xquad {
    pub(crate) fn new(data: &Path, seed: u64) -> Result<Self, Error> {
        let path = data.join("xquad_en").join("xquad.en.json");
        let wrong = || Error::Format { path: path.clone(), expected: "SQuAD's JSON", line: 0 };
        let text = fs::read_to_string(&path).map_err(Error::data(&path))?;
        let json: Value = serde_json::from_str(&text).map_err(|_| wrong())?;
        let (mut collection, mut questions) = (String::new(), Vec::new());
        let list = |value: &Value| value.as_array().cloned().ok_or_else(wrong);
        for article in list(&json["data"])? {
            for paragraph in list(&article["paragraphs"])? {
                let start = collection.len();
                collection.push_str(paragraph["context"].as_str().ok_or_else(wrong)?.trim());
                let place = start..collection.len();
                collection.push_str("\n\n");
                for asked in list(&paragraph["qas"])? {
                    let answers = list(&asked["answers"])?;
                    questions.push(Question {
                        text: asked["question"].as_str().ok_or_else(wrong)?.trim().to_owned(),
                        answers: answers
                            .iter()
                            .filter_map(|one| one["text"].as_str())
                            .map(str::to_owned)
                            .collect(),
                        paragraph: place.clone(),
                    });
                }
            }
        }
        collection.truncate(collection.trim_end().len());
        Ok(Self { seed, collection, questions })
    }
}

impl Source for Xquad {
    fn item(&mut self, task: &str, length: usize, index: usize) -> Result<Option<Item>, Error> {
        let order = Random::new(self.seed, &[&"xquad"]).sample(self.questions.len(), index + 1);
        let Some(asked) = order.get(index).map(|at| &self.questions[*at]) else { return Ok(None) };
        let whole = task == "collection";
        let context =
            if whole { self.collection.clone() } else { self.collection[asked.paragraph.clone()].to_owned() };
        let depth = whole.then(|| asked.paragraph.start as f64 / self.collection.len() as f64);
        Ok(Some(Item {
            task: task.to_owned(),
            length,
            index,
            depth,
            context,
            shelf: if whole { "xquad".to_owned() } else { "xquad paragraph".to_owned() },
            frame: Frame {
                example: String::new(),
                before: String::new(),
                after: format!(
                    "\n\nQuestion: {}\nAnswer with as few words of the text as possible.",
                    asked.text
                ),
                prefix: "Answer:".to_owned(),
                raw: false,
            },
            pose: Pose::Find { questions: vec![asked.text.clone()], passages: 4, read: Reading::Whole },
            expected: asked.answers.clone(),
            scorer: Scorer::Exact,
            max_tokens: ANSWER,
            quotes: true,
            parts: Vec::new(),
            like: Vec::new(),
            needs: Vec::new(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collection_is_one_text_and_the_control_one_paragraph() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("xquad_en")).unwrap();
        let json = serde_json::json!({"data": [{"paragraphs": [
            {"context": "The oak is old. ", "qas": [{"question": "What is old?", "answers": [{"text": "The oak"}]}]},
            {"context": "The elm is young.", "qas": [{"question": "What is young?", "answers": [{"text": "The elm"}]}]},
        ]}]});
        fs::write(data.path().join("xquad_en/xquad.en.json"), json.to_string()).unwrap();
        let mut suite = Xquad::new(data.path(), 1).unwrap();
        for index in 0..2 {
            let item = suite.item("collection", 0, index).unwrap().unwrap();
            assert_eq!(item.context, "The oak is old.\n\nThe elm is young.");
            let control = suite.item("paragraph", 0, index).unwrap().unwrap();
            assert_eq!((&control.expected, &control.frame), (&item.expected, &item.frame));
            assert!(control.context.starts_with(&control.expected[0]));
        }
        assert!(suite.item("collection", 0, 2).unwrap().is_none());
        fs::write(data.path().join("xquad_en/xquad.en.json"), "{\"data\": [{}]}").unwrap();
        assert!(matches!(Xquad::new(data.path(), 1), Err(Error::Format { .. })));
    }
}
