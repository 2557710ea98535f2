//! Questions whose answer takes several steps: what is found is asked about in its turn.
//!
//! ```text
//! question ─► passages ─► sentences that name what was asked about ─► names in them ─► passages ─► …
//! ```
use longleaf_engine::memory::Excerpt;
use std::collections::BTreeSet;

/// Ask `find`, and again about the names that stand beside those asked about, `hops` times at most. The names that were
/// found, in the order of the steps.
pub(super) fn follow<E>(
    question: &str,
    hops: usize,
    mut find: impl FnMut(&str) -> Result<Vec<Excerpt>, E>,
) -> Result<Vec<String>, E> {
    let mut trail = Vec::new();
    let mut known: BTreeSet<String> = names(question).map(str::to_owned).collect();
    let mut asked: BTreeSet<String> = known.clone();
    let mut next = question.to_owned();
    // What leads on stands beside something that was asked about; at first that is every word of the question.
    let mut about: BTreeSet<String> = words(question).map(str::to_lowercase).collect();
    // What was read before may lead on from a name that was not known then.
    let mut read: BTreeSet<String> = BTreeSet::new();
    for _ in 0..=hops {
        let excerpts = find(&next)?;
        read.extend(excerpts.iter().flat_map(|excerpt| sentences(&excerpt.text)).map(str::to_owned));
        let mut new: BTreeSet<String> = BTreeSet::new();
        let mut best = 0;
        for sentence in &read {
            let shared = words(sentence).filter(|word| about.contains(&word.to_lowercase())).count();
            if shared == 0 || shared < best {
                continue;
            }
            if shared > best {
                best = shared;
                new.clear();
            }
            new.extend(names(sentence).filter(|name| !known.contains(*name)).map(str::to_owned));
        }
        new.retain(|name| !asked.contains(name));
        if new.is_empty() {
            break;
        }
        known.extend(new.iter().cloned());
        trail.extend(new.iter().cloned());
        asked.extend(new.iter().cloned());
        next = new.iter().cloned().collect::<Vec<_>>().join(" ");
        about = new.iter().map(|name| name.to_lowercase()).collect();
    }
    Ok(trail)
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '.', '!', '?']).map(str::trim).filter(|sentence| !sentence.is_empty())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 1 && !COMMON.contains(word))
}

/// Words that begin with a capital letter or a digit.
fn names(text: &str) -> impl Iterator<Item = &str> {
    words(text).filter(|word| word.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()))
}

/// Words that begin sentences or say what kind of thing a name is: no names.
const COMMON: [&str; 44] = [
    "The", "the", "An", "In", "On", "At", "It", "He", "She", "They", "We", "You", "And", "But", "Or", "If",
    "As", "Of", "For", "From", "With", "This", "That", "There", "Here", "Who", "What", "Where", "When",
    "Why", "How", "Which", "is", "was", "are", "of", "in", "to", "VAR", "Find", "all", "His", "Her", "Its",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentences that share a word with the question.
    fn find(text: &str, question: &str) -> Vec<Excerpt> {
        let asked: Vec<&str> = words(question).collect();
        text.lines()
            .filter(|line| words(line).any(|word| asked.contains(&word)))
            .map(|line| Excerpt {
                document: String::new(),
                start: 0,
                end: 0,
                text: line.to_owned(),
                gain: 0.0,
            })
            .collect()
    }

    #[test]
    fn a_chain_is_followed_to_its_end_and_no_further() {
        let text = "VAR ABCDE = 12345\nThe sky is blue.\nVAR FGHIJ = VAR ABCDE\nVAR KLMNO = VAR FGHIJ\nVAR XXXXX = 54321";
        let mut seen = Vec::new();
        let trail = follow("Find all variables that are assigned the value 12345.", 4, |question| {
            let found = find(text, question);
            seen.extend(found.iter().map(|excerpt| excerpt.text.clone()));
            Ok::<_, ()>(found)
        })
        .unwrap();
        for step in ["VAR ABCDE = 12345", "VAR FGHIJ = VAR ABCDE", "VAR KLMNO = VAR FGHIJ"] {
            assert!(seen.iter().any(|line| line == step), "{seen:?}");
        }
        assert_eq!(trail, ["ABCDE", "FGHIJ", "KLMNO"]);
        assert!(!seen.iter().any(|line| line.contains("XXXXX")));
    }

    #[test]
    fn nothing_found_ends_it() {
        let mut asked = 0;
        follow("Where is the milk?", 3, |_| {
            asked += 1;
            Ok::<_, ()>(Vec::new())
        })
        .unwrap();
        assert_eq!(asked, 1);
    }
}
