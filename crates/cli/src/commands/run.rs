//! `longleaf run`
use crate::args::Run;
use crate::commands::{interrupt, pull};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, Result};
use longleaf_engine::memory::framed_prompt;
use longleaf_engine::{Document, Memory, Model, Progress, Request, Session, TokenId};
use std::fs;
use std::ops::ControlFlow;

pub(crate) fn run(args: &Run, settings: &Settings) -> Result<()> {
    let text = text(args)?;
    let model = pull::open(&args.model.model, settings)?;
    let (prompt, frame) = prompt(args, &text, &model)?;
    let request = Request {
        prompt,
        max_tokens: Some(args.max_tokens),
        stop: args.stop.clone(),
        sampling: args.sampling.sampling(),
        ignore_end: args.ignore_eos,
        stop_circles: false,
        log_probs: args.logprobs,
        wording: None,
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
    let (answer, chosen) = if let Some(name) = &args.memory {
        let mut memory = Memory::read_only(&settings.memory(name), &model)?;
        memory.set_ram(settings.ram);
        let left = memory.shallow_tokens();
        if left > 0 {
            output::note(&format!(
                "{left} tokens are not at full depth yet and cannot be attended to; `longleaf add {name} --depth full` \
                 brings them there"
            ));
        }
        let (answer, chosen) = memory.attend(&request, frame, args.model.budget, &mut watch)?;
        (answer, Some(chosen))
    } else {
        let length = request.prompt.len() + args.max_tokens.min(model.config().window);
        let mut session = Session::new(&model, args.model.attending(), length);
        let answer = session.generate(&request, &mut watch)?;
        (answer, session.statistics())
    };
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
    if let Some(chosen) = chosen.filter(|chosen| chosen.choices > 0) {
        // Means over the choices, of which every layer makes its own.
        json["coverage"] = serde_json::json!({
            "blocks_total": chosen.blocks as f64 / chosen.choices as f64,
            "blocks_read": chosen.mean_read(),
            "unread_mass": chosen.unread_share(),
            "delta": chosen.bound_share(),
        });
    }
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

/// The prompt's tokens, and how many of them come before what the user wrote.
fn prompt(args: &Run, text: &str, model: &Model) -> Result<(Vec<TokenId>, usize)> {
    if args.raw {
        return Ok((model.plain_prompt(text), 0));
    }
    Ok(framed_prompt(model, args.system.as_deref(), text)?)
}
