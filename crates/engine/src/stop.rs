//! What ends an answer beside the model: strings, wherever the tokens' borders fall, and circles.
use longleaf_text::TokenId;

/// Passes text on until a stop string appears. What might be the beginning of one is held back.
#[derive(Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    found: bool,
}

impl StopStrings {
    /// Stop before the first of these; empty strings stop nothing.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new(), found: false }
    }

    /// Take in more text and append to `out` what certainly stands before any stop string.
    pub fn push(&mut self, text: &str, out: &mut String) {
        if self.found {
            return;
        }
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            out.push_str(&self.held[..at]);
            self.held.clear();
            self.found = true;
            return;
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        out.extend(self.held.drain(..self.held.len() - keep));
    }

    /// Whether a stop string was seen.
    pub fn found(&self) -> bool {
        self.found
    }

    /// The text is over: append what was held back.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }
}

/// Length of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let holds =
        |len: &usize| stop.is_char_boundary(*len) && text.as_bytes().ends_with(&stop.as_bytes()[..*len]);
    (1..stop.len()).rev().find(holds).unwrap_or(0)
}

/// Whether the last tokens are a run of them said again: twice if it is long, more often if it is short.
pub(crate) fn goes_in_circles(tokens: &[TokenId]) -> bool {
    /// Longer runs than this are not looked for.
    const PERIOD: usize = 64;
    /// So many tokens must be said again in all.
    const AGAIN: usize = 12;
    (1..=PERIOD.min(tokens.len() / 2)).any(|period| {
        let again = period.max(AGAIN);
        tokens.len() >= period + again
            && tokens[tokens.len() - again..] == tokens[tokens.len() - again - period..][..again]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stops: &[&str], pieces: &[&str], expected: &[&str], found: bool) {
        let mut stop = StopStrings::new(stops.iter().map(|s| (*s).to_owned()));
        let mut given: Vec<_> = pieces
            .iter()
            .map(|piece| {
                let mut out = String::new();
                stop.push(piece, &mut out);
                out
            })
            .collect();
        let mut rest = String::new();
        stop.finish(&mut rest);
        given.push(rest);
        assert_eq!(given, expected, "{stops:?} {pieces:?}");
        assert_eq!(stop.found(), found);
    }

    #[test]
    fn stops_wherever_the_pieces_end() {
        check(&[], &["a", "b"], &["a", "b", ""], false);
        check(&[""], &["a"], &["a", ""], false);
        check(&["\n\n"], &["a\n", "b", "\n", "\nc"], &["a", "\nb", "", "", ""], true);
        check(&["END"], &["xE", "N", "D y"], &["x", "", "", ""], true);
        check(&["END"], &["xE", "N", "E"], &["x", "", "EN", "E"], false);
        check(&["cd", "bc"], &["abcd"], &["a", ""], true);
        check(&["aab"], &["aa", "a", "b"], &["", "a", "", ""], true);
        check(&["é!"], &["caf", "é", "?"], &["caf", "", "é?", ""], false);
        check(&["x"], &["1x2", "3"], &["1", "", ""], true);
    }

    #[test]
    fn circles_are_seen_and_lists_are_none() {
        let said = |again: usize, run: &[TokenId]| [&[90, 91, 92][..], &run.repeat(again)].concat();
        assert!(goes_in_circles(&said(7, &[5, 6])) && !goes_in_circles(&said(6, &[5, 6])));
        assert!(goes_in_circles(&said(13, &[5])) && !goes_in_circles(&said(12, &[5])));
        let sentence: Vec<TokenId> = (0..30).collect();
        assert!(goes_in_circles(&said(2, &sentence)) && !goes_in_circles(&said(1, &sentence)));
        let list: Vec<TokenId> = (0..20).flat_map(|item| [1, 2, 3, 100 + item, 4, 200 + item % 3]).collect();
        assert!(!goes_in_circles(&list) && !goes_in_circles(&[]));
    }
}
