//! Metadata values, read where they lie.
use std::ops::Range;

/// The types of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(super) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }

    pub(super) fn code(self) -> u32 {
        self as u32
    }

    pub(super) fn fixed_bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// An empty string is its length, an empty array its type and length.
    pub(super) fn least_bytes(self) -> usize {
        self.fixed_bytes().unwrap_or(if self == Self::String { 8 } else { 12 })
    }

    fn name(self) -> &'static str {
        match self {
            Self::U8 => "an 8-bit whole number",
            Self::I8 => "a signed 8-bit number",
            Self::U16 => "a 16-bit whole number",
            Self::I16 => "a signed 16-bit number",
            Self::U32 => "a 32-bit whole number",
            Self::I32 => "a signed 32-bit number",
            Self::F32 => "a 32-bit float",
            Self::Bool => "a boolean",
            Self::String => "a string",
            Self::Array => "an array",
            Self::U64 => "a 64-bit whole number",
            Self::I64 => "a signed 64-bit number",
            Self::F64 => "a 64-bit float",
        }
    }
}

/// A metadata value. Whole numbers of all widths are widened; [`Value::unsigned`] reads any of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// 8 to 64 bits, unsigned.
    Unsigned(u64),
    /// 8 to 64 bits, signed.
    Signed(i64),
    /// 32 or 64 bits.
    Float(f64),
    /// One byte, 0 or 1.
    Bool(bool),
    /// UTF-8.
    String(&'a str),
    /// Values of one type.
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// A whole number that is not negative, of whatever width.
    pub fn unsigned(self) -> Option<u64> {
        match self {
            Self::Unsigned(n) => Some(n),
            Self::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }

    /// Any number.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Unsigned(n) => Some(n as f64),
            Self::Signed(n) => Some(n as f64),
            Self::Float(x) => Some(x),
            _ => None,
        }
    }

    /// A string.
    pub fn string(self) -> Option<&'a str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "a whole number",
            Self::Signed(_) => "a signed number",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::String(_) => "a string",
            Self::Array(array) => array.kind.name(),
        }
    }
}

/// An array of values of one type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    kind: Kind,
    len: usize,
    /// The elements, from the first to the end of the array.
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One after another.
    pub fn values(self) -> impl ExactSizeIterator<Item = Value<'a>> {
        let (mut left, mut at) = (self.len, 0);
        let next = move || {
            left = left.checked_sub(1)?;
            let end = at + extent(self.kind, &self.bytes[at..]);
            let value = self::at(self.bytes, self.kind, at..end);
            at = end;
            Some(value)
        };
        Elements { next, left: self.len }
    }

    /// The strings, if these are strings.
    pub fn strings(self) -> Option<impl ExactSizeIterator<Item = &'a str>> {
        (self.kind == Kind::String)
            .then(|| self.values().map(|v| v.string().expect("an array of strings holds strings")))
    }

    /// The numbers, if these are numbers of any kind.
    pub fn numbers(self) -> Option<impl ExactSizeIterator<Item = f64>> {
        (self.kind.fixed_bytes().is_some() && self.kind != Kind::Bool)
            .then(|| self.values().map(|v| v.number().expect("an array of numbers holds numbers")))
    }
}

/// `from_fn` that knows its length.
struct Elements<F> {
    next: F,
    left: usize,
}

impl<T, F: FnMut() -> Option<T>> Iterator for Elements<F> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.saturating_sub(1);
        (self.next)()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T, F: FnMut() -> Option<T>> ExactSizeIterator for Elements<F> {}

/// How many bytes the value of type `kind` at the start of `bytes` takes. The file was checked when opened.
fn extent(kind: Kind, bytes: &[u8]) -> usize {
    match kind {
        Kind::String => 8 + u64_at(bytes, 0) as usize,
        Kind::Array => {
            let (element, len) = array_head(bytes);
            match element.fixed_bytes() {
                Some(size) => 12 + len * size,
                None => (0..len).fold(12, |at, _| at + extent(element, &bytes[at..])),
            }
        }
        fixed => fixed.fixed_bytes().expect("neither string nor array"),
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn array_head(bytes: &[u8]) -> (Kind, usize) {
    let code = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
    (Kind::from_code(code).expect("checked when the file was opened"), u64_at(bytes, 4) as usize)
}

/// The value of type `kind` at `range` of a checked file.
pub(super) fn at(bytes: &[u8], kind: Kind, range: Range<usize>) -> Value<'_> {
    let bytes = &bytes[range];
    macro_rules! number {
        ($variant:ident, $type:ty) => {
            Value::$variant(<$type>::from_le_bytes(bytes.try_into().expect("as long as its type")).into())
        };
    }
    match kind {
        Kind::U8 => number!(Unsigned, u8),
        Kind::I8 => number!(Signed, i8),
        Kind::U16 => number!(Unsigned, u16),
        Kind::I16 => number!(Signed, i16),
        Kind::U32 => number!(Unsigned, u32),
        Kind::I32 => number!(Signed, i32),
        Kind::U64 => number!(Unsigned, u64),
        Kind::I64 => number!(Signed, i64),
        Kind::F32 => number!(Float, f32),
        Kind::F64 => number!(Float, f64),
        Kind::Bool => Value::Bool(bytes[0] != 0),
        Kind::String => Value::String(super::text(&bytes[8..])),
        Kind::Array => {
            let (kind, len) = array_head(bytes);
            Value::Array(Array { kind, len, bytes: &bytes[12..] })
        }
    }
}
