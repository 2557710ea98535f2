//! `longleaf eval` with task families, on made-up data and a tiny model.
use super::program::{json_lines, keys, output, root, stdout};
use serde_json::Value;
use std::fs;
use std::path::Path;

const MODEL: &str = "testdata/models/smollm2";

/// A collection of two paragraphs, and two claims.
fn data(folder: &Path) {
    let xquad = serde_json::json!({"data": [{"paragraphs": [
        {"context": "An oak.", "qas": [{"question": "What?", "answers": [{"text": "oak"}]}]},
        {"context": "An elm.", "qas": [{"question": "And?", "answers": [{"text": "elm"}]}]},
    ]}]});
    fs::create_dir(folder.join("xquad_en")).expect("a folder");
    fs::write(folder.join("xquad_en/xquad.en.json"), xquad.to_string()).expect("written");
    fs::create_dir(folder.join("scifact")).expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.join("scifact").join(name), text).expect("written");
    write(
        "corpus.jsonl",
        "{\"_id\": \"1\", \"text\": \"Oaks live long.\"}\n{\"_id\": \"2\", \"text\": \"Elms do not.\"}\n",
    );
    write("queries_test.jsonl", "{\"_id\": \"7\", \"text\": \"How long do oaks live?\"}\n");
    write("qrels_test.tsv", "query-id\tcorpus-id\tscore\n7\t1\t1\n");
}

fn timeless(rows: &[Value]) -> Vec<Value> {
    let without = |row: &Value| {
        let mut row = row.clone();
        row.as_object_mut().expect("an object").remove("timings");
        row
    };
    rows.iter().map(without).collect()
}

#[test]
fn rows_then_cells_and_a_second_run_goes_on() {
    let folder = tempfile::tempdir().expect("temp");
    data(folder.path());
    let data = folder.path().to_str().expect("utf-8");
    let out = folder.path().join("rows.jsonl");
    let out = out.to_str().expect("utf-8");
    let args = [
        "eval",
        "xquad",
        "-m",
        MODEL,
        "--data",
        data,
        "--method",
        "dense,truncated",
        "--items",
        "5",
        "--json",
    ];
    let lines = json_lines(&args);
    // Two tasks, two items, two methods; a cell for each task and method, its F1, and an average.
    let (rows, cells) = lines.split_at(8);
    assert_eq!(cells.len(), 4 + 4);
    assert_eq!(
        keys(&rows[0]),
        [
            "answer",
            "depth",
            "expected",
            "f1",
            "item",
            "length",
            "method",
            "model",
            "precision",
            "prompt",
            "prompt_tokens",
            "score",
            "seed",
            "suite",
            "task",
            "timings"
        ]
    );
    for cell in cells {
        assert_eq!(
            keys(cell),
            ["high", "length", "low", "method", "model", "n", "precision", "score", "suite", "task"]
        );
    }
    let kept = [&args[..], &["--out", out]].concat();
    assert_eq!(timeless(&json_lines(&kept)), timeless(&lines), "the same seed, the same rows");
    // A kill in the middle of a line costs that line.
    let text = fs::read_to_string(out).expect("kept");
    fs::write(out, &text[..text.len() - 20]).expect("written");
    let again = json_lines(&kept);
    assert_eq!(again.len(), 1 + cells.len(), "one row was missing");
    assert_eq!(timeless(&again[..1]), timeless(&rows[7..]));
    assert_eq!(fs::read_to_string(out).expect("kept").lines().count(), 8);
    let drawn = folder.path().join("curves");
    let plot = ["eval", "plot", "--file", out, "--out", drawn.to_str().expect("utf-8")];
    assert!(stdout(&plot).starts_with("| task | length | dense | truncated |"));
    let svg = fs::read_to_string(drawn.join("xquad-collection-f1.svg")).expect("drawn");
    assert_eq!(svg.matches("<circle").count(), 2);
    assert!(stdout(&kept[..kept.len() - 3]).starts_with("| task | length | dense | truncated |"));
}

#[test]
fn search_ranks_and_says_how_well() {
    let folder = tempfile::tempdir().expect("temp");
    data(folder.path());
    let lines = json_lines(&["eval", "search", "--data", folder.path().to_str().expect("utf-8"), "--json"]);
    assert_eq!(lines.len(), 2 + 2);
    assert_eq!((lines[2]["task"].as_str(), lines[2]["score"].as_f64()), (Some("scifact nDCG@10"), Some(1.0)));
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().expect("temp");
    let data = folder.path().to_str().expect("utf-8");
    for (args, code, part) in [
        (vec!["eval", "ruler", "-m", MODEL], 2, "needs --data"),
        (vec!["eval", "ruler", "-m", MODEL, "--data", data, "--task", "fly"], 2, "it has niah_single_1, "),
        (vec!["eval", "ruler", "-m", MODEL, "--data", data, "--memory-tokens", "4G"], 2, "4096, 4K or 1M"),
        (vec!["eval", "kv", "-m", MODEL, "--data", data, "--method", "dense"], 1, "--data names the folder"),
        (vec!["eval", "ppl", "-m", MODEL], 2, "--file"),
        (vec!["eval", "plot"], 2, "needs --file"),
    ] {
        let output = output(&args);
        let stderr = String::from_utf8(output.stderr).expect("utf-8");
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}

#[test]
fn a_budget_is_blocks_a_share_or_all() {
    let folder = tempfile::tempdir().expect("temp");
    // The model's window is shorter than what is always read: here it is said to be longer.
    let from = root().join(MODEL);
    for file in fs::read_dir(&from).expect("a folder") {
        let file = file.expect("a file").file_name();
        fs::copy(from.join(&file), folder.path().join(&file)).expect("copied");
    }
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).expect("JSON");
    fs::write(&config, text.replace("\"max_position_embeddings\": 256", "\"max_position_embeddings\": 4096"))
        .expect("written");
    let file = folder.path().join("text.txt");
    fs::write(&file, "Oaks, elms and limes. ".repeat(1000)).expect("written");
    let (file, model) = (file.to_str().expect("utf-8"), folder.path().to_str().expect("utf-8"));
    let args = |budget| {
        let mut args = vec!["eval", "ppl", "-m", model, "--file", file, "--tokens", "2500", "--json"];
        args.extend(["--window", "2500", "--attention", "adaptive", "--budget", budget]);
        args
    };
    let read = |budget| json_lines(&args(budget))[0]["choices"]["blocks_read"].as_f64().expect("blocks");
    let (two, half, most) = (read("2"), read("0.5"), read("0.1"));
    assert!(two > 1.0 && two <= 2.0 && half > two && most > half, "{two}, {half}, {most}");
    for wrong in ["1.5", "0.0", "some"] {
        assert_eq!(output(&args(wrong)).status.code(), Some(2), "{wrong}");
    }
}
