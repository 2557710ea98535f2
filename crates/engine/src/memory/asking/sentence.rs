//! Sentences, and their words.
use std::collections::BTreeSet;
use std::ops::Range;

/// Sentences or lines, without the white space around them.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    text.split_inclusive(['.', '!', '?', '\n']).filter_map(move |piece| {
        let (at, end) = (start + piece.len() - piece.trim_start().len(), start + piece.trim_end().len());
        start += piece.len();
        (end > at).then_some(at..end)
    })
}

/// Sentences and lines as above, but what goes on in small letters on the next line is one sentence: prose is often
/// wrapped.
pub(super) fn unwrapped(text: &str) -> Vec<Range<usize>> {
    let mut whole: Vec<Range<usize>> = Vec::new();
    for next in sentences(text) {
        let goes_on = |before: &Range<usize>| {
            let ended = text[before.clone()].ends_with(['.', '!', '?']);
            let breaks = text[before.end..next.start].matches('\n').count();
            !ended && breaks == 1 && text[next.clone()].starts_with(char::is_lowercase)
        };
        match whole.last_mut() {
            Some(before) if goes_on(before) => before.end = next.end,
            _ => whole.push(next),
        }
    }
    whole
}

/// What words are made of: UUIDs and `old-oak` are words.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}

/// All words of a text, each once, in their normal form.
pub(super) fn words(text: &str) -> BTreeSet<String> {
    written(text).map(normal).collect()
}

/// The words of a text. What hyphens and underscores join is one word: a name of five parts (a UUID) counts no more
/// among the words that look-alikes share than a name of one.
pub(super) fn written(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !is_word(c)).map(|word| word.trim_matches(['-', '_']));
    words.filter(|word| !word.is_empty())
}

/// Lower case, without the s of a plural.
pub(super) fn normal(word: &str) -> String {
    let word = word.to_lowercase();
    word.strip_suffix('s').map_or(word.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_sentences_are_whole_and_lines_of_a_list_are_not() {
        let text = "Ada went\r\nto the mill. So\nshe said.\noak\n\nelm\nAsh is\nHere";
        let all =
            |ranges: Vec<Range<usize>>| ranges.into_iter().map(|range| &text[range]).collect::<Vec<_>>();
        let whole = ["Ada went\r\nto the mill.", "So\nshe said.", "oak", "elm", "Ash is", "Here"];
        assert_eq!(all(unwrapped(text)), whole);
        assert_eq!(all(sentences(text).collect())[..2], ["Ada went", "to the mill."]);
    }
}
