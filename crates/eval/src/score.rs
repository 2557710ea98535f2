//! What an answer is worth: from 0 to 1, as each task family published it.

/// A way of scoring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scorer {
    /// The share of the expected strings that the answer contains, upper and lower case alike (RULER's
    /// `string_match_all`).
    All,
    /// 1 if the answer contains any of them (RULER's `string_match_part`, Lost in the Middle).
    Any,
    /// 1 if the first number in the answer is the expected one (`LongEval`).
    FirstNumber,
    /// 1 if of the task's labels exactly the expected one is in the answer's first sentence, those of the question
    /// left aside (BABILong).
    OnlyLabel {
        /// All answers that the task knows.
        labels: Vec<String>,
        /// The question.
        question: String,
    },
    /// 1 if the answer, normalised, is one of the expected ones (SQuAD's exact match).
    Exact,
    /// The overlap in words with the nearest expected answer (SQuAD's F1).
    WordF1,
    /// 1 if the last number in the answer is the expected one (GSM8K).
    LastNumber,
}

impl Scorer {
    /// The score of `answer`.
    pub fn score(&self, answer: &str, expected: &[String]) -> f64 {
        let has = |wanted: &String| answer.to_lowercase().contains(&wanted.to_lowercase());
        match self {
            Self::All => {
                expected.iter().filter(|wanted| has(wanted)).count() as f64 / expected.len().max(1) as f64
            }
            Self::Any => whether(expected.iter().any(has)),
            Self::FirstNumber => whether(numbers(answer).first() == expected.first()),
            Self::LastNumber => {
                let wanted = expected.first().and_then(|wanted| last_value(wanted));
                whether(wanted.is_some() && last_value(answer) == wanted)
            }
            Self::OnlyLabel { labels, question } => {
                whether(expected.iter().any(|wanted| only_label(answer, wanted, labels, question)))
            }
            Self::Exact => {
                let answer = normalise(answer);
                whether(expected.iter().any(|wanted| normalise(wanted) == answer))
            }
            Self::WordF1 => expected.iter().map(|wanted| word_f1(answer, wanted)).fold(0.0, f64::max),
        }
    }
}

fn whether(right: bool) -> f64 {
    f64::from(u8::from(right))
}

/// Whole numbers, without the commas between thousands.
fn numbers(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let mut numbers = Vec::new();
    let mut number = String::new();
    for (at, &c) in text.iter().enumerate() {
        let digit_after = text.get(at + 1).is_some_and(char::is_ascii_digit);
        let between_thousands = c == ',' && digit_after;
        if c.is_ascii_digit() {
            number.push(c);
        } else if !number.is_empty() && !between_thousands {
            numbers.push(std::mem::take(&mut number));
        }
    }
    if !number.is_empty() {
        numbers.push(number);
    }
    numbers
}

/// The last number, whole or decimal, as the integer of its hundredths.
fn last_value(text: &str) -> Option<i64> {
    let parts = text.split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',' | '-')));
    let mut values = parts.filter_map(|part| {
        let bare = part.replace(',', "");
        let bare = bare.trim_end_matches(['.', '-']);
        // A minus sign stands before its number; what stands between two is a range or a difference.
        let number = bare.rfind('-').map_or(bare, |at| if at == 0 { bare } else { &bare[at + 1..] });
        let value: f64 = number.parse().ok()?;
        Some((value * 100.0).round() as i64)
    });
    values.next_back()
}

fn only_label(answer: &str, wanted: &str, labels: &[String], question: &str) -> bool {
    let (answer, question) = (answer.to_lowercase(), question.to_lowercase());
    let ends = [".", "<context>", "<example>"];
    let said = ends.iter().fold(answer.as_str(), |said, end| said.split(end).next().unwrap_or(said));
    let named: Vec<String> = labels
        .iter()
        .map(|label| label.to_lowercase())
        .filter(|label| said.contains(label.as_str()) && !question.contains(label.as_str()))
        .collect();
    named == [wanted.to_lowercase()]
}

/// Lower case, no punctuation, no articles, single spaces (the script of Rajpurkar et al., *SQuAD*, 2016).
pub fn normalise(text: &str) -> String {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = bare.split_whitespace().filter(|word| !["a", "an", "the"].contains(word));
    words.collect::<Vec<_>>().join(" ")
}

fn word_f1(answer: &str, wanted: &str) -> f64 {
    let (answer, wanted) = (normalise(answer), normalise(wanted));
    let (said, wanted): (Vec<&str>, Vec<&str>) = (
        answer.split(' ').filter(|w| !w.is_empty()).collect(),
        wanted.split(' ').filter(|w| !w.is_empty()).collect(),
    );
    if said.is_empty() || wanted.is_empty() {
        return whether(said == wanted);
    }
    let mut left = wanted.clone();
    let common = said
        .iter()
        .filter(|word| left.iter().position(|other| other == *word).map(|at| left.swap_remove(at)).is_some())
        .count() as f64;
    2.0 * common / (said.len() + wanted.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(all: &[&str]) -> Vec<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn parts_and_wholes() {
        let expected = strings(&["1234567", "7654321"]);
        assert!((Scorer::All.score(" 1234567, and 99.", &expected) - 0.5).abs() < 1e-12);
        assert!((Scorer::Any.score(" 1234567, and 99.", &expected) - 1.0).abs() < 1e-12);
        assert!(Scorer::Any.score("neither", &expected) < 1e-12);
        assert!((Scorer::All.score("ABCDE fghij", &strings(&["abcde", "FGHIJ"])) - 1.0).abs() < 1e-12);
        assert!((Scorer::Any.score("ABC", &strings(&["abc"])) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn numbers_first_and_last() {
        let score = |scorer: Scorer, answer: &str| scorer.score(answer, &strings(&["1200"]));
        assert!(score(Scorer::FirstNumber, "It is <1200>, not 7.") > 0.5);
        assert!(score(Scorer::FirstNumber, "Not 7 but 1200.") < 0.5);
        assert!(score(Scorer::LastNumber, "7 * 171 = 1,200.") > 0.5);
        assert!(score(Scorer::LastNumber, "It costs $1200.00.") > 0.5);
        assert!(score(Scorer::LastNumber, "5-1200") > 0.5);
        assert!(score(Scorer::LastNumber, "-1200") < 0.5);
        assert!(score(Scorer::LastNumber, "1200.5") < 0.5);
        assert!(score(Scorer::LastNumber, "no number") < 0.5);
    }

    #[test]
    fn one_label_and_no_other() {
        let labels = strings(&["kitchen", "garden", "office"]);
        let scorer =
            Scorer::OnlyLabel { labels, question: "Where was the milk before the office?".to_owned() };
        let score = |answer: &str| scorer.score(answer, &strings(&["garden"]));
        assert!(score("Before the office the milk was in the Garden. Then the kitchen.") > 0.5);
        assert!(score("In the garden or the kitchen.") < 0.5);
        assert!(score("In the office.") < 0.5);
        assert!(score("garden <example> kitchen") > 0.5);
        assert!(score("") < 0.5);
    }

    #[test]
    fn answers_are_normalised() {
        let expected = strings(&["the Denver Broncos", "Denver"]);
        assert!(Scorer::Exact.score(" Denver   Broncos.", &expected) > 0.5);
        assert!(Scorer::Exact.score("Denver, Colorado", &expected) < 0.5);
        // "denver broncos won" has two of three words in common with two: 2 · 2 / 5.
        assert!((Scorer::WordF1.score("Denver Broncos won", &expected) - 0.8).abs() < 1e-9);
        assert!(Scorer::WordF1.score("", &expected) < 1e-12);
    }
}
