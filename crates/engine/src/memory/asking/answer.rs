//! From passages to an answer's sources.
use super::sentence::sentences;
use super::{Citation, Passage};
use crate::{Error, Model, Request};
use longleaf_text::{Message, Role, TokenId};
use std::ops::Range;

/// Some texts, in the order in which they stand, and a question about them as an ordinary prompt.
///
/// # Errors
/// [`Error::Text`] if the model's chat template refuses it.
pub fn prompt(model: &Model, texts: &[&str], question: &str) -> Result<Vec<TokenId>, Error> {
    let texts: Vec<&str> = texts.iter().map(|text| text.trim()).collect();
    // Where passages are spoken of, small models answer with "The passage provides a brief summary of …".
    let content = format!("{}{}", texts.join("\n...\n"), after(question));
    model.chat_prompt(&[Message::new(Role::User, content)])
}

/// The question behind text, whether that is read or attended to as it is kept.
pub(in crate::memory) fn after(question: &str) -> String {
    format!("\n\nQuestion: {question} Answer briefly from the text.")
}

/// The prompt of these passages. The last ones, which are the worst, are left out as far as the window has no room
/// for them beside the answer.
pub(super) fn fitting(
    model: &Model,
    question: &str,
    passages: &mut Vec<Passage>,
    request: &Request,
) -> Result<Vec<TokenId>, Error> {
    let window = model.config().window;
    loop {
        let mut ordered: Vec<&Passage> = passages.iter().collect();
        ordered.sort_by(|a, b| (&a.document, a.start).cmp(&(&b.document, b.start)));
        let texts: Vec<String> = ordered.iter().map(|passage| passage.shown()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let prompt = prompt(model, &texts, question)?;
        let room = request.max_tokens.unwrap_or(0).min(window / 2);
        if passages.len() <= 1 || prompt.len() + room <= window {
            return Ok(prompt);
        }
        passages.pop();
    }
}

/// The sentence of each passage that shares most with the answer and the question.
pub(super) fn cite(passages: &[Passage], question: &str, answer: &str) -> Vec<Citation> {
    let best = passages.iter().fold(f64::NEG_INFINITY, |best, passage| best.max(passage.gain));
    let all: f64 = passages.iter().map(|passage| (passage.gain - best).exp()).sum();
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect()
    };
    let (asked, answered) = (words(question), words(answer));
    passages
        .iter()
        .map(|passage| {
            // Shares, not counts: a long answer about other things has words in common with many sentences.
            let share = |of: &[&String], there: &[String]| {
                let shared = of.iter().filter(|word| there.contains(word)).count();
                shared as f64 / of.len().max(1) as f64
            };
            let new: Vec<&String> = answered.iter().filter(|word| !asked.contains(word)).collect();
            let old: Vec<&String> = asked.iter().collect();
            let shared = |sentence: &Range<usize>| {
                let there = words(&passage.text[sentence.clone()]);
                share(&new, &there) + share(&old, &there)
            };
            // Of equals the shorter one says it more exactly.
            let better = |a: &Range<usize>, b: &Range<usize>| {
                shared(a).total_cmp(&shared(b)).then(b.len().cmp(&a.len()))
            };
            let shown = |sentence: &Range<usize>| {
                passage.kept.iter().any(|kept| kept.start <= sentence.start && sentence.end <= kept.end)
            };
            let quote =
                sentences(&passage.text).filter(shown).max_by(better).unwrap_or(0..passage.text.len());
            Citation {
                document: passage.document.clone(),
                start: (passage.start + quote.start) as u64,
                end: (passage.start + quote.end) as u64,
                quote: passage.text[quote].to_owned(),
                weight: (passage.gain - best).exp() / all,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quote_holds_the_answer() {
        let passage = Passage::of(100, "It rained. The baker carried a lamp. Nobody saw the baker.", 3.0);
        let cited = cite(&[passage], "What did the baker carry?", "A lamp.");
        assert_eq!(cited[0].quote, "The baker carried a lamp.");
        assert_eq!((cited[0].start, cited[0].end), (111, 136));
        assert!((cited[0].weight - 1.0).abs() < 1e-12);
    }
}
