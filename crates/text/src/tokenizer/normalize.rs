//! Unicode's composed form (NFC), with the way back to the text as it was written.

use crate::Span;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc, is_nfc_quick};

/// A normalised text and where its parts came from.
#[derive(Debug)]
pub(super) struct Normalized {
    text: String,
    /// Starts of stretches in the normalised and the original text; the last is both ends.
    starts: Vec<(usize, usize)>,
}

impl Normalized {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The smallest known range of the original that covers a range of the normalised text.
    pub(super) fn original(&self, span: Span) -> Span {
        let before = self.starts.partition_point(|&(start, _)| start <= span.start) - 1;
        let (new, old) = self.starts[before];
        let (new_end, old_end) = self.starts.get(before + 1).copied().unwrap_or((new, old));
        let start = if new_end - new == old_end - old { old + span.start - new } else { old };
        let after = self.starts.partition_point(|&(start, _)| start < span.end).min(self.starts.len() - 1);
        let (new_end, old_end) = self.starts[after];
        let (new, old) = self.starts[after.saturating_sub(1)];
        let end = if new_end - new == old_end - old { old_end - (new_end - span.end) } else { old_end };
        Span { start, end }
    }
}

/// The text in NFC, or `None` if it is in NFC already, which nearly all text is.
pub(super) fn nfc(text: &str) -> Option<Normalized> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes || is_nfc(text) {
        return None;
    }
    let mut normalized = Normalized { text: String::with_capacity(text.len()), starts: Vec::new() };
    // No ASCII character composes with what stands before it: stretches between them are independent.
    let mut at = 0;
    while at < text.len() {
        let first = text[at..].chars().next().map_or(1, char::len_utf8);
        let rest = &text.as_bytes()[at + first..];
        let end = at + first + rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
        normalized.starts.push((normalized.text.len(), at));
        normalized.text.extend(text[at..end].nfc());
        at = end;
    }
    normalized.starts.push((normalized.text.len(), text.len()));
    Some(normalized)
}
