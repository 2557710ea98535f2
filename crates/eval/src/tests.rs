//! What several tests need, and whole runs on a tiny model.
use crate::run::{Plan, Row};
use crate::{Answering, Error, Item, Method, Source, Suite, cells, run, table};
use longleaf_engine::Model;
use longleaf_engine::kernel::Compute;
use longleaf_text::Tokenizer;
use std::fmt::Write;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn model_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/smollm2")
}

/// The tiny model.
pub(crate) fn model() -> Model {
    Model::open(&model_folder(), &Arc::new(Compute::new(1))).expect("the tiny model")
}

/// A tokenizer with a token for nearly every byte.
pub(crate) fn tokenizer() -> Tokenizer {
    let json = fs::read(model_folder().join("tokenizer.json")).expect("there");
    Tokenizer::from_json(&json, None).expect("a tokenizer")
}

/// A folder `prose` of made-up novels in `data`.
pub(crate) fn prose(data: &Path) {
    let folder = data.join("prose");
    fs::create_dir_all(&folder).expect("a folder");
    let words = [
        "the", "lamp", "stood", "harbour", "night", "seven", "rain", "quiet", "ledger", "walked", "under",
        "oak",
    ];
    for file in 0..2 {
        let mut text = String::new();
        for sentence in 0..900_usize {
            let word = |at: usize| {
                words[(sentence * 31 + at * 17 + file * 7 + sentence * sentence % 13) % words.len()]
            };
            let end = if sentence.is_multiple_of(5) { ".\n\n" } else { ". " };
            let _ = write!(text, "In {} {} {} they {} {}{end}", sentence, word(0), word(1), word(2), word(3));
        }
        fs::write(folder.join(format!("{file}.txt")), text).expect("written");
    }
}

/// The item with the expected strings in its context.
struct Echo;

impl Source for Echo {
    fn item(&mut self, task: &str, length: usize, index: usize) -> Result<Option<Item>, Error> {
        let pose = crate::Pose::Count { question: String::new(), most: 2 };
        Ok((index < 3).then(|| Item {
            task: task.to_owned(),
            length,
            index,
            depth: None,
            context: format!("oak elm oak item {index} of {task} "),
            shelf: "echo".to_owned(),
            frame: crate::Frame {
                example: String::new(),
                before: "Words: ".to_owned(),
                after: "\nWhich?".to_owned(),
                prefix: "They".to_owned(),
                raw: false,
            },
            pose,
            expected: vec!["oak".to_owned()],
            scorer: crate::Scorer::All,
            max_tokens: 4,
            quotes: false,
            parts: Vec::new(),
            like: Vec::new(),
            needs: Vec::new(),
        }))
    }
}

#[test]
fn rows_repeat_and_known_ones_are_not_made_again() {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let mut answering = Answering::new(&model, &model, folder.path().to_owned(), 1 << 30);
    let plan = Plan {
        suite: Suite::Ruler,
        tasks: vec!["cwe", "fwe"],
        lengths: vec![128, 200],
        items: 5,
        seed: 3,
        methods: vec![Method::Longleaf, Method::Dense, Method::Truncated],
    };
    let mut made = 0;
    let mut go = |known: &[Row], made: &mut usize| {
        let mut keep = |_: &Row| {
            *made += 1;
            Ok::<_, Error>(())
        };
        run(&plan, &mut Echo, &mut answering, known, &mut keep, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let timeless = |rows: &[Row]| -> Vec<Row> {
        rows.iter().map(|row| Row { timings: crate::RowTimings::default(), ..row.clone() }).collect()
    };
    let first = go(&[], &mut made);
    // The source ends after three items; two tasks, two lengths, three methods.
    assert_eq!((first.len(), made), (36, 36));
    made = 0;
    let some: Vec<Row> = first.iter().filter(|row| row.task == "cwe").cloned().collect();
    let second = go(&some, &mut made);
    assert_eq!(made, 18);
    assert_eq!(timeless(&first), timeless(&second));
    // Written and read again they are the same rows.
    let lines: Vec<String> = first.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
    let back: Vec<Row> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(go(&back, &mut made), first);
    assert_eq!(made, 18, "none was made");
    // Another context is another row, whatever else is the same.
    let other: Vec<Row> = first.iter().map(|row| Row { prompt: "0".repeat(16), ..row.clone() }).collect();
    go(&other, &mut made);
    assert_eq!(made, 54);

    // Dense and truncated read the same where everything fits.
    for item in 0..3 {
        let answer = |method: &str| {
            let row = first.iter().find(|row| row.item == item && row.method == method && row.length == 128);
            (row.unwrap().answer.clone(), row.unwrap().prompt_tokens)
        };
        assert_eq!(answer("dense"), answer("truncated"));
        assert_ne!(answer("dense").1, answer("longleaf").1);
    }
    let cells = cells(&first);
    assert_eq!(cells.len(), 12 + 6, "and the averages");
    assert!(cells.iter().all(|cell| cell.low <= cell.score && cell.score <= cell.high));
    let table = table(&cells);
    assert_eq!(table.lines().count(), 2 + 4 + 2, "{table}");
    assert!(table.starts_with("| task | length | longleaf | dense | truncated |"));

    // Another model's rows make cells of their own.
    let theirs = first.iter().map(|row| Row { model: "other".to_owned(), ..row.clone() });
    let both = crate::cells(&first.iter().cloned().chain(theirs).collect::<Vec<_>>());
    assert_eq!(both.len(), 2 * cells.len());
    assert!(crate::table(&both).contains("| dense, other |"));
    // So do those that were computed less exactly; an item that was answered again counts once, as it was last.
    let fast = first.iter().map(|row| Row { precision: "fast".to_owned(), ..row.clone() });
    let both = crate::cells(&first.iter().cloned().chain(fast).collect::<Vec<_>>());
    assert_eq!(both.len(), 2 * cells.len());
    assert!(crate::table(&both).contains("| dense, fast |"));
    let again = first.iter().map(|row| Row { score: 0.0, prompt: "0".repeat(16), ..row.clone() });
    let last = crate::cells(&first.iter().cloned().chain(again).collect::<Vec<_>>());
    assert!(last.iter().zip(&cells).all(|(last, cell)| last.n == cell.n && last.score == 0.0));
}

#[test]
fn what_is_interrupted_says_so() {
    let model = model();
    let mut answering = Answering::new(&model, &model, PathBuf::new(), 1 << 30);
    let plan = Plan {
        suite: Suite::Ruler,
        tasks: vec!["cwe"],
        lengths: vec![128],
        items: 5,
        seed: 3,
        methods: vec![Method::Longleaf],
    };
    let mut events = 0;
    let mut watch = |_: crate::Event<'_>| {
        events += 1;
        if events > 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let found = run(&plan, &mut Echo, &mut answering, &[], &mut |_| Ok::<_, Error>(()), &mut watch);
    assert!(matches!(found, Err(Error::Interrupted)), "{found:?}");
}

#[test]
fn tasks_by_name() {
    let named = |names: &[&str]| {
        Suite::Ruler.tasks_named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(named(&[]).unwrap().len(), 13);
    assert_eq!(
        named(&["vt", "niah_single"]).unwrap(),
        ["niah_single_1", "niah_single_2", "niah_single_3", "vt"]
    );
    assert!(named(&["niah_double"]).unwrap_err().to_string().contains("it has niah_single_1, "));
}
