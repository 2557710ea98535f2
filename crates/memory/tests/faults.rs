//! A power cut at every single change, disks that fill up, folders that cannot be written: the store afterwards is as
//! at one commit, and goes on from there.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#[path = "support/workload.rs"]
mod workload;

use std::sync::Arc;

use longleaf_memory::storage::{Fault, Loss};
use longleaf_memory::{Begin, ContentHash, Error, Fingerprint, Ram, Store};
use workload::{FINGERPRINT, Step, View, run, script, view};

fn open(ram: &Ram) -> Result<Store, Error> {
    let mut store = match Store::open_in(Arc::new(ram.clone()), FINGERPRINT) {
        Err(Error::Absent { .. }) => Store::create_in(Arc::new(ram.clone()), FINGERPRINT)?,
        result => result?,
    };
    store.set_segment_bytes(9000);
    Ok(store)
}

/// The view after each commit of an undisturbed life, and the number of changes it takes.
fn undisturbed(script: &[Step]) -> (Vec<View>, u64) {
    let ram = Ram::new();
    let mut store = open(&ram).unwrap();
    let mut views = vec![view(&store).unwrap()];
    run(&mut store, script, &mut |store| views.push(view(store).unwrap())).unwrap();
    store.verify(&mut |_, _| ()).unwrap();
    (views, ram.changes())
}

#[test]
fn a_power_cut_at_any_change_leaves_a_commit_and_the_next_start_goes_on() {
    let script = script(100);
    let (views, changes) = undisturbed(&script);
    assert!(changes > 800, "the script exercises {changes} changes");
    for change in 0..changes {
        for fault in [Fault::Before, Fault::Torn] {
            let ram = Ram::new();
            ram.cut_power_at(change, fault);
            let mut commits = 0;
            let result = open(&ram).and_then(|mut store| run(&mut store, &script, &mut |_| commits += 1));
            assert!(result.is_err(), "change {change} {fault:?}: the power cut goes unnoticed");
            for loss in [Loss::Nothing, Loss::Unsynced, Loss::Zeroed] {
                let at = format!("change {change} {fault:?} {loss:?} after commit {commits}");
                let ram = ram.survivor(loss);
                let mut store = open(&ram).unwrap_or_else(|error| panic!("{at}: {error}"));
                store.verify(&mut |_, _| ()).unwrap_or_else(|error| panic!("{at}: {error}"));
                let found = view(&store).unwrap();
                let next = views.get(commits + 1).unwrap_or(&views[commits]);
                assert!(found == views[commits] || found == *next, "{at}: neither before nor after");
                // To the end takes as long as all before: every eleventh is enough for what does not depend on `at`.
                if change % 11 == 0 {
                    run(&mut store, &script, &mut |_| ()).unwrap_or_else(|error| panic!("{at}: {error}"));
                    assert!(view(&store).unwrap() == *views.last().unwrap(), "{at}: another end");
                }
            }
        }
    }
}

#[test]
fn a_writer_whose_disk_fills_up_keeps_everything_and_goes_on_when_there_is_room() {
    let script = script(100);
    let (views, _) = undisturbed(&script);
    let mut full = 0;
    for capacity in (0..200_000).step_by(3001) {
        let ram = Ram::new();
        drop(open(&ram).unwrap());
        ram.set_capacity(Some(capacity));
        let mut commits = 0;
        let mut store = open(&ram).unwrap();
        match run(&mut store, &script, &mut |_| commits += 1) {
            Ok(()) => continue,
            Err(Error::Full { .. }) => full += 1,
            Err(error) => panic!("{error}"),
        }
        // The same process: back at the last commit, and on.
        let found = view(&store).unwrap();
        assert!(found == views[commits] || found == views[commits + 1]);
        store.verify(&mut |_, _| ()).unwrap();
        ram.set_capacity(None);
        run(&mut store, &script, &mut |_| ()).unwrap();
        assert!(view(&store).unwrap() == *views.last().unwrap());
    }
    assert!(full > 20, "only {full} capacities were too small");
}

/// A finished memory, small enough to try every kind of damage.
fn small() -> (Ram, View) {
    let ram = Ram::new();
    let mut store = open(&ram).unwrap();
    run(&mut store, &script(100)[..5], &mut |_| ()).unwrap();
    let view = view(&store).unwrap();
    drop(store);
    (ram.survivor(Loss::Nothing), view)
}

/// Everything a reader can see, or the error it gets.
fn examine(ram: &Ram) -> Result<View, Error> {
    let store = Store::read_only_in(Arc::new(ram.clone()), Some(FINGERPRINT))?;
    store.verify(&mut |_, _| ())?;
    view(&store)
}

#[test]
fn ten_thousand_flipped_bytes_are_each_detected_or_harmless() {
    let (ram, expected) = small();
    let sizes = ram.sizes();
    let total: usize = sizes.iter().map(|(_, size)| size).sum();
    let (mut detected, mut random) = (0, 0x2545_f491_4f6c_dd1d_u64);
    for _ in 0..10_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (mut at, mask) = ((random >> 8) as usize % total, (random as u8).max(1));
        let (name, _) =
            sizes.iter().find(|(_, size)| at.checked_sub(*size).map(|rest| at = rest).is_none()).unwrap();
        ram.flip(name, at, mask);
        match examine(&ram) {
            Ok(found) => assert!(found == expected, "{name} byte {at} ^ {mask:#x} goes unnoticed"),
            Err(_) => detected += 1,
        }
        ram.flip(name, at, mask);
    }
    assert_eq!(examine(&ram).unwrap(), expected);
    assert!(detected > 9_900, "{detected} of 10,000 detected: what else is in the files?");
}

#[test]
fn files_cut_off_or_missing_are_detected() {
    let (ram, expected) = small();
    for (name, size) in ram.sizes() {
        for len in [0, 1, 8, 100, size / 2, size.saturating_sub(4096), size - 1] {
            if len < size {
                let cut = ram.survivor(Loss::Nothing);
                cut.truncate(&name, len);
                assert!(examine(&cut).is_err(), "{name} cut to {len} of {size} bytes");
            }
        }
        let gone = ram.survivor(Loss::Nothing);
        longleaf_memory::Storage::remove(&gone, &name).unwrap();
        assert!(examine(&gone).is_err(), "{name} is missing");
    }
    assert_eq!(examine(&ram).unwrap(), expected);
}

#[test]
fn segments_of_one_memory_are_refused_in_another() {
    // The same numbers and names, other rows.
    let (ram, expected) = small();
    let other = Ram::new();
    let mut store = open(&other).unwrap();
    run(&mut store, &script(110)[..5], &mut |_| ()).unwrap();
    for (name, _) in ram.sizes().into_iter().filter(|(name, _)| name != "MANIFEST") {
        let mixed = ram.survivor(Loss::Nothing);
        let Ok(from) = longleaf_memory::Storage::open(&other, &name) else { continue };
        let mut bytes = vec![0; from.size().unwrap() as usize];
        from.read_at(&mut bytes, 0).unwrap();
        longleaf_memory::Storage::create(&mixed, &name).unwrap().append(&bytes).unwrap();
        match examine(&mixed) {
            Ok(found) => assert!(found == expected, "{name}: taken for its own"),
            Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error}"),
        }
    }
}

#[test]
fn what_cannot_be_written_can_be_read() {
    let (ram, expected) = small();
    ram.set_read_only(true);
    assert!(matches!(Store::open_in(Arc::new(ram.clone()), FINGERPRINT), Err(Error::ReadOnly { .. })));
    let mut store = Store::read_only_in(Arc::new(ram.clone()), Some(FINGERPRINT)).unwrap();
    assert_eq!(view(&store).unwrap(), expected);
    assert!(matches!(store.begin("new", ContentHash([0; 32])), Err(Error::ReadOnly { .. })));
    assert!(matches!(store.compact(&mut |_, _| ()), Err(Error::ReadOnly { .. })));
    assert_eq!(view(&store).unwrap(), expected);
    ram.set_read_only(false);
    assert_eq!(examine(&ram).unwrap(), expected);
}

#[test]
fn another_model_and_a_newer_version_are_refused_with_both_named() {
    let (ram, expected) = small();
    let other = Fingerprint([7; 32]);
    let open_other = || Store::open_in(Arc::new(ram.clone()), other);
    let message = open_other().unwrap_err().to_string();
    assert!(message.contains("0707070707070707") && message.contains("2a2a2a2a2a2a2a2a"), "{message}");
    // Its documents can still be listed and their text read.
    let store = Store::read_only_in(Arc::new(ram.clone()), None).unwrap();
    assert_eq!(view(&store).unwrap(), expected);

    ram.flip("MANIFEST", 8, 1 ^ 9);
    let message = examine(&ram).unwrap_err().to_string();
    assert!(message.contains("format 9") && message.contains("1 to 1"), "{message}");
    let create = Store::create_in(Arc::new(ram.clone()), FINGERPRINT);
    assert!(matches!(create, Err(Error::Occupied { .. })), "never overwritten");
    ram.flip("MANIFEST", 8, 1 ^ 9);
    assert_eq!(examine(&ram).unwrap(), expected);
}

#[test]
fn two_writers_exclude_each_other_and_readers_see_commits() {
    let ram = Ram::new();
    let mut writer = open(&ram).unwrap();
    assert!(matches!(Store::open_in(Arc::new(ram.clone()), FINGERPRINT), Err(Error::Locked { .. })));
    let mut reader = Store::read_only_in(Arc::new(ram.clone()), Some(FINGERPRINT)).unwrap();
    let mut views = Vec::new();
    run(&mut writer, &script(100), &mut |store| views.push(view(store).unwrap())).unwrap();
    assert!(view(&reader).unwrap().is_empty());
    reader.reload().unwrap();
    assert_eq!(view(&reader).unwrap(), *views.last().unwrap());
    // What a reader has open stays readable when it is compacted away under it.
    let last = writer.find("d").unwrap().id;
    writer.remove(last).unwrap();
    writer.compact(&mut |_, _| ()).unwrap();
    assert_eq!(view(&reader).unwrap(), *views.last().unwrap());
    drop(writer);
    open(&ram).unwrap();
}

#[test]
fn a_document_given_up_in_the_middle_of_a_section_is_as_at_its_last_checkpoint() {
    let ram = Ram::new();
    let mut store = open(&ram).unwrap();
    let hash = ContentHash([1; 32]);
    let Begin::Read(mut reading) = store.begin("a", hash).unwrap() else { panic!("it is new") };
    reading.section(hash).unwrap();
    reading.text(b"kept").unwrap();
    reading.checkpoint().unwrap();
    reading.text(b"lost").unwrap();
    drop(reading);
    let document = store.documents().next().unwrap();
    assert_eq!((document.bytes(&store), document.finished), (4, false));
    let Begin::Read(mut reading) = store.begin("a", hash).unwrap() else { panic!("it is not finished") };
    reading.section(hash).unwrap();
    reading.text(b" all").unwrap();
    reading.end_section();
    let document = reading.finish().unwrap();
    assert!(matches!(store.begin("a", hash), Ok(Begin::Known(known)) if known == document));
    assert!(matches!(store.begin("b", hash), Ok(Begin::Known(known)) if known != document));
    let section = store.find("b").unwrap().sections[0];
    assert_eq!(store.read_all(section, longleaf_memory::StreamId::TEXT).unwrap(), b"kept all");
    assert_eq!(store.sections().count(), 1);
}
