//! The smallest real model, fetched as a user would, against what transformers answers with it.
//!
//! Where it cannot be fetched these tests say so and pass, unless `LONGLEAF_REQUIRE_MODELS` is set, as CI does.
use super::program::{command, root};
use serde_json::Value;
use std::io::{BufReader, Read};
use std::process::{Command, Stdio};

/// Logits nearer than this may change places between two exact engines.
const NEAR_TIE: f64 = 0.05;

/// `longleaf ARGS` with the user's own home and network.
pub(crate) fn with_home(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longleaf"));
    command.args(args).current_dir(root());
    command
}

#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a test's own switch, and why it skips")]
pub(crate) fn fetched() -> bool {
    let pulled = with_home(&["pull", "smollm2"]).output().expect("the binary runs");
    if pulled.status.success() {
        return true;
    }
    let why = String::from_utf8_lossy(&pulled.stderr).into_owned();
    assert!(std::env::var("LONGLEAF_REQUIRE_MODELS").is_err(), "{why}");
    println!("skipped, the model cannot be fetched: {why}");
    false
}

fn answer(args: &[&str]) -> Value {
    let output = with_home(args).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn answers_as_transformers_does() {
    if !fetched() {
        return;
    }
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(root().join("testdata/golden").join(name)).expect("there");
        serde_json::from_str(&text).expect("JSON")
    };
    let (prompts, golden) = (read("prompts.json"), read("smollm2.json"));
    // Plain Rust needs minutes for a prompt of a thousand tokens, and half a second for a token.
    let scalar = answer(&["doctor", "--json"])["kernels"]["used"] == "scalar";
    let steps = if scalar { 6 } else { 64 };
    let count = steps.to_string();
    for (prompt, golden) in
        prompts.as_array().expect("a list").iter().zip(golden["prompts"].as_array().expect("a list"))
    {
        let name = prompt["name"].as_str().expect("a name");
        assert_eq!(golden["name"], name);
        let mut args = vec!["run", "-n", &count, "--ignore-eos", "--json"];
        match prompt["messages"].as_array().map(Vec::as_slice) {
            Some([message]) => args.extend(["-p", message["content"].as_str().expect("text")]),
            None => args.extend(["--raw", "-p", prompt["text"].as_str().expect("text")]),
            // More than one turn is no prompt of the command line.
            Some(_) => continue,
        }
        let length = golden["prompt"].as_array().expect("a list").len();
        if scalar && length > 100 {
            continue;
        }
        let found = answer(&args);
        assert_eq!(found["usage"]["prompt_tokens"], length, "{name}");
        let (found, expected) = (&found["tokens"], &golden["transformers"]["greedy"]);
        let differs = (0..steps).find(|at| found[at] != expected[at]);
        if let Some(at) = differs {
            let logit = |rank: usize| golden["transformers"]["logits"][at][rank].as_f64().expect("a number");
            let gap = logit(0) - logit(1);
            assert!(gap < NEAR_TIE, "{name}: token {at} differs, and the best is {gap} ahead");
        }
    }
}

#[test]
fn threads_and_kernels_leave_it_the_same() {
    if !fetched() {
        return;
    }
    let run = |threads| {
        let prompt = "Name three trees with long leaves.";
        answer(&[
            "run",
            "-p",
            prompt,
            "-n",
            "40",
            "--temp",
            "0.7",
            "--seed",
            "5",
            "--threads",
            threads,
            "--json",
        ])
    };
    let (one, three) = (run("1"), run("3"));
    assert_eq!(one["tokens"], three["tokens"]);
    assert_eq!(one["text"], three["text"]);
}

#[test]
fn ctrl_c_ends_the_answer_and_not_the_program() {
    if !fetched() {
        return;
    }
    let mut child = with_home(&["run", "--raw", "-p", "Once upon a time", "-n", "8000", "--ignore-eos"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut text = vec![0];
    stdout.read_exact(&mut text).expect("it begins to answer");
    let interrupted =
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(interrupted.success());
    stdout.read_to_end(&mut text).expect("it ends");
    assert!(child.wait().expect("ended").success());
    assert_eq!(text.last(), Some(&b'\n'));
}

#[test]
fn the_registry_and_the_path_are_one_model() {
    if !fetched() {
        return;
    }
    let pulled = with_home(&["pull", "smollm2", "--json"]).output().expect("the binary runs");
    let pulled: Value = serde_json::from_slice(&pulled.stdout).expect("JSON");
    let path = pulled["path"].as_str().expect("a path");
    let by_path =
        command(&["run", "-m", path, "-p", "Hello", "-n", "8", "--json"]).output().expect("the binary runs");
    let by_path: Value = serde_json::from_slice(&by_path.stdout).expect("JSON");
    assert_eq!(by_path["tokens"], answer(&["run", "-p", "Hello", "-n", "8", "--json"])["tokens"]);
}

/// Some 9,000 tokens that say nothing of what is hidden in them.
fn haystack() -> String {
    let who =
        ["The miller", "An old sailor", "Her brother", "The widow", "A surveyor", "The curate", "Nobody"];
    let did = ["walked to", "spoke of", "sat beside", "wrote about", "remembered", "passed by"];
    let what = ["the harbour", "the orchard", "the long table", "the quarry", "the letter", "that winter"];
    let why = ["before it was light", "without a word", "as people will", "and came back late", "once more"];
    let line = |i: usize| {
        let pick = |list: &[&'static str], by: usize| list[(i * by + i / 7 + i * i % 11) % list.len()];
        format!("{} {} {} {}.\n", pick(&who, 3), pick(&did, 5), pick(&what, 7), pick(&why, 2))
    };
    (0..750).map(line).collect()
}

#[test]
fn hidden_facts_are_found_answered_and_cited_and_absent_ones_are_not() {
    if !fetched() || answer(&["doctor", "--json"])["kernels"]["used"] == "scalar" {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("haystack.txt");
    std::fs::write(&file, haystack()).expect("written");
    let pulled = answer(&["pull", "smollm2", "--json"]);
    let mut eval = command(&["eval", "needle", "--kind", "number,sentence", "--items", "12", "--seed", "4"]);
    eval.env("LONGLEAF_HOME", folder.path());
    eval.args(["--memory-tokens", "7000", "--answers", "--json", "-m"]);
    eval.arg(pulled["path"].as_str().expect("a path")).arg("--file").arg(&file);
    let kept = folder.path().join("rows.jsonl");
    eval.arg("--out").arg(&kept);
    let mut run = || {
        let output = eval.output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("utf-8")
    };
    let rows = run();
    let before = std::fs::read_to_string(&kept).expect("kept");
    assert_eq!(before.lines().count(), 48, "two kinds, 12 facts there and 12 not");
    let cells = |rows: &str| {
        let cells: Vec<_> =
            rows.lines().filter(|row| row.contains("\"method\"")).map(str::to_owned).collect();
        cells
    };
    assert_eq!(cells(&run()), cells(&rows));
    let after = std::fs::read_to_string(&kept).expect("kept");
    assert!(after == before, "nothing was asked again");
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let by = |method: &str, kind: &str, what: &str| {
        let task = format!("{kind} {what}");
        let cell = rows.iter().find(|row| row["method"] == method && row["task"] == task.as_str());
        cell.and_then(|cell| cell["score"].as_f64()).unwrap_or_else(|| panic!("no cell {task} by {method}"))
    };
    let of = |kind: &str, what: &str| by("longleaf", kind, what);
    let share = |what: &str| f64::midpoint(of("number", what), of("sentence", what));
    // Floors below what is measured (1.00, 1.00 by heads, 1.00, at least 0.85, 0.88, 0.00), since 24 questions are few. Among lines
    // so much alike the model goes on with the list rather than say who did what, so that numbers alone count as answers.
    assert!(share("recall@8") >= 0.95, "located");
    assert!(
        f64::midpoint(by("finder", "number", "recall@8"), by("finder", "sentence", "recall@8")) >= 0.85,
        "by heads"
    );
    assert!(share("re-ranked recall@1") >= 0.9, "ranked");
    assert!(of("number", "answered") >= 0.75, "answered");
    assert!(share("absent and called not found") >= 0.75, "not found what is absent");
    assert!(share("present but called not found") <= 0.15, "found what is there");
}

#[test]
fn an_answer_that_takes_two_steps_is_found_by_asking_again() {
    if !fetched() || answer(&["doctor", "--json"])["kernels"]["used"] == "scalar" {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("town.txt");
    let (first, second) = (
        "The silver compass was given to Marit Solberg by her uncle.",
        "Marit Solberg lives in the red house on Quay Street.",
    );
    let haystack = haystack();
    let (a, b) = haystack.split_at(haystack.len() / 2);
    let (b, c) = b.split_at(b.find('\n').expect("lines") + 1);
    let other = "Ingrid Dahl lives in the yellow house by the mill. Her uncle had a bronze lantern.";
    std::fs::write(&file, format!("{b}{second}\n{a}{other}\n{c}{first}\n{b}")).expect("written");
    let ask = |hops: &str| {
        let question = "Where does the person live who was given the silver compass?";
        let file = file.to_str().expect("utf-8");
        answer(&["ask", file, question, "-n", "24", "--hops", hops, "--json"])
    };
    let quoted = |reply: &Value, fact: &str| {
        let citations = reply["citations"].as_array().expect("a list");
        citations.iter().any(|citation| citation["quote"].as_str().expect("text").contains(fact))
    };
    let (once, again) = (ask("0"), ask("1"));
    assert!(quoted(&once, first) && !quoted(&once, second), "{once}");
    assert!(quoted(&again, first) && quoted(&again, second) && !quoted(&again, other), "{again}");
    assert!(again["answer"].as_str().expect("text").contains("Quay Street"), "{again}");
    let trail = |reply: &Value| reply["trail"].as_array().expect("a list").len();
    assert!(trail(&once) == 0 && again["trail"][0] == "Marit Solberg", "{again}");
    assert!(again["coverage"]["blocks_read"].as_u64() >= Some(2), "{again}");
}

#[test]
fn examples_say_how_what_is_looked_for_is_worded() {
    if !fetched() || answer(&["doctor", "--json"])["kernels"]["used"] == "scalar" {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("diary.txt");
    let facts = [
        "The curate went to the bakery.",
        "The sexton travelled to the mill.",
        "The curate travelled to the chapel.",
        "The curate journeyed back to the school.",
    ];
    let haystack = haystack();
    assert!(haystack.matches("The curate").count() > 50);
    let lines: Vec<&str> = haystack.lines().collect();
    let parts = lines.chunks(lines.len() / 5).map(|part| part.join("\n"));
    let text: Vec<String> = parts.zip(facts).map(|(part, fact)| format!("{part}\n{fact}\n")).collect();
    std::fs::write(&file, text.concat()).expect("written");
    let quotes = |like: &[&str]| {
        let mut args =
            vec!["ask", file.to_str().expect("utf-8"), "Where is the curate?", "--json", "-n", "24"];
        for like in like {
            args.extend(["--like", like]);
        }
        let reply = answer(&args);
        let citations = reply["citations"].as_array().expect("a list").iter();
        let quotes: Vec<String> =
            citations.map(|citation| citation["quote"].as_str().expect("text").to_owned()).collect();
        (quotes, reply)
    };
    let (found, reply) = quotes(&["John went to the garden.", "Ann moved to the kitchen."]);
    for (fact, wanted) in facts.iter().zip([true, false, true, true]) {
        assert_eq!(found.iter().any(|quote| quote == fact), wanted, "{fact}: {reply}");
    }
    let all = quotes(&[]).0;
    assert!(
        facts.iter().filter(|fact| all.iter().any(|quote| quote.contains(**fact))).count() < 3,
        "{all:?}"
    );
}

#[test]
fn quality_of_long_texts_has_a_floor() {
    if !fetched() || answer(&["doctor", "--json"])["kernels"]["used"] == "scalar" {
        return;
    }
    // Tasks that need no data: look-alikes, counted words and a needle in noise.
    let args = [
        "eval",
        "ruler",
        "--data",
        ".",
        "--memory-tokens",
        "2K",
        "--items",
        "3",
        "--method",
        "longleaf",
        "--json",
    ];
    let tasks = ["--task", "niah_single_1,niah_multikey_2,niah_multikey_3,fwe"];
    let output = with_home(&[&args[..], &tasks].concat()).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("utf-8");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let average = lines.last().expect("cells");
    assert_eq!((average["task"].as_str(), average["n"].as_u64()), (Some("average of 4"), Some(12)));
    assert!(average["score"].as_f64().expect("a number") >= 0.85, "{text}");
}
