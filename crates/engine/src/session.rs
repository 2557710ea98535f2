//! One sequence: tokens read, and answers generated after them.
use crate::attending::{Attending, Sequence};
use crate::sampler::{Sampler, Sampling, log_prob};
use crate::stop::{StopStrings, goes_in_circles};
use crate::wording::Wording;
use crate::{Error, Model};
use longleaf_kernel::BLOCK_TOKENS;
use longleaf_memory::adaptive::{FarBlocks, Settings, Statistics};
use longleaf_model::{PREFILL_TOKENS, Scratch};
use longleaf_text::{DecodeStream, TokenId};
use std::ops::ControlFlow;
use std::time::Instant;

/// What to generate after a prompt.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The prompt's tokens (see [`Model::chat_prompt`] and [`Model::plain_prompt`]).
    pub prompt: Vec<TokenId>,
    /// At most so many tokens; `None` for as many as the window holds.
    pub max_tokens: Option<usize>,
    /// Strings before which the answer ends.
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// End an answer that goes round in circles, as small models' do.
    pub stop_circles: bool,
    /// Go on behind tokens that end a text or a turn.
    pub ignore_end: bool,
    /// Record the log-probability of every token.
    pub log_probs: bool,
    /// Write only words that occur in a text.
    pub wording: Option<Wording>,
}

/// What happens while a request is answered.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// So many of the prompt's tokens are read.
    Read {
        /// Tokens read.
        tokens: usize,
        /// Tokens of the prompt.
        of: usize,
    },
    /// More of the answer's text.
    Text(&'a str),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, a stop string came, or it went round in circles.
    Stop,
    /// It reached the number of tokens asked for, or the end of the window.
    Length,
    /// Whoever watched broke it off.
    Interrupted,
}

impl FinishReason {
    /// The word for it in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What was generated.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text, up to the stop string if one came.
    pub text: String,
    /// The tokens, without the one that ended the answer.
    pub tokens: Vec<TokenId>,
    /// `ln p` of each token before sampling changed anything, if asked for.
    pub log_probs: Vec<f64>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens chosen, the one that ended the answer included.
    pub completion_tokens: usize,
    /// Seconds until the prompt was read and the first token's logits were there.
    pub prefill_s: f64,
    /// Seconds from then on.
    pub decode_s: f64,
}

/// A sequence on a model.
#[derive(Debug)]
pub struct Session<'m> {
    model: &'m Model,
    attention: Sequence<'m>,
    scratch: Scratch,
}

impl<'m> Session<'m> {
    /// An empty sequence that will hold no more than `length` tokens.
    pub fn new(model: &'m Model, attending: impl Into<Attending>, length: usize) -> Self {
        let attention = Sequence::new(model.decoder(), attending.into(), length);
        Self { model, attention, scratch: Scratch::new() }
    }

    /// An empty sequence that attends to far text as well, as if that stood before all of it but its sinks: a prompt
    /// chooses the far blocks for its whole answer.
    pub fn over(model: &'m Model, far: impl FarBlocks + 'm, settings: Settings, length: usize) -> Self {
        let attention = Sequence::over(model.decoder(), settings, Box::new(far), length);
        Self { model, attention, scratch: Scratch::new() }
    }

    /// What adaptive attention chose for the last answer; `None` if attention is dense.
    pub fn statistics(&self) -> Option<Statistics> {
        self.attention.statistics()
    }

    /// Answer `request`, from the beginning of the sequence. `watch` may break it off; what there is then comes
    /// back as the answer.
    pub fn generate(
        &mut self,
        request: &Request,
        watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Answer, Error> {
        let window = self.model.config().window;
        let prompt = request.prompt.len();
        if prompt == 0 {
            return Err(Error::EmptyPrompt);
        }
        // What one sequence may hold in all: nothing bounds what chooses anew for every run.
        let (holds, longest) = match &self.attention {
            Sequence::Dense(_) => (window, window),
            Sequence::Adaptive(adaptive) if adaptive.far().is_empty() => (usize::MAX - 1, prompt + window),
            Sequence::Adaptive(adaptive) => {
                let rest = window.saturating_sub(adaptive.room() * BLOCK_TOKENS);
                (rest, rest)
            }
        };
        if prompt > holds {
            return Err(Error::Window { tokens: prompt, window: holds });
        }
        // The last token of an answer is never read, so it needs no place in the window.
        let room = longest - prompt + 1;
        let limit = request.max_tokens.map_or(room, |tokens| tokens.min(holds - prompt + 1));
        self.attention.reset();
        let Self { model, attention, scratch } = self;
        let decoder = model.decoder();
        let mut answer = Answer {
            text: String::new(),
            tokens: Vec::new(),
            log_probs: Vec::new(),
            finish_reason: FinishReason::Interrupted,
            prompt_tokens: prompt,
            completion_tokens: 0,
            prefill_s: 0.0,
            decode_s: 0.0,
        };

        // All of the prompt but its last piece; that one's logits begin the answer.
        let mut start = Instant::now();
        let mut read = 0;
        if let Sequence::Adaptive(adaptive) = attention
            && !adaptive.far().is_empty()
        {
            // The prompt's frame stands before the far text, which the rest of it chooses from.
            read = adaptive.sinks().min(prompt - 1);
            decoder.read(&request.prompt[..read], 0, &mut **adaptive, scratch)?;
            adaptive.pin();
        }
        while prompt - read > PREFILL_TOKENS {
            if watch(Progress::Read { tokens: read, of: prompt }).is_break() {
                return Ok(answer);
            }
            let piece = &request.prompt[read..read + PREFILL_TOKENS];
            decoder.read(piece, read, attention, scratch)?;
            read += PREFILL_TOKENS;
        }

        let mut sampler = Sampler::new(request.sampling);
        let mut writer = Writer::new(model, &request.stop);
        let mut tokens = request.prompt.clone();
        answer.finish_reason = loop {
            let logits = decoder.forward(&tokens[read..], read, attention, scratch)?;
            if read < prompt {
                answer.prefill_s = start.elapsed().as_secs_f64();
                start = Instant::now();
                if watch(Progress::Read { tokens: prompt, of: prompt }).is_break() {
                    break FinishReason::Interrupted;
                }
            }
            read = tokens.len();
            if answer.completion_tokens == limit {
                break FinishReason::Length;
            }
            let plain = request.log_probs.then(|| logits.to_vec());
            let token = match &request.wording {
                None => sampler.sample(logits, &tokens),
                Some(wording) => worded(model, &mut sampler, logits, (&tokens, prompt), wording),
            };
            answer.completion_tokens += 1;
            if !request.ignore_end && model.tokenizer().ends().contains(&token) {
                break FinishReason::Stop;
            }
            answer.log_probs.extend(plain.map(|logits| log_prob(&logits, token)));
            answer.tokens.push(token);
            tokens.push(token);
            let flow = writer.push(token, &mut answer.text, watch);
            if writer.stop.found() || request.stop_circles && goes_in_circles(&answer.tokens) {
                break FinishReason::Stop;
            }
            if flow.is_break() {
                break FinishReason::Interrupted;
            }
            if answer.completion_tokens == limit {
                break FinishReason::Length;
            }
        };
        writer.finish(&mut answer.text, watch);
        answer.decode_s = start.elapsed().as_secs_f64();
        Ok(answer)
    }
}

/// Draw until what was drawn goes on as a word of the text; what was refused is not drawn again. `tokens` are those of
/// the prompt, so many, and of the answer.
fn worded(
    model: &Model,
    sampler: &mut Sampler,
    logits: &mut [f32],
    (tokens, prompt): (&[TokenId], usize),
    wording: &Wording,
) -> TokenId {
    let tokenizer = model.tokenizer();
    let piece = |token: TokenId| if tokenizer.is_control(token) { &[] } else { tokenizer.bytes(token) };
    let written: Vec<u8> = tokens[prompt..].iter().flat_map(|token| piece(*token)).copied().collect();
    let mut left = logits.to_vec();
    loop {
        // Sampling may change logits, so that each draw begins with what is left of them.
        logits.copy_from_slice(&left);
        let token = sampler.sample(logits, tokens);
        let Some(logit) = left.get_mut(token as usize) else { return token };
        // Where nothing is left, anything goes.
        if *logit == f32::NEG_INFINITY || wording.allows(&written, piece(token)) {
            return token;
        }
        *logit = f32::NEG_INFINITY;
    }
}

/// Tokens to text, held back where it may be the beginning of a stop string or half a character.
#[derive(Debug)]
struct Writer<'m> {
    decoded: DecodeStream<'m>,
    stop: StopStrings,
}

impl<'m> Writer<'m> {
    fn new(model: &'m Model, stop: &[String]) -> Self {
        Self { decoded: DecodeStream::new(model.tokenizer()), stop: StopStrings::new(stop.iter().cloned()) }
    }

    /// Append what `token` completes to `text`, and show it.
    fn push(
        &mut self,
        token: TokenId,
        text: &mut String,
        watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let shown = text.len();
        if let Some(more) = self.decoded.push(token) {
            self.stop.push(more, text);
        }
        // An empty piece is shown too: the watcher may want to break off between tokens.
        watch(Progress::Text(&text[shown..]))
    }

    /// The answer is over: what was held back belongs to it.
    fn finish(mut self, text: &mut String, watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>) {
        let shown = text.len();
        self.stop.push(&self.decoded.finish(), text);
        self.stop.finish(text);
        if text.len() > shown {
            // Nothing is left to break off.
            let _ = watch(Progress::Text(&text[shown..]));
        }
    }
}
