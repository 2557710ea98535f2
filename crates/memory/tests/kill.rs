//! `kill -9` at random moments, on a real disk: the store verifies, has lost nothing that was announced as durable,
//! and another process takes it to the same end.
#[path = "support/workload.rs"]
mod workload;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use longleaf_memory::{Error, Store};
use workload::{FINGERPRINT, View, run, script, view};

/// Tokens of a document: some 90 commits in all.
const TOKENS: usize = 600;
const KILLS: usize = 200;

fn open(path: &Path) -> Result<Store, Error> {
    let mut store = Store::open_or_create(path, FINGERPRINT)?;
    store.set_segment_bytes(100_000);
    Ok(store)
}

/// The folder that the parent names; none when this runs as a test of its own.
fn named_folder() -> Option<PathBuf> {
    std::env::args().find_map(|argument| argument.strip_prefix("folder=").map(PathBuf::from))
}

/// What the parent starts and kills. By itself it runs the whole life once and examines the end.
#[test]
fn child() {
    let folder = tempfile::tempdir().unwrap();
    let named = named_folder();
    let path = named.clone().unwrap_or_else(|| folder.path().join("memory"));
    let mut store = open(&path).unwrap();
    run(&mut store, &script(TOKENS), &mut |store| {
        if named.is_some() {
            // Unbuffered: what is announced is out before the kill.
            writeln!(std::io::stderr(), "committed {}", store.generation()).unwrap();
        }
    })
    .unwrap();
    store.verify(&mut |_, _| ()).unwrap();
    assert_eq!(store.usage().dead, 0);
    assert_eq!(store.documents().map(|document| document.name.as_str()).collect::<Vec<_>>(), ["d", "b", "e"]);
}

#[test]
fn two_hundred_kills_lose_at_most_one_checkpoint() {
    if named_folder().is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut views: Vec<View> = vec![View::new()];
    let whole = folder.path().join("whole");
    run(&mut open(&whole).unwrap(), &script(TOKENS), &mut |store| views.push(view(store).unwrap())).unwrap();

    let (mut kills, mut random) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    let mut life = 0;
    while kills < KILLS {
        life += 1;
        let path = folder.path().join(format!("life-{life}"));
        let mut at = 0;
        loop {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["child", "--exact", "--nocapture", &format!("folder={}", path.display())])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // The last life runs to its end.
            let ended = if kills < KILLS {
                std::thread::sleep(Duration::from_micros(500 + random % 120_000));
                let ended = child.try_wait().unwrap();
                child.kill().unwrap();
                ended
            } else {
                Some(child.wait().unwrap())
            };
            let mut announced = String::new();
            child.stderr.take().unwrap().read_to_string(&mut announced).unwrap();
            child.wait().unwrap();
            if let Some(status) = ended {
                assert!(status.success(), "{announced}");
                assert!(view(&open(&path).unwrap()).unwrap() == *views.last().unwrap(), "another end");
                break;
            }
            kills += 1;
            // The last line may be cut off in the middle.
            let whole_lines = announced.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let last = whole_lines.lines().filter_map(|line| line.strip_prefix("committed ")).next_back();
            let promised: u64 = last.map_or(0, |number| number.parse().unwrap());
            match Store::read_only(&path, FINGERPRINT) {
                Ok(store) => {
                    store.verify(&mut |_, _| ()).unwrap();
                    let generation = store.generation();
                    assert!(
                        generation >= promised,
                        "kill {kills}: commit {promised} is lost, {generation} is there"
                    );
                    let found = view(&store).unwrap();
                    let here = views.iter().enumerate().skip(at).find(|(_, view)| **view == found);
                    at = here.unwrap_or_else(|| panic!("kill {kills}: no commit after {at} left this")).0;
                }
                Err(Error::Absent { .. }) => assert_eq!((promised, at), (0, 0), "kill {kills}: gone"),
                Err(error) => panic!("kill {kills}: {error}"),
            }
        }
    }
}
