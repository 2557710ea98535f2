//! Making GGUF files: for tests, fixtures and exports that fit into memory.
use super::reader::code;
use super::value::Kind;
use longleaf_kernel::DType;

const ALIGNMENT: usize = 32;

/// Collects metadata and tensors, then gives the bytes of a version 3 file.
#[derive(Debug, Default)]
pub struct Writer {
    pairs: u64,
    metadata: Vec<u8>,
    tensors: u64,
    table: Vec<u8>,
    data: Vec<u8>,
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn pair(&mut self, key: &str, kind: Kind) -> &mut Vec<u8> {
        self.pairs += 1;
        put_string(&mut self.metadata, key);
        self.metadata.extend(kind.code().to_le_bytes());
        &mut self.metadata
    }

    fn array(&mut self, key: &str, element: Kind, len: usize) -> &mut Vec<u8> {
        let out = self.pair(key, Kind::Array);
        out.extend(element.code().to_le_bytes());
        out.extend((len as u64).to_le_bytes());
        out
    }

    /// A string.
    pub fn string(&mut self, key: &str, text: &str) -> &mut Self {
        put_string(self.pair(key, Kind::String), text);
        self
    }

    /// A 32-bit whole number.
    pub fn u32(&mut self, key: &str, number: u32) -> &mut Self {
        self.pair(key, Kind::U32).extend(number.to_le_bytes());
        self
    }

    /// A 32-bit float.
    pub fn f32(&mut self, key: &str, number: f32) -> &mut Self {
        self.pair(key, Kind::F32).extend(number.to_le_bytes());
        self
    }

    /// A boolean.
    pub fn boolean(&mut self, key: &str, yes: bool) -> &mut Self {
        self.pair(key, Kind::Bool).push(yes.into());
        self
    }

    /// An array of strings.
    pub fn strings(&mut self, key: &str, texts: &[&str]) -> &mut Self {
        let out = self.array(key, Kind::String, texts.len());
        for text in texts {
            put_string(out, text);
        }
        self
    }

    /// An array of 32-bit signed numbers.
    pub fn i32s(&mut self, key: &str, numbers: &[i32]) -> &mut Self {
        self.array(key, Kind::I32, numbers.len()).extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        self
    }

    /// An array of 32-bit floats.
    pub fn f32s(&mut self, key: &str, numbers: &[f32]) -> &mut Self {
        self.array(key, Kind::F32, numbers.len()).extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        self
    }

    /// A tensor of the given shape, rows first, and its bytes in that format.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> &mut Self {
        let (cols, rows) = shape.split_last().expect("a tensor has a dimension");
        let row = dtype.row_bytes(*cols).expect("a row is a whole number of blocks");
        assert_eq!(rows.iter().product::<usize>() * row, bytes.len(), "bytes of the tensor");
        self.tensors += 1;
        put_string(&mut self.table, name);
        self.table.extend((shape.len() as u32).to_le_bytes());
        for dim in shape.iter().rev() {
            self.table.extend((*dim as u64).to_le_bytes());
        }
        self.table.extend(code(dtype).to_le_bytes());
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self.table.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self
    }

    /// A tensor of `F32` numbers.
    pub fn tensor_f32(&mut self, name: &str, shape: &[usize], numbers: &[f32]) -> &mut Self {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.tensor(name, DType::F32, shape, &bytes)
    }

    /// The file.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = Vec::from(*b"GGUF");
        out.extend(3_u32.to_le_bytes());
        out.extend(self.tensors.to_le_bytes());
        out.extend(self.pairs.to_le_bytes());
        out.extend(&self.metadata);
        out.extend(&self.table);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(&self.data);
        out
    }
}
