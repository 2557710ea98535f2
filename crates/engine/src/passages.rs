//! Passages ranked for a question: by the words they share with it, by meaning, and by both.
use crate::embedder::{Embedder, cosine};
use longleaf_memory::lexical::{Analysis, Builder, Index};

/// What passages are ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Words in common (BM25).
    Words,
    /// The cosine of vectors.
    Meaning,
    /// Both: each passage's score of either kind, brought to 0 … 1 over all passages, added up in equal parts.
    Both,
}

/// Tokens of a window that has a vector of its own.
const WINDOW: usize = 254;
/// The share that words have in [`By::Both`].
const WORDS: f32 = 0.5;

/// Some passages in RAM, to be searched as a whole: abstracts, answers, entries. (A [`crate::Memory`] is for what is
/// longer.)
#[derive(Debug)]
pub struct Passages<'e> {
    embedder: &'e Embedder,
    words: Index,
    /// `[windows, width]`
    vectors: Vec<f32>,
    /// Of each window, the passage.
    owners: Vec<usize>,
    len: usize,
}

impl<'e> Passages<'e> {
    /// Take in passages of any length. `watch` is told how many are done.
    pub fn new<'t>(
        texts: impl IntoIterator<Item = &'t str>,
        embedder: &'e Embedder,
        watch: &mut dyn FnMut(usize),
    ) -> Self {
        /// Windows that are embedded in one go.
        const GO: usize = 64;
        let mut builder = Builder::new(Analysis::default());
        let (mut vectors, mut owners, mut waiting, mut len) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (index, text) in texts.into_iter().enumerate() {
            builder.add(text);
            let windows = embedder.windows(text, WINDOW);
            owners.extend(std::iter::repeat_n(index, windows.len()));
            waiting.extend(windows);
            len = index + 1;
            if waiting.len() >= GO {
                vectors.extend(embedder.vectors(&waiting, &mut |_| ()));
                waiting.clear();
                watch(len);
            }
        }
        vectors.extend(embedder.vectors(&waiting, &mut |_| ()));
        watch(len);
        let mut words = Index::new();
        words.push(&builder.finish()).expect("a part that was just made");
        Self { embedder, words, vectors, owners, len }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The score of every passage, in their order.
    pub fn scores(&self, question: &str, by: By) -> Vec<f32> {
        match by {
            By::Words => {
                let mut scores = vec![0.0; self.len];
                for hit in self.words.search(question, self.len) {
                    scores[hit.unit] = hit.score;
                }
                scores
            }
            By::Meaning => {
                let asked = self.embedder.embed(question);
                let mut scores = vec![f32::NEG_INFINITY; self.len];
                for (vector, owner) in self.vectors.chunks_exact(self.embedder.width()).zip(&self.owners) {
                    scores[*owner] = scores[*owner].max(cosine(&asked, vector));
                }
                scores
            }
            By::Both => {
                let mut words = self.scores(question, By::Words);
                let mut meaning = self.scores(question, By::Meaning);
                spread(&mut words);
                spread(&mut meaning);
                words.iter().zip(&meaning).map(|(w, m)| WORDS * w + (1.0 - WORDS) * m).collect()
            }
        }
    }

    /// The best passages with their scores, best first, at most `count`; of equals the earlier one.
    pub fn rank(&self, question: &str, by: By, count: usize) -> Vec<(usize, f32)> {
        let scores = self.scores(question, by);
        let mut order: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        order.truncate(count);
        order
    }
}

/// Bring numbers to 0 … 1.
fn spread(numbers: &mut [f32]) {
    let least = numbers.iter().copied().fold(f32::INFINITY, f32::min);
    let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let width = most - least;
    for x in numbers {
        *x = if width > 0.0 { (*x - least) / width } else { 0.0 };
    }
}
