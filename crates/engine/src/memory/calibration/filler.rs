//! Text that says nothing in particular, to hide facts in: sentences of an invented chronicle.
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use std::fmt::Write;

const WHO: &[&str] = &[
    "the miller",
    "an old sailor",
    "the doctor's wife",
    "her brother",
    "the schoolmaster",
    "a stranger",
    "the younger of the two sisters",
    "nobody in the village",
    "the captain",
    "my grandfather",
    "the innkeeper",
    "a boy with a dog",
    "the widow",
    "the new curate",
    "one of the masons",
    "the postmistress",
    "their cousin",
    "the man from the railway",
    "a party of surveyors",
    "the girl at the gate",
    "the bishop",
    "an engineer",
];
const DID: &[&str] = &[
    "walked down to",
    "had never liked",
    "spoke for an hour about",
    "remembered",
    "turned away from",
    "wrote home about",
    "sat for a long while beside",
    "was asked to look after",
    "came back to",
    "paid too much for",
    "laughed at",
    "drew a map of",
    "could not explain",
    "waited all morning near",
    "began to mistrust",
    "had dreamt about",
    "took the road past",
    "hid something under",
    "swept the leaves from",
    "quarrelled over",
    "kept watch over",
];
const WHAT: &[&str] = &[
    "the harbour",
    "the empty house",
    "the river",
    "the orchard wall",
    "that winter",
    "the price of corn",
    "the old road",
    "the letter",
    "the church tower",
    "the new bridge",
    "the garden",
    "the storm of the year before",
    "the mill pond",
    "the railway station",
    "the north field",
    "the light in the window",
    "the broken gate",
    "a box of tools",
    "the long table",
    "the stable",
    "the almanac",
    "the lane behind the school",
    "the quarry",
    "the market square",
];
const WHEN: &[&str] = &[
    "In the evening",
    "After the rain",
    "Some weeks later",
    "On the first day of the fair",
    "Before anyone was awake",
    "As the clock struck",
    "Towards the end of the month",
    "When the frost had gone",
    "That same afternoon",
    "Once more",
    "While the others slept",
    "Against all advice",
    "To everybody's surprise",
    "Not long after the harvest",
    "At last",
];
const WHY: &[&str] = &[
    "because there was nothing else to do",
    "for reasons that were never given",
    "as people of that trade will",
    "though it was already growing dark",
    "and the matter was not mentioned again",
    "with a kind of quiet pride",
    "so that supper was late",
    "until the candles had burned down",
    "and there it might have ended",
    "which pleased the children more than anything",
    "in spite of the cold wind from the hills",
    "and for a time all was as it had been",
    "while the bells rang on the other side of the valley",
    "as if it had been agreed upon long ago",
    "without so much as a word of thanks",
    "and that was the end of the talk",
];

/// At least `bytes` of it, in paragraphs. The same seed gives the same text.
pub(super) fn filler(bytes: usize, seed: u64) -> String {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut pick = |list: &[&'static str]| list[(random.next_u64() % list.len() as u64) as usize];
    let mut text = String::with_capacity(bytes + 1024);
    while text.len() < bytes {
        for sentence in 0..5 {
            let (who, did, what, why) = (pick(WHO), pick(DID), pick(WHAT), pick(WHY));
            let written = match (text.len() + sentence) % 3 {
                0 => write!(text, "{}, {who} {did} {what}, {why}. ", pick(WHEN)),
                1 => write!(text, "{} {who} {did} {what}. ", pick(WHEN)),
                _ => {
                    let other = pick(WHAT);
                    write!(text, "{}, and {who} {did} {what} and {other}, {why}. ", pick(WHEN))
                }
            };
            written.expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}
