//! `niah_*`: values that belong to keys, hidden in noise, in prose, or among their like.
use super::Ruler;
use crate::Error;
use crate::item::{Frame, Item, Pose, Reading};
use crate::random::Random;
use crate::score::Scorer;
use crate::words::Names;

const ANSWER: usize = 128;
const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
/// Places at which a needle may stand in prose, from its beginning to its end.
const PLACES: usize = 40;

/// What the needles are hidden in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haystack {
    Noise,
    Prose,
    Needles,
}

/// A task's settings, as RULER's configuration has them.
#[derive(Debug, Clone, Copy)]
struct Setting {
    haystack: Haystack,
    /// Keys are UUIDs, not names.
    uuid_keys: bool,
    /// Values are UUIDs, not numbers.
    uuid_values: bool,
    keys: usize,
    values: usize,
    queries: usize,
}

fn setting(task: &str) -> Setting {
    use Haystack::{Needles, Noise, Prose};
    let one =
        Setting { haystack: Prose, uuid_keys: false, uuid_values: false, keys: 1, values: 1, queries: 1 };
    match task {
        "niah_single_1" => Setting { haystack: Noise, ..one },
        "niah_single_3" => Setting { uuid_values: true, ..one },
        "niah_multikey_1" => Setting { keys: 4, ..one },
        "niah_multikey_2" => Setting { haystack: Needles, ..one },
        "niah_multikey_3" => Setting { haystack: Needles, uuid_keys: true, uuid_values: true, ..one },
        "niah_multivalue" => Setting { values: 4, ..one },
        "niah_multiquery" => Setting { keys: 4, queries: 4, ..one },
        _ => one,
    }
}

fn needle(values: &str, key: &str, value: &str) -> String {
    format!("One of the special magic {values} for {key} is: {value}.")
}

fn frame(kind: &str, query: &str, one: bool) -> Frame {
    let (some, are, are_all) = if one { ("A", "is", "is") } else { ("Some", "are", "are all") };
    // Of one, RULER says "number" and not "numbers".
    let kind = if one { &kind[..kind.len() - 1] } else { kind };
    Frame {
        example: String::new(),
        before: format!(
            "{some} special magic {kind} {are} hidden within the following text. Make sure to memorize it. \
             I will quiz you about the {kind} afterwards.\n"
        ),
        after: format!(
            "\nWhat {are_all} the special magic {kind} for {query} mentioned in the provided text?"
        ),
        prefix: format!(" The special magic {kind} for {query} mentioned in the provided text {are}"),
        raw: false,
    }
}

impl Ruler<'_> {
    pub(super) fn needles(&mut self, task: &str, length: usize, index: usize) -> Result<Item, Error> {
        let setting = setting(task);
        let mut random = self.random(task, length, index);
        let kind = if setting.uuid_values { "uuids" } else { "numbers" };
        let mut names = Names::without([]);
        let value = |random: &mut Random| if setting.uuid_values { random.uuid() } else { random.digits(7) };
        let keys: Vec<(String, Vec<String>)> = (0..setting.keys)
            .map(|_| {
                let key = if setting.uuid_keys { random.uuid() } else { names.next(&mut random) };
                (key, (0..setting.values).map(|_| value(&mut random)).collect())
            })
            .collect();
        let asked = random.sample(keys.len(), setting.queries);
        let asked: Vec<&(String, Vec<String>)> = asked.into_iter().map(|at| &keys[at]).collect();
        let expected: Vec<String> = asked.iter().flat_map(|(_, values)| values.clone()).collect();
        let query = list(&asked.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>());
        let one = setting.queries * setting.values == 1;
        let frame = frame(kind, &query, one);

        let mut needles: Vec<String> = keys
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| needle(kind, key, value)))
            .collect();
        random.shuffle(&mut needles);
        let needle_tokens: usize = needles.iter().map(|needle| self.tokens(&format!(" {needle}"))).sum();
        let room = self.room(task, length, &frame, ANSWER)?.saturating_sub(needle_tokens);
        let (context, shelf) = match setting.haystack {
            Haystack::Prose => {
                let prose = self.prose()?;
                let sentences = prose.fit(task, room)?;
                let mut places = random.sample(PLACES, needles.len());
                places.sort_unstable();
                let inserts: Vec<(usize, &str)> = places
                    .iter()
                    .zip(&needles)
                    .map(|(place, needle)| (sentences * place / (PLACES - 1), needle.as_str()))
                    .collect();
                (prose.with(sentences, &inserts), "prose")
            }
            Haystack::Noise => {
                let line = self.tokens(&format!("\n{NOISE}"));
                (among(vec![NOISE.to_owned(); room / line], &needles, &mut random), "noise")
            }
            Haystack::Needles => {
                (among(self.look_alikes(task, length, room, &asked[0].0), &needles, &mut random), task)
            }
        };
        let depth = expected.iter().filter_map(|value| context.find(value)).min();
        let depth = depth.map(|at| at as f64 / context.len() as f64);
        let questions = match (one, setting.queries) {
            (true, _) => vec![format!("What is the special magic {} for {query}?", &kind[..kind.len() - 1])],
            (false, 1) => vec![format!("What are all the special magic {kind} for {query}?")],
            (false, _) => {
                asked.iter().map(|(key, _)| format!("What is the special magic number for {key}?")).collect()
            }
        };
        let part = |(key, _): &&(String, Vec<String>)| self::frame(kind, key, true);
        let parts = if setting.queries > 1 { asked.iter().map(part).collect() } else { Vec::new() };
        let passages = if setting.values > 1 { 8 } else { 2 };
        Ok(Item {
            task: task.to_owned(),
            length,
            index,
            depth,
            context,
            shelf: shelf.to_owned(),
            frame,
            pose: Pose::Find { questions, passages, read: if one { Reading::Best } else { Reading::Spread } },
            needs: expected.clone(),
            expected,
            scorer: Scorer::All,
            max_tokens: ANSWER,
            quotes: true,
            parts,
            like: Vec::new(),
        })
    }

    /// Needles for other keys, the same ones for all items of a length, so that they are read once.
    fn look_alikes(&self, task: &str, length: usize, room: usize, but: &str) -> Vec<String> {
        let mut random = Random::new(self.seed, &[&"ruler look-alikes", &task, &length]);
        let setting = setting(task);
        let kind = if setting.uuid_values { "uuids" } else { "numbers" };
        let mut names = Names::without([]);
        let (mut lines, mut tokens) = (Vec::new(), 0);
        loop {
            let key = if setting.uuid_keys { random.uuid() } else { names.next(&mut random) };
            let value = if setting.uuid_values { random.uuid() } else { random.digits(7) };
            let line = needle(kind, &key, &value);
            tokens += self.tokens(&format!("\n{line}"));
            if tokens > room {
                return lines;
            }
            if key != but {
                lines.push(line);
            }
        }
    }
}

/// Lines with others at random places among them.
fn among(mut lines: Vec<String>, others: &[String], random: &mut Random) -> String {
    let mut places = random.sample(lines.len() + 1, others.len());
    places.sort_unstable_by(|a, b| b.cmp(a));
    for (place, other) in places.into_iter().zip(others) {
        lines.insert(place, other.clone());
    }
    lines.join("\n")
}

/// `a`, `a, and b`, `a, b, and c`: as RULER joins them.
fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{}, and {last}", most.join(", ")),
    }
}
