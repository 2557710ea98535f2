//! Rows in a file: a line of JSON each.
use anyhow::{Context, Result, anyhow};
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

/// How every row begins.
const ROW: &[u8] = b"{\"suite\":";

/// The rows of earlier runs. A last line that a kill cut off is left out, if it is one.
pub(super) fn read<R: DeserializeOwned>(path: &Path) -> Result<Vec<R>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(parse(path, &bytes)?.0)
}

/// The rows that are in a file, and the file, to add others; it need not be there. A last line that a kill cut off is
/// dropped from it, nothing else.
pub(super) fn go_on<R: DeserializeOwned>(path: &Path) -> Result<(Vec<R>, File)> {
    let place = || path.display().to_string();
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read.with_context(place)?,
    };
    let (rows, whole) = parse(path, &bytes)?;
    let file = OpenOptions::new().create(true).append(true).open(path).with_context(place)?;
    if whole < bytes.len() {
        file.set_len(whole as u64).with_context(place)?;
    }
    Ok((rows, file))
}

/// The rows, and how many bytes their lines are.
fn parse<R: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<(Vec<R>, usize)> {
    let other = |line: usize| {
        format!("{}, line {line}: no row of an eval; --out takes a file of its own", path.display())
    };
    let (mut lines, mut rest): (Vec<&[u8]>, &[u8]) = (Vec::new(), bytes);
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        lines.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    let row =
        |(number, line): (usize, &&[u8])| serde_json::from_slice(line).with_context(|| other(number + 1));
    let rows = lines.iter().enumerate().map(row).collect::<Result<_>>()?;
    let common = rest.len().min(ROW.len());
    if rest[..common] != ROW[..common] {
        return Err(anyhow!(other(lines.len() + 1)));
    }
    Ok((rows, bytes.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longleaf_eval::Row;

    #[test]
    fn only_a_row_that_was_cut_off_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let row = serde_json::to_string(&Row { answer: "für".to_owned(), ..Row::default() }).unwrap();
        let cut = row.find('ü').unwrap() + 1;
        let half = [row.as_bytes(), b"\n", &row.as_bytes()[..cut]].concat();
        fs::write(&path, &half).unwrap();
        assert_eq!(read::<Row>(&path).unwrap().len(), 1);
        assert_eq!(fs::read(&path).unwrap(), half, "reading changes nothing");
        assert_eq!(go_on::<Row>(&path).unwrap().0.len(), 1);
        assert_eq!(fs::read(&path).unwrap().len(), row.len() + 1);
        for other in ["{\"report\": 1}", "no JSON\n", "two lines\nof text", "\n"] {
            fs::write(&path, other).unwrap();
            let error = format!("{:#}", go_on::<Row>(&path).unwrap_err());
            assert!(error.contains("line 1: no row of an eval"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), other.as_bytes());
        }
        let missing = folder.path().join("none");
        assert!(read::<Row>(&missing).is_err() && !missing.exists());
        assert!(go_on::<Row>(&missing).unwrap().0.is_empty() && missing.exists());
    }
}
