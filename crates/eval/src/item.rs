//! One question about one context.
use crate::score::Scorer;

/// A question about a context, as a task family defines it. Which part of it reaches the model is a method's choice;
/// the words around it are the same for all methods.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The task.
    pub task: String,
    /// Tokens asked for: context, prompt and answer together.
    pub length: usize,
    /// Its number within its cell.
    pub index: usize,
    /// Where in the context the answer stands first, as a share of it, if it stands anywhere.
    pub depth: Option<f64>,
    /// What is to be read.
    pub context: String,
    /// Contexts on one shelf are versions of one text: what they have in common is read once.
    pub shelf: String,
    /// The prompt around the context.
    pub frame: Frame,
    /// How a memory is asked.
    pub pose: Pose,
    /// What a right answer says.
    pub expected: Vec<String>,
    /// What is made of an answer.
    pub scorer: Scorer,
    /// Tokens an answer may have.
    pub max_tokens: usize,
    /// The task asks for words of the text and nothing else. Longleaf writes no others then.
    pub quotes: bool,
    /// What the text says that an answer needs, word for word, as far as that is known.
    pub needs: Vec<String>,
    /// Where several things are asked for at once: the prompt for each of the pose's questions by itself.
    pub parts: Vec<Frame>,
    /// The statements of the prompt's examples, where what is looked for is worded as they are. Longleaf looks for
    /// sentences like them.
    pub like: Vec<String>,
}

/// A prompt with a place for the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// A solved item before all else, where the task has one.
    pub example: String,
    /// Before the context.
    pub before: String,
    /// After it, the question included.
    pub after: String,
    /// How the answer begins; the model goes on from there.
    pub prefix: String,
    /// The prompt as it stands, without the model's chat template.
    pub raw: bool,
}

impl Frame {
    /// The user's part of the prompt.
    pub fn prompt(&self, context: &str) -> String {
        [&self.example, &self.before, context, &self.after].concat()
    }
}

/// How a question is put to a memory. It says nothing that the prompt does not say: the question's own words, and
/// what kind of question it is, which is the same for all items of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pose {
    /// Each of the questions by itself; what they find is read together.
    Find {
        /// In plain words.
        questions: Vec<String>,
        /// At most so many passages are read for each of them.
        passages: usize,
        /// What is read of them.
        read: Reading,
    },
    /// As above for one question, then again with what was found, since a step of the answer leads to the next.
    Chain {
        /// In plain words.
        question: String,
        /// How often it is asked again.
        hops: usize,
        /// Passages read after each step.
        passages: usize,
        /// The names that the steps went through are what is asked for; the model reads them
        /// instead of the sentences they were found in.
        trail: bool,
    },
    /// How often does each word occur? Every block is read, none is left out.
    Count {
        /// In plain words, for methods that only find.
        question: String,
        /// So many of the most frequent words are shown to the model.
        most: usize,
    },
}

/// What is read of the passages that a question finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// One or a few of them answer: those that are clearly behind are left out, and sentences that only look like theirs.
    Best,
    /// The answer is all that speaks of what is asked about: sentences from all of them.
    Spread,
    /// The same, but as they stand: the answer may be said in other words than the question.
    Whole,
}
