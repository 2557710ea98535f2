//! Facts hidden in a text, to see whether they are found: each has look-alikes of its own kind.
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use std::ops::Range;

/// A kind of fact. All facts of a kind are said in the same words, but for who and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number of seven digits that belongs to a name.
    Number,
    /// 128 bits in hexadecimal that belong to a name.
    Uuid,
    /// Who did what, in a sentence as the text around might have it.
    Sentence,
}

/// A fact, and how to ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// A paragraph.
    pub text: String,
    /// The question.
    pub question: String,
    /// What a right answer contains, upper and lower case alike.
    pub answer: String,
}

const FIRST: [&str; 16] = [
    "Ada", "Basil", "Clement", "Dorothea", "Edmund", "Flora", "Gideon", "Harriet", "Isidor", "Judith",
    "Konrad", "Lavinia", "Magnus", "Nora", "Osbert", "Philippa",
];
const LAST: [&str; 16] = [
    "Achterberg",
    "Bellweather",
    "Copperfield",
    "Drakeford",
    "Elphinstone",
    "Fairbrother",
    "Greenhalgh",
    "Hollingsworth",
    "Ingleby",
    "Jellicoe",
    "Kettlewell",
    "Lockhart",
    "Mainwaring",
    "Netherby",
    "Oglethorpe",
    "Pemberton",
];
const ACTS: [&str; 8] =
    ["bought", "lost", "repaired", "painted", "buried", "gave away", "inherited", "dreamt of"];
const QUALITIES: [&str; 12] = [
    "green",
    "broken",
    "silver",
    "three-legged",
    "borrowed",
    "velvet",
    "rusty",
    "tiny",
    "carved",
    "striped",
    "hollow",
    "gilded",
];
const THINGS: [&str; 16] = [
    "umbrella",
    "compass",
    "accordion",
    "kettle",
    "telescope",
    "birdcage",
    "sundial",
    "harpoon",
    "typewriter",
    "lantern",
    "music box",
    "chess board",
    "rocking chair",
    "milk churn",
    "trombone",
    "wheelbarrow",
];

/// `count` facts about different people. The same seed gives the same facts.
///
/// # Panics
/// If more are asked for than there are names: 256.
pub fn facts(kind: Kind, count: usize, seed: u64) -> Vec<Fact> {
    assert!(count <= FIRST.len() * LAST.len(), "{count} facts are more than there are names");
    let mut random = Pcg64::seed_from_u64(seed);
    let mut people: Vec<(usize, usize)> =
        (0..FIRST.len()).flat_map(|first| (0..LAST.len()).map(move |last| (first, last))).collect();
    // Fisher and Yates.
    for i in (1..people.len()).rev() {
        people.swap(i, below(&mut random, i + 1));
    }
    people.truncate(count);
    people
        .into_iter()
        .map(|(first, last)| fact(kind, &format!("{} {}", FIRST[first], LAST[last]), &mut random))
        .collect()
}

fn fact(kind: Kind, name: &str, random: &mut Pcg64) -> Fact {
    match kind {
        Kind::Number => {
            let number = 1_000_000 + below(random, 9_000_000);
            Fact {
                text: format!("The membership number of {name} is {number}."),
                question: format!("What is the membership number of {name}?"),
                answer: number.to_string(),
            }
        }
        Kind::Uuid => {
            let bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
            let hex = format!("{bits:032x}");
            let code = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            Fact {
                text: format!("The access code of {name} is {code}."),
                question: format!("What is the access code of {name}?"),
                answer: code,
            }
        }
        Kind::Sentence => {
            let act = ACTS[below(random, ACTS.len())];
            let thing = format!(
                "{} {}",
                QUALITIES[below(random, QUALITIES.len())],
                THINGS[below(random, THINGS.len())]
            );
            Fact {
                text: format!("On a Tuesday in spring {name} {act} a {thing}, and nobody asked why."),
                question: format!("What was it that {name} {act} on a Tuesday in spring?"),
                answer: thing,
            }
        }
    }
}

/// `haystack` with the facts in it as paragraphs of their own, evenly spread, each at the next end of a line; and
/// where each stands.
pub fn hide(haystack: &str, facts: &[Fact]) -> (String, Vec<Range<usize>>) {
    let mut text =
        String::with_capacity(haystack.len() + facts.iter().map(|fact| fact.text.len() + 2).sum::<usize>());
    let (mut places, mut copied) = (Vec::new(), 0);
    for (index, fact) in facts.iter().enumerate() {
        // In whole numbers, so that the place is the same on every machine.
        let wanted = (haystack.len() * (2 * index + 1) / (2 * facts.len())).max(copied);
        let wanted = haystack.ceil_char_boundary(wanted);
        let cut = haystack[wanted..].find('\n').map_or(haystack.len(), |at| wanted + at + 1);
        text.push_str(&haystack[copied..cut]);
        copied = cut;
        text.push('\n');
        places.push(text.len()..text.len() + fact.text.len());
        text.push_str(&fact.text);
        text.push('\n');
    }
    text.push_str(&haystack[copied..]);
    (text, places)
}

fn below(random: &mut Pcg64, n: usize) -> usize {
    (random.next_u64() % n as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn facts_differ_and_repeat_with_their_seed() {
        for kind in [Kind::Number, Kind::Uuid, Kind::Sentence] {
            let some = facts(kind, 200, 5);
            assert_eq!(some, facts(kind, 200, 5));
            assert_ne!(some, facts(kind, 200, 6));
            let questions: BTreeSet<_> = some.iter().map(|fact| &fact.question).collect();
            assert_eq!(questions.len(), 200, "every question has one answer");
            for fact in &some {
                assert!(
                    fact.text.contains(&fact.answer) && !fact.question.contains(&fact.answer),
                    "{fact:?}"
                );
            }
        }
    }

    #[test]
    fn hidden_facts_stand_where_it_is_said() {
        let haystack = "Wörter, nothing but words.\n".repeat(400);
        let facts = facts(Kind::Sentence, 20, 1);
        let (text, places) = hide(&haystack, &facts);
        assert_eq!(text.len(), haystack.len() + facts.iter().map(|fact| fact.text.len() + 2).sum::<usize>());
        for (fact, place) in facts.iter().zip(&places) {
            assert_eq!(text[place.clone()], fact.text);
            assert!(text[..place.start].ends_with('\n') && text[place.end..].starts_with('\n'));
        }
        let gaps = places.windows(2).map(|pair| pair[1].start - pair[0].end);
        assert!(gaps.clone().min() > Some(300) && gaps.max() < Some(900), "evenly spread");
    }
}
