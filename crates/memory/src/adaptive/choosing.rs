//! The choice of far blocks for a run, and where they are placed.
use super::angles::{Place, write_rotated};
use super::choice::{Random, Unread};
use super::index::Look;
use super::sources::Both;
use super::{Adaptive, Budget, FarBlocks, PRIOR_DISTANCE, Positions};
use crate::Error;
use longleaf_kernel::{BLOCK_TOKENS, KvView};

/// How often the number of blocks is doubled when the bound on the unread mass is too high.
const ESCALATIONS: usize = 3;

impl<F: FarBlocks> Adaptive<F> {
    /// Choose and place the far blocks for the run that begins at `start`. `choosers`, `[n, heads, head_dim]`, not
    /// rotated, are the queries of the tokens that end with position `last`.
    pub(super) fn choose(
        &mut self,
        layer: usize,
        start: usize,
        choosers: &[f32],
        last: usize,
        key_bias: Option<&[f32]>,
    ) -> Result<(), Error> {
        let from = self.runs.local(start);
        self.layers[layer].local_from = from;
        let before = if start >= self.runs.sinks || self.in_place { self.far.len() } else { 0 };
        let blocks = if before == self.far.len() { before + from } else { 0 };
        let chosen = if self.settings.budget == Budget::Unlimited {
            (0..blocks).collect()
        } else if blocks == 0 || self.layers[layer].sliding != i64::MAX {
            Vec::new()
        } else {
            self.decide(layer, from, choosers, last, key_bias)?
        };
        self.lay_out(layer, from, &chosen, key_bias)
    }

    /// The blocks worth reading, in the order of the text.
    fn decide(
        &mut self,
        layer: usize,
        from: usize,
        choosers: &[f32],
        last: usize,
        key_bias: Option<&[f32]>,
    ) -> Result<Vec<usize>, Error> {
        let Self { settings, runs, placer, index, far, own, layers, statistics, estimates, .. } = self;
        let (foreign, state) = (far.len(), &mut layers[layer]);
        let mut far = Both { far, own, len: from };
        let row = placer.heads * placer.head_dim;
        let first = last + 1 - choosers.len() / row;

        // Near keys are judged from where the queries stand. Far ones too, if they keep their place; otherwise all
        // stand at the same distance, their middle at position 0.
        let mut near = Vec::new();
        placer.rotate(*runs, first, (choosers, None), row, &mut near);
        let mut judged = near.clone();
        if !self.in_place {
            judged.copy_from_slice(choosers);
            let prior = Place::At(PRIOR_DISTANCE as i64);
            placer.angles.prepare([prior]);
            let table = placer.angles.get(prior);
            for query in judged.chunks_exact_mut(row) {
                table.rotate(&placer.compute, placer.head_dim, 0, query, row);
            }
        }
        let places: Vec<Place> = (0..far.len())
            .map(|block| match block.checked_sub(foreign) {
                Some(own) if self.in_place => Place::From(runs.block_start(own) as i64),
                _ => Place::From(-(BLOCK_TOKENS as i64) / 2),
            })
            .collect();

        let views: Vec<KvView<'_>> = state
            .sink_view(runs.sinks, first as i64)
            .into_iter()
            .chain(state.local_views(*runs, from, first as i64))
            .collect();
        estimates.local.clear();
        placer.read_masses(&near, &views, &mut estimates.local);
        estimates.masses.clear();
        let look = Look { layer, queries: &judged, key_bias, places: &places };
        index.masses(&look, &mut far, placer, &mut estimates.masses)?;
        estimates.rank();

        // What keeps its place lies within the trained window, however much of it is read.
        let room = if self.in_place { far.len() } else { self.room.min(far.len()) };
        let most = if let Budget::Mass(most) = settings.budget { most } else { f64::INFINITY };
        let mut count = estimates.count(settings.budget, room);
        let mut random = Random::new([settings.seed, layer as u64, last as u64]);
        let mut doublings = 0;
        let unread = loop {
            let sample = estimates.sample(count, settings.sample, &mut random);
            let blocks: Vec<usize> = sample.iter().map(|(block, _)| *block).collect();
            let mut masses = Vec::new();
            placer.masses(&mut far, &look, &blocks, &mut masses)?;
            let unread = estimates.unread(count, &sample, &masses);
            let more = (2 * count).max(1).min(room);
            if unread.bound <= most || doublings == ESCALATIONS || more <= count {
                break unread;
            }
            (count, doublings) = (more, doublings + 1);
        };
        if settings.sample > 0 {
            statistics.sampled += 1;
            statistics.unread += unread.mean / (1.0 + unread.mean);
            statistics.bound += unread.bound / (1.0 + unread.bound);
            statistics.escalations += doublings;
            statistics.missed += usize::from(unread.bound > most);
            state.unread = Some(Unread { end: last + 1, ..unread });
        }
        statistics.choices += 1;
        statistics.blocks += far.len();
        statistics.read += count;
        let mut chosen = estimates.order()[..count].to_vec();
        chosen.sort_unstable();
        Ok(chosen)
    }

    /// Bring the chosen blocks, and the sinks before them, to their places.
    fn lay_out(
        &mut self,
        layer: usize,
        from: usize,
        chosen: &[usize],
        key_bias: Option<&[f32]>,
    ) -> Result<(), Error> {
        let Self { settings, runs, placer, far, own, layers, in_place, .. } = self;
        let (foreign, state) = (far.len(), &mut layers[layer]);
        let mut far = Both { far, own, len: from };
        // The last one ends where the local window begins; far text read before ends where the sequence begins.
        let begin = runs.block_start(from) as i64;
        let (mut at, mut text) = (begin, 0);
        let mut wanted = Vec::with_capacity(chosen.len());
        for block in chosen.iter().rev() {
            let tokens = far.tokens(*block) as i64;
            at -= tokens;
            let place = match (block.checked_sub(foreign), settings.positions) {
                (Some(own), _) if *in_place => Place::From(runs.block_start(own) as i64),
                (None, _) if *in_place => {
                    text -= tokens;
                    Place::From(text)
                }
                (_, Positions::Level(distance)) => Place::At(begin - distance as i64),
                (_, Positions::Fitting | Positions::Contiguous) => Place::From(at),
            };
            wanted.push((*block, place));
        }
        wanted.reverse();
        placer.place(&mut far, layer, key_bias, &wanted, &mut state.chosen)?;

        let sinks = runs.sinks as i64;
        let place = match settings.positions {
            _ if *in_place => 0,
            Positions::Level(distance) if !chosen.is_empty() => begin - distance as i64 - sinks,
            _ => at - sinks,
        };
        if place != state.sink_place
            && let Some(block) = &mut state.sink_block
        {
            state.sink_place = place;
            placer.angles.prepare([Place::From(place)]);
            let mut keys = state.sinks.keys.clone();
            let table = placer.angles.get(Place::From(place));
            write_rotated(&placer.compute, table, key_bias, (&mut keys, &state.sinks.values), block);
        }
        Ok(())
    }
}
