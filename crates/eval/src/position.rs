//! Perplexity by position: does a token far into a text profit from what was before it?
//!
//! A text is read as one sequence; the scores of its tokens are averaged between one power of two and the next. All ways
//! to attend are asked about the same tokens, so that their differences are not the text's.
use crate::run::{Row, hash, precision};
use crate::{Error, Event};
use longleaf_engine::scoring::score_watched;
use longleaf_engine::{Attending, Model, TokenId};
use std::ops::{ControlFlow, Range};
use std::time::Instant;

/// Where the first stretch ends.
const FIRST: usize = 128;

/// Positions of `tokens` tokens from one power of two to the next, as many as are whole.
fn stretches(tokens: usize) -> Vec<Range<usize>> {
    let ends = std::iter::successors(Some(FIRST), |end| end.checked_mul(2)).take_while(|end| *end <= tokens);
    let mut start = 1;
    ends.map(|end| std::mem::replace(&mut start, end)..end).collect()
}

/// A row for each stretch of one text (its name, its number and its tokens), whose `length` is the stretch's end and whose `score` is in nats a token. A text
/// whose rows are all in `known` is not read again.
///
/// # Errors
/// [`Error::Engine`] if dense attention is given more than the window; [`Error::Interrupted`] if `watch` breaks it off
/// before the text is begun.
pub fn positions<E: From<Error>>(
    (task, item, tokens): (&str, usize, &[TokenId]),
    model: &Model,
    (method, attending): (&str, Attending),
    known: &[Row],
    keep: &mut dyn FnMut(&Row) -> Result<(), E>,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Vec<Row>, E> {
    let stretches = stretches(tokens.len());
    let prompt = hash(&[&model.tokenizer().decode(tokens)]);
    let blank = |stretch: &Range<usize>| Row {
        suite: "ppl".to_owned(),
        task: task.to_owned(),
        length: stretch.end,
        item,
        method: method.to_owned(),
        model: model.name(),
        precision: precision(model).to_owned(),
        prompt: prompt.clone(),
        prompt_tokens: tokens.len(),
        ..Row::default()
    };
    let mut rows: Vec<Row> = stretches.iter().map(blank).collect();
    let there: Vec<Row> =
        rows.iter().filter_map(|row| known.iter().find(|known| known.is(row)).cloned()).collect();
    if there.len() == rows.len() {
        return Ok(there);
    }
    if watch(Event::Item { task, length: tokens.len(), index: item, method: "reading" }).is_break() {
        return Err(Error::Interrupted.into());
    }
    let start = Instant::now();
    let mut sums = vec![0.0; rows.len()];
    let mut add = |position: usize, nll: f64| {
        if let Some(at) = stretches.iter().position(|stretch| stretch.contains(&position)) {
            sums[at] += nll;
        }
    };
    score_watched(model, tokens, 1, attending, &mut add).map_err(Error::from)?;
    let seconds = start.elapsed().as_secs_f64();
    for ((row, stretch), sum) in rows.iter_mut().zip(&stretches).zip(sums) {
        row.score = sum / stretch.len() as f64;
        row.timings.prefill_s = seconds;
        keep(row)?;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{model, tokenizer};
    use longleaf_engine::scoring::score;
    use longleaf_engine::{Special, Visible};

    #[test]
    fn stretches_double() {
        assert_eq!(stretches(530), [1..128, 128..256, 256..512]);
        assert!(stretches(127).is_empty());
    }

    #[test]
    fn stretches_add_up_to_the_whole() {
        let model = model();
        let text = "The lamp stood in the harbour, and seven of them walked under the oak. ".repeat(40);
        let mut tokens = tokenizer().encode(&text, Special::Text);
        tokens.truncate(FIRST * 2);
        assert_eq!(tokens.len(), FIRST * 2);
        let go = |known: &[Row]| {
            let mut made = 0;
            let mut keep = |_: &Row| {
                made += 1;
                Ok::<_, Error>(())
            };
            let attending = Attending::from(Visible::All);
            let go_on = &mut |_: Event<'_>| ControlFlow::Continue(());
            let rows =
                positions(("novel", 0, &tokens), &model, ("dense", attending), known, &mut keep, go_on);
            (rows.unwrap(), made)
        };
        let (rows, made) = go(&[]);
        assert_eq!((rows.len(), made, rows[1].length), (2, 2, 256));
        let whole = score(&model, &tokens, 1, Visible::All).unwrap();
        let sum = rows[0].score * 127.0 + rows[1].score * 128.0;
        assert!((sum - whole.nll).abs() < 1e-6 * whole.nll, "{sum} {}", whole.nll);
        assert_eq!(go(&rows), (rows, 0));
    }
}
