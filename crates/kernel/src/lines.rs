//! Memory that begins and ends on cache lines.

/// One cache line, as sixteen words of 32 bits.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Words in a line.
pub(crate) const LINE: usize = 16;

/// A run of cache lines: so that a vector as wide as a line never straddles two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// Room for at least `words` words, all 0.
    pub(crate) fn zeroed(words: usize) -> Self {
        Self(vec![Line([0; LINE]); words.div_ceil(LINE)])
    }

    /// Grow to at least `words` words; what is new is 0.
    pub(crate) fn reserve(&mut self, words: usize) {
        let lines = words.div_ceil(LINE);
        if lines > self.0.len() {
            self.0.resize(lines, Line([0; LINE]));
        }
    }

    /// All words.
    pub(crate) fn words(&self) -> &[u32] {
        // SAFETY: a line is sixteen words without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }

    /// All words, to be written.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as in `words`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }

    /// All words, as numbers.
    pub(crate) fn numbers(&self) -> &[f32] {
        // SAFETY: as in `words`; every bit pattern is an `f32`, of the same size and alignment as a word.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }

    /// All words as numbers, to be written.
    pub(crate) fn numbers_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `numbers`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }
}
