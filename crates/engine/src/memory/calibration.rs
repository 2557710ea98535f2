//! Which heads of a model find: by trial, once for each model.
//!
//! ```text
//! facts in a generated text ─► read with all heads of the lowest third ─► every head ranks every block for every question
//! half of the facts choose: the best head, then those that better it, for every depth and for every distance that the
//! question is made to see; the lowest depth that is about as good as any ─► the other half says how good that is
//! ```
mod filler;

use super::Memory;
use crate::needle::{self, Kind};
use crate::{Error, Model};
use filler::filler;
use longleaf_memory::finder::{Head, Profile, Reader};
use longleaf_text::Document;
use std::ops::{ControlFlow, Range};
use std::path::Path;

/// Bytes of text between the facts: some 16,000 tokens, 130 blocks.
const BYTES: usize = 60_000;
/// Facts of each kind.
const FACTS: usize = 24;
/// Whatever the model, the same trial.
const SEED: u64 = 20_261_123;
/// How far away a question may be made to believe that every key is.
const DISTANCES: [usize; 5] = [16, 32, 64, 256, 1024];
/// More heads than this make finding slower and no better.
const HEADS: usize = 3;
/// A lower depth, which reads faster, is taken if its ranks are no worse than by this factor (its logarithm).
const WORSE: f64 = 0.1;
/// A further head must better the ranks by so much.
const BETTER: f64 = 0.02;

/// How far a trial has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// From 0 to 1.
    pub done: f64,
}

/// How a model was found to find.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    /// With the chosen heads.
    pub profile: Profile,
    /// Share of the facts that did not choose whose block comes first.
    pub recall_at_1: f64,
    /// Share whose block is among the first 8.
    pub recall_at_8: f64,
    /// How many did not choose.
    pub facts: usize,
    /// Blocks that each of them was among.
    pub blocks: usize,
}

/// Find out which heads of `model` find. `folder` takes what is read meanwhile: a memory, which the caller removes when
/// all is over; what was interrupted goes on from there. `None` if `watch` broke it off.
///
/// # Errors
/// Those of the store.
pub fn calibrate(
    model: &Model,
    folder: &Path,
    watch: &mut dyn FnMut(Trial) -> ControlFlow<()>,
) -> Result<Option<Calibrated>, Error> {
    try_heads(model, folder, (BYTES, FACTS), watch)
}

/// With so many bytes between so many facts of each kind.
fn try_heads(
    model: &Model,
    folder: &Path,
    (bytes, count): (usize, usize),
    watch: &mut dyn FnMut(Trial) -> ControlFlow<()>,
) -> Result<Option<Calibrated>, Error> {
    let config = model.config();
    // Deeper heads would make every reading cost more than half a pass.
    let depth = config.layers.div_ceil(3);
    let heads: Vec<Head> =
        (0..depth).flat_map(|layer| (0..config.heads).map(move |head| Head { layer, head })).collect();
    let run = Profile::RUN.min(config.window);
    let profile = Profile { heads, run, distance: DISTANCES[0], passages: Profile::PASSAGES };
    let facts: Vec<_> = (0..count)
        .flat_map(|index| {
            [Kind::Number, Kind::Uuid, Kind::Sentence]
                .map(|kind| needle::facts(kind, count, SEED).swap_remove(index))
        })
        .collect();
    let (text, places) = needle::hide(&filler(bytes, SEED), &facts);
    let document = Document::new("trial", text.into_bytes())
        .map_err(|source| Error::Text { path: folder.to_owned(), source })?;
    let mut memory = Memory::with_profile(folder, model, profile.clone())?;
    let read = memory.add(&document, &mut |reading| {
        watch(Trial { done: 0.8 * reading.bytes as f64 / reading.of.max(1) as f64 })
    })?;
    if read.interrupted {
        return Ok(None);
    }
    let blocks = memory.block_places()?;
    let distances: Vec<usize> = DISTANCES.into_iter().filter(|distance| *distance < config.window).collect();
    // For each distance, the trials that choose and those that check.
    let mut trials = vec![(Vec::new(), Vec::new()); distances.len()];
    for (index, (fact, place)) in facts.iter().zip(&places).enumerate() {
        if watch(Trial { done: 0.8 + 0.2 * index as f64 / facts.len() as f64 }).is_break() {
            return Ok(None);
        }
        let holds = |block: &Range<u64>| block.start < place.end as u64 && (place.start as u64) < block.end;
        let right: Vec<bool> = blocks.iter().map(holds).collect();
        for (distance, (choosing, checking)) in distances.iter().zip(&mut trials) {
            let heads = memory.head_scores(&fact.question, *distance)?;
            // Kinds come in turns of three, so that pairs of turns have all of them on both sides.
            let half = if index / 3 % 2 == 0 { choosing } else { checking };
            half.push(Scored { heads, right: right.clone() });
        }
    }
    let sets = trials.iter().map(|(choosing, _)| choose(&profile.heads, choosing));
    let (at, chosen) =
        lowest(sets.enumerate().flat_map(|(at, sets)| sets.into_iter().map(move |set| (at, set))));
    let checking = &trials[at].1;
    let ranks: Vec<usize> = checking.iter().map(|trial| trial.rank(&chosen)).collect();
    let share = |depth: usize| ranks.iter().filter(|rank| **rank < depth).count() as f64 / ranks.len() as f64;
    let (recall_at_1, recall_at_8) = (share(1), share(8));
    let mut heads: Vec<Head> = chosen.iter().map(|head| profile.heads[*head]).collect();
    heads.sort_unstable();
    let profile = Profile { heads, distance: distances[at], ..profile };
    Ok(Some(Calibrated { profile, recall_at_1, recall_at_8, facts: checking.len(), blocks: blocks.len() }))
}

/// What all heads make of one question.
#[derive(Debug, Clone)]
struct Scored {
    /// `[head][blocks]`
    heads: Vec<Vec<f32>>,
    /// Which blocks hold the answer.
    right: Vec<bool>,
}

impl Scored {
    /// How many blocks come before the first right one, if these heads are asked together.
    fn rank(&self, heads: &[usize]) -> usize {
        let score = |block: usize| heads.iter().map(|head| self.heads[*head][block]).sum::<f32>();
        let best = (0..self.right.len()).filter(|block| self.right[*block]).map(score);
        let best = best.fold(f32::NEG_INFINITY, f32::max);
        (0..self.right.len()).filter(|block| score(*block) > best).count()
    }
}

/// The mean logarithm of ranks, counted from 1: 0 if every fact comes first.
fn badness(trials: &[Scored], heads: &[usize]) -> f64 {
    let log = |trial: &Scored| ((trial.rank(heads) + 1) as f64).ln();
    trials.iter().map(log).sum::<f64>() / trials.len().max(1) as f64
}

/// Heads that are asked together.
#[derive(Debug, Clone, PartialEq)]
struct Set {
    /// Layers that must be read for them.
    layers: usize,
    /// See [`badness`].
    bad: f64,
    heads: Vec<usize>,
}

/// For every depth, which of `heads` are to be asked.
fn choose(heads: &[Head], trials: &[Scored]) -> Vec<Set> {
    let alone: Vec<f64> = (0..heads.len()).map(|head| badness(trials, &[head])).collect();
    let depth = heads.iter().map(|head| head.layer + 1).max().unwrap_or(0);
    let mut sets = Vec::new();
    for layers in 1..=depth {
        let mut candidates: Vec<usize> =
            (0..heads.len()).filter(|head| heads[*head].layer < layers).collect();
        candidates.sort_by(|a, b| alone[*a].total_cmp(&alone[*b]));
        // Those that find badly by themselves do not help others either.
        candidates.truncate(16);
        let mut set = Set { layers, bad: alone[candidates[0]], heads: vec![candidates[0]] };
        while set.heads.len() < HEADS {
            let with = |head: &usize| {
                let mut more = set.heads.clone();
                more.push(*head);
                (badness(trials, &more), *head)
            };
            let rest = candidates.iter().filter(|head| !set.heads.contains(head));
            let next = rest.map(with).min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((better, head)) = next.filter(|(better, _)| *better < set.bad - BETTER) else { break };
            set.heads.push(head);
            set.bad = better;
        }
        sets.push(set);
    }
    sets
}

/// The lowest set that is about as good as any, of equally low ones the best; with what it came with.
fn lowest<T>(sets: impl Iterator<Item = (T, Set)>) -> (T, Vec<usize>) {
    let mut sets: Vec<_> = sets.collect();
    let best = sets.iter().map(|(_, set)| set.bad).fold(f64::INFINITY, f64::min);
    sets.retain(|(_, set)| set.bad <= best + WORSE);
    let low = sets.into_iter().min_by(|(_, a), (_, b)| a.layers.cmp(&b.layers).then(a.bad.total_cmp(&b.bad)));
    let (with, set) = low.expect("the best is as good as itself");
    (with, set.heads)
}

impl Memory<'_> {
    /// Where every block stands in the one document of this memory.
    fn block_places(&mut self) -> Result<Vec<Range<u64>>, Error> {
        let blocks = self.view()?.finder.blocks().len();
        (0..blocks).map(|block| self.hit(block).map(|hit| hit.start..hit.end)).collect()
    }

    /// The score of every block for each head of the profile, `[head][blocks]`, all keys being at `distance`.
    fn head_scores(&mut self, question: &str, distance: usize) -> Result<Vec<Vec<f32>>, Error> {
        self.view()?;
        let view = self.view.as_ref().expect("just made");
        let (tokens, frame) = super::asking::question_tokens(self.model, question);
        let profile = Profile { distance, ..self.profile.clone() };
        let queries = Reader::new(self.model.decoder(), &profile).queries(&tokens);
        Ok(view.finder.head_scores(&self.store, &queries, frame)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Profiles;
    use super::*;
    use longleaf_kernel::Compute;
    use std::sync::Arc;

    /// Of twenty blocks number 7 is right; a head that finds scores it highest in the trials given.
    fn trials(heads: &[fn(usize) -> bool]) -> Vec<Scored> {
        let one = |trial: usize| {
            let head = |finds: &fn(usize) -> bool| {
                (0..20)
                    .map(|block| if block == 7 { f32::from(u8::from(finds(trial))) } else { 0.5 })
                    .collect()
            };
            Scored {
                heads: heads.iter().map(head).collect(),
                right: (0..20).map(|block| block == 7).collect(),
            }
        };
        (0..24).map(one).collect()
    }

    #[test]
    fn the_lowest_heads_that_find_are_chosen() {
        let head = |layer| Head { layer, head: 0 };
        let heads = [head(0), head(2), head(3), head(5)];
        // Two low ones find together what the high one finds alone.
        let trials_a = trials(&[|_| false, |trial| trial != 5, |trial| trial != 7, |_| true]);
        let chosen = |trials| lowest(choose(&heads, trials).into_iter().map(|set| ((), set))).1;
        assert_eq!(chosen(&trials_a), [1, 2]);
        // Nothing finds but the highest.
        let trials_b = trials(&[|_| false, |_| false, |trial| trial % 6 == 0, |_| true]);
        assert_eq!(chosen(&trials_b), [3]);
        assert!(badness(&trials_b, &[3]).abs() < 1e-12 && badness(&trials_b, &[0]) > 2.0);
    }

    #[test]
    fn a_trial_gives_a_profile_that_is_kept() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/qwen2");
        let model = Model::open(&path, &Arc::new(Compute::new(1))).expect("the tiny model");
        assert!(model.finder().is_none(), "nobody knows how this one finds");
        let folder = tempfile::tempdir().expect("a folder");
        let trial = folder.path().join("trial");
        let broken = try_heads(&model, &trial, (4000, 2), &mut |_| ControlFlow::Break(())).expect("it reads");
        assert_eq!(broken, None);
        let mut done = 0.0;
        let mut watch = |trial: Trial| {
            assert!((done..=1.0).contains(&trial.done), "{trial:?} after {done}");
            done = trial.done;
            ControlFlow::Continue(())
        };
        let found = try_heads(&model, &trial, (4000, 2), &mut watch).expect("it reads").expect("to the end");
        assert_eq!(found.facts, 3);
        assert!((1..=HEADS).contains(&found.profile.heads.len()) && found.blocks > 10);
        assert!(found.recall_at_1 <= found.recall_at_8 && found.recall_at_8 <= 1.0);

        let profiles = Profiles::new(folder.path().join("profiles"));
        assert_eq!(profiles.load(&model).expect("readable"), None);
        profiles.save(&model, &found).expect("written");
        assert_eq!(profiles.load(&model).expect("readable"), Some(found.profile));
        // Of another version, or damaged: as if there were none.
        let file = profiles.path(&model).expect("a path");
        let text = std::fs::read_to_string(&file).expect("written");
        for (from, to) in [("\"version\": 2", "\"version\": 9"), ("\"run\": ", "\"run\": 9999"), ("{", "")] {
            assert!(text.contains(from), "{text}");
            std::fs::write(&file, text.replacen(from, to, 1)).expect("written");
            assert_eq!(profiles.load(&model).expect("readable"), None);
        }
    }

    #[test]
    fn filler_repeats_with_its_seed_and_has_lines() {
        let text = filler(50_000, 1);
        assert_eq!(text, filler(50_000, 1));
        assert_ne!(text, filler(50_000, 2));
        assert!(text.len() < 52_000 && text.lines().count() > 50);
    }
}
