//! Where the tests find vocabularies and expected ids.

use longleaf_model::gguf::{Array, Gguf, Value};
use longleaf_text::{GgufVocabulary, Tokenizer};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The `PyPI` source package that carries the vocabularies.
const PACKAGE: &str = "llama-cpp-python==0.3.36";
const ARCHIVE: &str = "llama_cpp_python-0.3.36.tar.gz";

/// The shared test data, beside the repository.
pub(crate) fn shared_data() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = here.ancestors().map(|folder| folder.join("shared/data")).find(|data| data.is_dir());
    if data.is_none() {
        eprintln!("skipped: no shared/data beside the repository, nothing to compare with");
    }
    data
}

/// Texts and the ids that are expected of a vocabulary.
pub(crate) fn vectors(name: &str) -> Option<Vec<(String, Vec<u32>)>> {
    let folder = shared_data()?.join("tokenizer_vectors");
    let read = |extension| {
        let path = folder.join(format!("ggml-vocab-{name}.gguf.{extension}"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let (texts, ids) = (read("inp"), read("out"));
    let mut texts: Vec<String> = texts.split("\n__ggml_vocab_test__\n").map(str::to_owned).collect();
    if texts.last().is_some_and(String::is_empty) {
        texts.pop();
    }
    let ids: Vec<Vec<u32>> =
        ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    assert_eq!(texts.len(), ids.len(), "{name}");
    Some(texts.into_iter().zip(ids).collect())
}

/// The folder with the vocabularies, fetched if need be.
static VOCABULARIES: LazyLock<PathBuf> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "a test's cache is where the user keeps caches")]
    let variable = |name| std::env::var(name).ok().map(PathBuf::from);
    let cache = variable("LONGLEAF_CACHE")
        .or_else(|| Some(variable("HOME")?.join(".cache/longleaf")))
        .expect("LONGLEAF_CACHE or HOME is set");
    let folder = cache.join("vocabularies-0.3.36");
    if !folder.is_dir() {
        fetch(&cache, &folder);
    }
    folder
});

fn fetch(cache: &Path, folder: &Path) {
    let work = cache.join(format!("vocabularies-{}.part", std::process::id()));
    std::fs::create_dir_all(&work).unwrap();
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python", PACKAGE])
        .arg("--dest")
        .arg(&work));
    run(Command::new("tar")
        .arg("-xzf")
        .arg(work.join(ARCHIVE))
        .arg("-C")
        .arg(&work)
        .args(["--wildcards", "--strip-components=4"])
        .args([
            "*/vendor/llama.cpp/models/ggml-vocab-*.gguf",
            "*/vendor/llama.cpp/models/templates/*.jinja",
        ]));
    std::fs::remove_file(work.join(ARCHIVE)).unwrap();
    // Two tests may have fetched at once; the first to finish wins.
    if std::fs::rename(&work, folder).is_err() {
        std::fs::remove_dir_all(&work).unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed, and with it the tests that need it: {complaint}");
}

/// The source of a chat template.
pub(crate) fn template(name: &str) -> String {
    let path = VOCABULARIES.join(format!("templates/{name}.jinja"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The metadata of a vocabulary.
pub(crate) fn vocabulary(name: &str) -> GgufVocabulary {
    read(&VOCABULARIES.join(format!("ggml-vocab-{name}.gguf")))
}

/// The tokenizer of a vocabulary.
pub(crate) fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(vocabulary(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The metadata of any GGUF file.
pub(crate) fn read(path: &Path) -> GgufVocabulary {
    let file = Gguf::open(path).unwrap_or_else(|error| panic!("{error}"));
    let value = |key: &str| file.value(&format!("tokenizer.ggml.{key}"));
    let array = |key| match value(key) {
        Some(Value::Array(array)) => Some(array),
        _ => None,
    };
    let strings = |key| -> Vec<String> {
        array(key).and_then(Array::strings).map_or_else(Vec::new, |texts| texts.map(str::to_owned).collect())
    };
    let numbers =
        |key| -> Vec<f64> { array(key).and_then(Array::numbers).map_or_else(Vec::new, Iterator::collect) };
    let flag = |key| match value(key) {
        Some(Value::Bool(flag)) => Some(flag),
        _ => None,
    };
    let id = |key| value(key).and_then(Value::unsigned).map(|id| id as u32);
    GgufVocabulary {
        model: value("model").and_then(Value::string).unwrap_or_default().to_owned(),
        pre: value("pre").and_then(Value::string).map(str::to_owned),
        tokens: strings("tokens"),
        scores: numbers("scores").into_iter().map(|score| score as f32).collect(),
        token_types: numbers("token_type").into_iter().map(|kind| kind as i32).collect(),
        merges: strings("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        eot: id("eot_token_id"),
        eom: id("eom_token_id"),
        unknown: id("unknown_token_id"),
        separator: id("seperator_token_id"),
        padding: id("padding_token_id"),
        cls: id("cls_token_id"),
        mask: id("mask_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
        chat_template: file.value("tokenizer.chat_template").and_then(Value::string).map(str::to_owned),
    }
}
