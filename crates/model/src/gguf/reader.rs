//! One walk over the header, checking everything.
use super::value::Kind;
use crate::error::Error;
use longleaf_kernel::DType;
use std::ops::Range;
use std::path::Path;

/// Arrays of arrays go no deeper: no known key needs more than one.
const MAX_NESTING: usize = 4;
/// What the format allows.
const MAX_DIMS: u32 = 4;
/// Larger alignments than a huge page have no use, and only serve to move the data section about.
const MAX_ALIGNMENT: u64 = 1 << 21;

/// What the header says, checked, as positions in the file.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Sorted by key.
    pub(super) pairs: Box<[Pair]>,
    /// Sorted by name.
    pub(super) tensors: Box<[Entry]>,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Range<usize>,
    pub(super) kind: Kind,
    /// From the first byte of the value on; for an array this is its element type.
    pub(super) value: Range<usize>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Range<usize>,
    pub(super) dtype: DType,
    /// Rows first.
    pub(super) shape: [usize; 4],
    pub(super) dims: usize,
    pub(super) data: Range<usize>,
}

/// A position in the bytes of a file.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, bytes, at: 0 }
    }

    fn corrupt(&self, at: usize, what: &'static str) -> Error {
        Error::Corrupt { path: self.path.to_owned(), offset: at as u64, what }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn skip(&mut self, len: u64, what: &'static str) -> Result<Range<usize>, Error> {
        if len > self.left() as u64 {
            return Err(self.corrupt(self.at, what));
        }
        let start = self.at;
        self.at += len as usize;
        Ok(start..self.at)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let range = self.skip(N as u64, "the file ends inside the header")?;
        Ok(self.bytes[range].try_into().expect("as many bytes as asked for"))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things of at least `bytes` bytes each, which therefore must fit into the rest of the file.
    fn count(&mut self, bytes: u64, what: &'static str) -> Result<u64, Error> {
        let at = self.at;
        let count = self.u64()?;
        match count.checked_mul(bytes) {
            Some(total) if total <= self.left() as u64 => Ok(count),
            _ => Err(self.corrupt(at, what)),
        }
    }

    fn string(&mut self) -> Result<Range<usize>, Error> {
        let len = self.count(1, "a string reaches beyond the end of the file")?;
        let range = self.skip(len, "a string reaches beyond the end of the file")?;
        if std::str::from_utf8(&self.bytes[range.clone()]).is_err() {
            return Err(self.corrupt(range.start, "a string is not UTF-8"));
        }
        Ok(range)
    }

    fn kind(&mut self) -> Result<Kind, Error> {
        let at = self.at;
        Kind::from_code(self.u32()?).ok_or_else(|| self.corrupt(at, "an unknown type of value"))
    }

    fn value(&mut self, kind: Kind, depth: usize) -> Result<Range<usize>, Error> {
        let start = self.at;
        match kind {
            Kind::String => {
                self.string()?;
            }
            Kind::Array => {
                if depth >= MAX_NESTING {
                    return Err(self.corrupt(start, "arrays are nested too deeply"));
                }
                let element = self.kind()?;
                let len =
                    self.count(element.least_bytes() as u64, "an array reaches beyond the end of the file")?;
                if let Some(size) = element.fixed_bytes() {
                    let range =
                        self.skip(len * size as u64, "an array reaches beyond the end of the file")?;
                    if element == Kind::Bool && self.bytes[range.clone()].iter().any(|b| *b > 1) {
                        return Err(self.corrupt(range.start, "a boolean is neither 0 nor 1"));
                    }
                } else {
                    for _ in 0..len {
                        self.value(element, depth + 1)?;
                    }
                }
            }
            fixed => {
                let size = fixed.fixed_bytes().expect("neither string nor array");
                let range = self.skip(size as u64, "the file ends inside the header")?;
                if fixed == Kind::Bool && self.bytes[range][0] > 1 {
                    return Err(self.corrupt(start, "a boolean is neither 0 nor 1"));
                }
            }
        }
        Ok(start..self.at)
    }
}

impl Parsed {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Error> {
        if r.bytes.len() < 4 || r.array()? != *b"GGUF" {
            return Err(r.corrupt(0, "not a GGUF file"));
        }
        let version = r.u32()?;
        if version.swap_bytes() == 2 || version.swap_bytes() == 3 {
            return Err(r.corrupt(4, "big-endian GGUF, only little-endian files are read"));
        }
        if !(2..=3).contains(&version) {
            return Err(r.corrupt(4, "a version of GGUF other than 2 and 3"));
        }
        // The smallest tensor entry is 8 + 1 + 4 + 8 + 4 + 8 bytes, the smallest pair 8 + 4 + 1.
        let tensors = r.count(33, "more tensors than the file can hold")?;
        let pairs = r.count(13, "more metadata than the file can hold")?;

        let mut list = Vec::new();
        for _ in 0..pairs {
            let key = r.string()?;
            let kind = r.kind()?;
            list.push(Pair { key, kind, value: r.value(kind, 0)? });
        }
        list.sort_by(|a, b| r.bytes[a.key.clone()].cmp(&r.bytes[b.key.clone()]));
        if let Some(two) = list.windows(2).find(|p| r.bytes[p[0].key.clone()] == r.bytes[p[1].key.clone()]) {
            return Err(r.corrupt(two[1].key.start, "a key occurs twice"));
        }
        let alignment = alignment(r, &list)?;
        Ok(Self { pairs: list.into(), tensors: table(r, tensors, alignment)?.into() })
    }
}

fn alignment(r: &Reader<'_>, pairs: &[Pair]) -> Result<u64, Error> {
    let Some(pair) = pairs.iter().find(|p| &r.bytes[p.key.clone()] == b"general.alignment") else {
        return Ok(32);
    };
    match super::value::at(r.bytes, pair.kind, pair.value.clone()).unsigned() {
        Some(n) if n.is_power_of_two() && n <= MAX_ALIGNMENT => Ok(n),
        _ => Err(r.corrupt(pair.value.start, "general.alignment is no power of two up to 2 MiB")),
    }
}

fn table(r: &mut Reader<'_>, tensors: u64, alignment: u64) -> Result<Vec<Entry>, Error> {
    let mut list = Vec::new();
    for _ in 0..tensors {
        list.push(entry(r, alignment)?);
    }
    let padding = (r.at as u64).next_multiple_of(alignment) - r.at as u64;
    if !list.is_empty() {
        r.skip(padding, "the file ends before its tensors")?;
        for (entry, at) in &mut list {
            let (start, end) = (entry.data.start.checked_add(r.at), entry.data.end.checked_add(r.at));
            match (start, end) {
                (Some(start), Some(end)) if end <= r.bytes.len() => entry.data = start..end,
                _ => return Err(r.corrupt(*at, "a tensor reaches beyond the end of the file")),
            }
        }
    }
    list.sort_by_key(|(entry, _)| entry.data.start);
    if let Some(two) = list.windows(2).find(|t| t[0].0.data.end > t[1].0.data.start) {
        return Err(r.corrupt(two[1].1, "two tensors overlap"));
    }
    list.sort_by(|(a, _), (b, _)| r.bytes[a.name.clone()].cmp(&r.bytes[b.name.clone()]));
    if let Some(two) = list.windows(2).find(|t| r.bytes[t[0].0.name.clone()] == r.bytes[t[1].0.name.clone()])
    {
        return Err(r.corrupt(two[1].1, "a tensor's name occurs twice"));
    }
    Ok(list.into_iter().map(|(entry, _)| entry).collect())
}

/// One entry, its data relative to the data section, and where in the file it stands.
fn entry(r: &mut Reader<'_>, alignment: u64) -> Result<(Entry, usize), Error> {
    let at = r.at;
    let name = r.string()?;
    let dims_at = r.at;
    let dims = r.u32()?;
    if !(1..=MAX_DIMS).contains(&dims) {
        return Err(r.corrupt(dims_at, "a tensor has 1 to 4 dimensions"));
    }
    let dims = dims as usize;
    let mut shape = [1; 4];
    for i in (0..dims).rev() {
        let dim_at = r.at;
        let dim = r.u64()?;
        if dim == 0 || dim > i32::MAX as u64 {
            return Err(r.corrupt(dim_at, "a tensor's dimension is 0 or beyond 2^31"));
        }
        shape[i] = dim as usize;
    }
    let type_at = r.at;
    let code = r.u32()?;
    let Some(dtype) = dtype(code) else {
        return Err(match dtype_name(code) {
            Some(found) => Error::Unsupported {
                path: r.path.to_owned(),
                what: "quantisation",
                found: found.to_owned(),
                known: DType::ALL.map(DType::name).join(", "),
            },
            None => r.corrupt(type_at, "an unknown format of numbers"),
        });
    };
    let offset_at = r.at;
    let offset = r.u64()?;
    if !offset.is_multiple_of(alignment) {
        return Err(r.corrupt(offset_at, "a tensor is not aligned"));
    }
    let rows = shape[..dims - 1].iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
    let Some(row) = dtype.row_bytes(shape[dims - 1]) else {
        return Err(r.corrupt(dims_at, "a tensor's row is no whole number of blocks"));
    };
    let end = rows.and_then(|rows| rows.checked_mul(row)).and_then(|n| n.checked_add(offset as usize));
    let Some(end) = end.filter(|end| *end <= r.bytes.len()) else {
        return Err(r.corrupt(at, "a tensor reaches beyond the end of the file"));
    };
    Ok((Entry { name, dtype, shape, dims, data: offset as usize..end }, at))
}

/// ggml's numbers of the formats known here.
const CODES: [(u32, DType); 13] = [
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Q4_0),
    (3, DType::Q4_1),
    (6, DType::Q5_0),
    (7, DType::Q5_1),
    (8, DType::Q8_0),
    (10, DType::Q2_K),
    (11, DType::Q3_K),
    (12, DType::Q4_K),
    (13, DType::Q5_K),
    (14, DType::Q6_K),
    (30, DType::BF16),
];

fn dtype(code: u32) -> Option<DType> {
    CODES.iter().find(|(c, _)| *c == code).map(|(_, dtype)| *dtype)
}

/// ggml's number of a format.
pub(super) fn code(dtype: DType) -> u32 {
    CODES.iter().find(|(_, d)| *d == dtype).expect("every format has a number").0
}

/// Formats that exist and are not read here.
fn dtype_name(code: u32) -> Option<&'static str> {
    Some(match code {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return None,
    })
}
