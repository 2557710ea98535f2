//! Which abstracts of a collection does a claim concern? SciFact in BEIR's form (Wadden et al., 2020; Thakur et al.,
//! 2021): nDCG@10 and recall@100.
use crate::run::{Row, hash};
use crate::{Error, Event};
use longleaf_engine::passages::{By, Passages};
use longleaf_engine::store::lexical::{Analysis, Builder, Index};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// Ranks the documents of a collection, best first.
pub trait Ranking {
    /// Its name in results.
    fn name(&self) -> &'static str;
    /// Numbers of documents, best first, at most `count`.
    fn rank(&self, query: &str, count: usize) -> Vec<usize>;
}

/// By words in common.
#[derive(Debug)]
pub struct Lexical(Index);

impl Lexical {
    /// An index of these documents, each one unit.
    pub fn new(documents: &[String]) -> Self {
        let mut builder = Builder::new(Analysis::default());
        for document in documents {
            builder.add(document);
        }
        let mut index = Index::new();
        index.push(&builder.finish()).expect("an index that was just built is sound");
        Self(index)
    }
}

impl Ranking for Lexical {
    fn name(&self) -> &'static str {
        "lexical"
    }

    fn rank(&self, query: &str, count: usize) -> Vec<usize> {
        self.0.search(query, count).into_iter().map(|hit| hit.unit).collect()
    }
}

/// By vectors, or by vectors and words.
#[derive(Debug)]
pub struct Meaning<'p, 'e> {
    /// The documents.
    pub passages: &'p Passages<'e>,
    /// What they are ranked by.
    pub by: By,
}

impl Ranking for Meaning<'_, '_> {
    fn name(&self) -> &'static str {
        match self.by {
            By::Words => "words",
            By::Meaning => "meaning",
            By::Both => "fused",
        }
    }

    fn rank(&self, query: &str, count: usize) -> Vec<usize> {
        self.passages.rank(query, self.by, count).into_iter().map(|(document, _)| document).collect()
    }
}

/// A collection with queries and the documents that are right for each.
#[derive(Debug)]
pub struct Collection {
    /// Title and text of each document.
    pub documents: Vec<String>,
    queries: Vec<(String, BTreeSet<usize>)>,
}

impl Collection {
    /// SciFact, from `scifact/` in a folder of data.
    ///
    /// # Errors
    /// Files that are not there or damaged.
    pub fn scifact(data: &Path) -> Result<Self, Error> {
        let folder = data.join("scifact");
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(Error::data(&path))
        };
        let field = |name: &str, line: usize, row: &str| -> Result<(String, String, String), Error> {
            let wrong = || Error::Format {
                path: folder.join(name),
                expected: "JSON with _id and text",
                line: line + 1,
            };
            let json: Value = serde_json::from_str(row).map_err(|_| wrong())?;
            let part = |name: &str| json[name].as_str().map(str::to_owned);
            Ok((
                part("_id").ok_or_else(wrong)?,
                part("title").unwrap_or_default(),
                part("text").ok_or_else(wrong)?,
            ))
        };
        let mut right: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in read("qrels_test.tsv")?.lines().skip(1) {
            let mut columns = line.split('\t');
            if let (Some(query), Some(document), Some(score)) =
                (columns.next(), columns.next(), columns.next())
                && score.trim() != "0"
            {
                right.entry(query.to_owned()).or_default().insert(document.to_owned());
            }
        }
        let (mut documents, mut numbers) = (Vec::new(), BTreeMap::new());
        for (line, row) in read("corpus.jsonl")?.lines().enumerate() {
            let (id, title, text) = field("corpus.jsonl", line, row)?;
            numbers.insert(id, documents.len());
            documents.push(format!("{title} {text}"));
        }
        let mut queries = Vec::new();
        for (line, row) in read("queries_test.jsonl")?.lines().enumerate() {
            let (id, _, text) = field("queries_test.jsonl", line, row)?;
            let wanted =
                right.get(&id).into_iter().flatten().filter_map(|document| numbers.get(document).copied());
            let wanted: BTreeSet<usize> = wanted.collect();
            if !wanted.is_empty() {
                queries.push((text, wanted));
            }
        }
        Ok(Self { documents, queries })
    }

    /// Two rows for each of the first `items` queries.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if `watch` breaks it off, and those of `keep`.
    pub fn rows<E: From<Error>>(
        &self,
        ranking: &dyn Ranking,
        items: usize,
        keep: &mut dyn FnMut(&Row) -> Result<(), E>,
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Row>, E> {
        let mut rows = Vec::new();
        for (index, (query, wanted)) in self.queries.iter().take(items).enumerate() {
            let event = Event::Item { task: "scifact", length: 0, index, method: ranking.name() };
            if watch(event).is_break() {
                return Err(Error::Interrupted.into());
            }
            let ranked = ranking.rank(query, 100);
            for (task, score) in
                [("scifact nDCG@10", ndcg(&ranked, wanted, 10)), ("scifact R@100", recall(&ranked, wanted))]
            {
                let row = Row {
                    suite: "search".to_owned(),
                    task: task.to_owned(),
                    item: index,
                    method: ranking.name().to_owned(),
                    prompt: hash(&[query]),
                    score,
                    ..Row::default()
                };
                keep(&row)?;
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

/// Normalised discounted cumulative gain of the first `depth` (Järvelin and Kekäläinen, 2002), every right document being
/// worth the same.
fn ndcg(ranked: &[usize], wanted: &BTreeSet<usize>, depth: usize) -> f64 {
    let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let found = ranked.iter().take(depth).enumerate().filter(|(_, document)| wanted.contains(document));
    let most: f64 = (0..wanted.len().min(depth)).map(gain).sum();
    found.map(|(rank, _)| gain(rank)).sum::<f64>() / most
}

fn recall(ranked: &[usize], wanted: &BTreeSet<usize>) -> f64 {
    ranked.iter().filter(|document| wanted.contains(document)).count() as f64 / wanted.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_and_recalls() {
        let wanted = BTreeSet::from([3, 7]);
        assert!((ndcg(&[3, 7, 1], &wanted, 10) - 1.0).abs() < 1e-12);
        // First and third place: (1 + 1/2) / (1 + 1/log2 3).
        assert!((ndcg(&[7, 1, 3], &wanted, 10) - 1.5 / (1.0 + 1.0 / 3_f64.log2())).abs() < 1e-12);
        assert!(ndcg(&[1, 3], &wanted, 1) < 1e-12);
        assert!((recall(&[1, 3], &wanted) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_small_collection() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("scifact");
        fs::create_dir(&folder).unwrap();
        let document = |id: &str, text: &str| {
            serde_json::json!({"_id": id, "title": "On trees", "text": text}).to_string()
        };
        let corpus = [document("9", "Oaks live long."), document("4", "Willows grow near water.")];
        fs::write(folder.join("corpus.jsonl"), corpus.join("\n")).unwrap();
        let query = |id: &str, text: &str| serde_json::json!({"_id": id, "text": text}).to_string();
        fs::write(
            folder.join("queries_test.jsonl"),
            [query("1", "Willows need water."), query("2", "x")].join("\n"),
        )
        .unwrap();
        fs::write(folder.join("qrels_test.tsv"), "query-id\tcorpus-id\tscore\n1\t4\t1\n2\t9\t0\n").unwrap();
        let collection = Collection::scifact(data.path()).unwrap();
        let ranking = Lexical::new(&collection.documents);
        let mut kept = 0;
        let mut keep = |_: &Row| {
            kept += 1;
            Ok::<_, Error>(())
        };
        let rows = collection.rows(&ranking, 10, &mut keep, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((rows.len(), kept), (2, 2), "a query without right documents asks nothing");
        assert!(rows.iter().all(|row| (row.score - 1.0).abs() < 1e-12));
    }
}
