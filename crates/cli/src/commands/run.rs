//! `longleaf run`
use crate::args::Run;
use crate::commands::{interrupt, pull};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result};
use longleaf_engine::{Document, Message, Model, Progress, Request, Role, Session, TokenId};
use std::fs;
use std::ops::ControlFlow;

pub(crate) fn run(args: &Run, settings: &Settings) -> Result<()> {
    let text = text(args)?;
    let model = pull::open(&args.model.model, settings)?;
    let request = Request {
        prompt: prompt(args, text, &model)?,
        max_tokens: Some(args.max_tokens),
        stop: args.stop.clone(),
        sampling: args.sampling.sampling(),
        ignore_end: args.ignore_eos,
        stop_circles: false,
        log_probs: args.logprobs,
    };
    let interrupted = interrupt()?;

    let bar = output::bar("reading {wide_bar} {human_pos}/{human_len} tokens {per_sec} {eta}");
    bar.set_length(request.prompt.len() as u64);
    let mut printed = Ok(());
    let mut watch = |progress: Progress<'_>| {
        match progress {
            Progress::Read { tokens, of } if tokens == of => bar.finish_and_clear(),
            Progress::Read { tokens, .. } => bar.set_position(tokens as u64),
            Progress::Text(text) if !settings.json && !text.is_empty() => printed = output::text(text),
            Progress::Text(_) => {}
        }
        let stop = interrupted() || printed.is_err();
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let length = request.prompt.len() + args.max_tokens.min(model.config().window);
    let mut session = Session::new(&model, args.model.attending(), length);
    let answer = session.generate(&request, &mut watch)?;
    bar.finish_and_clear();
    printed?;
    if !settings.json {
        return output::text("\n");
    }
    let mut json = serde_json::json!({
        "text": answer.text,
        "tokens": answer.tokens,
        "finish_reason": answer.finish_reason.name(),
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        },
        "timings": { "prefill_s": answer.prefill_s, "decode_s": answer.decode_s },
    });
    if args.logprobs {
        json["logprobs"] = answer.log_probs.into();
    }
    output::json(&json)
}

/// The file's text, the prompt, or the one and then the other.
fn text(args: &Run) -> Result<String> {
    let prompt = args.prompt.clone().unwrap_or_default();
    let Some(path) = &args.file else { return Ok(prompt) };
    let name = path.display().to_string();
    let bytes = fs::read(path).with_context(|| name.clone())?;
    let document = Document::new(name, bytes)?;
    Ok(if prompt.is_empty() {
        document.text().to_owned()
    } else {
        format!("{}\n\n{prompt}", document.text())
    })
}

fn prompt(args: &Run, text: String, model: &Model) -> Result<Vec<TokenId>> {
    if args.raw {
        return Ok(model.plain_prompt(&text));
    }
    let system = args.system.iter().map(|system| Message::new(Role::System, system));
    let messages: Vec<_> = system.chain([Message::new(Role::User, text)]).collect();
    Ok(model.chat_prompt(&messages)?)
}
