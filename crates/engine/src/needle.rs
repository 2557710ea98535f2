//! Facts hidden in a text, to see whether they are found: each has look-alikes of its own kind.
mod latent;

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
    /// Numbers again, but a question asks for two of them, which stand far apart.
    Multi,
    /// Something about a person that answers a question with which it shares no content word.
    Latent,
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

/// A question about a text with hidden facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The question.
    pub text: String,
    /// What a right answer contains, all of it, upper and lower case alike; nothing if the text does not say.
    pub answers: Vec<String>,
    /// Which facts, by their places in the list.
    pub facts: Vec<usize>,
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

/// How many facts of a kind there can be.
pub fn most(kind: Kind) -> usize {
    if kind == Kind::Latent { latent::TABLE.len() } else { FIRST.len() * LAST.len() }
}

/// `count` facts about different people. The same seed gives the same facts.
///
/// # Panics
/// If more are asked for than [`most`].
pub fn facts(kind: Kind, count: usize, seed: u64) -> Vec<Fact> {
    assert!(count <= most(kind), "{count} facts are more than there are");
    let mut random = Pcg64::seed_from_u64(seed);
    let people = people(&mut random);
    let said = sayings(seed);
    (0..count).map(|index| fact(kind, &people[index], &mut random, said[index % said.len()])).collect()
}

/// Questions whose answers are in the text.
pub fn questions(kind: Kind, facts: &[Fact]) -> Vec<Question> {
    let question = |(index, fact): (usize, &Fact)| {
        if kind != Kind::Multi || facts.len() < 2 {
            let (text, answers) = (fact.question.clone(), vec![fact.answer.clone()]);
            return Question { text, answers, facts: vec![index] };
        }
        let other = (index + facts.len() / 2) % facts.len();
        let name = |index: usize| {
            let question: &str = &facts[index].question;
            question.strip_prefix(NUMBER_OF).unwrap_or(question).trim_end_matches('?').to_owned()
        };
        Question {
            text: format!("What are the membership numbers of {} and {}?", name(index), name(other)),
            answers: vec![fact.answer.clone(), facts[other].answer.clone()],
            facts: vec![index, other],
        }
    };
    facts.iter().enumerate().map(question).collect()
}

/// At most `count` questions of the same kind about what [`facts`] of the same `count` and seed do not say: other
/// people's numbers, or something that nobody did.
pub fn absent(kind: Kind, count: usize, seed: u64) -> Vec<Question> {
    let people = people(&mut Pcg64::seed_from_u64(seed));
    let mut random = Pcg64::seed_from_u64(!seed);
    let said = sayings(seed);
    let question = |index: usize| {
        let text = fact(kind, &people[index % people.len()], &mut random, said[index % said.len()]).question;
        Question { text, answers: Vec::new(), facts: Vec::new() }
    };
    (count..most(kind).min(2 * count)).map(question).collect()
}

/// All names, in an order of their own for each state of `random`.
fn people(random: &mut Pcg64) -> Vec<String> {
    let mut people: Vec<String> =
        FIRST.iter().flat_map(|first| LAST.iter().map(move |last| format!("{first} {last}"))).collect();
    shuffle(&mut people, random);
    people
}

/// All latent facts, in an order of their own for each seed.
fn sayings(seed: u64) -> Vec<(&'static str, &'static str)> {
    let mut said = latent::TABLE.to_vec();
    shuffle(&mut said, &mut Pcg64::seed_from_u64(seed));
    said
}

/// Fisher and Yates.
fn shuffle<T>(list: &mut [T], random: &mut Pcg64) {
    for i in (1..list.len()).rev() {
        list.swap(i, below(random, i + 1));
    }
}

const NUMBER_OF: &str = "What is the membership number of ";

fn fact(kind: Kind, name: &str, random: &mut Pcg64, (said, asked): (&str, &str)) -> Fact {
    match kind {
        Kind::Latent => {
            Fact { text: format!("{name} {said}."), question: asked.to_owned(), answer: name.to_owned() }
        }
        Kind::Number | Kind::Multi => {
            let number = 1_000_000 + below(random, 9_000_000);
            Fact {
                text: format!("The membership number of {name} is {number}."),
                question: format!("{NUMBER_OF}{name}?"),
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

    const KINDS: [Kind; 5] = [Kind::Number, Kind::Uuid, Kind::Sentence, Kind::Multi, Kind::Latent];

    #[test]
    fn facts_differ_and_repeat_with_their_seed() {
        for kind in KINDS {
            let count = most(kind).min(200);
            let some = facts(kind, count, 5);
            assert_eq!(some, facts(kind, count, 5));
            assert_ne!(some, facts(kind, count, 6));
            let questions: BTreeSet<_> = some.iter().map(|fact| &fact.question).collect();
            assert_eq!(questions.len(), count, "every question has one answer");
            for fact in &some {
                assert!(
                    fact.text.contains(&fact.answer) && !fact.question.contains(&fact.answer),
                    "{fact:?}"
                );
            }
        }
    }

    #[test]
    fn questions_are_answered_by_their_facts_alone_or_by_none() {
        for kind in KINDS {
            let facts = facts(kind, 100, 3);
            let questions = questions(kind, &facts);
            assert_eq!(questions.len(), 100);
            for question in &questions {
                assert_eq!(question.facts.len(), if kind == Kind::Multi { 2 } else { 1 });
                for (answer, fact) in question.answers.iter().zip(&question.facts) {
                    assert!(facts[*fact].text.contains(answer));
                }
            }
            let absent = absent(kind, 100, 3);
            assert_eq!(absent.len(), if kind == Kind::Latent { most(kind) - 100 } else { 100 });
            let asked: BTreeSet<_> = facts.iter().map(|fact| &fact.question).collect();
            for question in &absent {
                assert!(!asked.contains(&question.text) && question.facts.is_empty(), "{question:?}");
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
