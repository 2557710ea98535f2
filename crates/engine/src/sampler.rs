//! Logits to a token.
//!
//! The steps and their order are those of transformers: repetition penalty, temperature, top-k, top-p, min-p, then
//! one draw from what is left. Temperature 0 takes the best token and draws nothing.
use longleaf_text::TokenId;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use std::cmp::Ordering;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the best token always.
    pub temperature: f32,
    /// Only so many of the best tokens; 0 for all.
    pub top_k: usize,
    /// Only the best tokens whose probabilities first reach this sum (Holtzman et al., 2020); 1 for all.
    pub top_p: f32,
    /// Only tokens at least this share as probable as the best (Nguyen et al., 2024); 0 for all.
    pub min_p: f32,
    /// The logit of a token that occurred is divided by it if positive, multiplied if negative (Keskar et al.,
    /// 2019); 1 for no change.
    pub repeat_penalty: f32,
    /// The same seed draws the same tokens.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, seed: 0 }
    }
}

/// A [`Sampling`] with its generator of random numbers and its buffer.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: Pcg64,
    /// Logit and token, best first where sorted.
    candidates: Vec<(f32, TokenId)>,
    seen: Vec<TokenId>,
}

impl Sampler {
    /// A sampler at the beginning of its random numbers.
    pub fn new(sampling: Sampling) -> Self {
        let random = Pcg64::seed_from_u64(sampling.seed);
        Self { sampling, random, candidates: Vec::new(), seen: Vec::new() }
    }

    /// Choose a token. `logits` is `[vocab]`, and is changed by the penalty; `history` are the tokens so far.
    /// A logit that is no number is never chosen.
    pub fn sample(&mut self, logits: &mut [f32], history: &[TokenId]) -> TokenId {
        self.penalise(logits, history);
        if self.sampling.temperature <= 0.0 {
            return best(logits);
        }
        let scale = 1.0 / self.sampling.temperature;
        self.candidates.clear();
        let finite = logits.iter().enumerate().filter(|(_, logit)| **logit > f32::NEG_INFINITY);
        self.candidates.extend(finite.map(|(id, logit)| (logit * scale, id as TokenId)));
        if self.candidates.is_empty() {
            return 0;
        }
        if self.sampling.top_k > 0 {
            self.keep_best(self.sampling.top_k);
        }
        if self.sampling.top_p < 1.0 {
            self.keep_mass();
        }
        if self.sampling.min_p > 0.0 {
            let max = max(&self.candidates);
            let floor = max + self.sampling.min_p.min(1.0).ln();
            self.candidates.retain(|candidate| candidate.0 >= floor);
        }
        self.draw()
    }

    fn penalise(&mut self, logits: &mut [f32], history: &[TokenId]) {
        let penalty = self.sampling.repeat_penalty;
        if (penalty - 1.0).abs() < f32::EPSILON {
            return;
        }
        self.seen.clear();
        self.seen.extend_from_slice(history);
        self.seen.sort_unstable();
        self.seen.dedup();
        for id in &self.seen {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// Keep the `count` best, sorted.
    fn keep_best(&mut self, count: usize) {
        if count < self.candidates.len() {
            self.candidates.select_nth_unstable_by(count, by_logit);
            self.candidates.truncate(count);
        }
        self.candidates.sort_unstable_by(by_logit);
    }

    /// Keep the best whose probabilities reach `top_p`. Most distributions are decided by a few tokens, so a
    /// growing head is sorted rather than the whole vocabulary.
    fn keep_mass(&mut self) {
        let max = max(&self.candidates);
        let total: f32 = self.candidates.iter().map(|candidate| (candidate.0 - max).exp()).sum();
        let mut head = 64;
        loop {
            if head < self.candidates.len() {
                self.candidates.select_nth_unstable_by(head, by_logit);
            }
            let end = head.min(self.candidates.len());
            self.candidates[..end].sort_unstable_by(by_logit);
            let mut sum = 0.0;
            let enough = self.candidates[..end].iter().position(|candidate| {
                sum += (candidate.0 - max).exp();
                sum >= self.sampling.top_p * total
            });
            if let Some(last) = enough {
                self.candidates.truncate(last + 1);
                return;
            }
            if end == self.candidates.len() {
                return;
            }
            head *= 8;
        }
    }

    fn draw(&mut self) -> TokenId {
        let max = max(&self.candidates);
        let mut total = 0.0_f64;
        for candidate in &mut self.candidates {
            candidate.0 = (candidate.0 - max).exp();
            total += f64::from(candidate.0);
        }
        // 53 random bits: every multiple of 2^-53 below 1 is as likely.
        let mut left = (self.random.next_u64() >> 11) as f64 * 2_f64.powi(-53) * total;
        for &(weight, id) in &self.candidates {
            left -= f64::from(weight);
            if left < 0.0 {
                return id;
            }
        }
        self.candidates.last().expect("the best is always kept").1
    }
}

/// The best token; of equals the first. `[vocab]`
pub fn best(logits: &[f32]) -> TokenId {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best.0 as TokenId
}

/// `ln softmax(logits)[token]`, summed in double precision.
pub fn log_prob(logits: &[f32], token: TokenId) -> f64 {
    let max = logits.iter().fold(f32::NEG_INFINITY, |max, &logit| max.max(logit));
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    f64::from(logits[token as usize] - max) - sum.ln()
}

fn max(candidates: &[(f32, TokenId)]) -> f32 {
    candidates.iter().fold(f32::NEG_INFINITY, |max, candidate| max.max(candidate.0))
}

/// Best first; of equals the first token first, so that the order is one.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what sorting asks for")]
fn by_logit(a: &(f32, TokenId), b: &(f32, TokenId)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Shares of 20,000 draws.
    fn shares(sampling: Sampling, logits: &[f32]) -> BTreeMap<TokenId, f64> {
        let mut sampler = Sampler::new(sampling);
        let mut counts = BTreeMap::new();
        for _ in 0..20_000 {
            *counts.entry(sampler.sample(&mut logits.to_vec(), &[])).or_insert(0.0) += 1.0 / 20_000.0;
        }
        counts
    }

    fn check(sampling: Sampling, expected: &[(TokenId, f64)]) {
        let logits = [0.5_f32.ln(), 0.05_f32.ln(), 0.15_f32.ln(), 0.3_f32.ln(), f32::NEG_INFINITY, f32::NAN];
        let found = shares(sampling, &logits);
        assert_eq!(
            found.keys().copied().collect::<Vec<_>>(),
            expected.iter().map(|e| e.0).collect::<Vec<_>>()
        );
        for (id, share) in expected {
            assert!((found[id] - share).abs() < 0.015, "token {id}: {} for {share}", found[id]);
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let plain = Sampling { temperature: 1.0, ..Sampling::default() };
        check(plain, &[(0, 0.5), (1, 0.05), (2, 0.15), (3, 0.3)]);
        check(Sampling { top_k: 2, ..plain }, &[(0, 0.625), (3, 0.375)]);
        check(Sampling { top_p: 0.79, ..plain }, &[(0, 0.625), (3, 0.375)]);
        check(Sampling { top_p: 0.81, ..plain }, &[(0, 0.526), (2, 0.158), (3, 0.316)]);
        check(Sampling { min_p: 0.2, ..plain }, &[(0, 0.526), (2, 0.158), (3, 0.316)]);
        check(Sampling { temperature: 0.5, ..plain }, &[(0, 0.685), (1, 0.007), (2, 0.062), (3, 0.247)]);
        check(Sampling { top_p: 0.0, ..plain }, &[(0, 1.0)]);
        check(Sampling::default(), &[(0, 1.0)]);
    }

    #[test]
    fn a_long_tail_is_cut_where_the_sum_is_reached() {
        // 4,096 equal tokens: the first half of them, whichever heads were sorted on the way.
        let sampling = Sampling { temperature: 1.0, top_p: 0.5, ..Sampling::default() };
        let found = shares(sampling, &[0.25; 4096]);
        assert!(found.keys().all(|id| *id < 2048), "{:?}", found.last_key_value());
        assert!(found.len() > 2000);
    }

    #[test]
    fn the_seed_decides() {
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling { temperature: 1.0, seed, ..Sampling::default() });
            (0..50).map(|_| sampler.sample(&mut [0.0; 1000], &[])).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn what_was_said_is_held_back() {
        let mut sampler = Sampler::new(Sampling { repeat_penalty: 2.0, ..Sampling::default() });
        assert_eq!(sampler.sample(&mut [1.0, 3.0, 2.0], &[1, 1, 9]), 2);
        // Once only, however often it was said; a negative logit gets smaller too.
        assert_eq!(sampler.sample(&mut [1.0, 3.0, 1.4], &[1, 1]), 1);
        assert_eq!(sampler.sample(&mut [-1.0, -0.6], &[1]), 0);
    }

    #[test]
    fn equals_and_oddities() {
        assert_eq!(best(&[1.0, 2.0, 2.0]), 1);
        assert_eq!(best(&[f32::NAN, -1.0]), 1);
        let third = log_prob(&[0.0, 0.0, 0.0], 2);
        assert!((third - (1.0_f64 / 3.0).ln()).abs() < 1e-9, "{third}");
    }
}
