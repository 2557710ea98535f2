//! A memory at full depth, attended to as it is.
use super::depth::layout;
use super::{Depth, Memory};
use crate::session::{Answer, Progress, Request, Session};
use crate::{Error, Model};
use longleaf_kernel::BLOCK_TOKENS;
use longleaf_memory::SectionId;
use longleaf_memory::adaptive::{Budget, Settings, Statistics};
use longleaf_memory::full::Pages;
use longleaf_text::{Message, Role, TokenId};
use std::collections::HashSet;
use std::ops::ControlFlow;

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
        if self.depth != Depth::Full {
            let (path, found) = (self.path.clone(), self.depth);
            return Err(Error::Depth { path, found, asked: Depth::Full });
        }
        let settings = Settings { sinks: frame.min(BLOCK_TOKENS), budget, ..Settings::default() };
        let length = self.model.config().window;
        let mut session = Session::over(self.model, self.pages()?, settings, length);
        let answer = session.generate(request, watch)?;
        Ok((answer, session.statistics().unwrap_or_default()))
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
