//! One of many records that look alike: `kv` and `lines`.
use crate::item::{Frame, Item, Pose, Reading};
use crate::random::Random;
use crate::score::Scorer;
use crate::{Error, Source};
use longleaf_engine::Special;
use longleaf_text::Tokenizer;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// `kv` (Liu et al., *Lost in the Middle*, 2023): the value of a key in a JSON object of UUIDs. Pairs of the other rows
/// make it as long as is wanted; the pair asked for stands at ten depths in turn.
pub(crate) const KV: &str = "kv";
/// `lines` (`LongEval`; Li et al., *How Long Can Open-Source LLMs Truly Promise on Context Length?*, 2023): the number in
/// one of many lines. Lines of the other prompts make it as long as is wanted.
pub(crate) const LINES: &str = "lines";

const KV_ANSWER: usize = 64;
const LINES_ANSWER: usize = 24;
const TEMPLATE_TOKENS: usize = 48;
const DEPTHS: usize = 10;

/// Both suites, over a folder of data: `lost_in_the_middle` and `longchat_lines`.
#[derive(Debug)]
pub(crate) struct Records<'m> {
    tokenizer: &'m Tokenizer,
    seed: u64,
    kv: bool,
    /// All there are, without repeated keys.
    all: Vec<Record>,
    /// Which of them are asked for, one for each row of the data.
    asked: Vec<usize>,
    /// The words around the lines, and how the answer begins.
    before: String,
    after: String,
    prefix: String,
}

#[derive(Debug)]
struct Record {
    line: String,
    key: String,
    value: String,
}

impl<'m> Records<'m> {
    pub(crate) fn kv(data: &Path, seed: u64, tokenizer: &'m Tokenizer) -> Result<Self, Error> {
        let path = data.join("lost_in_the_middle").join("kv_retrieval_75_keys_250of500.jsonl");
        let mut suite = Self::new(seed, tokenizer, true);
        let mut known = BTreeSet::new();
        let wrong =
            |line| Error::Format { path: path.clone(), expected: "ordered_kv_records, key and value", line };
        for (number, row) in rows(&path)?.into_iter().enumerate() {
            let pairs = row["ordered_kv_records"].as_array().ok_or_else(|| wrong(number + 1))?;
            for pair in pairs {
                let (Some(key), Some(value)) = (pair[0].as_str(), pair[1].as_str()) else {
                    return Err(wrong(number + 1));
                };
                if known.insert(key.to_owned()) {
                    if row["key"] == key {
                        suite.asked.push(suite.all.len());
                    }
                    suite.push(format!("\"{key}\": \"{value}\""), key, value);
                }
            }
        }
        "Extract the value corresponding to the specified key in the JSON object below.\n\nJSON data:\n"
            .clone_into(&mut suite.before);
        "\n\nKey: \"{key}\"".clone_into(&mut suite.after);
        "Corresponding value:".clone_into(&mut suite.prefix);
        Ok(suite)
    }

    pub(crate) fn lines(data: &Path, seed: u64, tokenizer: &'m Tokenizer) -> Result<Self, Error> {
        let mut suite = Self::new(seed, tokenizer, false);
        let mut known = BTreeSet::new();
        for name in ["200_lines.jsonl", "680_lines.jsonl"] {
            let path: PathBuf = data.join("longchat_lines").join(name);
            let wrong = |line| Error::Format {
                path: path.clone(),
                expected: "a prompt of lines with its random_idx",
                line,
            };
            for (number, row) in rows(&path)?.into_iter().enumerate() {
                let wrong = || wrong(number + 1);
                let prompt = row["prompt"].as_str().ok_or_else(wrong)?;
                let asked = row["random_idx"][0].as_str().ok_or_else(wrong)?;
                for line in prompt.lines() {
                    let parts = line
                        .strip_prefix("line ")
                        .and_then(|rest| rest.split_once(": REGISTER_CONTENT is <"));
                    let Some((key, value)) = parts else { continue };
                    if known.insert(key.to_owned()) {
                        if key == asked {
                            suite.asked.push(suite.all.len());
                        }
                        suite.push(line.to_owned(), key, value.trim_end_matches('>'));
                    }
                }
                if suite.before.is_empty() {
                    let (before, rest) = prompt.split_once("\nline ").ok_or_else(wrong)?;
                    // An empty line stands between the last line and the question.
                    let at = rest.rfind("\n\n").ok_or_else(wrong)?;
                    suite.before = format!("{before}\n");
                    suite.after = rest[at..].replace(asked, "{key}");
                    "The <REGISTER_CONTENT> in line {key} is".clone_into(&mut suite.prefix);
                }
            }
        }
        Ok(suite)
    }

    fn new(seed: u64, tokenizer: &'m Tokenizer, kv: bool) -> Self {
        Self {
            tokenizer,
            seed,
            kv,
            all: Vec::new(),
            asked: Vec::new(),
            before: String::new(),
            after: String::new(),
            prefix: String::new(),
        }
    }

    fn push(&mut self, line: String, key: &str, value: &str) {
        self.all.push(Record { line, key: key.to_owned(), value: value.to_owned() });
    }

    fn tokens(&self, text: &str) -> usize {
        self.tokenizer.encode(text, Special::Text).len()
    }

    /// So many tokens of records, always the same ones: an item differs from the next in the one that is asked for.
    fn others(&self, task: &str, room: usize) -> Result<Vec<usize>, Error> {
        let asked: BTreeSet<usize> = self.asked.iter().copied().collect();
        let order = Random::new(self.seed, &[&task]).sample(self.all.len(), self.all.len());
        let (mut chosen, mut tokens) = (Vec::new(), 0);
        for at in order.into_iter().filter(|at| !asked.contains(at)) {
            tokens += self.tokens(&format!(",\n {}", self.all[at].line));
            if tokens > room {
                return Ok(chosen);
            }
            chosen.push(at);
        }
        Err(Error::Short { task: format!("{task}, records"), wanted: room, there: tokens })
    }
}

fn rows(path: &Path) -> Result<Vec<Value>, Error> {
    let text = fs::read_to_string(path).map_err(Error::data(path))?;
    let row = |(number, line)| {
        serde_json::from_str(line).map_err(|_| Error::Format {
            path: path.to_owned(),
            expected: "JSON",
            line: number + 1,
        })
    };
    text.lines().enumerate().map(row).collect()
}

impl Source for Records<'_> {
    fn item(&mut self, task: &str, length: usize, index: usize) -> Result<Option<Item>, Error> {
        let order = Random::new(self.seed, &[&task, &"asked"]).sample(self.asked.len(), index + 1);
        let Some(asked) = order.get(index).map(|at| &self.all[self.asked[*at]]) else { return Ok(None) };
        let answer = if self.kv { KV_ANSWER } else { LINES_ANSWER };
        let frame = Frame {
            example: String::new(),
            before: self.before.clone(),
            after: self.after.replace("{key}", &asked.key),
            prefix: self.prefix.replace("{key}", &asked.key),
            raw: false,
        };
        let least =
            self.tokens(&frame.prompt(&asked.line)) + self.tokens(&frame.prefix) + answer + TEMPLATE_TOKENS;
        let room = length.checked_sub(least).filter(|room| *room > 64).ok_or_else(|| Error::Long {
            task: task.to_owned(),
            wanted: length,
            least: least + 64,
        })?;
        let mut lines: Vec<&str> =
            self.others(task, room)?.iter().map(|at| self.all[*at].line.as_str()).collect();
        let place = lines.len() * (2 * (index % DEPTHS) + 1) / (2 * DEPTHS);
        lines.insert(place, &asked.line);
        let depth = Some(place as f64 / lines.len() as f64);
        let (context, question) = if self.kv {
            (
                format!("{{{}}}", lines.join(",\n ")),
                format!("What is the value of the key \"{}\"?", asked.key),
            )
        } else {
            (lines.join("\n"), format!("What is the REGISTER_CONTENT in line {}?", asked.key))
        };
        Ok(Some(Item {
            task: task.to_owned(),
            length,
            index,
            depth,
            context,
            shelf: task.to_owned(),
            frame,
            pose: Pose::Find { questions: vec![question], passages: 2, read: Reading::Best },
            expected: vec![asked.value.clone()],
            scorer: if self.kv { Scorer::Any } else { Scorer::FirstNumber },
            max_tokens: answer,
            quotes: true,
            parts: Vec::new(),
            like: Vec::new(),
            needs: vec![asked.value.clone()],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tokenizer;
    use std::fmt::Write;

    fn check(suite: &mut Records<'_>, task: &str) {
        let mut asked = BTreeSet::new();
        for index in 0..3 {
            let item = suite.item(task, 3000, index).unwrap().unwrap();
            assert!(item.context.contains(&item.expected[0]), "the answer is in there");
            let frame = suite.tokens(&item.frame.prompt(&item.context)) + suite.tokens(&item.frame.prefix);
            let tokens = frame + item.max_tokens;
            assert!(tokens <= 3000 && tokens > 2700, "{tokens}");
            assert!(item.depth.unwrap() < 0.35, "the first three of ten depths");
            let Pose::Find { questions, .. } = &item.pose else { panic!("{item:?}") };
            assert!(!questions[0].contains(&item.expected[0]), "no peeking");
            asked.insert(item.frame.after.clone());
        }
        assert_eq!(asked.len(), 3);
        assert!(suite.item(task, 3000, 3).unwrap().is_none());
        assert!(matches!(suite.item(task, 100, 0), Err(Error::Long { .. })));
        assert!(matches!(suite.item(task, 90_000, 0), Err(Error::Short { .. })));
    }

    #[test]
    fn a_pair_among_pairs() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("lost_in_the_middle");
        fs::create_dir(&folder).unwrap();
        let mut random = Random::new(1, &[]);
        let rows: Vec<String> = (0..3)
            .map(|_| {
                let pairs: Vec<[String; 2]> = (0..40).map(|_| [random.uuid(), random.uuid()]).collect();
                serde_json::json!({"ordered_kv_records": pairs, "key": pairs[5][0], "value": pairs[5][1]})
                    .to_string()
            })
            .collect();
        fs::write(folder.join("kv_retrieval_75_keys_250of500.jsonl"), rows.join("\n")).unwrap();
        let tokenizer = tokenizer();
        let mut suite = Records::kv(data.path(), 3, &tokenizer).unwrap();
        check(&mut suite, KV);
        let item = suite.item(KV, 3000, 0).unwrap().unwrap();
        let object: Value = serde_json::from_str(&item.context).expect("the context is JSON");
        assert!(object.as_object().unwrap().values().any(|value| value == &item.expected[0]));
    }

    #[test]
    fn a_line_among_lines() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("longchat_lines");
        fs::create_dir(&folder).unwrap();
        let mut number = 1000;
        for (name, count) in [("200_lines.jsonl", 1), ("680_lines.jsonl", 2)] {
            let mut rows = String::new();
            for _ in 0..count {
                let mut prompt = "Remember. Now the record start:\n\n".to_owned();
                for _ in 0..60 {
                    number += 1;
                    let _ = writeln!(prompt, "line odd-key{number}: REGISTER_CONTENT is <{}>", number * 7);
                }
                let _ = write!(
                    prompt,
                    "\nNow the record is over. What is the <REGISTER_CONTENT> in line odd-key{number}? "
                );
                let row =
                    serde_json::json!({"random_idx": [format!("odd-key{number}"), 59], "prompt": prompt});
                let _ = writeln!(rows, "{row}");
            }
            fs::write(folder.join(name), rows).unwrap();
        }
        let tokenizer = tokenizer();
        let mut suite = Records::lines(data.path(), 3, &tokenizer).unwrap();
        check(&mut suite, LINES);
        assert_eq!(suite.before, "Remember. Now the record start:\n\n");
        assert_eq!(suite.prefix, "The <REGISTER_CONTENT> in line {key} is");
        assert_eq!(suite.after, "\n\nNow the record is over. What is the <REGISTER_CONTENT> in line {key}? ");
    }
}
