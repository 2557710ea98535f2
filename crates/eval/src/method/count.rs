//! How often each word of a text occurs, exactly: the answer to questions that no passage answers.
use std::collections::BTreeMap;

/// The `most` most frequent words, numbered, one a line (as small models write lists themselves and copy them best),
/// most frequent first; of equals the one that comes first in the alphabet. A word is whatever stands between white space
/// and has a letter in it.
pub(super) fn frequent(text: &str, most: usize) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in text.split_whitespace().filter(|word| word.contains(char::is_alphabetic)) {
        *counts.entry(word).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    // The sort is stable: equals stay in the order of the alphabet.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(most);
    let lines: Vec<String> =
        counts.iter().enumerate().map(|(at, (word, _))| format!("{}. {word}", at + 1)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_words_come_first() {
        let text = "1. oak 2. elm 3. oak ... ... ... ... 4. ash 5. oak 6. elm 7. fir";
        assert_eq!(frequent(text, 3), "1. oak\n2. elm\n3. ash");
        assert_eq!(frequent("... 12", 3), "");
    }
}
