//! A memory at full depth, attended to as it is.
use super::asking::{Passage, after};
use super::depth::layout;
use super::{Depth, Memory};
use crate::session::{Answer, Progress, Request, Session};
use crate::{Error, Model};
use longleaf_kernel::BLOCK_TOKENS;
use longleaf_memory::SectionId;
use longleaf_memory::adaptive::{Budget, FarBlocks, Settings, Statistics};
use longleaf_memory::full::Pages;
use longleaf_text::{Message, Role, TokenId};
use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

impl Memory<'_> {
    /// Answer `request` with every layer attending to the keys and values of the whole memory, of which the prompt
    /// chooses as much as `budget` allows; nothing is read again. The first `frame` tokens of the prompt stand before
    /// the memory's text, the others behind it (see [`framed_prompt`]).
    ///
    /// # Errors
    /// [`Error::Depth`] if the memory was not read at full depth; those of the store, and of the session.
    pub fn attend(
        &self,
        request: &Request,
        frame: usize,
        budget: Budget,
        watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(Answer, Statistics), Error> {
        self.expect_full_depth()?;
        let settings = Settings { sinks: frame.min(BLOCK_TOKENS), budget, ..Settings::default() };
        let length = self.model.config().window;
        let mut session = Session::over(self.model, self.pages()?, settings, length);
        let answer = session.generate(request, watch)?;
        Ok((answer, session.statistics().unwrap_or_default()))
    }

    /// Answer a question with every layer attending to the keys and values of the blocks that `passages` lie in, all
    /// of them; also how many those are.
    pub(super) fn attend_to(
        &self,
        question: &str,
        passages: &[Passage],
        request: &Request,
        watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(Answer, usize), Error> {
        let mut spans: Vec<(SectionId, Range<usize>)> = Vec::new();
        // A memory that is on its way to full depth keeps nothing yet of some of its texts.
        if passages.iter().any(|passage| !layout(self.model).holds(&self.store, passage.section)) {
            let (path, found) = (self.path.clone(), Depth::Finder);
            return Err(Error::Depth { path, found, asked: Depth::Full });
        }
        for passage in passages {
            spans.push((passage.section, self.tokens(passage)?));
        }
        let mut pages = self.pages()?;
        pages.select(&mut |section, tokens| {
            spans
                .iter()
                .any(|(of, span)| *of == section && span.start < tokens.end && tokens.start < span.end)
        });
        let blocks = pages.len();
        let (prompt, frame) = framed_prompt(self.model, None, &after(question))?;
        let settings = Settings {
            sinks: frame.min(BLOCK_TOKENS),
            budget: Budget::Blocks(blocks.max(1)),
            sample: 0,
            ..Settings::default()
        };
        let request = Request { prompt, ..request.clone() };
        let answer = Session::over(self.model, pages, settings, self.model.config().window)
            .generate(&request, watch)?;
        Ok((answer, blocks))
    }

    pub(super) fn expect_full_depth(&self) -> Result<(), Error> {
        if self.depth == Depth::Full {
            return Ok(());
        }
        let (path, found) = (self.path.clone(), self.depth);
        Err(Error::Depth { path, found, asked: Depth::Full })
    }

    /// All that the memory holds, document by document, each section once.
    fn pages(&self) -> Result<Pages<'_>, Error> {
        let mut known = HashSet::new();
        let sections = self.store.documents().flat_map(|document| &document.sections);
        let sections: Vec<SectionId> = sections.copied().filter(|section| known.insert(*section)).collect();
        let compute = self.model.decoder().compute();
        Ok(Pages::open(&self.store, &sections, layout(self.model), compute, self.ram)?)
    }
}

/// The tokens of a conversation that begins with `prompt`, and how many of them come before it: the frame that the
/// model's template puts around every prompt.
///
/// # Errors
/// The template's.
pub fn framed_prompt(
    model: &Model,
    system: Option<&str>,
    prompt: &str,
) -> Result<(Vec<TokenId>, usize), Error> {
    let tokens = |prompt: &str| {
        let system = system.iter().map(|system| Message::new(Role::System, *system));
        model.chat_prompt(&system.chain([Message::new(Role::User, prompt)]).collect::<Vec<_>>())
    };
    let (asked, other) = (tokens(prompt)?, tokens(if prompt.starts_with('x') { "y" } else { "x" })?);
    let frame = asked.iter().zip(&other).take_while(|(a, b)| a == b).count();
    Ok((asked, frame))
}
