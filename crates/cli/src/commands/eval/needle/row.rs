//! A question about hidden facts and what came of it, as a line of JSON; and what many of them come to.
use serde::{Deserialize, Serialize};

/// How many blocks may be looked at.
pub(super) const DEPTHS: [usize; 3] = [1, 8, 32];

/// What was asked, of whom, and what came out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub suite: String,
    pub task: String,
    /// Tokens of context.
    pub length: usize,
    pub item: usize,
    pub seed: u64,
    pub model: String,
    pub precision: String,
    /// Of the text with its facts, the question, and how it is read, found and answered: rows of others are not taken
    /// for this one.
    pub prompt: String,
    pub question: String,
    pub expected: Vec<String>,
    /// Whether the facts are there.
    pub present: bool,
    /// Where the first stands, in tenths of the text.
    pub depth: Option<f64>,
    /// The worst rank of its facts with each way of finding, counted from 0, if that is among the first [`DEPTHS`].
    pub rank_finder: Option<usize>,
    pub rank_lexical: Option<usize>,
    pub rank_meaning: Option<usize>,
    pub rank_longleaf: Option<usize>,
    /// If it was answered.
    #[serde(flatten)]
    pub answered: Option<Answered>,
    /// If it was also asked in a short prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

/// What the whole way led to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Answered {
    pub found: bool,
    pub answer: String,
    pub right: bool,
    /// Whether the citations point at all its facts.
    pub cited: bool,
    /// The best rank of its facts after re-ranking.
    pub rank_reranked: Option<usize>,
    pub confidence: f64,
    pub blocks_read: usize,
    pub blocks_attended: usize,
    pub timings: Timings,
}

/// Seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "as other rows have them")]
pub(super) struct Timings {
    pub locate_s: f64,
    pub rerank_s: f64,
    pub first_token_s: f64,
    pub total_s: f64,
}

/// What the same model answers where it can see everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Control {
    pub answer: String,
    pub right: bool,
}

impl Row {
    /// Whether both are about the same question, asked in the same way.
    pub(super) fn is(&self, other: &Self) -> bool {
        let key = |row: &Self| (row.prompt.clone(), row.item, row.model.clone(), row.precision.clone());
        key(self) == key(other)
    }

    /// The ranks by way of finding.
    fn ranks(&self) -> [(&'static str, Option<usize>); 4] {
        [
            ("finder", self.rank_finder),
            ("lexical", self.rank_lexical),
            ("meaning", self.rank_meaning),
            ("longleaf", self.rank_longleaf),
        ]
    }
}

/// How many of some rows came out well.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) task: String,
    pub(super) method: &'static str,
    pub(super) right: usize,
    pub(super) n: usize,
}

/// What rows of one kind of fact and one length come to. `meaning` says whether there were vectors to find with.
pub(super) fn shares(rows: &[Row], task: &str, meaning: bool) -> Vec<Share> {
    let mut shares = Vec::new();
    let mut share = |what: &str, method, among: &[&Row], is: &dyn Fn(&Row) -> bool| {
        if !among.is_empty() {
            let (right, n) = (among.iter().filter(|row| is(row)).count(), among.len());
            shares.push(Share { task: format!("{task} {what}"), method, right, n });
        }
    };
    let (present, absent): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.present);
    for (at, (method, _)) in Row::default().ranks().into_iter().enumerate() {
        for depth in DEPTHS.into_iter().filter(|_| meaning || method != "meaning") {
            let is = |row: &Row| row.ranks()[at].1.is_some_and(|rank| rank < depth);
            share(&format!("recall@{depth}"), method, &present, &is);
        }
    }
    if present.iter().any(|row| row.answered.is_some()) {
        let is = |test: fn(&Answered) -> bool| move |row: &Row| row.answered.as_ref().is_some_and(test);
        let right: Vec<&Row> = present.iter().copied().filter(|row| is(|one| one.right)(row)).collect();
        share("re-ranked recall@1", "longleaf", &present, &is(|one| one.rank_reranked == Some(0)));
        share("answered", "longleaf", &present, &is(|one| one.right));
        share("cited, of those answered", "longleaf", &right, &is(|one| one.cited));
        share("present but called not found", "longleaf", &present, &is(|one| !one.found));
        share("absent and called not found", "longleaf", &absent, &is(|one| !one.found));
    }
    if present.iter().any(|row| row.control.is_some()) {
        let is = |row: &Row| row.control.as_ref().is_some_and(|control| control.right);
        share("answered from 2,000 tokens", "dense", &present, &is);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_count_what_is_there_and_what_is_not() {
        let answered = |found, right, cited| Some(Answered { found, right, cited, ..Answered::default() });
        let row = |rank_longleaf, answered: Option<Answered>| Row {
            present: true,
            rank_longleaf,
            answered,
            control: Some(Control { answer: String::new(), right: rank_longleaf == Some(0) }),
            ..Row::default()
        };
        let absent = |found| Row { answered: answered(found, false, false), ..Row::default() };
        let rows = [
            row(Some(0), answered(true, true, true)),
            row(Some(9), answered(true, true, false)),
            row(None, answered(false, false, false)),
            absent(true),
            absent(false),
        ];
        let shares = shares(&rows, "number", false);
        let of = |task: &str, method: &str| {
            let found = shares.iter().find(|share| share.task == task && share.method == method);
            found.map(|share| (share.right, share.n))
        };
        assert_eq!(of("number recall@1", "longleaf"), Some((1, 3)));
        assert_eq!(of("number recall@32", "longleaf"), Some((2, 3)));
        assert_eq!(of("number recall@1", "meaning"), None);
        assert_eq!(of("number answered", "longleaf"), Some((2, 3)));
        assert_eq!(of("number cited, of those answered", "longleaf"), Some((1, 2)));
        assert_eq!(of("number present but called not found", "longleaf"), Some((1, 3)));
        assert_eq!(of("number absent and called not found", "longleaf"), Some((1, 2)));
        assert_eq!(of("number answered from 2,000 tokens", "dense"), Some((1, 3)));
        // As they are written, and read again.
        for row in &rows {
            let line = serde_json::to_string(row).unwrap();
            assert!(line.starts_with("{\"suite\":"));
            assert_eq!(&serde_json::from_str::<Row>(&line).unwrap(), row);
        }
    }
}
