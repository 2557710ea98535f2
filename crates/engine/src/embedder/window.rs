//! Texts cut into windows that are read for one vector each.
use longleaf_text::{Encoding, TokenId};

/// Some text that has one vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its tokens, not framed.
    pub tokens: Vec<TokenId>,
    /// First byte of it in the text.
    pub start: usize,
    /// One past the last. The next window starts here: together they are the whole text.
    pub end: usize,
}

/// How good a place for a cut is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    Anywhere,
    Sentence,
    Paragraph,
}

/// Cut a text into windows of at most `most` tokens, one after the other. Each ends where a paragraph does or, if none
/// ends in its second half, where a sentence does; if there is neither, it is full.
///
/// A text without tokens is one empty window, so that the last window's end is always the text's.
///
/// # Panics
/// If `most` is 0.
pub fn windows(text: &str, encoding: &Encoding, most: usize) -> Vec<Window> {
    assert!(most > 0, "windows of no tokens");
    let (ids, spans) = (&encoding.ids, &encoding.spans);
    let mut windows = Vec::new();
    let (mut first, mut start) = (0, 0);
    loop {
        let rest = ids.len() - first;
        let count = if rest <= most {
            rest
        } else {
            // Of equal places the last one, which leaves the fewest windows.
            let from = first + most / 2;
            let place = |end: &usize| cut(text, spans[*end - 1].end, spans[*end].start);
            let best = (from.max(first + 1)..=first + most).max_by_key(|end| (place(end), *end));
            best.expect("a range of at least one") - first
        };
        let end = if count == rest { text.len() } else { spans[first + count].start.max(start) };
        windows.push(Window { tokens: ids[first..first + count].to_vec(), start, end });
        (first, start) = (first + count, end);
        if first == ids.len() {
            return windows;
        }
    }
}

/// What lies between a token that ends at `end` and the next one, which starts at `next`.
fn cut(text: &str, end: usize, next: usize) -> Cut {
    if end >= next {
        return Cut::Anywhere;
    }
    let between = &text[end..next];
    let before = text[..end].trim_end_matches(['"', '\'', '”', '’', ')', ']', '»']);
    if between.matches('\n').count() >= 2 {
        Cut::Paragraph
    } else if before.ends_with(['.', '!', '?', '…', '。', '！', '？'])
        && between.starts_with(char::is_whitespace)
    {
        Cut::Sentence
    } else {
        Cut::Anywhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longleaf_text::Span;

    /// Words and signs as tokens.
    fn encoding(text: &str) -> Encoding {
        let mut encoding = Encoding::default();
        let mut start = None;
        for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
            if c.is_alphanumeric() {
                start.get_or_insert(at);
                continue;
            }
            for span in [
                start.take().map(|start| Span { start, end: at }),
                (!c.is_whitespace()).then(|| Span { start: at, end: at + c.len_utf8() }),
            ] {
                encoding.spans.extend(span);
            }
        }
        encoding.ids = (0..encoding.spans.len() as u32).collect();
        encoding
    }

    fn check(text: &str, most: usize) -> Vec<String> {
        let encoding = encoding(text);
        let windows = windows(text, &encoding, most);
        assert_eq!(windows.iter().flat_map(|w| w.tokens.clone()).collect::<Vec<_>>(), encoding.ids);
        let mut end = 0;
        for window in &windows {
            assert_eq!(window.start, end, "no gap");
            assert!(window.tokens.len() <= most);
            end = window.end;
        }
        assert_eq!(end, text.len(), "all of the text");
        windows.iter().map(|window| text[window.start..window.end].trim().to_owned()).collect()
    }

    #[test]
    fn windows_end_with_sentences_and_paragraphs() {
        let text = "One two three. Four five six seven. Eight nine ten!\n\nEleven twelve thirteen. Fourteen. Fifteen, sixteen";
        assert_eq!(
            check(text, 9),
            [
                "One two three. Four five six seven.",
                "Eight nine ten!",
                "Eleven twelve thirteen. Fourteen. Fifteen, sixteen"
            ]
        );
        assert_eq!(check(text, 6)[0], "One two three.");
        assert_eq!(check("a b c d e", 2), ["a b", "c d", "e"]);
        assert_eq!(check("“Who is it?” he said to her then. And", 8)[0], "“Who is it?”");
    }

    #[test]
    fn windows_are_the_whole_text() {
        for text in ["", " ", "word", "  a b.  ", "ü. ö? ä! ß", &"word. ".repeat(500), &"x".repeat(3000)]
        {
            for most in [1, 2, 7, 64] {
                assert!(!check(text, most).is_empty());
            }
        }
        assert_eq!(windows(" \n", &encoding(" \n"), 8), [Window { tokens: vec![], start: 0, end: 2 }]);
    }
}
