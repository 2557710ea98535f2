//! Running `longleaf`.
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `longleaf ARGS`, in the root of the workspace, with a home of its own and no way to any network.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longleaf"));
    command
        .args(args)
        .current_dir(root())
        .env("LONGLEAF_HOME", env!("CARGO_TARGET_TMPDIR"))
        .env("HF_HUB_OFFLINE", "1")
        .env("PIP_NO_INDEX", "1");
    command
}

/// What it printed, and how it ended.
pub(crate) fn output(args: &[&str]) -> Output {
    command(args).output().expect("the binary runs")
}

/// Its stdout, after checking that all went well and nothing was said on stderr.
pub(crate) fn stdout(args: &[&str]) -> String {
    let output = output(args);
    let stderr = String::from_utf8(output.stderr).expect("utf-8");
    assert!(output.status.success() && stderr.is_empty(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("utf-8")
}

/// Its stdout as lines of JSON.
pub(crate) fn json_lines(args: &[&str]) -> Vec<Value> {
    stdout(args).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Its stdout as one JSON object.
pub(crate) fn json(args: &[&str]) -> Value {
    let mut lines = json_lines(args);
    assert_eq!(lines.len(), 1, "{args:?}");
    lines.remove(0)
}

/// The names in a JSON object, sorted: their order says nothing.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
