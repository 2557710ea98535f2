//! What adaptive attention is asked for, and what it did.
use super::Budget;

/// Where far blocks are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Positions {
    /// Where they stand in the text while all of it fits into the trained window; contiguous beyond.
    #[default]
    Fitting,
    /// In the order of the text, one directly after the other, directly before the local window (re-indexed RoPE).
    Contiguous,
    /// Every token of them at one position, this many tokens before the local window.
    Level(usize),
}

/// How adaptive attention attends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// So many of a sequence's first tokens are always attended to; at most a block.
    pub sinks: usize,
    /// The local window in blocks, the one that is being filled included; at least 1.
    pub window: usize,
    /// How much of the far text is read.
    pub budget: Budget,
    /// Where it is placed.
    pub positions: Positions,
    /// Sinks, far blocks and local window may take so much of the trained window, unless far blocks keep their place.
    pub share: f64,
    /// Unread blocks that are looked at to bound the unread mass; 0 for no bound, and no escalation.
    pub sample: usize,
    /// Blocks are judged by reading all their keys instead of their summaries: the oracle, slow.
    pub exact: bool,
    /// Decides the samples.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sinks: 64,
            window: 8,
            budget: Budget::Mass(0.05),
            positions: Positions::default(),
            share: 0.75,
            sample: 16,
            exact: false,
            seed: 0,
        }
    }
}

/// What was read and how much was not. Sums over choices; a choice is made for one layer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Statistics {
    /// Choices made where there was something to choose from.
    pub choices: usize,
    /// Choices whose unread mass was estimated by a sample.
    pub sampled: usize,
    /// Far blocks to choose from.
    pub blocks: usize,
    /// Far blocks chosen.
    pub read: usize,
    /// Estimated unread mass, as a share of all.
    pub unread: f64,
    /// Upper bounds of the same.
    pub bound: f64,
    /// How often the budget was doubled.
    pub escalations: usize,
    /// Choices whose bound stayed above the budget's mass for want of room or doublings.
    pub missed: usize,
}

impl Statistics {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            choices: self.choices + other.choices,
            sampled: self.sampled + other.sampled,
            blocks: self.blocks + other.blocks,
            read: self.read + other.read,
            unread: self.unread + other.unread,
            bound: self.bound + other.bound,
            escalations: self.escalations + other.escalations,
            missed: self.missed + other.missed,
        }
    }

    /// The mean estimated unread share of attention; 0 if nothing was unread or estimated.
    pub fn unread_share(&self) -> f64 {
        self.unread / self.sampled.max(1) as f64
    }

    /// The mean of its upper bounds.
    pub fn bound_share(&self) -> f64 {
        self.bound / self.sampled.max(1) as f64
    }

    /// The mean number of far blocks read.
    pub fn mean_read(&self) -> f64 {
        self.read as f64 / self.choices.max(1) as f64
    }
}
