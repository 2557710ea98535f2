//! JSON as Python's `json.dumps` writes it: a space after every comma and colon, nothing escaped for HTML.

use super::Arguments;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::Formatter;
use std::io;

/// `tojson(value, indent=n, sort_keys=…, separators=…, ensure_ascii=…)`; of the keywords, `indent` has effect
/// and the others take the values that templates give them.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
pub(super) fn tojson(value: &Value, indent: Option<usize>, keywords: Arguments) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => keywords.get::<Option<usize>>("indent")?,
    };
    for ignored in ["ensure_ascii", "separators", "sort_keys"] {
        let _ = keywords.get::<Option<Value>>(ignored)?;
    }
    keywords.assert_all_used()?;
    let mut bytes = Vec::new();
    let python = Python { indent: indent.map(|indent| indent.min(16)), depth: 0, empty: true };
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, python))
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "value is no JSON").with_source(error))?;
    let text = String::from_utf8(bytes).expect("the serializer writes UTF-8");
    Ok(Value::from_safe_string(text))
}

struct Python {
    indent: Option<usize>,
    depth: usize,
    empty: bool,
}

impl Python {
    fn line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = self.indent else { return Ok(()) };
        writer.write_all(b"\n")?;
        (0..indent * self.depth).try_for_each(|_| writer.write_all(b" "))
    }

    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.line(writer)?;
        }
        self.empty = false;
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.empty = false;
        if !first {
            writer.write_all(if self.indent.is_some() { b"," } else { b", " })?;
        }
        self.line(writer)
    }
}

impl Formatter for Python {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
