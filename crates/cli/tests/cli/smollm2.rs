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
