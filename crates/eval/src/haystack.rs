//! Prose to hide things in.
use crate::Error;
use longleaf_engine::{Document, Special};
use longleaf_text::Tokenizer;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Sentences of novels, in order, with the tokens of each.
///
/// Paragraphs stay lines, because the sections of a memory end at lines: a fact more or less then changes one section
/// of a text and not all that follow.
#[derive(Debug)]
pub(crate) struct Prose<'m> {
    tokenizer: &'m Tokenizer,
    folder: PathBuf,
    /// Novels that are not read yet, the next one last.
    unread: Vec<PathBuf>,
    sentences: Vec<Sentence>,
    tokens: usize,
}

#[derive(Debug)]
struct Sentence {
    text: String,
    /// With the space or the end of line after it.
    tokens: usize,
    ends_paragraph: bool,
}

/// A paragraph that goes on without an empty line ends at the next sentence after so many bytes.
const PARAGRAPH: usize = 2000;

impl<'m> Prose<'m> {
    /// The texts of a folder, in the order of their names.
    pub(crate) fn new(folder: &Path, tokenizer: &'m Tokenizer) -> Result<Self, Error> {
        let entries = fs::read_dir(folder).map_err(Error::data(folder))?;
        let mut unread = Vec::new();
        for entry in entries {
            let path = entry.map_err(Error::data(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                unread.push(path);
            }
        }
        unread.sort_by(|a, b| b.cmp(a));
        Ok(Self { tokenizer, folder: folder.to_owned(), unread, sentences: Vec::new(), tokens: 0 })
    }

    /// Read on until there are sentences of so many tokens.
    fn read(&mut self, tokens: usize) -> Result<(), Error> {
        while self.tokens < tokens {
            let Some(path) = self.unread.pop() else { break };
            let bytes = fs::read(&path).map_err(Error::data(&path))?;
            let document = Document::new(path.display().to_string(), bytes)?;
            for paragraph in paragraphs(document.text()) {
                let first = self.sentences.len();
                for text in sentences(&paragraph) {
                    let tokens = self.tokenizer.encode(&format!(" {text}"), Special::Text).len();
                    self.tokens += tokens;
                    self.sentences.push(Sentence { text: text.to_owned(), tokens, ends_paragraph: false });
                }
                if self.sentences.len() > first {
                    // The end of line is a token of its own.
                    self.tokens += 1;
                    let last = self.sentences.len() - 1;
                    self.sentences[last].tokens += 1;
                    self.sentences[last].ends_paragraph = true;
                }
            }
        }
        Ok(())
    }

    /// How many of the first sentences have no more than so many tokens.
    pub(crate) fn fit(&mut self, task: &str, tokens: usize) -> Result<usize, Error> {
        self.read(tokens)?;
        if self.tokens < tokens {
            let task = format!("{task}, prose in {}", self.folder.display());
            return Err(Error::Short { task, wanted: tokens, there: self.tokens });
        }
        let mut sum = 0;
        let fits = |sentence: &&Sentence| {
            sum += sentence.tokens;
            sum <= tokens
        };
        Ok(self.sentences.iter().take_while(fits).count())
    }

    /// The first `count` sentences with `inserts` between them: each a text, and before which sentence it stands,
    /// ascending. A text that ends in an end of line keeps it.
    pub(crate) fn with(&self, count: usize, inserts: &[(usize, &str)]) -> String {
        assert!(inserts.is_sorted_by_key(|(at, _)| *at), "inserts come in order");
        let mut text = String::new();
        let mut inserts = inserts.iter().peekable();
        for at in 0..=count {
            while let Some((_, insert)) = inserts.next_if(|(before, _)| *before <= at) {
                text.push_str(insert);
                text.push(' ');
            }
            if let Some(sentence) = self.sentences.get(at).filter(|_| at < count) {
                text.push_str(&sentence.text);
                text.push(if sentence.ends_paragraph { '\n' } else { ' ' });
            }
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// Different words of 3 to 10 lower-case letters, in the order of the alphabet: those of the first sentences that
    /// have `count`, if the texts have so many. What was read before for other tasks changes nothing.
    pub(crate) fn vocabulary(&mut self, count: usize) -> Result<Vec<String>, Error> {
        let (mut words, mut seen) = (BTreeSet::new(), 0);
        loop {
            while words.len() < count
                && let Some(sentence) = self.sentences.get(seen)
            {
                seen += 1;
                let bare = sentence.text.split(|c: char| !c.is_ascii_alphabetic() && c != '\'' && c != '-');
                let plain = |word: &&str| {
                    (3..=10).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase())
                };
                words.extend(bare.filter(plain).map(str::to_owned));
            }
            if words.len() >= count || self.unread.is_empty() {
                return Ok(words.into_iter().collect());
            }
            self.read(self.tokens + 1)?;
        }
    }
}

/// Runs of lines without an empty one, their white space made single.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in text.lines() {
        let last = paragraphs.last_mut().expect("there is always one");
        let long = last.len() > PARAGRAPH && last.ends_with(['.', '!', '?', '"']);
        if (line.trim().is_empty() || long) && !last.is_empty() {
            paragraphs.push(String::new());
        }
        let last = paragraphs.last_mut().expect("there is always one");
        for word in line.split_whitespace() {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs
}

/// Sentences: up to a full stop, an exclamation or question mark, with the quotes and brackets that close after it, if
/// a space and no small letter follow; `Mr.` and single letters do not end one.
pub(crate) fn sentences(paragraph: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let bytes = paragraph.as_bytes();
    for (at, _) in paragraph.match_indices(' ') {
        let before = paragraph[start..at].trim_end_matches(['"', '\'', ')', ']', '”', '’']);
        let word = before.rsplit([' ', '"', '(']).next().unwrap_or_default();
        let shortened = word.ends_with('.')
            && (word.chars().filter(|c| c.is_alphabetic()).count() <= 1
                || ["Mr.", "Mrs.", "Dr.", "St.", "Ms.", "Esq.", "No.", "vol.", "Capt."].contains(&word));
        let small = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        if before.ends_with(['.', '!', '?']) && !shortened && !small {
            sentences.push(&paragraph[start..at]);
            start = at + 1;
        }
    }
    if start < paragraph.len() {
        sentences.push(&paragraph[start..]);
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tokenizer;

    #[test]
    fn sentences_end_where_they_end() {
        let text = "\"Who is it?\" said Mr. Holmes. \"It is J. S. Hart.\" He left (at once.) Nothing else";
        assert_eq!(
            sentences(text),
            [
                "\"Who is it?\" said Mr. Holmes.",
                "\"It is J. S. Hart.\"",
                "He left (at once.)",
                "Nothing else"
            ]
        );
    }

    #[test]
    fn prose_is_whole_and_inserts_stand_between_sentences() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.txt"), "Four is\r\nlast. Five.\r\n\r\nSix.").unwrap();
        fs::write(folder.path().join("a.txt"), "One. Two\ngoes on.\n\n  Three.\n\n\n").unwrap();
        fs::write(folder.path().join("c.md"), "Not this.").unwrap();
        let tokenizer = tokenizer();
        let mut prose = Prose::new(folder.path(), &tokenizer).unwrap();
        let all = prose.fit("t", 8).unwrap();
        assert!(all > 0 && prose.fit("t", 100_000).is_err());
        assert_eq!(prose.sentences.len(), 6);
        assert_eq!(prose.with(6, &[]), "One. Two goes on.\nThree.\nFour is last. Five.\nSix.");
        assert_eq!(
            prose.with(3, &[(0, "A."), (2, "B."), (2, "C."), (3, "D.")]),
            "A. One. Two goes on.\nB. C. Three.\nD."
        );
        // All is read by now, and the first word is in the first text all the same.
        assert_eq!(prose.vocabulary(1).unwrap(), ["goes"]);
        assert_eq!(prose.vocabulary(100).unwrap(), ["goes", "last"]);
        // What fits is what is said to fit, nearly to the token.
        for wanted in [5, 9, 14] {
            let count = prose.fit("t", wanted).unwrap();
            let text = prose.with(count, &[]);
            assert!(tokenizer.encode(&text, Special::Text).len() <= wanted);
        }
    }
}
