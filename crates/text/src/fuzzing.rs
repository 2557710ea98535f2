//! Bodies of the fuzz targets: whatever the bytes, they return. Ordinary tests replay the corpus through them.

use crate::{ChatTemplate, DecodeStream, Document, Error, GgufVocabulary, Message, Role, Special, Tokenizer};

/// Text with a bit of everything that pre-tokenizers distinguish.
const TEXT: &str =
    "Hello, WORLD's 1234 naïve\u{301} ＡＢ 你好\r\n\n\t  été'LL <s> <|im_end|> \u{1f33f}\u{0}▁ x";

/// A `tokenizer.json`, and after a line of its own that says `===` a `tokenizer_config.json`.
pub fn tokenizer_json(bytes: &[u8]) -> Result<Tokenizer, Error> {
    const LINE: &[u8] = b"\n===\n";
    let split = bytes.windows(LINE.len()).position(|line| line == LINE);
    let (tokenizer, config) = match split {
        Some(at) => (&bytes[..at], Some(&bytes[at + LINE.len()..])),
        None => (bytes, None),
    };
    let tokenizer = Tokenizer::from_json(tokenizer, config)?;
    exercise(&tokenizer);
    Ok(tokenizer)
}

/// A vocabulary as lines: model, pre-tokenizer, then a token a line as `type score text`, then after an empty line
/// a merge a line.
pub fn gguf_vocabulary(bytes: &[u8]) -> Result<Tokenizer, Error> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let mut vocabulary = GgufVocabulary {
        model: lines.next().unwrap_or("").to_owned(),
        pre: lines.next().filter(|pre| !pre.is_empty()).map(str::to_owned),
        bos: Some(0),
        ..GgufVocabulary::default()
    };
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let mut fields = line.splitn(3, ' ');
        let kind = fields.next().and_then(|kind| kind.parse().ok()).unwrap_or(1);
        let score = fields.next().and_then(|score| score.parse().ok()).unwrap_or(0.0);
        vocabulary.token_types.push(kind);
        vocabulary.scores.push(score);
        vocabulary.tokens.push(fields.next().unwrap_or("").to_owned());
    }
    vocabulary.merges = lines.map(str::to_owned).collect();
    let tokenizer = Tokenizer::from_gguf(vocabulary)?;
    exercise(&tokenizer);
    Ok(tokenizer)
}

/// Encodes and decodes with whatever vocabulary survived loading.
fn exercise(tokenizer: &Tokenizer) {
    for special in [Special::Parse, Special::Text] {
        let encoding = tokenizer.encode_with_offsets(TEXT, special);
        assert!(encoding.spans.iter().all(|span| span.start <= span.end && span.end <= TEXT.len()));
        let _ = tokenizer.decode(&encoding.ids);
        let mut stream = DecodeStream::new(tokenizer);
        for &id in &encoding.ids {
            let _ = stream.push(id);
        }
        let _ = stream.finish();
        if special == Special::Text {
            assert!(encoding.ids.iter().all(|&id| !tokenizer.is_control(id)), "control tokens out of a text");
        }
    }
    let _ = tokenizer.cuts(TEXT, 3);
    let _ = tokenizer.decode(&[0, 1, u32::MAX]);
}

/// A Jinja template, compiled and rendered for a short conversation.
pub fn template(bytes: &[u8]) -> Result<String, Error> {
    let source = String::from_utf8_lossy(bytes);
    let template = ChatTemplate::new(&source, "<s>", "</s>")?.at(0);
    let messages = [Message::new(Role::System, "Be brief."), Message::new(Role::User, "<b>Hi</b> 你好")];
    let tools = [serde_json::json!({"type": "function", "function": {"name": "weather", "parameters": {}}})];
    template.render(&messages, &tools, true)
}

/// A document of any bytes.
pub fn document(bytes: &[u8]) -> Result<Document, Error> {
    let document = Document::new("fuzz.txt", bytes.to_vec())?;
    let mut end = 0;
    for line in document.lines() {
        assert_eq!(line.start, end, "lines leave nothing out");
        end = line.end;
        let original = document.original(line);
        assert!(
            original.start <= original.end && original.end <= bytes.len(),
            "{original:?} of {}",
            bytes.len()
        );
    }
    assert_eq!(end, document.text().len(), "lines reach the end");
    for paragraph in document.paragraphs() {
        assert!(!document.text()[paragraph.range()].trim().is_empty(), "a paragraph is not blank");
    }
    Ok(document)
}
