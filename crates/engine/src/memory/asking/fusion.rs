//! One list from what several ways of finding gave.
//!
//! Of each way's best blocks the first is brought to 1 and the last to 0, and the shares are added up in equal parts
//! (Fox and Shaw, *Combination of Multiple Searches*, 1994). Scales that begin at what an ordinary block has, or where
//! each way has found many more, let one way push aside what another one is sure of (`docs/experiments.md`).

/// How many of each way's best blocks have a share; those behind them stand behind all these, the ways in turns.
const BEST: usize = 8;

/// The blocks of all `ways`, each with its scores and best first, in one list: with their shares, best first; of
/// equals the one that some way has further ahead.
pub(in crate::memory) fn fused(ways: &[Vec<(usize, f32)>]) -> Vec<(usize, f64)> {
    let mut all: Vec<(usize, f64)> = Vec::new();
    for index in 0..ways.iter().map(Vec::len).max().unwrap_or(0) {
        for way in ways {
            let Some((block, score)) = way.get(index) else { continue };
            let last = way[way.len().min(BEST) - 1].1;
            let width = way[0].1 - last;
            let share = match index {
                0 => 1.0,
                _ if width > 0.0 => f64::from(((score - last) / width).max(0.0)),
                _ => 0.0,
            };
            match all.iter_mut().find(|(known, _)| known == block) {
                Some((_, sum)) => *sum += share,
                None => all.push((*block, share)),
            }
        }
    }
    // The sort is stable: of equals the one that came first in turns.
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(ways: &[Vec<(usize, f32)>]) -> Vec<usize> {
        fused(ways).into_iter().map(|(block, _)| block).collect()
    }

    #[test]
    fn shares_of_the_best_add_up() {
        // Of the first way 5 has 1, 2 has 0.75, 9 has 0; of the second 7 has 1, 2 has 0.5, 4 has 0.
        let ways = [vec![(5, 10.0), (2, 8.0), (9, 2.0)], vec![(7, 0.3), (2, 0.2), (4, 0.1)]];
        assert_eq!(order(&ways), [2, 5, 7, 9, 4]);
        let best = fused(&ways)[0].1;
        assert!((best - 1.25).abs() < 1e-6, "{best}");
    }

    #[test]
    fn what_comes_after_the_best_takes_turns() {
        let way = |first: usize| (0..20).map(|i| (first + i, 100.0 - i as f32)).collect::<Vec<_>>();
        let found = order(&[way(0), way(100)]);
        assert_eq!(found[..4], [0, 100, 1, 101]);
        assert_eq!(found[14..20], [7, 107, 8, 108, 9, 109]);
        assert_eq!(found.len(), 40);
    }

    #[test]
    fn ways_that_find_little_or_nothing_are_no_trouble() {
        let way = vec![(3, 1.0), (1, 0.5)];
        assert_eq!(order(&[way.clone(), Vec::new()]), [3, 1]);
        assert_eq!(order(&[way]), [3, 1]);
        assert_eq!(order(&[]), [0; 0]);
        assert_eq!(order(&[vec![(4, 1.0), (2, 1.0)], vec![(8, -1.0)]]), [4, 8, 2]);
    }
}
