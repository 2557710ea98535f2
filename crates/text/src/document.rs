//! Files as text, with the way back to their bytes.

use crate::Error;
use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// A range of bytes, or of whatever the context says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

impl Span {
    /// The same range as the standard library writes it.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start..self.end
    }

    /// Number of bytes.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.end == self.start
    }
}

/// A plain-text file: its text in UTF-8, and where in the file each part of it stands.
///
/// Spans given to and by this type are byte ranges of [`text`](Self::text); [`original`](Self::original) leads
/// from there to the file. For UTF-8 files, nearly all, the two are the same but for a byte order mark.
#[derive(Debug)]
pub struct Document {
    name: String,
    text: String,
    encoding: &'static Encoding,
    hash: [u8; 32],
    offsets: Offsets,
}

/// From text to file.
#[derive(Debug)]
enum Offsets {
    /// The same, after this many bytes of byte order mark.
    Shifted(usize),
    /// (in text, in file) every so often, ascending; between two, characters are decoded again.
    Sampled { samples: Vec<(usize, usize)>, bytes: Vec<u8> },
}

/// Bytes of the file between two samples.
const STRIDE: usize = 256;

impl Document {
    /// Decodes a file. The encoding is UTF-8 if the bytes are valid UTF-8, what a byte order mark says, or the
    /// most likely one of the legacy encodings of the web; a text is never refused for strange characters.
    ///
    /// # Errors
    /// Bytes that are no text: a zero byte in the first 8 KiB of what is not UTF-16.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, Error> {
        let name = name.into();
        let hash = *blake3::hash(&bytes).as_bytes();
        let (encoding, mark) = Encoding::for_bom(&bytes).unwrap_or((UTF_8, 0));
        if encoding == UTF_8 {
            let head = &bytes[..bytes.len().min(8192)];
            if let Some(offset) = head.iter().position(|&byte| byte == 0) {
                return Err(Error::NotText { name, offset });
            }
            let bytes = match String::from_utf8(bytes) {
                Ok(mut text) => {
                    text.drain(..mark);
                    return Ok(Self { name, text, encoding, hash, offsets: Offsets::Shifted(mark) });
                }
                Err(error) => error.into_bytes(),
            };
            let encoding = if mark > 0 { UTF_8 } else { guess(&bytes) };
            let (text, offsets) = decode(encoding, mark, bytes);
            return Ok(Self { name, text, encoding, hash, offsets });
        }
        let (text, offsets) = decode(encoding, mark, bytes);
        Ok(Self { name, text, encoding, hash, offsets })
    }

    /// What the document is called, usually its file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, without byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The encoding of the file, by the name the web has for it: "UTF-8", "windows-1252", `Shift_JIS`.
    pub fn encoding(&self) -> &'static str {
        self.encoding.name()
    }

    /// BLAKE3 of the file's bytes: equal documents are read once.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Where in the file a part of the text stands. Offsets inside a character count as its start.
    pub fn original(&self, span: Span) -> Span {
        Span { start: self.offset(span.start), end: self.offset(span.end) }
    }

    fn offset(&self, at: usize) -> usize {
        let at = at.min(self.text.len());
        match &self.offsets {
            Offsets::Shifted(mark) => at + mark,
            Offsets::Sampled { samples, bytes } => {
                let index = samples.partition_point(|&(text, _)| text <= at) - 1;
                let (text, file) = samples[index];
                let end = samples.get(index + 1).map_or(bytes.len(), |&(_, file)| file);
                file + source_length(self.encoding, &bytes[file..end], at - text)
            }
        }
    }

    /// Lines, each with its line end.
    pub fn lines(&self) -> impl Iterator<Item = Span> {
        let mut start = 0;
        self.text.split_inclusive('\n').map(move |line| {
            let span = Span { start, end: start + line.len() };
            start = span.end;
            span
        })
    }

    /// Paragraphs: what stands between blank lines, without them.
    pub fn paragraphs(&self) -> impl Iterator<Item = Span> {
        let mut lines = self.lines();
        std::iter::from_fn(move || {
            let blank = |line: &Span| self.text[line.range()].trim().is_empty();
            let first = lines.find(|line| !blank(line))?;
            let last = lines.by_ref().take_while(|line| !blank(line)).last().unwrap_or(first);
            let body = self.text[first.start..last.end].trim_end().len();
            Some(Span { start: first.start, end: first.start + body })
        })
    }
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Deny)
}

/// Decodes stride by stride, noting where each begins.
fn decode(encoding: &'static Encoding, mark: usize, bytes: Vec<u8>) -> (String, Offsets) {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut text = String::with_capacity(bytes.len());
    let mut samples = vec![(0, mark)];
    let stateless = encoding != encoding_rs::ISO_2022_JP;
    let mut at = mark;
    while at < bytes.len() {
        let end = (at + STRIDE).min(bytes.len());
        let chunk = &bytes[at..end];
        let needed = decoder.max_utf8_buffer_length(chunk.len()).unwrap_or(chunk.len() * 4 + 16);
        text.reserve(needed);
        let _ = decoder.decode_to_string(chunk, &mut text, end == bytes.len());
        at = end;
        // A sample is only of use where a fresh decoder may begin: between two characters.
        if stateless
            && between_characters(encoding, &bytes[samples[samples.len() - 1].1..at], &text, &samples)
        {
            samples.push((text.len(), at));
        }
    }
    (text, Offsets::Sampled { samples, bytes })
}

/// Whether decoding the stretch since the last sample by itself gives the text since then, complete.
fn between_characters(
    encoding: &'static Encoding,
    stretch: &[u8],
    text: &str,
    samples: &[(usize, usize)],
) -> bool {
    let (start, _) = samples[samples.len() - 1];
    let (alone, _) = encoding.decode_without_bom_handling(stretch);
    alone == text[start..]
}

/// Bytes of `source` that decode to its first `length` bytes of text.
fn source_length(encoding: &'static Encoding, source: &[u8], length: usize) -> usize {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut text = String::with_capacity(16);
    let (mut decoded, mut taken) = (0, 0);
    for (at, byte) in source.iter().enumerate() {
        if decoded >= length && !text.is_empty() {
            break;
        }
        text.clear();
        text.reserve(16);
        let _ = decoder.decode_to_string(std::slice::from_ref(byte), &mut text, false);
        if decoded + text.len() > length {
            break;
        }
        decoded += text.len();
        if !text.is_empty() {
            taken = at + 1;
        }
    }
    if decoded < length { source.len() } else { taken }
}

#[cfg(test)]
mod tests;
