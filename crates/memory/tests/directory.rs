//! The store in a real folder: locks, permissions, and stores that older versions wrote.
#[path = "support/workload.rs"]
mod workload;

use std::fs;
use std::path::{Path, PathBuf};

use longleaf_memory::{CURRENT, Error, OLDEST, Store};
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
