//! Which blocks are worth reading, and how sure that is.
//!
//! Rows are pairs of a query and a head. For a row `r` let `l_r` be the log mass of what it reads anyway (sinks and
//! local window) and `m_br` the estimated log mass of far block `b`.
//!
//! ```text
//! share_b = mean over r of e^(m_br - ln Σ_b e^m_br)                   blocks are read in descending order of it
//! read_r  = e^l_r + Σ over blocks read of e^m_br
//! unread  = mean over r of Σ over the others of e^M_br / read_r       M the exact mass: estimated by a sample
//! ```
//! Shares are of the far attention, however little of all attention that is: heads that look far away do so in bursts,
//! and the queries that choose seldom see one. Of two rules that read as much, this one came nearer to dense attention
//! than shares of all attention, and than a number of blocks (`docs/experiments.md`).
//!
//! The estimates are known for every block, so the sample only has to tell what they miss, M less m. It is drawn with
//! replacement, half of it evenly and half of it in proportion to the shares, each block weighted with the inverse of
//! its probability (Hansen and Hurwitz, 1943); the bound is the mean plus [`SIGMAS`] standard errors. As in verified sparse attention (Desai et al., 2025) what is bounded is the softmax's
//! denominator: outputs differ by no more than twice the unread share of the largest value.
use super::Budget;

/// Standard errors above the mean of a sample at which the bound lies: more than a normal distribution needs for
/// 95 %, because few large blocks make most of the unread mass.
pub(crate) const SIGMAS: f64 = 3.0;

/// What the rounding of queries and keys to bf16 can take from a mass, as a share of it.
const ROUNDING: f64 = 1.0 / 32.0;

/// Estimates of every block under every row.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    /// `[blocks, rows]`, log masses.
    pub(crate) masses: Vec<f32>,
    /// `[rows]`, log masses of what is read anyway.
    pub(crate) local: Vec<f32>,
    /// `[blocks]`, means over the rows of shares of the far attention; their sum is 1.
    shares: Vec<f64>,
    /// Blocks, best first.
    order: Vec<usize>,
}

/// What one choice left unread, as a share of what it reads: unread mass by read mass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unread {
    /// The mean over the queries and heads that chose, estimated.
    pub mean: f64,
    /// An upper bound of the same.
    pub bound: f64,
    /// An upper bound for each of them, `[queries, heads]`.
    pub rows: Vec<f64>,
    /// The position behind the last of the queries.
    pub end: usize,
}

impl Estimates {
    /// Order the blocks.
    pub(crate) fn rank(&mut self) {
        let rows = self.local.len();
        let blocks = self.masses.len() / rows.max(1);
        let mut max = vec![f32::NEG_INFINITY; rows];
        for masses in self.masses.chunks_exact(rows.max(1)) {
            max.iter_mut().zip(masses).for_each(|(max, mass)| *max = max.max(*mass));
        }
        let mut sums = vec![0.0_f64; rows];
        for masses in self.masses.chunks_exact(rows.max(1)) {
            for ((sum, mass), max) in sums.iter_mut().zip(masses).zip(&max) {
                *sum += f64::from((mass - max).exp());
            }
        }
        self.shares.clear();
        self.shares.extend(self.masses.chunks_exact(rows.max(1)).map(|masses| {
            let shares = masses.iter().zip(&max).zip(&sums);
            shares.map(|((mass, max), sum)| f64::from((mass - max).exp()) / sum).sum::<f64>() / rows as f64
        }));
        self.order.clear();
        self.order.extend(0..blocks);
        let shares = &self.shares;
        self.order.sort_unstable_by(|a, b| shares[*b].total_cmp(&shares[*a]).then(a.cmp(b)));
    }

    /// How many of the best blocks to read, as far as can be told without reading any, and at most `room`.
    pub(crate) fn count(&self, budget: Budget, room: usize) -> usize {
        let room = room.min(self.order.len());
        match budget {
            Budget::Unlimited => self.order.len(),
            Budget::Blocks(blocks) => blocks.min(room),
            Budget::Mass(most) => {
                let mut unread: f64 = self.shares.iter().sum();
                let mut count = 0;
                while count < room && unread > most {
                    unread -= self.shares[self.order[count]];
                    count += 1;
                }
                count
            }
        }
    }

    /// All blocks, best first.
    pub(crate) fn order(&self) -> &[usize] {
        &self.order
    }

    /// Which blocks to look at for an estimate of what is unread when the first `count` are read: pairs of a block
    /// and the weight of its mass. If there are no more than `draws`, all of them.
    pub(crate) fn sample(&self, count: usize, draws: usize, random: &mut Random) -> Vec<(usize, f64)> {
        let unread = &self.order[count..];
        if unread.len() <= draws || draws == 0 {
            let unread = if draws == 0 { &[] } else { unread };
            // As `draws` draws of probability 1 each.
            return unread.iter().map(|block| (*block, unread.len() as f64)).collect();
        }
        let total: f64 = unread.iter().map(|block| self.shares[*block]).sum();
        let even = 0.5 / unread.len() as f64;
        let probability = |block: usize| {
            if total > 0.0 { even + 0.5 * self.shares[block] / total } else { 2.0 * even }
        };
        // The sum up to each block, to be searched.
        let mut sums = Vec::with_capacity(unread.len());
        let mut sum = 0.0;
        for block in unread {
            sum += probability(*block);
            sums.push(sum);
        }
        let draw = |_| {
            let at = random.next() * sum;
            let index = sums.partition_point(|sum| *sum <= at).min(unread.len() - 1);
            (unread[index], 1.0 / probability(unread[index]))
        };
        (0..draws).map(draw).collect()
    }

    /// What a sample says of the unread mass. `masses`, `[sample, rows]`, are its blocks' exact log masses. What is
    /// read is estimated, from below, so that the share unread is estimated from above.
    pub(crate) fn unread(&self, count: usize, sample: &[(usize, f64)], masses: &[f32]) -> Unread {
        let rows = self.local.len();
        if sample.is_empty() {
            return Unread { rows: vec![0.0; rows], ..Unread::default() };
        }
        let all = sample.len() == self.order.len() - count;
        let mut read: Vec<f64> = self.local.iter().map(|local| f64::from(*local)).collect();
        for block in &self.order[..count] {
            let masses = &self.masses[block * rows..(block + 1) * rows];
            read.iter_mut().zip(masses).for_each(|(read, mass)| *read = log_add(*read, f64::from(*mass)));
        }
        // What the estimates say is known of every block; the sample tells what they miss.
        let mut known = vec![0.0; rows];
        for block in &self.order[count..] {
            let masses = &self.masses[block * rows..(block + 1) * rows];
            for ((known, mass), read) in known.iter_mut().zip(masses).zip(&read) {
                *known += ratio(*mass, *read);
            }
        }
        let mut mean = Moments::default();
        let mut each = vec![Moments::default(); rows];
        for ((block, weight), exact) in sample.iter().zip(masses.chunks_exact(rows)) {
            let estimates = &self.masses[block * rows..(block + 1) * rows];
            let mut sum = 0.0;
            for (((exact, estimate), read), each) in exact.iter().zip(estimates).zip(&read).zip(&mut each) {
                let missed = weight * (ratio(*exact, *read) - ratio(*estimate, *read));
                each.take(missed);
                sum += missed;
            }
            mean.take(sum / rows as f64);
        }
        let all_known = known.iter().sum::<f64>() / rows as f64;
        let bound = |known: f64, missed: &Moments| {
            let doubt = if all { 0.0 } else { SIGMAS * missed.error() };
            (1.0 + ROUNDING) * (known + missed.mean()) + doubt
        };
        Unread {
            mean: all_known + mean.mean(),
            bound: bound(all_known, &mean),
            rows: known.iter().zip(&each).map(|(known, missed)| bound(*known, missed)).collect(),
            end: 0,
        }
    }
}

/// A mass, by what is read; a row that reads nothing at all is all unread.
fn ratio(mass: f32, read: f64) -> f64 {
    (f64::from(mass) - read).exp().min(1e9)
}

/// ln(e^a + e^b).
fn log_add(a: f64, b: f64) -> f64 {
    let max = a.max(b);
    if max == f64::NEG_INFINITY { max } else { max + ((a - max).exp() + (b - max).exp()).ln() }
}

/// Sums of a sample.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn take(&mut self, x: f64) {
        self.n += 1.0;
        self.sum += x;
        self.squares += x * x;
    }

    fn mean(&self) -> f64 {
        self.sum / self.n
    }

    /// The standard error of the mean.
    fn error(&self) -> f64 {
        let mean = self.mean();
        let variance = (self.squares / self.n - mean * mean).max(0.0) * self.n / (self.n - 1.0).max(1.0);
        (variance / self.n).sqrt()
    }
}

/// Numbers that look random and are the same for the same seed (`SplitMix64`, Steele et al., 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(parts: [u64; 3]) -> Self {
        let mut random = Self(0x9e37_79b9_7f4a_7c15);
        for part in parts {
            random.0 ^= part;
            random.bits();
        }
        random
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks whose masses fall like a power, with estimates that are wrong by up to a factor of e.
    fn estimates(blocks: usize, rows: usize, seed: u64) -> (Estimates, Vec<f32>) {
        let mut random = Random::new([seed, 0, 0]);
        let mut exact = Vec::new();
        let mut estimates = Estimates { local: vec![3.0; rows], ..Estimates::default() };
        for block in 0..blocks {
            for _ in 0..rows {
                let mass = 2.0 - 1.5 * ((block + 1) as f32).ln() + random.next() as f32;
                exact.push(mass);
                estimates.masses.push(mass - random.next() as f32);
            }
        }
        estimates.rank();
        (estimates, exact)
    }

    #[test]
    fn the_largest_first_until_enough() {
        let (estimates, _) = estimates(100, 3, 1);
        let share = |block: &usize| estimates.shares[*block];
        assert!(estimates.order().windows(2).all(|pair| share(&pair[0]) >= share(&pair[1])));
        assert_eq!(estimates.count(Budget::Blocks(7), 50), 7);
        assert_eq!(estimates.count(Budget::Blocks(70), 50), 50, "no more than there is room");
        assert_eq!(estimates.count(Budget::Unlimited, 50), 100);
        let count = estimates.count(Budget::Mass(0.05), 100);
        let unread: f64 = estimates.order()[count..].iter().map(share).sum();
        let before: f64 = estimates.order()[count - 1..].iter().map(share).sum();
        assert!(unread <= 0.05 && before > 0.05, "{before} {unread}");
    }

    #[test]
    fn a_head_that_hardly_looks_far_away_has_its_blocks_too() {
        // The first row gives all its attention to block 0, the second one part in a thousand to block 1.
        let masses = vec![9.0, -9.0, -9.0, 0.0, -9.0, -9.0];
        let mut estimates = Estimates { masses, local: vec![-9.0, 7.0], ..Estimates::default() };
        estimates.rank();
        assert_eq!(estimates.count(Budget::Mass(0.1), 3), 2, "{:?}", estimates.shares);
        assert_eq!(estimates.order()[2], 2);
    }

    #[test]
    fn bounds_hold_and_everything_sampled_is_exact() {
        let (rows, draws, mut covered, mut tried) = (3, 16, 0, 0);
        for seed in 0..400 {
            let (estimates, exact) = estimates(200, rows, seed);
            let count = 20;
            let of = |sample: &[(usize, f64)]| -> Vec<f32> {
                sample
                    .iter()
                    .flat_map(|(block, _)| exact[block * rows..(block + 1) * rows].to_vec())
                    .collect()
            };
            let everything = estimates.sample(count, 1000, &mut Random::new([seed, 1, 0]));
            let truth = estimates.unread(count, &everything, &of(&everything));
            assert!(truth.bound <= (1.0 + ROUNDING) * truth.mean, "nothing is left to chance");
            let sample = estimates.sample(count, draws, &mut Random::new([seed, 2, 0]));
            assert_eq!(sample.len(), draws);
            let unread = estimates.unread(count, &sample, &of(&sample));
            for (bound, truth) in unread.rows.iter().zip(&truth.rows) {
                tried += 1;
                covered += usize::from(bound * (1.0 + ROUNDING) >= *truth);
            }
            assert!(unread.bound < 2.0 * truth.mean, "{} for {}", unread.bound, truth.mean);
        }
        assert!(covered * 100 >= tried * 97, "{covered} of {tried}");
    }
}
