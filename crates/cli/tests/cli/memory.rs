//! Laws of memories at the command line: a kill at any moment loses nothing that matters, and what cannot be done
//! ends in one line that says why, with the memory as it was.
//!
//! `LONGLEAF_KILLS` sets how often the two kill tests kill (20 by default).
use super::smollm2::{fetched, with_home};
use longleaf_engine::store::{Error, Fingerprint, Store, StreamId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::slice;
use std::time::Duration;

/// Small numbers in no order.
struct Noise(u64);

impl Noise {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn kills() -> usize {
    std::env::var("LONGLEAF_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20)
}

/// Plain Rust needs minutes for what is read here in a second.
fn reads_quickly() -> bool {
    let doctor = with_home(&["doctor", "--json"]).output().expect("the binary runs");
    let doctor: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    doctor["kernels"]["used"] != "scalar"
}

fn text(seed: u64, lines: usize) -> String {
    let words = ["bell", "lantern", "harbour", "seven", "Cordelia", "quiet", "rain", "ledger", "oak", "mill"];
    let mut noise = Noise(seed * 2 + 1);
    let mut text = String::new();
    for line in 0..lines {
        let mut word = || words[noise.below(10) as usize];
        writeln!(text, "In line {line} the {} of {} went by the {} {}.", word(), word(), word(), word())
            .expect("a string takes all");
    }
    text
}

/// A folder with two documents of some ten thousand tokens together.
fn texts(folder: &Path) -> [String; 2] {
    [("a.txt", 1, 500), ("b.txt", 2, 300)].map(|(name, seed, lines)| {
        let path = folder.join(name);
        fs::write(&path, text(seed, lines)).expect("written");
        path.to_str().expect("utf-8").to_owned()
    })
}

fn name(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

fn add(memory: &Path, texts: &[String]) -> Output {
    let mut args = vec!["add", name(memory)];
    args.extend(texts.iter().map(String::as_str));
    with_home(&args).output().expect("the binary runs")
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The one line of a command that failed.
fn failure(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).expect("utf-8");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.strip_prefix("longleaf: ").expect("says who speaks").trim_end().to_owned()
}

/// Everything that a memory holds of its finished documents.
fn contents(memory: &Path) -> BTreeMap<String, Vec<u8>> {
    let store = Store::inspect(memory).expect("a memory");
    let mut streams = vec![
        ("text".to_owned(), StreamId::TEXT),
        ("tokens".to_owned(), StreamId::TOKENS),
        ("ends".to_owned(), StreamId::ENDS),
        ("lexical".to_owned(), StreamId::LEXICAL),
    ];
    // SmolLM2's finder head is number 6 of layer 5.
    let name = "finder.l5.k2";
    streams.push((name.to_owned(), store.find_stream(name).expect("finder keys")));
    let mut contents = BTreeMap::new();
    for document in store.documents().filter(|document| document.finished) {
        for (index, section) in document.sections.iter().enumerate() {
            for (name, stream) in &streams {
                let bytes = store.read_all(*section, *stream).expect("readable");
                assert!(!bytes.is_empty(), "{name} of {}", document.name);
                contents.insert(format!("{} {index} {name}", document.name), bytes);
            }
        }
    }
    contents
}

/// Verify a memory as a user would; its size on disk, or 0 if there is none yet.
fn verified(memory: &Path) -> u64 {
    match Store::inspect(memory) {
        Err(Error::Absent { .. }) => return 0,
        other => drop(other.expect("a memory, or none yet")),
    }
    let output = with_home(&["memory", "verify", name(memory), "--json"]).output().expect("the binary runs");
    succeeds(&output);
    let verified: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(verified["intact"], true);
    verified["bytes_on_disk"].as_u64().expect("a number")
}

fn killed_after(mut child: Child, wait: Duration) -> bool {
    std::thread::sleep(wait);
    let ended = child.try_wait().expect("a child").is_some();
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    !ended
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn killed_while_adding_it_goes_on_to_the_same_memory() {
    if !fetched() || !reads_quickly() {
        return;
    }
    let folder = tempfile::tempdir().expect("temp");
    let texts = texts(folder.path());
    let whole = folder.path().join("whole");
    succeeds(&add(&whole, &texts));
    let expected = contents(&whole);
    assert_eq!(Store::inspect(&whole).expect("a memory").documents().count(), 2);

    let (mut kills, mut life, mut noise) = (kills(), 0, Noise(0x9e37_79b9_7f4a_7c15));
    while kills > 0 {
        life += 1;
        let memory = folder.path().join(format!("life-{life}"));
        let mut size = 0;
        loop {
            let mut command = with_home(&["add", name(&memory), &texts[0], &texts[1]]);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
            let killed = if kills == 0 {
                succeeds(&child.wait_with_output().expect("it ends"));
                false
            } else {
                killed_after(child, Duration::from_micros(100_000 + noise.below(3_900_000)))
            };
            kills -= usize::from(killed);
            let now = verified(&memory);
            assert!(now >= size, "{size} bytes were safe, {now} are there");
            size = now;
            if !killed {
                break;
            }
        }
        succeeds(&add(&memory, &texts));
        assert_eq!(contents(&memory), expected);
    }
}

#[test]
fn killed_while_compacting_it_holds_the_same_documents() {
    if !fetched() || !reads_quickly() {
        return;
    }
    let folder = tempfile::tempdir().expect("temp");
    let texts = texts(folder.path());
    let whole = folder.path().join("whole");
    succeeds(&add(&whole, &texts));
    let files = |memory: &Path| fs::read_dir(memory).expect("a folder").count();
    let one_of_each = files(&whole);
    succeeds(&with_home(&["memory", "remove", name(&whole), &texts[0]]).output().expect("the binary runs"));
    let expected = contents(&whole);
    assert!(Store::inspect(&whole).expect("a memory").usage().dead > 0);

    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let mut kills = kills();
    let mut rounds = 0;
    while kills > 0 {
        rounds += 1;
        let memory = folder.path().join("copy");
        let _ = fs::remove_dir_all(&memory);
        copy(&whole, &memory);
        // Again and again, until it gets through.
        loop {
            let mut command = with_home(&["memory", "compact", name(&memory)]);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
            let killed = killed_after(child, Duration::from_micros(noise.below(60_000)));
            kills = kills.saturating_sub(usize::from(killed));
            verified(&memory);
            assert_eq!(contents(&memory), expected, "round {rounds}");
            if !killed || kills == 0 {
                break;
            }
        }
        succeeds(&with_home(&["memory", "compact", name(&memory)]).output().expect("the binary runs"));
        assert_eq!(contents(&memory), expected);
        let store = Store::inspect(&memory).expect("a memory");
        assert_eq!((store.usage().dead, files(&memory)), (0, one_of_each));
    }
}

#[test]
fn what_was_read_at_finder_depth_comes_to_full_depth() {
    if !fetched() || !reads_quickly() {
        return;
    }
    let folder = tempfile::tempdir().expect("temp");
    let note = folder.path().join("note.txt");
    fs::write(&note, text(3, 40)).expect("written");
    let memory = folder.path().join("memory");
    succeeds(&add(&memory, &[name(&note).to_owned()]));
    let run = || {
        let question = ["run", "--memory", name(&memory), "-p", "Who went by?", "-n", "1", "--json"];
        with_home(&question).output().expect("the binary runs")
    };
    assert!(failure(&run()).contains("longleaf add MEMORY --depth full"));
    let deepen = || {
        let output = with_home(&["add", name(&memory), "--depth", "full", "--json"]).output();
        let output = output.expect("the binary runs");
        succeeds(&output);
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let before = contents(&memory);
    let deeper = deepen();
    assert_eq!((&deeper["depth"], &deeper["read_tokens"]), (&"full".into(), &deeper["tokens"]));
    assert_eq!(deepen()["read_tokens"], 0, "nothing is left to do");
    assert_eq!(contents(&memory), before);
    succeeds(&run());
    verified(&memory);
}

#[test]
fn what_was_read_for_its_words_is_answered_from_and_comes_to_finder_depth() {
    if !fetched() || !reads_quickly() {
        return;
    }
    let folder = tempfile::tempdir().expect("temp");
    let book = folder.path().join("book.txt");
    let lighthouse = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/lighthouse.txt");
    fs::copy(lighthouse, &book).expect("copied");
    let output = |args: &[&str]| with_home(args).output().expect("the binary runs");
    let ask = |what: &Path, depth: &[&str]| {
        let question =
            [&["ask", name(what), "Who built the lighthouse?", "-n", "12", "--json"], depth].concat();
        let output = output(&question);
        succeeds(&output);
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let [words, keys] = ["words", "keys"].map(|memory| folder.path().join(memory));
    succeeds(&output(&["add", name(&words), name(&book), "--depth", "words"]));
    succeeds(&add(&keys, &[name(&book).to_owned()]));
    let depth_of = |memory: &Path| {
        let shown = output(&["memory", "show", name(memory), "--json"]);
        serde_json::from_slice::<Value>(&shown.stdout).expect("JSON")["depth"].clone()
    };
    assert_eq!((depth_of(&words), depth_of(&keys)), ("words".into(), "finder".into()));
    let (by_words, by_keys) = (ask(&words, &[]), ask(&keys, &[]));
    let shown = |reply: &Value| (reply["answer"].clone(), reply["citations"][0]["quote"].clone());
    assert_eq!((&by_words["found"], shown(&by_words)), (&true.into(), shown(&by_keys)));
    // Asked again without a depth, what it lacks is made up for; with one, nothing of it is lost.
    for (asked, depth) in
        [(&["--depth", "words"][..], "words"), (&[], "finder"), (&["--depth", "words"], "finder")]
    {
        let reply = ask(&book, asked);
        assert_eq!((&reply["depth"], shown(&reply)), (&depth.into(), shown(&by_keys)));
    }
    let refused = output(&["ask", name(&words), "Who?", "--depth", "finder"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");

    succeeds(&output(&["add", name(&words), "--depth", "finder"]));
    assert_eq!((depth_of(&words), contents(&words)), ("finder".into(), contents(&keys)));
    let refused = output(&["add", name(&words), "--depth", "words"]);
    assert!(failure(&refused).contains("read at finder depth"), "{refused:?}");
    verified(&words);
}

#[test]
fn what_it_costs_is_measured_in_one_row_a_length() {
    if !fetched() || !reads_quickly() {
        return;
    }
    let folder = tempfile::tempdir().expect("temp");
    let [a, b] = texts(folder.path());
    let doctor = with_home(&["doctor", "--json"]).output().expect("the binary runs");
    let doctor: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    // The memories go to a home of this test, the model stays where it is.
    let model = &doctor["models"].as_array().expect("a list")[0]["path"];
    let model = model.as_str().expect("a path");
    let bench = |lengths: &str| {
        let args =
            ["bench", "memory", "--file", &a, &b, "--memory-tokens", lengths, "--dense", "1K", "-m", model];
        let more = ["--decode", "2", "--repeat", "1", "--ram", "1MiB", "--json"];
        with_home(&[&args[..], &more].concat()).env("LONGLEAF_HOME", folder.path()).output().expect("runs")
    };
    let output = bench("1K,4K");
    succeeds(&output);
    let text = String::from_utf8(output.stdout).expect("utf-8");
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let methods: Vec<_> = rows.iter().map(|row| row["method"].as_str().expect("text")).collect();
    assert_eq!(methods, ["longleaf", "dense", "longleaf"]);
    for row in &rows {
        assert!(row["read_tokens_per_s"].as_f64().expect("a number") > 0.0, "{row}");
        assert!(row["warm"]["first_token_s"].as_f64().expect("a number") > 0.0, "{row}");
        assert!(row["decode_tokens_per_s"].as_f64().expect("a number") > 0.0, "{row}");
    }
    assert!(rows[2]["cold"]["model_s"].as_f64() > Some(0.0));
    assert!(rows[2]["memory_tokens"].as_u64() > rows[0]["memory_tokens"].as_u64());
    // Texts are never repeated to make them longer.
    let error = failure(&bench("1M"));
    assert!(error.contains("1048576 were asked for; give more files"), "{error}");
}

#[test]
fn a_name_means_the_file_that_it_names() {
    if !fetched() || !reads_quickly() {
        return;
    }
    let folder = tempfile::tempdir().expect("temp");
    let memory = folder.path().join("memory");
    let run = |here: &str, args: &[&str]| {
        let mut command = with_home(args);
        command.current_dir(folder.path().join(here)).output().expect("the binary runs")
    };
    let show = || {
        let output = run(".", &["memory", "show", name(&memory), "--json"]);
        succeeds(&output);
        String::from_utf8(output.stdout).expect("utf-8").lines().count()
    };
    for (here, seed) in [("a", 1), ("b", 2)] {
        fs::create_dir(folder.path().join(here)).expect("made");
        fs::write(folder.path().join(here).join("notes.txt"), text(seed, 5)).expect("written");
        succeeds(&run(here, &["add", name(&memory), "notes.txt"]));
    }
    assert_eq!(show(), 2, "two files of one name are two documents");
    succeeds(&run("a", &["add", name(&memory), "./notes.txt", "../a/notes.txt"]));
    assert_eq!(show(), 2, "one file is one document, however it is written");

    // Sources are shown as they are written here.
    let question = ["Where did the bell go?", "-n", "2", "--guess"];
    let ask = run("a", &[&["ask", name(&memory)][..], &question].concat());
    succeeds(&ask);
    let said = String::from_utf8(ask.stdout).expect("utf-8");
    assert!(said.contains("] notes.txt, bytes ") || said.contains("/b/notes.txt, bytes "), "{said}");

    // A file that is asked about is read as it is now, however it is written.
    let direct = |written: &str| {
        let ask = run("a", &[&["ask", written, "--json"][..], &question].concat());
        succeeds(&ask);
        let reply: Value = serde_json::from_slice(&ask.stdout).expect("JSON");
        assert!(["stop", "length"].contains(&reply["finish_reason"].as_str().expect("text")), "{reply}");
        reply["coverage"]["blocks_total"].as_u64().expect("a number")
    };
    let blocks = direct("notes.txt");
    fs::write(folder.path().join("a/notes.txt"), text(3, 5)).expect("written");
    assert_eq!(direct("./notes.txt"), blocks, "the text before is not there any more");

    // So are those of a folder; what is no longer in it is no longer answered from.
    fs::write(folder.path().join("a/more.txt"), text(4, 5)).expect("written");
    assert!(direct(".") > blocks);
    fs::remove_file(folder.path().join("a/more.txt")).expect("removed");
    assert_eq!(direct("../a"), blocks);

    let missing = run("a", &["memory", "remove", name(&memory), "other.txt"]);
    assert!(failure(&missing).contains("no document \"other.txt\""));
    succeeds(&run("a", &["memory", "remove", name(&memory), "notes.txt", "notes.txt"]));
    assert_eq!(show(), 1);
}

#[test]
fn what_cannot_be_done_leaves_a_memory_as_it_was() {
    if !fetched() || !reads_quickly() {
        return;
    }
    let folder = tempfile::tempdir().expect("temp");
    let [a, b] = texts(folder.path());
    let memory = folder.path().join("memory");
    let ask = |memory: &Path| {
        with_home(&["ask", name(memory), "Where did the bell go?", "-n", "2", "--without", "rerank"])
            .output()
            .expect("the binary runs")
    };
    // There is none.
    assert!(failure(&ask(&memory)).contains("no memory here"));

    // No room: the system lets no file grow beyond some hundred kilobytes.
    let mut limited = std::process::Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 400; exec \"$0\" add \"$1\" \"$2\" \"$3\"";
    limited.args(["-c", script, env!("CARGO_BIN_EXE_longleaf"), name(&memory), &a, &b]);
    let error = failure(&limited.output().expect("a shell"));
    assert!(error.contains(".seg") && error.contains("allows no larger file"), "{error}");
    verified(&memory);
    succeeds(&add(&memory, &[a.clone(), b.clone()]));
    let whole = folder.path().join("whole");
    succeeds(&add(&whole, &[a.clone(), b.clone()]));
    assert_eq!(contents(&memory), contents(&whole));
    let before = contents(&memory);

    // Another process is writing; reading goes on all the same.
    let fingerprint = Store::inspect(&memory).expect("a memory").fingerprint();
    let writer = Store::open(&memory, fingerprint).expect("nobody else writes");
    assert!(failure(&add(&memory, slice::from_ref(&a))).contains("in use by another process"));
    let compact = with_home(&["memory", "compact", name(&memory)]).output().expect("the binary runs");
    assert!(failure(&compact).contains("in use by another process"));
    succeeds(&ask(&memory));
    drop(writer);

    // Another model made it.
    let foreign = folder.path().join("foreign");
    drop(Store::create(&foreign, Fingerprint([7; 32])).expect("a memory"));
    for output in [add(&foreign, slice::from_ref(&a)), ask(&foreign)] {
        assert!(failure(&output).contains("made for another model"));
    }
    verified(&foreign);

    // A later version made it.
    let manifest = memory.join("MANIFEST");
    let bytes = fs::read(&manifest).expect("readable");
    let mut later = bytes.clone();
    later[8] = 99;
    fs::write(&manifest, &later).expect("written");
    let verify = with_home(&["memory", "verify", name(&memory)]).output().expect("the binary runs");
    for output in [add(&memory, slice::from_ref(&a)), ask(&memory), verify] {
        let error = failure(&output);
        assert!(error.contains("format 99, this version reads"), "{error}");
    }
    assert_eq!(fs::read(&manifest).expect("readable"), later);
    fs::write(&manifest, bytes).expect("written");
    assert_eq!(contents(&memory), before);

    read_only(&memory, &a);
    assert_eq!(contents(&memory), before);
}

/// A folder that may not be written.
#[cfg(unix)]
fn read_only(memory: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let allow = |mode: u32| {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(memory).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        for path in &paths {
            fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o666)).expect("ours");
        }
        paths.clear();
        fs::set_permissions(memory, fs::Permissions::from_mode(mode)).expect("ours");
    };
    allow(0o555);
    // Who may do anything is not held up by permissions.
    if fs::write(memory.join("probe"), "").is_err() {
        let changed = format!("{text}.txt");
        fs::write(&changed, "Another text.\n").expect("written");
        let error = failure(&add(memory, &[changed]));
        assert!(error.contains("cannot be written"), "{error}");
    } else {
        fs::remove_file(memory.join("probe")).expect("ours");
    }
    allow(0o755);
}

#[cfg(not(unix))]
fn read_only(_memory: &Path, _text: &str) {}
