//! `longleaf bench`, `eval` and `doctor`
use super::program::{command, json, json_lines, keys, stdout};
use std::fs;

#[test]
fn bench_measures_every_length_and_depth() {
    let rows = json_lines(&[
        "bench",
        "-m",
        "testdata/models/gguf/smollm2-q4_1.gguf",
        "--prefill",
        "16,40",
        "--decode",
        "4",
        "--depth",
        "0,20",
        "--repeat",
        "2",
        "--threads",
        "2",
        "--json",
    ]);
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let number = |name: &str| row[name].as_u64().expect("a number");
            (row["phase"].as_str().expect("a string"), number("tokens"), number("depth"))
        })
        .collect();
    assert_eq!(cells, [("prefill", 16, 0), ("prefill", 40, 0), ("decode", 4, 0), ("decode", 4, 20)]);
    for row in &rows {
        assert_eq!(
            keys(row),
            [
                "attention",
                "ceiling_share",
                "depth",
                "kernels",
                "model",
                "peak_rss_bytes",
                "phase",
                "runs",
                "threads",
                "tokens",
                "tokens_per_s"
            ]
        );
        assert_eq!((&row["model"], &row["threads"]), (&"smollm2-q4_1".into(), &2.into()));
        let share = row["ceiling_share"].as_f64().expect("a number");
        assert!(share > 0.0 && share < 1.0, "{row}");
        assert!(row["tokens_per_s"].as_f64().expect("a number") > 0.0);
        assert!(row["peak_rss_bytes"].as_u64().expect("a number") > 1 << 20);
        assert_eq!(row["runs"].as_array().expect("a list").len(), 2);
    }
}

#[test]
fn perplexity_counts_every_token_but_a_windows_first() {
    let folder = tempfile::tempdir().expect("temp");
    let file = folder.path().join("story.txt");
    fs::write(&file, "The tree in the meadow has long leaves. ".repeat(50)).expect("writable");
    let file = file.to_str().expect("utf-8");
    let run = |window| {
        json(&[
            "eval",
            "ppl",
            "-m",
            "testdata/models/smollm2",
            "--file",
            file,
            "--tokens",
            "100",
            "--window",
            window,
            "--json",
        ])
    };
    let cell = run("40");
    assert_eq!(keys(&cell), ["high", "length", "low", "method", "n", "score", "suite", "task"]);
    assert_eq!((&cell["suite"], &cell["task"], &cell["n"]), (&"ppl".into(), &"story".into(), &97.into()));
    let number = |name: &str| cell[name].as_f64().expect("a number");
    assert!(number("low") < number("score") && number("score") < number("high"), "{cell}");
    // A random model is about as good as guessing among its 320 tokens.
    assert!(number("score") > 30.0 && number("score") < 3000.0, "{cell}");
    assert_eq!(run("100")["n"], 99);
}

#[test]
fn lambada_scores_last_words() {
    let folder = tempfile::tempdir().expect("temp");
    let file = folder.path().join("items.jsonl");
    fs::write(&file, "{\"text\": \"the wind turns the leaves\"}\n{\"text\": \"ten thousand rings\"}\n{\"text\": \"x y\"}\n")
        .expect("writable");
    let file = file.to_str().expect("utf-8");
    let rows = json_lines(&[
        "eval",
        "lambada",
        "-m",
        "testdata/models/smollm2",
        "--file",
        file,
        "--items",
        "2",
        "--json",
    ]);
    assert_eq!(rows.len(), 3);
    assert_eq!((&rows[0]["expected"], &rows[1]["expected"]), (&"leaves".into(), &"rings".into()));
    let cell = &rows[2];
    assert_eq!(cell["n"], 2);
    assert!(
        cell["low"].as_f64() <= cell["score"].as_f64() && cell["score"].as_f64() <= cell["high"].as_f64()
    );
    let text = stdout(&["eval", "lambada", "-m", "testdata/models/smollm2", "--file", file]);
    assert!(text.starts_with("lambada last word: accuracy ") && text.contains("n = 3"), "{text}");
}

#[test]
fn doctor_tells_what_is_used() {
    let report = json(&["doctor", "--threads", "3", "--kernels", "scalar", "--json"]);
    assert_eq!(report["threads"], 3);
    assert_eq!(report["kernels"]["used"], "scalar");
    assert_eq!(report["kernels"]["why"], "asked for");
    let sets = report["kernels"]["supported"].as_array().expect("a list");
    assert_eq!(sets.last(), Some(&"scalar".into()));
    assert!(report["disk"]["read_bytes_per_s"].as_f64().expect("a number") > 0.0);
    assert!(report["ceilings"]["f32_ops_per_s"].as_f64().expect("a number") > 1e8);
    assert_eq!(report["models"][0]["name"], "smollm2-135m-instruct");
    let text = command(&["doctor"]).env_remove("LONGLEAF_KERNELS").output().expect("the binary runs").stdout;
    let text = String::from_utf8(text).expect("utf-8");
    assert!(text.contains("kernels") && text.contains("the fastest this CPU can run"), "{text}");
}
