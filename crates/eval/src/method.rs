//! Ways to answer a question about a context. They differ in what of the context the model reads; the words around it,
//! the model, and how its answer is taken down are the same.
mod count;

use crate::item::{Frame, Item, Pose, Reading};
use crate::{Error, Event};
use longleaf_engine::memory::{
    Asking, Coverage, Depth, Excerpt, Finding, Keep, Rarity, Stages, chain, evidence,
};
use longleaf_engine::store::ContentHash;
use longleaf_engine::{Answer, Document, Memory, Message, Model, Progress, Request, Role, Session, Special};
use longleaf_engine::{TokenId, Visible, Wording};
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::time::Instant;

/// A way to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The context is read into a memory; the model reads what the question finds there.
    Longleaf,
    /// The same with a memory that was read for its words alone.
    Words,
    /// The model reads the whole context, where its window holds it.
    Dense,
    /// The model reads the newest part of the context, as much as its window holds.
    Truncated,
    /// The model reads as many passages as [`Longleaf`](Self::Longleaf) would, found by BM25 alone.
    Lexical,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Longleaf, Self::Words, Self::Dense, Self::Truncated, Self::Lexical];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Longleaf => "longleaf",
            Self::Words => "words",
            Self::Dense => "dense",
            Self::Truncated => "truncated",
            Self::Lexical => "lexical",
        }
    }

    /// Whether it is Longleaf's own way, whatever its memory keeps.
    fn is_ours(self) -> bool {
        matches!(self, Self::Longleaf | Self::Words)
    }

    /// How deep a memory it asks, if it asks one.
    pub fn depth(self) -> Option<Depth> {
        match self {
            Self::Longleaf | Self::Lexical => Some(Depth::Finder),
            Self::Words => Some(Depth::Words),
            Self::Dense | Self::Truncated => None,
        }
    }
}

/// Answers items with one model.
#[derive(Debug)]
pub struct Answering<'m> {
    /// Reads what was found, and answers.
    pub model: &'m Model,
    /// The same model for reading into memories, where it may compute faster and less exactly.
    pub reader: &'m Model,
    /// Where memories are kept from one run to the next.
    pub memories: PathBuf,
    /// Bytes that a memory may hold of its keys and indexes.
    pub ram: usize,
    /// What was asked last of the last item, and the answer: methods often read the same.
    pub(crate) last: Vec<(Vec<TokenId>, Taken)>,
}

/// An answer as it was taken down.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taken {
    /// The answer's text, without the beginning that the prompt gave it.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// What it read in the context's place, if that was selected.
    pub read: Option<String>,
    /// Blocks of the memory, and those of them that the model read.
    pub blocks: Option<(usize, usize)>,
    /// What the answer path would have said about whether anything was found: found from 1 on.
    pub confidence: Option<f64>,
    /// Tokens read into the memory because it did not have them.
    pub added_tokens: Option<usize>,
    /// Seconds to read into the memory what it did not have.
    pub read_s: f64,
    /// Seconds to find.
    pub find_s: f64,
    /// Seconds to read the prompt.
    pub prefill_s: f64,
    /// Seconds to write the answer.
    pub decode_s: f64,
}

/// What of a context the model is to read.
#[derive(Debug, Default)]
struct Selection {
    text: String,
    blocks: Option<(usize, usize)>,
    confidence: Option<f64>,
    added_tokens: Option<usize>,
    read_s: f64,
    find_s: f64,
}

/// Between passages that do not follow one another.
const GAP: &str = "\n...\n";

impl<'m> Answering<'m> {
    /// Answers with `model`; memories are read into by `reader` and kept under `memories`.
    pub fn new(model: &'m Model, reader: &'m Model, memories: PathBuf, ram: usize) -> Self {
        Self { model, reader, memories, ram, last: Vec::new() }
    }

    /// The answer of one method; `None` where the method cannot answer, as dense beyond the window.
    ///
    /// # Errors
    /// Those of the memory and the model; [`Error::Interrupted`] if `watch` breaks it off.
    pub fn answer(
        &mut self,
        item: &Item,
        method: Method,
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Taken>, Error> {
        if method.is_ours() && item.parts.len() > 1 {
            return self.answer_parts(item, method, watch);
        }
        let window = self.model.config().window;
        let selection = match method {
            Method::Dense => {
                let prompt = self.prompt(&item.frame, &item.context)?;
                if prompt.len() + item.max_tokens > window {
                    return Ok(None);
                }
                Selection { text: item.context.clone(), ..Selection::default() }
            }
            Method::Truncated => Selection { text: self.newest(item)?.to_owned(), ..Selection::default() },
            Method::Longleaf | Method::Words | Method::Lexical => self.select(item, method, watch)?,
        };
        let mut frame = item.frame.clone();
        if method.is_ours() && matches!(item.pose, Pose::Count { .. }) {
            // The example shows how to count a list, and the counting is done.
            frame.example.clear();
        }
        let prompt = self.prompt(&frame, &selection.text)?;
        // An answer that was held to the text's words is no other method's.
        let worded = item.quotes && method.is_ours();
        let known =
            self.last.iter().find(|(other, _)| *other == prompt && !worded).map(|(_, taken)| taken.clone());
        let taken = if let Some(known) = known {
            Taken { blocks: None, confidence: None, read: None, added_tokens: None, ..known }
        } else {
            let words = || Wording::new(&frame.prompt(&selection.text)).besides(&item.frame.after);
            let wording = worded.then(|| match item.pose {
                // What was counted is all of the answer: no word of the question or its frame is.
                Pose::Count { .. } => Wording::new(&selection.text).each_once().numbered(),
                Pose::Chain { trail: true, .. } => words().each_once(),
                _ => words(),
            });
            let answer = self.generate(item.max_tokens, prompt.clone(), wording, watch)?;
            Taken {
                text: answer.text,
                prompt_tokens: answer.prompt_tokens,
                prefill_s: answer.prefill_s,
                decode_s: answer.decode_s,
                ..Taken::default()
            }
        };
        let selects = method.depth().is_some();
        let taken = Taken {
            read: selects.then_some(selection.text),
            blocks: selection.blocks,
            confidence: selection.confidence,
            added_tokens: selection.added_tokens,
            read_s: selection.read_s,
            find_s: selection.find_s,
            ..taken
        };
        if !worded {
            self.last.push((prompt, taken.clone()));
        }
        Ok(Some(taken))
    }

    /// Each question of the pose by itself; the answers one after another.
    fn answer_parts(
        &mut self,
        item: &Item,
        method: Method,
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Taken>, Error> {
        let Pose::Find { questions, passages, .. } = &item.pose else { return Ok(None) };
        let (mut all, mut texts, mut read) = (Taken::default(), Vec::new(), Vec::new());
        for (question, frame) in questions.iter().zip(&item.parts) {
            let pose =
                Pose::Find { questions: vec![question.clone()], passages: *passages, read: Reading::Best };
            let max_tokens = item.max_tokens / item.parts.len();
            let part = Item { frame: frame.clone(), pose, max_tokens, parts: Vec::new(), ..item.clone() };
            let Some(taken) = self.answer(&part, method, watch)? else { return Ok(None) };
            texts.push(taken.text);
            read.extend(taken.read);
            all.prompt_tokens += taken.prompt_tokens;
            all.blocks = taken.blocks.map(|(of, read)| (of, read + all.blocks.map_or(0, |(_, read)| read)));
            all.confidence = [all.confidence, taken.confidence].into_iter().flatten().reduce(f64::min);
            all.added_tokens = Some(all.added_tokens.unwrap_or(0) + taken.added_tokens.unwrap_or(0));
            all.read_s += taken.read_s;
            all.find_s += taken.find_s;
            all.prefill_s += taken.prefill_s;
            all.decode_s += taken.decode_s;
        }
        Ok(Some(Taken { text: texts.join("\n"), read: Some(read.join(GAP)), ..all }))
    }

    fn generate(
        &self,
        max_tokens: usize,
        prompt: Vec<TokenId>,
        wording: Option<Wording>,
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Answer, Error> {
        let length = (prompt.len() + max_tokens).min(self.model.config().window);
        let request = Request { prompt, max_tokens: Some(max_tokens), wording, ..Request::default() };
        let mut interrupted = false;
        let answer = Session::new(self.model, Visible::All, length).generate(&request, &mut |progress| {
            let event = match progress {
                Progress::Read { tokens, of } => Event::Prompt { tokens, of },
                Progress::Text(_) => Event::Answer,
            };
            let flow = watch(event);
            interrupted |= flow.is_break();
            flow
        })?;
        if interrupted { Err(Error::Interrupted) } else { Ok(answer) }
    }

    /// A prompt with this text in the context's place.
    fn prompt(&self, frame: &Frame, context: &str) -> Result<Vec<TokenId>, Error> {
        let content = frame.prompt(context);
        let mut prompt = if frame.raw {
            self.model.plain_prompt(&content)
        } else {
            self.model.chat_prompt(&[Message::new(Role::User, content)])?
        };
        if !frame.prefix.is_empty() {
            prompt.extend::<Vec<TokenId>>(self.model.tokenizer().encode(&frame.prefix, Special::Text));
        }
        Ok(prompt)
    }

    /// The end of the context, as much as the window holds beside the prompt and the answer.
    fn newest<'c>(&self, item: &'c Item) -> Result<&'c str, Error> {
        let around = self.prompt(&item.frame, "")?.len() + item.max_tokens + 1;
        let room = self.model.config().window.saturating_sub(around);
        let encoding = self.model.tokenizer().encode_with_offsets(&item.context, Special::Text);
        let first = encoding.ids.len().saturating_sub(room);
        let start = encoding.spans.get(first).map_or(item.context.len(), |span| span.start);
        let mut text = &item.context[item.context.ceil_char_boundary(start)..];
        // Cut in another place, text may have a token more.
        while !text.is_empty()
            && self.prompt(&item.frame, text)?.len() + item.max_tokens > self.model.config().window
        {
            text = &text[text.ceil_char_boundary(text.len().min(16))..];
        }
        Ok(text)
    }

    fn select(
        &self,
        item: &Item,
        method: Method,
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Selection, Error> {
        if let Pose::Count { most, .. } = &item.pose
            && method.is_ours()
        {
            let start = Instant::now();
            let text = count::frequent(&item.context, *most);
            return Ok(Selection { text, find_s: start.elapsed().as_secs_f64(), ..Selection::default() });
        }
        let depth = method.depth().unwrap_or_default();
        let (folder, added_tokens, read_s) = self.read(item, depth, watch)?;
        let start = Instant::now();
        let mut memory = Memory::read_only(&folder, self.model)?;
        memory.set_ram(self.ram);
        let asking = |passages: usize| {
            let all = Asking::default();
            let stages = match method {
                Method::Lexical => Stages { finder: false, lexical: true, meaning: false, rerank: false },
                _ => all.stages,
            };
            let candidates = if stages.rerank { all.candidates.max(passages) } else { passages };
            Asking { stages, passages: Some(passages), candidates, ..all }
        };
        let whole = |passages: &[&str]| passages.iter().map(|passage| (*passage).to_owned()).collect();
        let mut found = Found::default();
        let mut trail = chain::Trail::default();
        let worded = method.is_ours() && !item.like.is_empty();
        match &item.pose {
            // The memory takes all steps itself.
            Pose::Find { questions, passages, .. } if worded => {
                for question in questions {
                    let asking = Asking { like: item.like.clone(), ..asking(*passages) };
                    found.add_all(memory.find(question, &asking, &mut |_| ())?);
                }
            }
            Pose::Chain { question, hops, passages, .. } if worded => {
                let asking = Asking { like: item.like.clone(), hops: *hops, ..asking(*passages) };
                found.add_all(memory.find(question, &asking, &mut |_| ())?);
            }
            Pose::Find { questions, passages, read } => {
                for question in questions {
                    let finding = memory.find(question, &asking(*passages), &mut |_| ())?;
                    // Where nothing stands out all that there is may help.
                    let best = *read != Reading::Spread && finding.near > 0;
                    let most = if best { finding.near } else { *passages };
                    found.add(finding.excerpts, most, finding.confidence, finding.coverage);
                }
            }
            Pose::Chain { question, hops, passages, trail: named } if method.is_ours() => {
                let mut first = true;
                trail = chain::follow(question, *hops, *named, |question| {
                    let mut asking = asking(*passages);
                    // A bare name needs no ranking: what leads on from it is told by the sentences it stands in.
                    if *named && !std::mem::take(&mut first) {
                        asking.stages.rerank = false;
                        asking.candidates = Asking::default().candidates;
                        asking.passages = Some(asking.candidates);
                    }
                    let most = asking.passages.unwrap_or(*passages);
                    let finding = memory.find(question, &asking, &mut |_| ())?;
                    let worth = chain::worth(finding.excerpts, |excerpt| excerpt.gain);
                    Ok::<_, Error>(found.add(worth, most, finding.confidence, finding.coverage))
                })?;
            }
            // Words alone lead nowhere else: one question, as many passages as all steps together.
            Pose::Chain { question, hops, passages, .. } => {
                let passages = passages * (hops + 1);
                let finding = memory.find(question, &asking(passages), &mut |_| ())?;
                found.add(finding.excerpts, passages, finding.confidence, finding.coverage);
            }
            Pose::Count { question, .. } => {
                let passages = Asking::default().candidates;
                let finding = memory.find(question, &asking(passages), &mut |_| ())?;
                found.add(finding.excerpts, passages, finding.confidence, finding.coverage);
            }
        }
        let mut selection = match &item.pose {
            // Nothing else was found.
            _ if worded => found.selection(whole),
            Pose::Find { questions, read, .. } if method.is_ours() && *read != Reading::Whole => {
                let rarity = memory.rarity(&questions.join(" "))?;
                let keep = if *read == Reading::Spread { Keep::Evidence } else { Keep::Others };
                found.selection(|passages| narrow(passages, questions, &rarity, keep))
            }
            Pose::Chain { question, .. } if method.is_ours() => {
                let asked = [std::slice::from_ref(question), &trail.links[..], &trail.names[..]].concat();
                let rarity = memory.rarity(&asked.join(" "))?;
                found.selection(|passages| narrow(passages, &asked, &rarity, Keep::Evidence))
            }
            _ => found.selection(whole),
        };
        if matches!(item.pose, Pose::Chain { trail: true, .. }) && !trail.names.is_empty() {
            selection.text = format!("Found step by step: {}", trail.names.join(", "));
        }
        selection.added_tokens = Some(added_tokens);
        (selection.read_s, selection.find_s) = (read_s, start.elapsed().as_secs_f64());
        // Passages beyond the window are the last of the text.
        while self.prompt(&item.frame, &selection.text)?.len() + item.max_tokens > self.model.config().window
        {
            let Some((shorter, _)) = selection.text.rsplit_once(GAP) else { break };
            selection.text = shorter.to_owned();
        }
        Ok(selection)
    }

    /// Read the context into the memory of its shelf, as far as that has not got it. The folder, tokens read and seconds.
    fn read(
        &self,
        item: &Item,
        depth: Depth,
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(PathBuf, usize, f64), Error> {
        let start = Instant::now();
        let path = self.reader.path().as_os_str().as_encoded_bytes();
        // A memory of another layout than this version's stays behind.
        let layout = self.reader.finder().map(|profile| profile.layout()).unwrap_or_default();
        let mut parts = vec![path, layout.as_bytes(), item.shelf.as_bytes()];
        if depth == Depth::Words {
            parts.push(b"words");
        }
        let key = ContentHash::of_parts(&parts);
        let shelf = item.shelf.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let folder = self.memories.join(format!("{shelf}-{}", key.hex(6)));
        let mut memory = Memory::open_or_create(&folder, self.reader)?;
        memory.set_ram(self.ram);
        memory.set_depth(depth)?;
        // Always the same name: a version takes the place of the one before, whose sections are still known.
        let document = Document::new("context", item.context.clone().into_bytes())?;
        let added = memory.add(&document, &mut |reading| {
            watch(Event::Read { tokens: reading.tokens, bytes: reading.bytes, of: reading.of })
        })?;
        if added.interrupted {
            return Err(Error::Interrupted);
        }
        Ok((folder, added.tokens, start.elapsed().as_secs_f64()))
    }
}

/// What several questions found.
#[derive(Debug, Default)]
struct Found {
    /// Without overlaps.
    excerpts: Vec<Excerpt>,
    coverage: Option<Coverage>,
    confidence: Option<f64>,
}

impl Found {
    /// Take the best `most` excerpts; returns them.
    fn add(
        &mut self,
        excerpts: Vec<Excerpt>,
        most: usize,
        confidence: f64,
        coverage: Coverage,
    ) -> Vec<Excerpt> {
        let taken: Vec<Excerpt> = excerpts.into_iter().take(most).collect();
        for excerpt in &taken {
            match self.excerpts.iter_mut().find(|known| known.overlaps(excerpt)) {
                None => self.excerpts.push(excerpt.clone()),
                Some(known) => known.join(excerpt),
            }
        }
        self.coverage = Some(coverage);
        if confidence.is_finite() {
            self.confidence = Some(self.confidence.map_or(confidence, |other| other.max(confidence)));
        }
        taken
    }

    /// Take all that is worth reading.
    fn add_all(&mut self, finding: Finding) {
        self.add(finding.excerpts, finding.near, finding.confidence, finding.coverage);
    }

    /// In the order of the text, what `narrow` leaves of each.
    fn selection(mut self, narrow: impl FnOnce(&[&str]) -> Vec<String>) -> Selection {
        self.excerpts.sort_by(|a, b| (&a.document, a.start).cmp(&(&b.document, b.start)));
        let mut joined: Vec<Excerpt> = Vec::new();
        for excerpt in self.excerpts {
            match joined.last_mut() {
                Some(last) if last.overlaps(&excerpt) => last.join(&excerpt),
                _ => joined.push(excerpt),
            }
        }
        let texts: Vec<&str> = joined.iter().map(|excerpt| excerpt.text.trim()).collect();
        let narrowed = narrow(&texts);
        let texts: Vec<&str> =
            narrowed.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
        Selection {
            text: texts.join(GAP),
            blocks: self.coverage.map(|coverage| (coverage.blocks_total, joined.len())),
            confidence: self.confidence,
            ..Selection::default()
        }
    }
}

/// Each passage without the sentences that are not kept. Passages of which nothing is left are empty.
fn narrow(passages: &[&str], questions: &[String], rarity: &Rarity, keep: Keep) -> Vec<String> {
    let kept = evidence(passages, questions, rarity, keep);
    let text =
        |(text, ranges): (&&str, Vec<Range<usize>>)| ranges.into_iter().map(|range| &text[range]).collect();
    passages.iter().zip(kept).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, start: usize, end: usize) -> Excerpt {
        let document = "context".to_owned();
        Excerpt {
            document,
            start: start as u64,
            end: end as u64,
            text: text[start..end].to_owned(),
            gain: 0.0,
        }
    }

    #[test]
    fn what_overlaps_is_read_once_and_in_order() {
        let text = "The oak is old. The elm is young. The ash is tall. The fir is green.";
        let (blocks_total, blocks_scored) = (9, 9);
        let coverage =
            Coverage { blocks_total, blocks_scored, blocks_read: 0, blocks_attended: 0, unread_mass: 0.0 };
        let mut found = Found::default();
        found.add(vec![excerpt(text, 34, 50), excerpt(text, 0, 15)], 2, 0.5, coverage);
        found.add(vec![excerpt(text, 40, 68), excerpt(text, 8, 20)], 1, 0.2, coverage);
        let selection = found.selection(|texts| texts.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(selection.text, "The oak is old.\n...\nThe ash is tall. The fir is green.");
        assert_eq!((selection.blocks, selection.confidence), (Some((9, 2)), Some(0.5)));
    }
}
