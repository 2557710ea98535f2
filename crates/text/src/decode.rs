//! Ids to text as they come.

use crate::{TokenId, Tokenizer};

/// Collects tokens and gives out text, never half a character.
///
/// A character's bytes may be spread over several tokens; they are held back until it is whole. Bytes that can
/// no longer become a character come out as U+FFFD.
#[derive(Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<u8>,
    text: String,
}

impl<'a> DecodeStream<'a> {
    /// A stream that has seen nothing.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, pending: Vec::new(), text: String::new() }
    }

    /// Takes a token; returns the text that is now complete, if any. Control tokens have none.
    pub fn push(&mut self, id: TokenId) -> Option<&str> {
        self.text.clear();
        if !self.tokenizer.is_control(id) {
            self.pending.extend_from_slice(self.tokenizer.bytes(id));
            self.take_complete();
        }
        (!self.text.is_empty()).then_some(self.text.as_str())
    }

    /// Ends the stream: what was held back and is no character, as U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    /// Moves everything but the beginning of an incomplete character from `pending` to `text`.
    fn take_complete(&mut self) {
        let mut used = 0;
        for chunk in self.pending.utf8_chunks() {
            self.text.push_str(chunk.valid());
            used += chunk.valid().len();
            let invalid = chunk.invalid();
            let at_end = used + invalid.len() == self.pending.len();
            if invalid.is_empty() || (at_end && may_continue(invalid)) {
                break;
            }
            self.text.push('\u{fffd}');
            used += invalid.len();
        }
        self.pending.drain(..used);
    }
}

/// Whether these bytes, which are no character, could begin one.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GgufVocabulary;

    /// A vocabulary of the 256 bytes and one control token, 256.
    fn bytes() -> Tokenizer {
        let mut tokens = vec![String::new(); 256];
        for code in 0x21..0x144_u32 {
            let c = char::from_u32(code).unwrap();
            if let Some(byte) = crate::tokenizer::byte_of(c) {
                tokens[usize::from(byte)] = c.to_string();
            }
        }
        tokens.push("<|end|>".into());
        let mut token_types = vec![1; 256];
        token_types.push(3);
        Tokenizer::from_gguf(GgufVocabulary {
            model: "gpt2".into(),
            pre: Some("gpt-2".into()),
            tokens,
            token_types,
            ..GgufVocabulary::default()
        })
        .unwrap()
    }

    fn check(input: &[u32], expected: &[&str], rest: &str) {
        let tokenizer = bytes();
        let mut stream = DecodeStream::new(&tokenizer);
        let parts: Vec<String> = input.iter().filter_map(|&id| stream.push(id).map(str::to_owned)).collect();
        assert_eq!(parts, expected);
        assert_eq!(stream.finish(), rest);
    }

    #[test]
    fn characters_come_out_whole() {
        check(&[0x61, 0xc3, 0xa9, 0x62], &["a", "é", "b"], "");
        check(&[0xf0, 0x9f, 0x98, 0x80], &["😀"], "");
        check(&[0x61, 256, 0x62], &["a", "b"], "");
    }

    #[test]
    fn broken_characters_become_replacements() {
        check(&[0xc3, 0x62], &["\u{fffd}b"], "");
        check(&[0xff], &["\u{fffd}"], "");
        check(&[0xf0, 0x9f], &[], "\u{fffd}");
        check(&[0xf0, 0x9f, 0xc3, 0xa9], &["\u{fffd}", "é"], "");
    }

    #[test]
    fn unknown_ids_are_nothing() {
        check(&[0x61, u32::MAX, 0x62], &["a", "b"], "");
    }
}
