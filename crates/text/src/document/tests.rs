use super::*;
use proptest::prelude::*;

fn document(bytes: &[u8]) -> Document {
    Document::new("test.txt", bytes.to_vec()).unwrap()
}

#[test]
fn utf_8_is_itself() {
    let document = document("héllo\nwörld".as_bytes());
    assert_eq!((document.text(), document.encoding()), ("héllo\nwörld", "UTF-8"));
    let span = Span { start: 7, end: 13 };
    assert_eq!(document.original(span), span);
}

#[test]
fn byte_order_marks_are_no_text() {
    let marked = document(b"\xef\xbb\xbfabc");
    assert_eq!(marked.text(), "abc");
    assert_eq!(marked.original(Span { start: 1, end: 2 }), Span { start: 4, end: 5 });
    let wide = document(b"\xff\xfea\0b\0\xe9\0c\0");
    assert_eq!((wide.text(), wide.encoding()), ("abéc", "UTF-16LE"));
    assert_eq!(wide.original(Span { start: 2, end: 4 }), Span { start: 6, end: 8 });
}

#[test]
fn legacy_encodings_are_guessed_and_mapped() {
    let text = "Die Gänse flogen über die Häuser; schön war's, müde waren wir. ".repeat(40);
    let (bytes, ..) = encoding_rs::WINDOWS_1252.encode(&text);
    let document = document(&bytes);
    assert_eq!((document.text(), document.encoding()), (text.as_str(), "windows-1252"));
    for (at, word) in text.match_indices("über") {
        let span = document.original(Span { start: at, end: at + word.len() });
        assert_eq!(&bytes[span.range()], b"\xfcber", "{span:?}");
    }
}

#[test]
fn binary_files_are_refused_by_name() {
    let error = Document::new("a.out", b"\x7fELF\x02\0\0".to_vec()).unwrap_err().to_string();
    assert_eq!(error, "a.out: not a text file (zero byte at offset 5)");
}

#[test]
fn equal_bytes_have_equal_hashes() {
    assert_eq!(document(b"a").hash(), Document::new("other", b"a".to_vec()).unwrap().hash());
    assert_ne!(document(b"a").hash(), document(b"b").hash());
}

#[test]
fn lines_and_paragraphs() {
    let document = document(b"\n one\ntwo \n \n\nthree\r\n\r\nfour");
    let text = |span: Span| &document.text()[span.range()];
    let lines: Vec<&str> = document.lines().map(text).collect();
    assert_eq!(lines, ["\n", " one\n", "two \n", " \n", "\n", "three\r\n", "\r\n", "four"]);
    let paragraphs: Vec<&str> = document.paragraphs().map(text).collect();
    assert_eq!(paragraphs, [" one\ntwo", "three", "four"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_mapped_within_themselves(bytes in proptest::collection::vec(1_u8.., 0..900)) {
        let _ = crate::fuzzing::document(&bytes);
    }

    /// In encodings where every character stands for itself, a character's place is where it was encoded.
    #[test]
    fn places_are_exact(text in "[ -~À-ÖØ-öø-ÿ\n]{0,900}", at in any::<prop::sample::Index>()) {
        let (bytes, _, lossy) = encoding_rs::WINDOWS_1252.encode(&text);
        prop_assume!(!lossy);
        let (decoded, offsets) = decode(encoding_rs::WINDOWS_1252, 0, bytes.to_vec());
        prop_assert_eq!(&decoded, &text);
        let document = Document {
            name: String::new(), text: decoded, encoding: encoding_rs::WINDOWS_1252, hash: [0; 32], offsets,
        };
        let characters: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        if !characters.is_empty() {
            let index = at.index(characters.len());
            prop_assert_eq!(document.original(Span { start: characters[index], end: text.len() }),
                Span { start: index, end: bytes.len() });
        }
    }

    #[test]
    fn multi_byte_places_are_exact(text in "[ -[a-}あ-んア-ン\n]{0,500}", at in any::<prop::sample::Index>()) {
        let (bytes, _, lossy) = encoding_rs::SHIFT_JIS.encode(&text);
        prop_assert!(!lossy);
        let (decoded, offsets) = decode(encoding_rs::SHIFT_JIS, 0, bytes.to_vec());
        prop_assert_eq!(&decoded, &text);
        let document = Document {
            name: String::new(), text: decoded, encoding: encoding_rs::SHIFT_JIS, hash: [0; 32], offsets,
        };
        let characters: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        if !characters.is_empty() {
            let start = characters[at.index(characters.len())];
            let place = document.original(Span { start, end: text.len() });
            let (after, ..) = encoding_rs::SHIFT_JIS.encode(&text[start..]);
            prop_assert_eq!(&bytes[place.range()], &after[..]);
        }
    }
}
