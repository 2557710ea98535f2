//! `qa_1` and `qa_2`: questions of SQuAD and HotpotQA, their paragraphs among others.
use super::Ruler;
use crate::Error;
use crate::item::{Frame, Item, Pose, Reading};
use crate::random::Random;
use crate::score::Scorer;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const ANSWER: usize = 32;
const INSTRUCTION: &str = "Answer the question based on the given documents. Only give me the answer and do not output any other words.";

/// Questions and all paragraphs of a collection.
#[derive(Debug)]
pub(super) struct Documents {
    texts: Vec<String>,
    questions: Vec<Question>,
}

#[derive(Debug)]
struct Question {
    text: String,
    answers: Vec<String>,
    /// The paragraphs that answer it.
    gold: Vec<usize>,
    /// Paragraphs of the same article, which come next.
    near: Vec<usize>,
}

impl Documents {
    pub(super) fn squad(path: &Path) -> Result<Self, Error> {
        let wrong = || Error::Format { path: path.to_owned(), expected: "SQuAD's JSON", line: 0 };
        let json = read(path)?;
        let articles = json["data"].as_array().ok_or_else(wrong)?;
        let context = |paragraph: &Value| paragraph["context"].as_str().map(str::to_owned);
        let paragraphs = |article: &Value| article["paragraphs"].as_array().cloned().unwrap_or_default();
        let texts: BTreeSet<String> =
            articles.iter().flat_map(&paragraphs).filter_map(|one| context(&one)).collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let number: BTreeMap<&str, usize> =
            texts.iter().enumerate().map(|(at, text)| (text.as_str(), at)).collect();
        let mut questions = Vec::new();
        for article in articles {
            let paragraphs = paragraphs(article);
            let all: Vec<usize> =
                paragraphs.iter().filter_map(|one| number.get(one["context"].as_str()?).copied()).collect();
            for paragraph in &paragraphs {
                let gold =
                    paragraph["context"].as_str().and_then(|text| number.get(text)).ok_or_else(wrong)?;
                for asked in paragraph["qas"].as_array().ok_or_else(wrong)? {
                    if asked["is_impossible"] == true {
                        continue;
                    }
                    let answers = asked["answers"].as_array().ok_or_else(wrong)?.iter();
                    let answers: Vec<String> =
                        answers.filter_map(|answer| answer["text"].as_str()).map(str::to_owned).collect();
                    questions.push(Question {
                        text: asked["question"].as_str().ok_or_else(wrong)?.trim().to_owned(),
                        answers,
                        gold: vec![*gold],
                        near: all.iter().copied().filter(|other| other != gold).collect(),
                    });
                }
            }
        }
        Ok(Self { texts, questions })
    }

    pub(super) fn hotpot(path: &Path) -> Result<Self, Error> {
        let wrong = || Error::Format { path: path.to_owned(), expected: "HotpotQA's JSON", line: 0 };
        let json = read(path)?;
        let rows = json.as_array().ok_or_else(wrong)?;
        let paragraphs = |row: &Value| -> Option<Vec<String>> {
            row["context"]
                .as_array()?
                .iter()
                .map(|pair| {
                    let sentences: Option<Vec<&str>> =
                        pair[1].as_array()?.iter().map(Value::as_str).collect();
                    Some(format!("{}\n{}", pair[0].as_str()?, sentences?.concat()))
                })
                .collect()
        };
        let mut all = BTreeSet::new();
        for row in rows {
            all.extend(paragraphs(row).ok_or_else(wrong)?);
        }
        let texts: Vec<String> = all.into_iter().collect();
        let number: BTreeMap<&str, usize> =
            texts.iter().enumerate().map(|(at, text)| (text.as_str(), at)).collect();
        let mut questions = Vec::new();
        for row in rows {
            questions.push(Question {
                text: row["question"].as_str().ok_or_else(wrong)?.trim().to_owned(),
                answers: vec![row["answer"].as_str().ok_or_else(wrong)?.to_owned()],
                gold: paragraphs(row).ok_or_else(wrong)?.iter().map(|text| number[text.as_str()]).collect(),
                near: Vec::new(),
            });
        }
        Ok(Self { texts, questions })
    }
}

fn read(path: &Path) -> Result<Value, Error> {
    let text = fs::read_to_string(path).map_err(Error::data(path))?;
    serde_json::from_str(&text).map_err(|error| Error::Format {
        path: path.to_owned(),
        expected: "JSON",
        line: error.line(),
    })
}

impl Ruler<'_> {
    pub(super) fn documents(
        &mut self,
        task: &str,
        length: usize,
        index: usize,
    ) -> Result<Option<Item>, Error> {
        let folder = self.data.join("ruler_sources");
        let known = if task == "qa_1" { &mut self.squad } else { &mut self.hotpot };
        if known.is_none() {
            *known = Some(if task == "qa_1" {
                Documents::squad(&folder.join("squad_dev_v2.0.json"))?
            } else {
                Documents::hotpot(&folder.join("hotpotqa_dev_distractor_500of7405.json"))?
            });
        }
        let known = if task == "qa_1" { &self.squad } else { &self.hotpot };
        let documents = known.as_ref().expect("just read");
        // Neither the questions nor the order of the documents depend on the length, so that lengths can be compared.
        let order = Random::new(self.seed, &[&"ruler", &task]).sample(documents.questions.len(), index + 1);
        let Some(asked) = order.get(index).map(|at| &documents.questions[*at]) else { return Ok(None) };
        let frame = Frame {
            example: String::new(),
            before: format!("{INSTRUCTION}\n\nThe following are given documents.\n\n"),
            after: format!("\n\n{INSTRUCTION}\n\nQuestion: {}", asked.text),
            prefix: " Answer:".to_owned(),
            raw: false,
        };
        let room = self.room(task, length, &frame, ANSWER)?;
        let chosen = self.choose(task, documents, asked, room);
        if !asked.gold.iter().all(|gold| chosen.contains(gold)) {
            let least = length - room
                + asked.gold.iter().map(|at| self.tokens(&documents.texts[*at]) + 8).sum::<usize>();
            return Err(Error::Long { task: task.to_owned(), wanted: length, least });
        }
        let lines: Vec<String> = chosen
            .iter()
            .enumerate()
            .map(|(at, document)| format!("Document {}:\n{}", at + 1, documents.texts[*document]))
            .collect();
        let context = lines.join("\n\n");
        let first = chosen.iter().position(|at| asked.gold.contains(at));
        // HotpotQA's yes and no stand nowhere.
        let needs =
            asked.answers.iter().filter(|answer| context.contains(*answer)).take(1).cloned().collect();
        let depth = first.map(|at| at as f64 / chosen.len() as f64);
        Ok(Some(Item {
            task: task.to_owned(),
            length,
            index,
            depth,
            context,
            shelf: task.to_owned(),
            frame,
            pose: Pose::Find { questions: vec![asked.text.clone()], passages: 4, read: Reading::Whole },
            expected: asked.answers.clone(),
            scorer: Scorer::Any,
            max_tokens: ANSWER,
            quotes: false,
            parts: Vec::new(),
            like: Vec::new(),
            needs,
        }))
    }

    /// The paragraphs that answer, those of the same article, others, until the room is full; in an order that is
    /// always the same. Where all of them do not fill it they come again.
    fn choose(&self, task: &str, documents: &Documents, asked: &Question, room: usize) -> Vec<usize> {
        let count = documents.texts.len();
        let shuffled = Random::new(self.seed, &[&"ruler documents", &task]).sample(count, count);
        let wanted = asked.gold.iter().chain(&asked.near).chain(&shuffled);
        let (mut chosen, mut tokens) = (BTreeSet::new(), 0);
        for at in wanted {
            if chosen.contains(at) {
                continue;
            }
            tokens += self.tokens(&format!("Document 1000:\n{}\n\n", documents.texts[*at]));
            if tokens > room {
                break;
            }
            chosen.insert(*at);
        }
        let mut order: Vec<usize> = shuffled.iter().copied().filter(|at| chosen.contains(at)).collect();
        if chosen.len() == count {
            for at in shuffled.iter().cycle() {
                tokens += self.tokens(&format!("Document 1000:\n{}\n\n", documents.texts[*at]));
                if tokens > room {
                    break;
                }
                order.push(*at);
            }
        }
        order
    }
}
