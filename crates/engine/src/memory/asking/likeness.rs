//! How alike two sentences are worded.
use super::sentence::{normal, written};
use std::collections::{BTreeMap, BTreeSet};

/// Marks that end sentences.
const MARKS: [char; 3] = ['.', '!', '?'];

/// The words of a sentence and its pairs of neighbouring words, each with how often it is there. The beginning of a
/// sentence counts as a word, and so does its end with the mark that stands there. Of a sentence without words: nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pieces(BTreeMap<String, usize>);

impl Pieces {
    /// Those of `sentence`, in which words that were `given`, in their normal form, are like none.
    pub(super) fn of(sentence: &str, given: &BTreeSet<String>) -> Self {
        let mut words = vec!["^".to_owned()];
        words.extend(
            written(sentence)
                .map(normal)
                .map(|word| if given.contains(&word) { "*".to_owned() } else { word }),
        );
        let mut pieces = BTreeMap::new();
        if words.len() == 1 {
            return Self(pieces);
        }
        words.push(
            sentence
                .trim_end()
                .chars()
                .next_back()
                .filter(|c| MARKS.contains(c))
                .map_or_else(|| "$".to_owned(), |mark| format!("${mark}")),
        );
        let pairs = words.windows(2).map(|pair| pair.join(" "));
        for piece in pairs.chain(words.iter().cloned()) {
            *pieces.entry(piece).or_default() += 1;
        }
        Self(pieces)
    }

    /// Dice's coefficient, `2 · shared / (all of one + all of the other)`: from 0 for nothing in common to 1.
    pub(super) fn likeness(&self, other: &Self) -> f64 {
        let shared: usize =
            self.0.iter().map(|(piece, count)| other.0.get(piece).map_or(0, |other| *other.min(count))).sum();
        let all: usize = self.0.values().chain(other.0.values()).sum();
        2.0 * shared as f64 / all.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sentence: &str) -> Pieces {
        Pieces::of(sentence, &BTreeSet::new())
    }

    #[test]
    fn likeness_is_a_matter_of_wording() {
        let like = |a: &str, b: &str| of(a).likeness(&of(b));
        assert!((like("Mary went home.", "Mary went home.") - 1.0).abs() < 1e-12);
        // ^ went to the $., went to, to the: 7 of 13 and 13.
        let other = like("Mary went to the office.", "John went to the garden.");
        assert!((other - 2.0 * 7.0 / 26.0).abs() < 1e-12, "{other}");
        assert!(
            other > like("Mary, who had gone to bed, went to the door again.", "John went to the garden.")
        );
        assert!(other > like("Mary went to the office!", "John went to the garden."), "another mark");
        assert_eq!(of(" ... "), Pieces(BTreeMap::new()));
        assert!(of("").likeness(&of("")) < f64::EPSILON);
    }

    #[test]
    fn what_was_given_is_like_nothing() {
        let given = BTreeSet::from(["mary".to_owned()]);
        let example = of("Mary went home.");
        // went home $., went home, home $.: 5 of 9 and 9, and ^.
        let likeness = Pieces::of("Mary went home.", &given).likeness(&example);
        assert!((likeness - 2.0 * 6.0 / 18.0).abs() < 1e-12, "{likeness}");
        let another = Pieces::of("Mary came home.", &given).likeness(&of("John came home."));
        assert!((another - likeness).abs() < 1e-12, "the name makes no difference");
    }
}
