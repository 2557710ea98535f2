//! The three expressions that nearly every model uses, by hand.

use super::Stage;
use crate::tokenizer::class::{LETTER, LOWER, MARK, NUMBER, SPACE, UPPER, class};

/// Length of the piece at the start of `text`, which is not empty; at least one character.
pub(super) fn next(stage: &Stage, text: &str) -> usize {
    match *stage {
        Stage::Gpt2 => gpt2(text),
        Stage::Cl100k { digits, marks } => cl100k(text, digits, if marks { LETTER | MARK } else { LETTER }),
        Stage::O200k { digits, contractions } => o200k(text, digits, contractions),
        _ => text.len(),
    }
}

/// End of the run, from `at`, of characters whose class has one of `any` and none of `none` (0: no condition).
fn run(text: &str, at: usize, any: u8, none: u8) -> usize {
    let mut end = at;
    for c in text[at..].chars() {
        let class = class(c);
        if (any != 0 && class & any == 0) || class & none != 0 {
            break;
        }
        end += c.len_utf8();
    }
    end
}

fn first(text: &str) -> Option<(char, u8)> {
    text.chars().next().map(|c| (c, class(c)))
}

fn gpt2(text: &str) -> usize {
    let Some((c, kind)) = first(text) else { return 0 };
    if c == '\''
        && let Some(length) = contraction(text, false)
    {
        return length;
    }
    // ` ?` takes a space if something other than white space follows it
    let (start, kind) = if c == ' ' {
        match first(&text[1..]) {
            Some((_, kind)) if kind & SPACE == 0 => (1, kind),
            _ => (0, kind),
        }
    } else {
        (0, kind)
    };
    if kind & LETTER != 0 {
        run(text, start, LETTER, 0)
    } else if kind & NUMBER != 0 {
        run(text, start, NUMBER, 0)
    } else if kind & SPACE == 0 {
        run(text, start, 0, SPACE | LETTER | NUMBER)
    } else {
        spaces(text)
    }
}

fn cl100k(text: &str, digits: usize, letters: u8) -> usize {
    let Some((c, kind)) = first(text) else { return 0 };
    if c == '\''
        && let Some(length) = contraction(text, true)
    {
        return length;
    }
    // [^\r\n\p{L}\p{N}]?\p{L}+
    if kind & (LETTER | NUMBER) == 0 && !matches!(c, '\r' | '\n') {
        let after = c.len_utf8();
        if first(&text[after..]).is_some_and(|(_, kind)| kind & letters != 0) {
            return run(text, after, letters, 0);
        }
    }
    if kind & letters != 0 {
        return run(text, 0, letters, 0);
    }
    tail(text, digits, SPACE | NUMBER | letters, &['\r', '\n'])
}

fn o200k(text: &str, digits: usize, contractions: bool) -> usize {
    let Some((c, kind)) = first(text) else { return 0 };
    let prefix = if kind & (LETTER | NUMBER) == 0 && !matches!(c, '\r' | '\n') { c.len_utf8() } else { 0 };
    let word = lower_word(text, prefix)
        .or_else(|| lower_word(text, 0))
        .or_else(|| upper_word(text, prefix))
        .or_else(|| upper_word(text, 0));
    if let Some(end) = word {
        let more = if contractions { contraction(&text[end..], true).unwrap_or(0) } else { 0 };
        return end + more;
    }
    tail(text, digits, SPACE | NUMBER | LETTER, &['\r', '\n', '/'])
}

/// `\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}`: a letter that is not lower case, or a mark.
fn is_upper(class: u8) -> bool {
    class & (LETTER | MARK) != 0 && class & LOWER == 0
}

/// `\p{Ll}\p{Lm}\p{Lo}\p{M}`
fn is_lower(class: u8) -> bool {
    class & (LETTER | MARK) != 0 && class & UPPER == 0
}

/// End of `[U]*[W]+` at `start`.
fn lower_word(text: &str, start: usize) -> Option<usize> {
    let mut at = start;
    // After the last character that is both, as the first run gives back what the second needs.
    let mut shared = None;
    for c in text[start..].chars() {
        let class = class(c);
        if !is_upper(class) {
            break;
        }
        at += c.len_utf8();
        if is_lower(class) {
            shared = Some(at);
        }
    }
    let end = run_while(text, at, is_lower);
    if end > at { Some(end) } else { shared }
}

/// End of `[U]+[W]*` at `start`.
fn upper_word(text: &str, start: usize) -> Option<usize> {
    let upper = run_while(text, start, is_upper);
    (upper > start).then(|| run_while(text, upper, is_lower))
}

fn run_while(text: &str, start: usize, is: fn(u8) -> bool) -> usize {
    start + text[start..].chars().take_while(|&c| is(class(c))).map(char::len_utf8).sum::<usize>()
}

/// `\p{N}{1,digits}| ?[^others]+[line_ends]*|\s*[\r\n]+|\s+(?!\S)|\s+`
fn tail(text: &str, digits: usize, not_others: u8, line_ends: &[char]) -> usize {
    let Some((c, kind)) = first(text) else { return 0 };
    if kind & NUMBER != 0 {
        return text.chars().take(digits).take_while(|&c| class(c) & NUMBER != 0).map(char::len_utf8).sum();
    }
    let start = usize::from(c == ' ');
    let others = run(text, start, 0, not_others);
    if others > start {
        let ends: usize =
            text[others..].chars().take_while(|c| line_ends.contains(c)).map(char::len_utf8).sum();
        return others + ends;
    }
    // \s*[\r\n]+ : to the last line end of the white space
    let end = run(text, 0, SPACE, 0);
    if let Some(last) = text[..end].rfind(['\r', '\n']) {
        return last + 1;
    }
    // A mark where marks count as letters but follow nothing cannot come here: every class has a rule.
    spaces(text).max(c.len_utf8())
}

/// `\s+(?!\S)|\s+`: a run of white space leaves its last character to the word after it.
fn spaces(text: &str) -> usize {
    let end = run(text, 0, SPACE, 0);
    if end == text.len() {
        return end;
    }
    let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
    if end > last { end - last } else { end }
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, in any case if `fold`; U+017F is a long s and folds to s.
fn contraction(text: &str, fold: bool) -> Option<usize> {
    let mut chars = text.chars();
    if chars.next() != Some('\'') {
        return None;
    }
    let lower = |c: char| match c {
        'ſ' if fold => 's',
        _ if fold => c.to_ascii_lowercase(),
        _ => c,
    };
    let one = chars.next()?;
    match lower(one) {
        's' | 't' | 'm' | 'd' => Some(1 + one.len_utf8()),
        a => match (a, lower(chars.next()?)) {
            ('r' | 'v', 'e') | ('l', 'l') => Some(3),
            _ => None,
        },
    }
}
