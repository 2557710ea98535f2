//! Bytes that start on a cache line.

/// A buffer of bytes whose first lies on a 64-byte boundary, so that no vector load of a packed panel or of
/// quantised activations needs two cache lines where one would do.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut buffer = Self::default();
        buffer.grow(len);
        buffer
    }

    /// Make room for `len` bytes; what they hold is unspecified but initialised. Allocates only when growing.
    pub(crate) fn grow(&mut self, len: usize) {
        if self.bytes.len() < len + 64 {
            self.bytes = vec![0; len + 64];
            let address = self.bytes.as_ptr().addr();
            self.start = address.next_multiple_of(64) - address;
        }
        self.len = len;
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
