//! How a sequence is cut.
use longleaf_kernel::BLOCK_TOKENS;
use std::ops::Range;

/// The sinks are a run of their own; then come runs of [`BLOCK_TOKENS`] tokens, each an *own block*.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runs {
    /// Tokens of the first run.
    pub(crate) sinks: usize,
    /// Blocks of the local window.
    pub(crate) window: usize,
}

impl Runs {
    /// The first token of the run that `position` belongs to.
    pub(crate) fn start(self, position: usize) -> usize {
        position.checked_sub(self.sinks).map_or(0, |rest| self.block_start(rest / BLOCK_TOKENS))
    }

    /// The first token of an own block.
    pub(crate) fn block_start(self, block: usize) -> usize {
        self.sinks + block * BLOCK_TOKENS
    }

    /// The first token of the next run.
    fn end(self, position: usize) -> usize {
        if position < self.sinks { self.sinks } else { self.start(position) + BLOCK_TOKENS }
    }

    /// `positions`, cut where runs begin.
    pub(crate) fn cut(self, positions: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut at = positions.start;
        std::iter::from_fn(move || {
            let start = at;
            at = self.end(start).min(positions.end);
            (start < positions.end).then_some(start..at)
        })
    }

    /// The first own block of the local window of the run that begins at `start`.
    pub(crate) fn local(self, start: usize) -> usize {
        let block = start.saturating_sub(self.sinks) / BLOCK_TOKENS;
        (block + 1).saturating_sub(self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_begin_behind_the_sinks() {
        let runs = Runs { sinks: 5, window: 2 };
        assert_eq!([0, 4, 5, 132, 133, 260].map(|position| runs.start(position)), [0, 0, 5, 5, 133, 133]);
        assert_eq!(runs.cut(3..200).collect::<Vec<_>>(), [3..5, 5..133, 133..200]);
        assert_eq!(runs.cut(5..5).count(), 0);
        assert_eq!([0, 5, 133, 261].map(|start| runs.local(start)), [0, 0, 0, 1]);
        let none = Runs { sinks: 0, window: 1 };
        assert_eq!(none.cut(0..129).collect::<Vec<_>>(), [0..128, 128..129]);
    }
}
