//! What every task promises: the answer is in the context, the length is what was asked for, the question does not
//! give it away, and the same seed gives the same item.
use super::*;
use crate::item::Pose;
use crate::tests::{prose, tokenizer};
use std::collections::BTreeMap;
use std::fs;

fn data() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    prose(data.path());
    // The word list wants different words: made of letters.
    let words: Vec<String> = (0..4000_u32)
        .map(|at| {
            let letters = [at % 20, at / 20 % 20, at / 400].map(|letter| char::from(b'a' + letter as u8));
            format!("w{}", letters.iter().collect::<String>())
        })
        .collect();
    fs::write(data.path().join("prose/words.txt"), words.join(" ")).unwrap();
    let folder = data.path().join("ruler_sources");
    fs::create_dir(&folder).unwrap();
    let paragraphs: Vec<_> = (0..60)
        .map(|at| {
            serde_json::json!({"context": format!("The keeper of house {at} is called Orla{at}. It has {at} rooms."), "qas": [
                {"question": format!("Who keeps house {at}?"), "is_impossible": false, "answers": [{"text": format!("Orla{at}")}]},
                {"question": "Who keeps no house?", "is_impossible": true, "answers": []},
            ]})
        })
        .collect();
    let squad =
        serde_json::json!({"data": [{"paragraphs": paragraphs[..30]}, {"paragraphs": paragraphs[30..]}]});
    fs::write(folder.join("squad_dev_v2.0.json"), squad.to_string()).unwrap();
    let rows: Vec<_> = (0..20)
        .map(|at| {
            serde_json::json!({"question": format!("Where does the brother of Ann{at} live?"), "answer": format!("Town{at}"),
                "context": [[format!("Ann{at}"), [format!("Ann{at} is the sister of Ben{at}.")]],
                            [format!("Ben{at}"), [format!("Ben{at} is tall."), format!(" He lives in Town{at}.")]]]})
        })
        .collect();
    let hotpot = serde_json::Value::from(rows);
    fs::write(folder.join("hotpotqa_dev_distractor_500of7405.json"), hotpot.to_string()).unwrap();
    data
}

#[test]
fn every_task_keeps_its_promises() {
    let (data, tokenizer) = (data(), tokenizer());
    let mut ruler = Ruler::new(data.path().to_owned(), 11, &tokenizer);
    for task in TASKS {
        // The tiny tokenizer has a token for nearly every letter, so the tasks need more of them. The few made-up
        // documents give no more than this.
        let length = if task.starts_with("qa") { 3500 } else { 9000 };
        let mut seen = Vec::new();
        for index in 0..3 {
            let item = ruler.item(task, length, index).unwrap().unwrap();
            let mut alone = Ruler::new(data.path().to_owned(), 11, &tokenizer);
            assert_eq!(
                item,
                alone.item(task, length, index).unwrap().unwrap(),
                "{task}: whatever was asked before"
            );
            let tokens =
                tokenizer.encode(&item.frame.prompt(&item.context), Special::Text).len() + item.max_tokens;
            assert!(tokens <= length && tokens + length / 7 > length, "{task}: {tokens} of {length}");
            for expected in &item.expected {
                assert!(item.context.contains(expected), "{task}: {expected} is in the context");
                assert!(!item.frame.after.contains(expected), "{task}: {expected} is not in the question");
            }
            let posed = match &item.pose {
                Pose::Find { questions, .. } => questions.join(" "),
                Pose::Chain { question, .. } | Pose::Count { question, .. } => question.clone(),
            };
            let peeks = item.expected.iter().any(|expected| posed.contains(expected));
            assert!(!peeks, "{task}: {posed}");
            seen.push((item.expected, item.frame.after));
        }
        assert!(seen[0] != seen[1] && seen[1] != seen[2], "{task}: items differ");
    }
}

#[test]
fn needles_are_as_many_as_defined() {
    let (data, tokenizer) = (data(), tokenizer());
    let mut ruler = Ruler::new(data.path().to_owned(), 1, &tokenizer);
    let mut item = |task: &str| ruler.item(task, 8000, 0).unwrap().unwrap();
    let count = |text: &str| text.matches("One of the special magic ").count();
    for (task, needles, answers) in [
        ("niah_single_1", 1, 1),
        ("niah_single_2", 1, 1),
        ("niah_single_3", 1, 1),
        ("niah_multikey_1", 4, 1),
        ("niah_multivalue", 4, 4),
        ("niah_multiquery", 4, 4),
    ] {
        let item = item(task);
        assert_eq!((count(&item.context), item.expected.len()), (needles, answers), "{task}");
        assert_eq!(item.frame.before.starts_with("A special magic"), answers == 1, "{task}");
    }
    for task in ["niah_multikey_2", "niah_multikey_3"] {
        let item = item(task);
        assert_eq!(count(&item.context), item.context.lines().count(), "{task}: nothing but needles");
        assert!(item.context.lines().count() > 30);
    }
    let multi = item("niah_multiquery");
    assert!(multi.frame.after.contains(", and ") && multi.frame.prefix.ends_with(" are"));
    let Pose::Find { questions, .. } = multi.pose else { panic!() };
    assert_eq!(questions.len(), 4);
}

#[test]
fn a_chain_leads_from_the_value_to_every_variable() {
    let (data, tokenizer) = (data(), tokenizer());
    let item = Ruler::new(data.path().to_owned(), 2, &tokenizer).item("vt", 6000, 4).unwrap().unwrap();
    let value = item.frame.after.split(' ').rev().nth(4).unwrap();
    let mut wanted = value.to_owned();
    for variable in &item.expected {
        let line = format!("VAR {variable} = {wanted}");
        assert!(item.context.lines().any(|other| other == line), "{line}");
        wanted = format!("VAR {variable}");
    }
    assert_eq!(item.expected.len(), 5);
}

#[test]
fn the_counted_words_are_the_most_frequent() {
    let (data, tokenizer) = (data(), tokenizer());
    let mut ruler = Ruler::new(data.path().to_owned(), 5, &tokenizer);
    for (task, most, times) in [("cwe", 10, 30), ("fwe", 3, 0)] {
        let item = ruler.item(task, 12_000, 1).unwrap().unwrap();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for word in item.context.split(' ').filter(|word| word.contains(char::is_alphabetic)) {
            *counts.entry(word).or_default() += 1;
        }
        let mut counts: Vec<(usize, &str)> = counts.into_iter().map(|(word, count)| (count, word)).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let mut found: Vec<&str> = counts.iter().take(most).map(|(_, word)| *word).collect();
        let mut expected: Vec<&str> = item.expected.iter().map(String::as_str).collect();
        if task == "fwe" {
            assert_eq!(found, expected, "in their order");
        } else {
            assert!(counts[..most].iter().all(|(count, _)| *count == times), "{:?}", &counts[..most]);
            assert!(counts[most..].iter().all(|(count, _)| *count == 3));
        }
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{task}");
    }
}

#[test]
fn too_short_and_too_long_are_told() {
    let (data, tokenizer) = (data(), tokenizer());
    let mut ruler = Ruler::new(data.path().to_owned(), 1, &tokenizer);
    for task in TASKS {
        let found = ruler.item(task, 200, 0);
        assert!(matches!(found, Err(Error::Long { .. })), "{task}: {found:?}");
    }
    assert!(matches!(ruler.item("niah_single_2", 1 << 20, 0), Err(Error::Short { .. })));
    assert!(ruler.item("qa_2", 3000, 20).unwrap().is_none(), "no more questions");
}
