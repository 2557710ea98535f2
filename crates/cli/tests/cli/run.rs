//! `longleaf run`
use super::program::{command, json, keys, stdout};
use std::io::Read;
use std::process::Stdio;

const MODEL: &str = "testdata/models/smollm2";
/// A prompt that the tiny model does not end at once.
const PROMPT: [&str; 6] = ["run", "-m", MODEL, "--raw", "-p", "In the evening the wind"];

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&PROMPT[..], more].concat()
}

#[test]
fn json_has_the_promised_shape() {
    let answer =
        json(&["run", "-m", MODEL, "-p", "How long is the leaf?", "-n", "5", "--ignore-eos", "--json"]);
    assert_eq!(keys(&answer), ["finish_reason", "text", "timings", "tokens", "usage"]);
    assert_eq!(keys(&answer["usage"]), ["completion_tokens", "prompt_tokens"]);
    assert_eq!(keys(&answer["timings"]), ["decode_s", "prefill_s"]);
    assert_eq!(answer["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 5);
    assert_eq!(answer["tokens"].as_array().expect("a list").len(), 5);
    assert!(answer["timings"]["prefill_s"].as_f64().expect("a number") > 0.0);
}

#[test]
fn the_template_frames_the_prompt_and_raw_does_not() {
    let count = |more: &[&str]| {
        let args = [&["run", "-m", MODEL, "-p", "How long is the leaf?", "-n", "0", "--json"], more].concat();
        json(&args)["usage"]["prompt_tokens"].as_u64().expect("a number")
    };
    // `<|im_start|>user\n…<|im_end|>\n<|im_start|>assistant\n`; the golden file has 18 tokens before the second turn.
    let raw = count(&["--raw"]);
    let chat = count(&[]);
    assert!(raw < 18 && chat > 18, "{raw} {chat}");
    assert!(count(&["--system", "You are a tree."]) > chat);
}

#[test]
fn text_and_json_say_the_same() {
    let text = stdout(&args(&["-n", "30"]));
    let answer = json(&args(&["-n", "30", "--json"]));
    assert_eq!(text, format!("{}\n", answer["text"].as_str().expect("a string")));
}

#[test]
fn threads_change_nothing() {
    let run = |threads| {
        let answer =
            json(&args(&["-n", "40", "--temp", "0.9", "--json", "--logprobs", "--threads", threads]));
        (answer["text"].clone(), answer["tokens"].clone(), answer["logprobs"].clone())
    };
    let one = run("1");
    assert_eq!(one, run("2"));
    assert_eq!(one, run("5"));
}

#[test]
fn the_seed_decides() {
    let run = |seed| json(&args(&["-n", "30", "--temp", "1.5", "--seed", seed, "--json"]))["tokens"].clone();
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
    // Of one candidate there is nothing to draw.
    let best = json(&args(&["-n", "30", "--json"]))["tokens"].clone();
    for only in [["--top-k", "1"], ["--top-p", "0"], ["--min-p", "1"]] {
        let drawn = json(&args(&["-n", "30", "--temp", "1", only[0], only[1], "--json"]));
        assert_eq!(drawn["tokens"], best, "{only:?}");
    }
}

#[test]
fn a_stop_string_ends_the_answer_before_itself() {
    let whole = json(&args(&["-n", "40", "--ignore-eos", "--json"]));
    let text = whole["text"].as_str().expect("a string");
    // Every stop of three characters, wherever tokens begin and end.
    let characters: Vec<_> = text.char_indices().collect();
    for at in (6..characters.len().saturating_sub(3)).step_by(7) {
        let stop = &text[characters[at].0..characters[at + 3].0];
        if stop.contains('\u{fffd}') {
            continue;
        }
        let answer = json(&args(&["-n", "40", "--ignore-eos", "--json", "--stop", "never", "--stop", stop]));
        let expected = &text[..text.find(stop).expect("part of it")];
        assert_eq!(answer["text"].as_str(), Some(expected), "{stop:?}");
        assert_eq!(answer["finish_reason"], "stop");
        assert_eq!(stdout(&args(&["-n", "40", "--ignore-eos", "--stop", stop])), format!("{expected}\n"));
    }
}

#[test]
fn a_file_stands_before_the_prompt() {
    let folder = tempfile::tempdir().expect("temp");
    let file = folder.path().join("leaf.txt");
    std::fs::write(&file, "The leaf is ten long.").expect("writable");
    let file = file.to_str().expect("utf-8");
    let run = |more: &[&str]| {
        let answer = json(&[&["run", "-m", MODEL, "-n", "8", "--json"], more].concat());
        (answer["usage"]["prompt_tokens"].clone(), answer["tokens"].clone())
    };
    let both = run(&["-p", "The leaf is ten long.\n\nHow long?"]);
    assert_eq!(run(&["-f", file, "-p", "How long?"]), both);
    assert_eq!(run(&["-f", file]), run(&["-p", "The leaf is ten long."]));
}

#[test]
fn a_user_cannot_speak_as_the_system() {
    let count = |more: &[&str]| {
        let answer = json(&[&["run", "-m", MODEL, "-n", "0", "--json", "-p"], more].concat());
        answer["usage"]["prompt_tokens"].as_u64().expect("a number")
    };
    // As a control token it would be one token; as text it is the ten signs it is written with, in or out of a turn.
    let raw = count(&["<|im_end|>", "--raw"]);
    assert!(raw > 4, "{raw}");
    assert_eq!(count(&["x <|im_end|>"]) - count(&["x "]), raw);
}

#[test]
fn gguf_and_folder_answer_alike() {
    let run = |model| {
        json(&["run", "-m", model, "--raw", "-p", "The tree", "-n", "24", "--json"])["tokens"].clone()
    };
    assert_eq!(run("testdata/models/gguf/llama-f32.gguf"), run("testdata/models/llama"));
}

#[test]
fn local_attention_is_another_thing_only_behind_its_window() {
    let run = |attention| json(&args(&["-n", "30", "--json", "--attention", attention]))["tokens"].clone();
    assert_eq!(run("dense"), run("local"));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = command(&args(&["-n", "200", "--ignore-eos"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("utf-8");
    assert!(child.wait().expect("ended").success());
    assert_eq!(said, "");
}
