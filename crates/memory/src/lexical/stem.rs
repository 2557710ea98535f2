//! English words without their endings: M. F. Porter, *An algorithm for suffix stripping*, Program 14(3), 1980.

/// Cut the endings off a word of lower-case letters; anything else is left as it is.
pub(crate) fn stem(word: &mut String) {
    if word.len() < 3 || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return;
    }
    step_1(word);
    step(word, 0, &STEP_2);
    step(word, 0, &STEP_3);
    step(word, 1, &STEP_4);
    step_5(word);
}

/// Whether letter `i` is a consonant: `y` is one at the start and after a vowel.
fn is_consonant(word: &[u8], i: usize) -> bool {
    match word[i] {
        b'a' | b'e' | b'i' | b'o' | b'u' => false,
        b'y' => i == 0 || !is_consonant(word, i - 1),
        _ => true,
    }
}

/// How often a consonant follows a vowel: Porter's m, roughly the number of syllables.
fn measure(stem: &str) -> usize {
    let stem = stem.as_bytes();
    (1..stem.len()).filter(|i| is_consonant(stem, *i) && !is_consonant(stem, i - 1)).count()
}

fn has_vowel(stem: &str) -> bool {
    (0..stem.len()).any(|i| !is_consonant(stem.as_bytes(), i))
}

fn ends_double(stem: &str) -> bool {
    let stem = stem.as_bytes();
    let n = stem.len();
    n >= 2 && stem[n - 1] == stem[n - 2] && is_consonant(stem, n - 1)
}

/// Consonant, vowel, consonant other than w, x, y: a short syllable, as in "hop".
fn ends_short(stem: &str) -> bool {
    let stem = stem.as_bytes();
    let n = stem.len();
    n >= 3
        && is_consonant(stem, n - 3)
        && !is_consonant(stem, n - 2)
        && is_consonant(stem, n - 1)
        && !b"wxy".contains(&stem[n - 1])
}

/// Plurals, -ed, -ing, and y.
fn step_1(word: &mut String) {
    if word.ends_with("sses") || word.ends_with("ies") {
        word.truncate(word.len() - 2);
    } else if word.ends_with('s') && !word.ends_with("ss") {
        word.pop();
    }
    if let Some(stem) = word.strip_suffix("eed") {
        if measure(stem) > 0 {
            word.pop();
        }
    } else if let Some(stem) = word.strip_suffix("ed").or_else(|| word.strip_suffix("ing"))
        && has_vowel(stem)
    {
        word.truncate(stem.len());
        if ["at", "bl", "iz"].iter().any(|end| word.ends_with(end)) {
            word.push('e');
        } else if ends_double(word) && !word.ends_with(['l', 's', 'z']) {
            word.pop();
        } else if measure(word) == 1 && ends_short(word) {
            word.push('e');
        }
    }
    if let Some(stem) = word.strip_suffix('y')
        && has_vowel(stem)
    {
        word.pop();
        word.push('i');
    }
}

/// The first ending that fits is replaced, if what is before it is long enough. Where one ending ends in another, the
/// longer one comes first.
fn step(word: &mut String, more_than: usize, endings: &[(&str, &str)]) {
    let last = word.as_bytes().last_chunk::<2>().copied();
    // Two letters settle nearly all of it.
    let mut likely = endings.iter().filter(|(end, _)| end.as_bytes().last_chunk::<2>().copied() == last);
    let Some((stem, with)) = likely.find_map(|(end, with)| Some((word.strip_suffix(end)?, with))) else {
        return;
    };
    let fits = measure(stem) > more_than
        // "adoption", but not "onion".
        && (!(more_than == 1 && word.ends_with("ion")) || stem.ends_with(['s', 't']));
    if fits {
        word.truncate(stem.len());
        word.push_str(with);
    }
}

const STEP_2: [(&str, &str); 20] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("abli", "able"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
];

const STEP_3: [(&str, &str); 7] = [
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

const STEP_4: [(&str, &str); 19] = [
    ("al", ""),
    ("ance", ""),
    ("ence", ""),
    ("er", ""),
    ("ic", ""),
    ("able", ""),
    ("ible", ""),
    ("ant", ""),
    ("ement", ""),
    ("ment", ""),
    ("ent", ""),
    ("ion", ""),
    ("ou", ""),
    ("ism", ""),
    ("ate", ""),
    ("iti", ""),
    ("ous", ""),
    ("ive", ""),
    ("ize", ""),
];

/// A last e, and ll.
fn step_5(word: &mut String) {
    if let Some(stem) = word.strip_suffix('e')
        && (measure(stem) > 1 || (measure(stem) == 1 && !ends_short(stem)))
    {
        word.pop();
    }
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the paper, step by step, as they come out of the whole algorithm.
    #[test]
    fn the_examples_of_the_paper() {
        let pairs = "caresses caress ponies poni ties ti caress caress cats cat feed feed agreed agre plastered plaster \
            bled bled motoring motor sing sing conflated conflat troubled troubl sized size hopping hop tanned tan \
            falling fall hissing hiss fizzed fizz failing fail filing file happy happi sky sky relational relat \
            conditional condit rational ration valenci valenc hesitanci hesit digitizer digit conformabli conform \
            radicalli radic differentli differ vileli vile analogousli analog vietnamization vietnam predication predic \
            operator oper feudalism feudal decisiveness decis hopefulness hope callousness callous formaliti formal \
            sensitiviti sensit sensibiliti sensibl triplicate triplic formative form formalize formal electriciti electr \
            electrical electr hopeful hope goodness good revival reviv allowance allow inference infer airliner airlin \
            gyroscopic gyroscop adjustable adjust defensible defens irritant irrit replacement replac adjustment adjust \
            dependent depend adoption adopt homologou homolog communism commun activate activ angulariti angular \
            homologous homolog effective effect bowdlerize bowdler probate probat rate rate cease ceas controll control \
            roll roll generalizations gener oscillators oscil is is as as onion onion";
        let words: Vec<_> = pairs.split_whitespace().collect();
        for pair in words.as_chunks::<2>().0 {
            let mut word = pair[0].to_owned();
            stem(&mut word);
            assert_eq!(word, pair[1], "{}", pair[0]);
        }
    }

    #[test]
    fn what_is_not_english_is_left_alone() {
        for word in ["p53", "être", "москвы", "il-2", "3.14", ""] {
            let mut stemmed = word.to_owned();
            stem(&mut stemmed);
            assert_eq!(stemmed, word);
        }
    }
}
