//! Long texts cut into sections that an edit elsewhere leaves alone.
use crate::Span;

/// No section is shorter, but the last and what stands before an overlong line.
const LEAST: usize = 8 << 10;
/// No section is longer.
const MOST: usize = 32 << 10;
/// One line end in so many is a cut, once a section is long enough.
const RARITY: u64 = 32;

/// Cut `text` into sections of 8 to 32 KiB at ends of lines that the lines' own content decides
/// (content-defined chunking; Muthitacharoen et al., *A Low-bandwidth Network File System*, 2001): after an edit,
/// all sections but the one or two that it touches are what they were. Together the sections are the whole text.
pub fn sections(text: &str) -> Vec<Span> {
    let mut sections = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        let line_end = end + line.len();
        while line_end - start > MOST {
            // Cut before the line, or inside it if it is longer than a section by itself.
            let cut = if end > start { end } else { text.floor_char_boundary(start + MOST) };
            sections.push(Span { start, end: cut });
            (start, end) = (cut, cut);
        }
        end = line_end;
        if end - start >= LEAST && fnv(line).is_multiple_of(RARITY) {
            sections.push(Span { start, end });
            start = end;
        }
    }
    if end > start {
        sections.push(Span { start, end });
    }
    sections
}

/// 64-bit FNV-1a, folded so that its low bits depend on all of it.
fn fnv(line: &str) -> u64 {
    let hash = line.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: usize) -> String {
        let line = |i| format!("Line {i} of a text, with {} in it.\n", i * 7919 % 1013);
        (0..lines).map(line).collect()
    }

    fn check(text: &str) -> Vec<&str> {
        let sections = sections(text);
        let mut end = 0;
        for section in &sections {
            assert_eq!(section.start, end, "no gap");
            assert!(section.len() <= MOST && !section.is_empty(), "{section:?}");
            end = section.end;
        }
        assert_eq!(end, text.len(), "all of the text");
        sections.iter().map(|section| &text[section.range()]).collect()
    }

    #[test]
    fn sections_are_the_whole_text() {
        for text in ["", "x", "\n", "one line\n", &text(10)] {
            assert_eq!(check(text).len(), usize::from(!text.is_empty()));
        }
        let sections = check(&text(50_000)).len();
        assert!((150..=260).contains(&sections), "{sections} sections of 2 MB");
        let long = "ü".repeat(300_000);
        assert_eq!(check(&long).len(), 19);
        check(&format!("{}\n{long}\n{}", text(2000), text(3000)));
    }

    #[test]
    fn an_edit_leaves_most_sections_alone() {
        let before = text(50_000);
        let after = before.replacen("Line 15000 of", "A new word, and line 15000 of", 1);
        let (before, after) = (check(&before), check(&after));
        let changed = after.iter().filter(|section| !before.contains(section)).count();
        assert!((1..=2).contains(&changed), "{changed} of {} sections changed", after.len());
    }
}
