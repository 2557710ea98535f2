//! The same numbers for the same seed, on every machine.
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// A generator for one purpose.
#[derive(Debug)]
pub(crate) struct Random(Pcg64);

impl Random {
    /// Seeded by a number and what it is for: two purposes share nothing.
    pub(crate) fn new(seed: u64, purpose: &[&dyn std::fmt::Display]) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed;
        for part in purpose {
            for byte in part.to_string().bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        Self(Pcg64::seed_from_u64(hash))
    }

    /// From 0 to `n - 1`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i + 1));
        }
    }

    /// `count` different numbers below `n`, in random order; all of them if there are no more.
    pub(crate) fn sample(&mut self, n: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        let count = count.min(n);
        for i in 0..count {
            let other = i + self.below(n - i);
            all.swap(i, other);
        }
        all.truncate(count);
        all
    }

    /// A number of so many digits.
    pub(crate) fn digits(&mut self, digits: u32) -> String {
        let least = 10_u64.pow(digits - 1);
        (least + self.0.next_u64() % (9 * least)).to_string()
    }

    /// So many letters, each `A` to `Z` or each `a` to `z`.
    pub(crate) fn letters(&mut self, count: usize, first: u8) -> String {
        (0..count).map(|_| char::from(first + self.below(26) as u8)).collect()
    }

    /// A random UUID (version 4, RFC 9562).
    pub(crate) fn uuid(&mut self) -> String {
        let mut bits = u128::from(self.0.next_u64()) << 64 | u128::from(self.0.next_u64());
        bits = bits & !(0xf << 76) | 4 << 76;
        bits = bits & !(0x3 << 62) | 2 << 62;
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::Random;
    use std::collections::BTreeSet;

    #[test]
    fn purposes_share_nothing_and_repeat() {
        let draw = |seed, purpose: &str| {
            let mut random = Random::new(seed, &[&purpose, &3]);
            (0..8).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, "needles"), draw(1, "needles"));
        assert_ne!(draw(1, "needles"), draw(2, "needles"));
        assert_ne!(draw(1, "needles"), draw(1, "words"));
    }

    #[test]
    fn samples_differ_and_forms_are_right() {
        let mut random = Random::new(0, &[]);
        for (n, count) in [(40, 4), (5, 5), (3, 9), (0, 2)] {
            let sample = random.sample(n, count);
            assert_eq!(sample.len(), count.min(n));
            assert_eq!(sample.iter().collect::<BTreeSet<_>>().len(), sample.len());
            assert!(sample.iter().all(|at| *at < n));
        }
        let uuid = random.uuid();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        assert_eq!(random.digits(7).len(), 7);
        assert!(random.letters(5, b'A').bytes().all(|letter| letter.is_ascii_uppercase()));
    }
}
