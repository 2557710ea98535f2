//! Text to terms.
//!
//! * Words are runs of letters and digits, in lower case; an apostrophe inside is dropped, an English 's with it.
//! * Numbers and identifiers are kept whole and split: `3.14` gives `3.14 3 14`, `1,250` gives `1250 1 250`,
//!   `IL-2` gives `il-2 il 2`, `max_len` gives `max_len max len`; `well-known` is two words.
//! * Chinese, Japanese and Korean text, which has no spaces, gives every two neighbours (one that stands alone, itself).
use super::stem::stem;

/// How words become terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Analysis {
    /// English endings are cut off (Porter): `connections` becomes `connect`.
    pub stems: bool,
}

impl Default for Analysis {
    fn default() -> Self {
        Self { stems: true }
    }
}

/// A run of letters longer than this is cut: no word is, and memory stays bounded.
const LONGEST: usize = 128;

/// Call `visit` with each term of `text` and the byte offset at which the word begins that it was made from.
pub fn for_each_term(text: &str, analysis: Analysis, visit: &mut dyn FnMut(usize, &str)) {
    let mut compound = Compound { analysis, ..Compound::default() };
    let bytes = text.as_bytes();
    let mut at = 0;
    // The last character, if it was one of a script without spaces, and whether it was in a pair.
    let mut neighbour: Option<(usize, char, bool)> = None;
    while at < bytes.len() {
        // Nearly all of most texts, many times faster than letter by letter.
        let run = bytes[at..].iter().take(LONGEST).take_while(|byte| byte.is_ascii_alphabetic()).count();
        if run > 0 {
            alone(neighbour.take(), visit);
            compound.push_run(at, &text[at..at + run], visit);
            at += run;
            continue;
        }
        let (kind, c, len) = classify(text, at);
        if kind == Kind::Ideograph {
            compound.finish(visit);
            let mut pair = String::with_capacity(8);
            match neighbour {
                Some((start, before, _)) => {
                    pair.extend([before, c]);
                    visit(start, &pair);
                    neighbour = Some((at, c, true));
                }
                None => neighbour = Some((at, c, false)),
            }
            at += len;
            continue;
        }
        alone(neighbour.take(), visit);
        match kind {
            Kind::Letter | Kind::Digit => compound.push(at, c, kind == Kind::Digit, visit),
            Kind::Mark => {}
            _ if compound.is_empty() => {}
            _ => {
                let next = if at + len < bytes.len() { classify(text, at + len).0 } else { Kind::Other };
                if !compound.join(c, next) {
                    compound.finish(visit);
                }
            }
        }
        at += len;
    }
    alone(neighbour, visit);
    compound.finish(visit);
}

fn alone(neighbour: Option<(usize, char, bool)>, visit: &mut dyn FnMut(usize, &str)) {
    if let Some((start, c, false)) = neighbour {
        visit(start, c.encode_utf8(&mut [0; 4]));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    /// An accent written as a character of its own: it belongs to the letter before and is dropped.
    Mark,
    /// Of a script without spaces.
    Ideograph,
    Other,
}

/// The character at byte `at`, and its length.
fn classify(text: &str, at: usize) -> (Kind, char, usize) {
    let byte = text.as_bytes()[at];
    if byte.is_ascii() {
        let kind = match byte {
            b'0'..=b'9' => Kind::Digit,
            b'a'..=b'z' | b'A'..=b'Z' => Kind::Letter,
            _ => Kind::Other,
        };
        return (kind, char::from(byte), 1);
    }
    let c = text[at..].chars().next().expect("`at` is before the end");
    let kind = match c {
        '\u{300}'..='\u{36f}' => Kind::Mark,
        '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Kind::Ideograph,
        c if c.is_numeric() => Kind::Digit,
        c if c.is_alphabetic() => Kind::Letter,
        _ => Kind::Other,
    };
    (kind, c, c.len_utf8())
}

/// Words that belong together, so far.
#[derive(Debug, Default)]
struct Compound {
    analysis: Analysis,
    start: usize,
    /// All words, in lower case, with what joins them.
    whole: String,
    /// Where in `whole` each word ends and the next begins.
    joints: Vec<(usize, usize)>,
    has_digit: bool,
    has_underscore: bool,
    ends_in_digit: bool,
    /// Where in `whole` an apostrophe was.
    apostrophe: Option<usize>,
    term: String,
}

impl Compound {
    fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }

    fn push(&mut self, at: usize, c: char, digit: bool, visit: &mut dyn FnMut(usize, &str)) {
        if self.whole.len() >= LONGEST {
            self.finish(visit);
        }
        if self.is_empty() {
            self.start = at;
        }
        if c.is_ascii() {
            self.whole.push(c.to_ascii_lowercase());
        } else {
            self.whole.extend(c.to_lowercase());
        }
        self.has_digit |= digit;
        self.ends_in_digit = digit;
    }

    /// ASCII letters, at most [`LONGEST`].
    fn push_run(&mut self, at: usize, letters: &str, visit: &mut dyn FnMut(usize, &str)) {
        if self.whole.len() >= LONGEST {
            self.finish(visit);
        }
        if self.is_empty() {
            self.start = at;
        }
        let from = self.whole.len();
        self.whole.push_str(letters);
        self.whole[from..].make_ascii_lowercase();
        self.ends_in_digit = false;
    }

    /// Whether `c` joins the words so far and what follows it.
    fn join(&mut self, c: char, next: Kind) -> bool {
        if !matches!(next, Kind::Letter | Kind::Digit) {
            return false;
        }
        let end = self.whole.len();
        let between_digits = self.ends_in_digit && next == Kind::Digit;
        match c {
            '\'' | '\u{2019}' if next == Kind::Letter => self.apostrophe = Some(end),
            // Thousands are written with and without.
            ',' if between_digits => self.joints.push((end, end)),
            '.' | ':' | '/' if between_digits => self.joint(c),
            '-' | '\u{2010}' | '\u{2011}' => self.joint('-'),
            '_' => {
                self.has_underscore = true;
                self.joint('_');
            }
            _ => return false,
        }
        true
    }

    fn joint(&mut self, c: char) {
        let end = self.whole.len();
        self.whole.push(c);
        self.joints.push((end, end + 1));
    }

    fn finish(&mut self, visit: &mut dyn FnMut(usize, &str)) {
        if self.is_empty() {
            return;
        }
        // "John's": only where it is the last of it.
        if self.apostrophe.is_some_and(|at| &self.whole[at..] == "s") {
            self.whole.pop();
        }
        if !self.joints.is_empty() && (self.has_digit || self.has_underscore) {
            visit(self.start, &self.whole);
        }
        if self.joints.is_empty() {
            if self.analysis.stems {
                stem(&mut self.whole);
            }
            visit(self.start, &self.whole);
            self.clear();
            return;
        }
        let ends = self.joints.iter().map(|joint| joint.0).chain([self.whole.len()]);
        let mut word = 0;
        for (index, end) in ends.enumerate() {
            self.term.clear();
            self.term.push_str(&self.whole[word..end]);
            if self.analysis.stems {
                stem(&mut self.term);
            }
            visit(self.start, &self.term);
            word = self.joints.get(index).map_or(end, |joint| joint.1);
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.whole.clear();
        self.joints.clear();
        (self.has_digit, self.has_underscore, self.apostrophe) = (false, false, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut terms = Vec::new();
        for_each_term(text, Analysis { stems: false }, &mut |at, term| {
            assert!(text.is_char_boundary(at));
            terms.push(term.to_owned());
        });
        assert_eq!(terms, expected, "{text:?}");
    }

    #[test]
    fn words_and_numbers() {
        check("The dog, the Dog!", &["the", "dog", "the", "dog"]);
        check(
            "John's dogs don't; dogs' O’Brien 'quoted'",
            &["john", "dogs", "dont", "dogs", "obrien", "quoted"],
        );
        check(
            "it costs 1,250.50 or 3/4.",
            &["it", "costs", "1250.50", "1", "250", "50", "or", "3/4", "3", "4"],
        );
        check("at 12:30, 7", &["at", "12:30", "12", "30", "7"]);
        check("well-known IL-2 and p53", &["well", "known", "il-2", "il", "2", "and", "p53"]);
        check("snake_case(max_len2)", &["snake_case", "snake", "case", "max_len2", "max", "len2"]);
        check("f47ac10b-58cc", &["f47ac10b-58cc", "f47ac10b", "58cc"]);
        check("end-", &["end"]);
        check("-- _ ' ,", &[]);
        check("", &[]);
    }

    #[test]
    fn other_scripts() {
        check("ÜBER Straße École", &["über", "straße", "école"]);
        check("cafe\u{301} noir", &["cafe", "noir"]);
        check("東京都 と、 x", &["東京", "京都", "と", "x"]);
        check("Москва ١٢", &["москва", "١٢"]);
        check("naïve🦀crab", &["naïve", "crab"]);
    }

    #[test]
    fn no_term_is_longer_than_memory_should_be() {
        let mut longest = 0;
        for_each_term(&"a-1_".repeat(100_000), Analysis::default(), &mut |_, term| {
            longest = longest.max(term.len());
        });
        assert!(longest <= 2 * LONGEST, "{longest}");
        for_each_term(&"'".repeat(1000), Analysis::default(), &mut |_, _| ());
    }
}
