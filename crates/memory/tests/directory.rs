//! The store in a real folder: locks, permissions, and stores that older versions wrote.
#[path = "support/workload.rs"]
mod workload;

use std::fs;
use std::path::{Path, PathBuf};

use longleaf_memory::{Begin, CURRENT, ContentHash, Error, OLDEST, Store};
use workload::{FINGERPRINT, compat, run, script, view};

#[test]
fn one_process_writes_and_others_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory");
    assert!(matches!(Store::open(&path, FINGERPRINT), Err(Error::Absent { .. })));
    assert!(!path.exists(), "looking for a memory leaves nothing behind");
    let mut writer = Store::create(&path, FINGERPRINT).unwrap();
    // A lock belongs to the open file, so a second opening in this process stands for one in another.
    let second = Store::open(&path, FINGERPRINT).unwrap_err();
    assert!(
        matches!(second, Error::Locked { .. }) && second.to_string().contains("another process"),
        "{second}"
    );
    run(&mut writer, &script(100), &mut |_| ()).unwrap();
    let reader = Store::read_only(&path, FINGERPRINT).unwrap();
    assert_eq!(view(&reader).unwrap(), view(&writer).unwrap());
    drop(writer);
    assert_eq!(view(&Store::open(&path, FINGERPRINT).unwrap()).unwrap(), view(&reader).unwrap());
    assert!(matches!(Store::create(&path, FINGERPRINT), Err(Error::Occupied { .. })));
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    let error = Store::open_or_create(folder.path(), FINGERPRINT).unwrap_err();
    assert!(matches!(&error, Error::Occupied { found, .. } if found == Path::new("thesis.txt")), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let file = folder.path().join("thesis.txt");
    assert!(Store::open_or_create(&file, FINGERPRINT).is_err());
    assert_eq!(fs::read_to_string(file).unwrap(), "years of work");
}

#[test]
fn a_store_that_lost_its_manifest_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory");
    run(&mut Store::create(&path, FINGERPRINT).unwrap(), &script(100), &mut |_| ()).unwrap();
    let before = view(&Store::read_only(&path, FINGERPRINT).unwrap()).unwrap();
    let (manifest, aside) = (path.join("MANIFEST"), folder.path().join("aside"));
    fs::rename(&manifest, &aside).unwrap();
    let files = fs::read_dir(&path).unwrap().count();
    let error = Store::open_or_create(&path, FINGERPRINT).unwrap_err();
    assert!(matches!(error, Error::Occupied { .. }), "{error}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), files);
    fs::rename(&aside, &manifest).unwrap();
    assert_eq!(view(&Store::open(&path, FINGERPRINT).unwrap()).unwrap(), before);
}

#[test]
fn a_version_that_was_given_up_half_way_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::create(&folder.path().join("memory"), FINGERPRINT).unwrap();
    let read = |store: &mut Store, text: &str, ends: bool| {
        let hash = ContentHash::of(text.as_bytes());
        let Begin::Read(mut appender) = store.begin("book", hash).unwrap() else { return };
        appender.section(hash).unwrap();
        appender.text(text.as_bytes()).unwrap();
        appender.checkpoint().unwrap();
        if ends {
            appender.end_section();
            appender.finish().unwrap();
        }
    };
    read(&mut store, "as it was", true);
    read(&mut store, "edited", false);
    assert_eq!(store.documents().count(), 2);
    // The file is as it was again.
    read(&mut store, "as it was", true);
    let left: Vec<_> = store.documents().map(|document| document.finished).collect();
    assert_eq!(left, [true]);
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/compat")
}

#[test]
fn stores_of_every_version_are_read() {
    let expected =
        compat(&mut Store::create(&tempfile::tempdir().unwrap().path().join("m"), FINGERPRINT).unwrap());
    for version in OLDEST..=CURRENT {
        let path = fixtures().join(format!("v{version}"));
        let store = Store::read_only(&path, FINGERPRINT).unwrap_or_else(|error| {
            panic!("{error}\nrun: cargo run -p longleaf-memory --example write_compat")
        });
        store.verify(&mut |_, _| ()).unwrap();
        assert!(view(&store).unwrap() == expected, "version {version} is read as something else");
    }
}

#[test]
fn what_is_written_today_is_byte_for_byte_the_current_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory");
    compat(&mut Store::create(&path, FINGERPRINT).unwrap());
    for entry in fs::read_dir(fixtures().join(format!("v{CURRENT}"))).unwrap() {
        let name = entry.unwrap().file_name();
        let committed = fs::read(fixtures().join(format!("v{CURRENT}")).join(&name)).unwrap();
        assert!(
            fs::read(path.join(&name)).unwrap() == committed,
            "{}: another format, same number",
            name.display()
        );
    }
}
