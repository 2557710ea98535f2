//! Answers in the words of a text: every word that is written occurs there.
//!
//! A small model that copies a number, a UUID or ten rare words spells some of them wrong. Where the answer is known to
//! be a quotation, a token is drawn only if what is written so far goes on as some word of the text:
//!
//! ```text
//! text "… magic number for old-oak is: 7650976."      written " 76" │ "50" may follow, "51" may not
//! ```
//!
//! Answers in words of their own can still be held to the codes and numbers of a text.
use std::collections::BTreeSet;

/// The words of a text. A word is a run of letters, digits, hyphens, underscores and apostrophes; whatever stands between
/// words is free, but for the beginning: a quotation begins with a word, if in quotation marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wording {
    words: BTreeSet<Vec<u8>>,
    once: bool,
    numbered: bool,
    /// Only words with digits are held to the text.
    codes: bool,
}

/// A code is at least so long and has at least so many digits: of shorter numbers some may be counted or reckoned.
const CODE: (usize, usize) = (6, 4);
/// What is asked for with *how* and one of these may have been counted or reckoned: it need not stand in the text.
const AMOUNTS: [&str; 7] = ["many", "much", "often", "old", "long", "far", "few"];

impl Wording {
    /// The words of `text`, with and without the hyphens and quotation marks around them.
    pub fn new(text: &str) -> Self {
        let mut words = BTreeSet::new();
        for word in text.as_bytes().split(|byte| !is_word(*byte)) {
            words.insert(word.to_vec());
            words.insert(bare(word).to_vec());
        }
        Self { words, ..Self::default() }
    }

    /// For an answer in words of its own that is to have its numbers right: words with digits are those of `text` or of
    /// `question`, all others are free. `None` if `text` has no code or long number, which is what models spell wrong, or
    /// if the question asks how many or how much there is.
    pub fn codes(text: &str, question: &str) -> Option<Self> {
        let is_code = |word: &Vec<u8>| word.len() >= CODE.0 && digits(word) >= CODE.1;
        let mut wording = Self::new(text);
        (wording.words.iter().any(is_code) && !asks_amount(question)).then(|| {
            wording.words.append(&mut Self::new(question).words);
            wording.codes = true;
            wording
        })
    }

    /// Without the question's own names, words with digits or hyphens in them: an answer says what the question does not,
    /// and small models like to repeat the key they were asked for.
    #[must_use]
    pub fn besides(mut self, question: &str) -> Self {
        for word in question.as_bytes().split(|byte| !is_word(*byte)) {
            if bare(word).iter().any(|byte| byte.is_ascii_digit() || *byte == b'-') {
                self.words.remove(word);
                self.words.remove(bare(word));
            }
        }
        self
    }

    /// Of these words, each may be written once: for answers that list what is there, which small models do not end.
    #[must_use]
    pub fn each_once(mut self) -> Self {
        self.once = true;
        self
    }

    /// A list with a number or a mark before each word: it may begin with anything.
    #[must_use]
    pub fn numbered(mut self) -> Self {
        self.numbered = true;
        self
    }

    /// Whether `piece` may be written after `written`. An empty piece ends the answer.
    pub(crate) fn allows(&self, written: &[u8], piece: &[u8]) -> bool {
        let start = written.iter().rposition(|byte| !is_word(*byte)).map_or(0, |at| at + 1);
        let (done, open) = written.split_at(start);
        let mut used: BTreeSet<Vec<u8>> = BTreeSet::new();
        if self.once {
            used.extend(done.split(|byte| !is_word(*byte)).map(<[u8]>::to_vec));
        }
        let mut word = open.to_vec();
        let begins = !self.codes && !self.numbered && written.iter().all(|byte| opens(*byte));
        if begins && piece.iter().find(|byte| !opens(**byte)).is_some_and(|byte| !is_word(*byte)) {
            return false;
        }
        if begins && piece.is_empty() && self.words.iter().any(|word| !word.is_empty()) {
            return false;
        }
        for &byte in piece {
            if is_word(byte) {
                word.push(byte);
            } else {
                if !self.has(&word, &used) {
                    return false;
                }
                if self.once {
                    used.insert(word.clone());
                }
                word.clear();
            }
        }
        if piece.is_empty() { self.has(&word, &used) } else { self.begins(&word, &used) }
    }

    /// A whole word that is not used up, one that is not held to the text, or no word at all.
    fn has(&self, word: &[u8], used: &BTreeSet<Vec<u8>>) -> bool {
        let is_none = !word.iter().any(u8::is_ascii_alphanumeric) && word.is_ascii();
        let is_free = self.codes && digits(word) == 0;
        is_none || is_free || self.words.contains(word) && !used.contains(word)
    }

    fn begins(&self, word: &[u8], used: &BTreeSet<Vec<u8>>) -> bool {
        let mut all = self.words.range(word.to_vec()..).take_while(|other| other.starts_with(word));
        self.has(word, used) || all.any(|other| !used.contains(other))
    }
}

/// Letters beyond ASCII have several bytes, all of them words'.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_'".contains(&byte) || !byte.is_ascii()
}

fn asks_amount(question: &str) -> bool {
    let question = question.to_lowercase();
    let words: Vec<&str> = question.split(|c: char| !c.is_alphanumeric()).collect();
    words.windows(2).any(|pair| pair[0] == "how" && AMOUNTS.contains(&pair[1]))
}

fn digits(word: &[u8]) -> usize {
    word.iter().filter(|byte| byte.is_ascii_digit()).count()
}

/// What may stand before a quotation's first word.
fn opens(byte: u8) -> bool {
    b" \"(['".contains(&byte)
}

fn bare(word: &[u8]) -> &[u8] {
    let inner = |byte: &u8| !b"-_'".contains(byte);
    let Some(start) = word.iter().position(inner) else { return &[] };
    let end = word.iter().rposition(inner).map_or(start, |at| at + 1);
    &word[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_written_whole_or_not_at_all() {
        let wording = Wording::new("The magic number for 'old-oak' is: 7650976, für immer.");
        let allows = |written: &str, piece: &str| wording.allows(written.as_bytes(), piece.as_bytes());
        assert!(
            allows("", " 76") && allows("It is: 76", "50") && allows("76", "50") && allows("7650", "976.")
        );
        assert!(!allows("76", "51") && !allows("", " 8") && !allows("7650", ". "));
        assert!(allows("7650976", "") && !allows("765097", ""), "an answer ends with a whole word");
        assert!(allows("old", "-") && allows("old-", "oak is") && !allows("old-", "elm"));
        assert!(allows("is", "\n- ") && allows("is", " ... "), "what is no word is free");
        assert!(
            !allows("", "") && !allows(" ", "") && Wording::default().allows(b"", b""),
            "it says something"
        );
        assert!(
            !allows("", "\n") && !allows(" ", ":") && allows("", " \"") && allows(" \"", "76"),
            "but for the first"
        );
        // Half a letter may be written if the other half follows in some word.
        assert!(allows("f", "\u{fc}") && wording.allows(b"f", &[0xc3]) && !wording.allows(b"f", &[0xc4]));
    }

    #[test]
    fn a_question_is_not_its_own_answer() {
        let wording =
            Wording::new("The number for 'old-oak' is: 76-50.").besides("What is the number for 'old-oak'?");
        let allows = |written: &str, piece: &str| wording.allows(written.as_bytes(), piece.as_bytes());
        assert!(allows("", " The") && allows("", " 76") && allows("76-50", ""));
        assert!(!allows("", " old") && !allows("", " 'old-oak'"));
    }

    #[test]
    fn codes_are_copied_and_all_else_is_free() {
        let text = "Ada Hollingsworth's code is c6de00b0-6668 since May 12.";
        let wording = Wording::codes(text, "Which code had Ada in 1907?").unwrap();
        let allows = |written: &str, piece: &str| wording.allows(written.as_bytes(), piece.as_bytes());
        assert!(allows("", "\n") && allows("", " Her") && allows(" Her", "s is what you") && allows("", ""));
        assert!(!allows(" It is", " 6") && !allows(" It is", " x6") && !allows(" in 19", "50"));
        assert!(allows(" It is", " c") && allows(" It is c", "6de") && allows(" c6de00b0-6668", "."));
        assert!(!allows(" c6de00b", "0.") && !allows(" c6de00b0", "") && !allows(" c6de00b0-6668", "0"));
        assert!(allows(" in 19", "07, on May 12") && !allows(" on May", " 13."));
        assert_eq!(Wording::codes(text, "How many codes has Ada?"), None, "what is counted stands nowhere");
        let short = Wording::codes("In 1907, in the 19th-century house, 12 of them.", "Code 123456?");
        assert_eq!(short, None, "what may be reckoned is free");
    }

    #[test]
    fn a_list_has_each_word_once() {
        let wording = Wording::new("1. oak\n2. oaken\n3. elm").each_once();
        assert!(!wording.allows(b"", b"\n") && wording.clone().numbered().allows(b"", b"\n"));
        let allows = |written: &str, piece: &str| wording.allows(written.as_bytes(), piece.as_bytes());
        assert!(allows("", "1. oak") && !allows("1. oak\n", "1") && allows("1. oak\n", "2."));
        assert!(
            allows("1. oak\n2. ", "oak") && !allows("1. oak\n2. oak", "\n") && allows("1. oak\n2. oak", "en")
        );
        assert!(!allows("", "elm elm "));
    }
}
