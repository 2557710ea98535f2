//! BABILong (Kuratov et al., *BABILong: Testing the Limits of LLMs with Long Context Reasoning-in-a-Haystack*, 2024):
//! the facts of a bAbI story, in order, between sentences of prose.
//!
//! Stories and questions come from `babi/en-10k`, the prompts from `babi/babilong_refs/SmolLM2-360M-Instruct` (the
//! published ones, with examples, without a chat template). A length below 1,000 tokens means the story alone, which
//! the family calls 0K. Lengths are counted in the model's own tokens, prompt and answer included.
use crate::haystack::Prose;
use crate::item::{Frame, Item, Pose, Reading};
use crate::random::Random;
use crate::score::Scorer;
use crate::{Error, Source};
use longleaf_engine::Special;
use longleaf_text::Tokenizer;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

pub(crate) const TASKS: [&str; 5] = ["qa1", "qa2", "qa3", "qa4", "qa5"];
const ANSWER: usize = 20;
/// Shorter contexts are stories without prose.
const STORY_ALONE: usize = 1000;
const PLACES: [&str; 6] = ["bathroom", "bedroom", "garden", "hallway", "kitchen", "office"];
const GIVING: [&str; 7] = ["Bill", "Fred", "Jeff", "Mary", "apple", "football", "milk"];

/// A question with the story before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Story {
    facts: Vec<String>,
    question: String,
    answer: String,
    /// The facts that the answer needs, by their places.
    needs: Vec<usize>,
}

/// The published prompt of a task.
#[derive(Debug)]
struct Prompt {
    before: String,
    after: String,
    /// The facts of its examples.
    facts: Vec<String>,
}

/// BABILong over a folder of data: `babi` and `prose`.
#[derive(Debug)]
pub(crate) struct Babilong<'m> {
    tokenizer: &'m Tokenizer,
    data: PathBuf,
    seed: u64,
    prose: Option<Prose<'m>>,
    tasks: BTreeMap<String, (Vec<Story>, Prompt)>,
}

impl<'m> Babilong<'m> {
    pub(crate) fn new(data: PathBuf, seed: u64, tokenizer: &'m Tokenizer) -> Self {
        Self { tokenizer, data, seed, prose: None, tasks: BTreeMap::new() }
    }

    fn read(&self, task: &str) -> Result<(Vec<Story>, Prompt), Error> {
        let folder = self.data.join("babi").join("en-10k");
        let entries = fs::read_dir(&folder).map_err(Error::data(&folder))?;
        let begin = format!("{task}_");
        let path = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begin)))
            .ok_or_else(|| Error::Format {
                path: folder.clone(),
                expected: "a file of every bAbI task",
                line: 0,
            })?;
        let text = fs::read_to_string(&path).map_err(Error::data(&path))?;
        let stories = stories(&text).map_err(|line| Error::Format {
            path: path.clone(),
            expected: "a number and a fact, or a question, an answer and numbers of facts",
            line,
        })?;
        let path = self.data.join(format!("babi/babilong_refs/SmolLM2-360M-Instruct/{task}_prompt.json"));
        let text = fs::read_to_string(&path).map_err(Error::data(&path))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| Error::Format {
            path: path.clone(),
            expected: "JSON",
            line: error.line(),
        })?;
        let part = |name: &str| json["prompt"][name].as_str();
        let prompt = part("template").and_then(|template| {
            let filled = template
                .replace("{instruction}", part("instruction")?)
                .replace("{examples}", part("examples")?)
                .replace("{post_prompt}", part("post_prompt")?);
            let (before, after) = filled.split_once("{context}")?;
            let facts = facts(part("examples")?);
            Some(Prompt { before: before.to_owned(), after: after.to_owned(), facts })
        });
        let prompt = prompt.ok_or(Error::Format { path, expected: "a prompt with its template", line: 0 })?;
        Ok((stories, prompt))
    }

    fn tokens(&self, text: &str) -> usize {
        self.tokenizer.encode(text, Special::Text).len()
    }
}

impl Source for Babilong<'_> {
    fn item(&mut self, task: &str, length: usize, index: usize) -> Result<Option<Item>, Error> {
        if !self.tasks.contains_key(task) {
            let read = self.read(task)?;
            self.tasks.insert(task.to_owned(), read);
        }
        let (stories, prompt) = &self.tasks[task];
        // The same questions at every length.
        let order = Random::new(self.seed, &[&"babilong", &task]).sample(stories.len(), index + 1);
        let Some(story) = order.get(index).map(|at| &stories[*at]) else { return Ok(None) };
        let frame = Frame {
            example: String::new(),
            before: prompt.before.clone(),
            after: prompt.after.replace("{question}", &story.question),
            prefix: String::new(),
            raw: true,
        };
        let least = self.tokens(&frame.prompt(&story.facts.join(" "))) + ANSWER;
        let story = story.clone();
        let (context, shelf) = if length < STORY_ALONE {
            (story.facts.join(" "), "story")
        } else {
            let room = length.checked_sub(least).ok_or_else(|| Error::Long {
                task: task.to_owned(),
                wanted: length,
                least,
            })?;
            if self.prose.is_none() {
                self.prose = Some(Prose::new(&self.data.join("prose"), self.tokenizer)?);
            }
            let prose = self.prose.as_mut().expect("just made");
            let sentences = prose.fit(task, room)?;
            let mut random = Random::new(self.seed, &[&"babilong places", &task, &length, &index]);
            let mut places: Vec<usize> = story.facts.iter().map(|_| random.below(sentences + 1)).collect();
            places.sort_unstable();
            let inserts: Vec<(usize, &str)> =
                places.into_iter().zip(story.facts.iter().map(String::as_str)).collect();
            (prose.with(sentences, &inserts), "prose")
        };
        let depth =
            context.find(&story.facts[story.needs[0]]).map(|at| at as f64 / context.len().max(1) as f64);
        let question = story.question.clone();
        let labels: &[&str] = if task == "qa5" { &GIVING } else { &PLACES };
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let pose = if task == "qa2" || task == "qa3" {
            Pose::Chain { question: question.clone(), hops: 2, passages: 32, trail: false }
        } else {
            Pose::Find { questions: vec![question.clone()], passages: 16, read: Reading::Spread }
        };
        Ok(Some(Item {
            task: task.to_owned(),
            length,
            index,
            depth,
            context,
            shelf: shelf.to_owned(),
            frame,
            pose,
            expected: vec![story.answer],
            scorer: Scorer::OnlyLabel { labels, question },
            max_tokens: ANSWER,
            quotes: false,
            parts: Vec::new(),
            like: prompt.facts.clone(),
            needs: story.needs.iter().map(|at| story.facts[*at].clone()).collect(),
        }))
    }
}

/// The facts of a prompt's examples: their sentences that are neither question nor answer.
fn facts(examples: &str) -> Vec<String> {
    let stories = examples.lines().filter(|line| !line.starts_with(['<']) && !line.starts_with("Answer:"));
    let sentences = stories.flat_map(|story| story.split_inclusive(['.', '?'])).map(str::trim);
    sentences.filter(|sentence| sentence.ends_with('.')).map(str::to_owned).collect()
}

/// All questions of a file, each with the facts that its story has told so far. An error names the line.
fn stories(text: &str) -> Result<Vec<Story>, usize> {
    let mut stories = Vec::new();
    // Number of the line in the story, and the fact.
    let mut facts: Vec<(usize, String)> = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let line = line + 1;
        let (number, rest) = content.split_once(' ').ok_or(line)?;
        let number: usize = number.parse().map_err(|_| line)?;
        if number == 1 {
            facts.clear();
        }
        let mut columns = rest.split('\t');
        let said = columns.next().ok_or(line)?.trim();
        let Some(answer) = columns.next() else {
            facts.push((number, said.to_owned()));
            continue;
        };
        let place = |needed: &str| facts.iter().position(|(number, _)| Ok(*number) == needed.parse());
        let needs = columns.next().unwrap_or_default().split_whitespace().map(place);
        let needs = needs.collect::<Option<Vec<_>>>().filter(|needs| !needs.is_empty()).ok_or(line)?;
        stories.push(Story {
            facts: facts.iter().map(|(_, fact)| fact.clone()).collect(),
            question: said.to_owned(),
            answer: answer.trim().to_owned(),
            needs,
        });
    }
    Ok(stories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{prose, tokenizer};

    const BABI: &str = "1 Mary went to the office.\n2 John moved to the garden.\n3 Where is Mary? \toffice\t1\n\
                        4 Mary went to the kitchen.\n5 Where is Mary? \tkitchen\t4\n1 Ann got the milk.\n\
                        2 Ann went to the hallway.\n3 Where is the milk?\thallway\t1 2\n";

    #[test]
    fn stories_grow_and_begin_anew() {
        let stories = stories(BABI).unwrap();
        assert_eq!(stories.len(), 3);
        assert_eq!((stories[1].facts.len(), stories[1].needs.as_slice()), (3, [2].as_slice()));
        assert_eq!((stories[2].facts.len(), stories[2].answer.as_str()), (2, "hallway"));
        assert_eq!(super::stories("1 Fact.\nnothing\n"), Err(2));
        assert_eq!(super::stories("1 Where?\there\t7\n"), Err(1));
    }

    #[test]
    fn examples_have_facts() {
        let examples = "<example>\nAnn went home. Ben left. Where is Ann?\nAnswer: Ann is at home.\n</example>\n\n\
                        <example>\nBen came. Who came?\nAnswer: Ben\n</example>";
        assert_eq!(facts(examples), ["Ann went home.", "Ben left.", "Ben came."]);
        assert!(facts("").is_empty());
    }

    #[test]
    fn facts_stand_in_order_between_sentences() {
        let data = tempfile::tempdir().unwrap();
        prose(data.path());
        let refs = data.path().join("babi/babilong_refs/SmolLM2-360M-Instruct");
        fs::create_dir_all(&refs).unwrap();
        fs::create_dir_all(data.path().join("babi/en-10k")).unwrap();
        fs::write(data.path().join("babi/en-10k/qa1_x_test.txt"), BABI).unwrap();
        let json = serde_json::json!({"prompt": {
            "template": "{instruction}{examples}{post_prompt}<context>{context}</context>\nQuestion: {question}",
            "instruction": "Answer.", "examples": "None.", "post_prompt": "Now."}});
        fs::write(refs.join("qa1_prompt.json"), json.to_string()).unwrap();
        let tokenizer = tokenizer();
        let mut suite = Babilong::new(data.path().to_owned(), 7, &tokenizer);
        for length in [0, 3000] {
            let mut answers = Vec::new();
            for index in 0..3 {
                let item = suite.item("qa1", length, index).unwrap().unwrap();
                let facts = BABI.lines().filter(|line| !line.contains('\t')).map(|line| &line[2..]);
                let places: Vec<usize> = facts.filter_map(|fact| item.context.find(fact)).collect();
                assert!(places.len() >= 2 && places.is_sorted());
                let tokens =
                    tokenizer.encode(&item.frame.prompt(&item.context), Special::Text).len() + ANSWER;
                assert!(length == 0 || tokens <= length && tokens + 200 > length, "{tokens}");
                assert!(item.frame.after.ends_with(&format!(
                        "Question: {}",
                        suite.tasks["qa1"]
                            .0
                            .iter()
                            .find(|story| story.answer == item.expected[0])
                            .unwrap()
                            .question
                    )));
                answers.push(item.expected[0].clone());
            }
            answers.sort();
            assert_eq!(answers, ["hallway", "kitchen", "office"], "each question once");
            assert!(suite.item("qa1", length, 3).unwrap().is_none());
        }
    }
}
