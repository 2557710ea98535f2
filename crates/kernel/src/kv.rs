//! Keys and values of a run of tokens, laid out to be attended to.

/// Tokens in one block of keys and values.
pub const BLOCK_TOKENS: usize = 128;

/// The number format of keys and values that attention multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvFormat {
    /// Full precision, for reference and for tiny models.
    F32,
    /// 8 bits of mantissa: half the memory, and the format fast products take.
    #[default]
    Bf16,
}

/// Keys and values of up to [`BLOCK_TOKENS`] tokens of one layer, for all its KV heads. Keys are rotated already.
#[derive(Debug, Clone)]
pub struct KvBlock {
    format: KvFormat,
    kv_heads: usize,
    head_dim: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvBlock {
    /// A block of zeros. `head_dim` must be a multiple of 16.
    pub fn new(format: KvFormat, kv_heads: usize, head_dim: usize) -> Self {
        let numbers = BLOCK_TOKENS * kv_heads * head_dim;
        Self { format, kv_heads, head_dim, keys: vec![0.0; numbers], values: vec![0.0; numbers] }
    }

    /// The number format.
    pub fn format(&self) -> KvFormat {
        self.format
    }

    /// KV heads.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Numbers in one head's key or value.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * 4
    }

    /// Store tokens `first..first + n` of the block. `keys` and `values` are `[n, kv_heads, head_dim]`.
    pub fn write(&mut self, first: usize, keys: &[f32], values: &[f32]) {
        let row = self.kv_heads * self.head_dim;
        assert_eq!(keys.len(), values.len(), "as many keys as values");
        self.keys[first * row..first * row + keys.len()].copy_from_slice(keys);
        self.values[first * row..first * row + values.len()].copy_from_slice(values);
    }

    /// The stored key of one token and head, `[head_dim]`, as attention sees it.
    pub fn read_key(&self, token: usize, head: usize, out: &mut [f32]) {
        let at = (token * self.kv_heads + head) * self.head_dim;
        out.copy_from_slice(&self.keys[at..at + self.head_dim]);
    }

    /// The stored value of one token and head, `[head_dim]`, as attention sees it.
    pub fn read_value(&self, token: usize, head: usize, out: &mut [f32]) {
        let at = (token * self.kv_heads + head) * self.head_dim;
        out.copy_from_slice(&self.values[at..at + self.head_dim]);
    }
}

/// A block as one call to attention sees it.
///
/// Token `j` of the block (`j < len`) lies `i - (offset + j)` tokens before query `i` of the call; it is attended
/// to if that distance is at least 0 and less than `window`. Far blocks have a very negative `offset` and the
/// window `i64::MAX`.
#[derive(Debug, Clone, Copy)]
pub struct KvView<'a> {
    /// The keys and values.
    pub block: &'a KvBlock,
    /// How many of its tokens are filled.
    pub len: usize,
    /// Position of its first token relative to the call's first query.
    pub offset: i64,
    /// How far back it is seen; `i64::MAX` for no limit.
    pub window: i64,
}

/// One call to attention: every query over the same views, each as far as its mask allows.
///
/// For query `i` and head `h` (KV head `h / (heads / kv_heads)`):
/// `out[i, h] = Σ_j softmax_j(scale · q[i, h]·k[j]) · v[j]`.
#[derive(Debug, Clone, Copy)]
pub struct Attend<'a> {
    /// `[tokens, heads, head_dim]`, rotated.
    pub queries: &'a [f32],
    /// Query heads.
    pub heads: usize,
    /// What to attend to, in the order of the sums. All blocks have the same shape and format.
    pub views: &'a [KvView<'a>],
    /// Usually `head_dim^-1/2`.
    pub scale: f32,
}
