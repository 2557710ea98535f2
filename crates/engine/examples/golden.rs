//! Greedy tokens beside those that transformers and llama.cpp gave: `golden MODEL GOLDEN.json [fast]`.
//!
//! For each prompt of a file made by `testdata/golden/make.py`: at which token the answer first differs, and how far
//! apart the reference's two best logits are there.
use longleaf_engine::kernel::{Compute, Precision};
use longleaf_engine::{Model, Request, Session, TokenId, Visible};
use serde_json::Value;
use std::error::Error;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, golden, rest @ ..] = arguments.as_slice() else {
        return Err("usage: golden MODEL GOLDEN.json [fast]".into());
    };
    let threads = std::thread::available_parallelism()?.get();
    let mut model = Model::open(Path::new(model), &Arc::new(Compute::new(threads)))?;
    if rest == ["fast"] {
        model = model.with_precision(Precision::Fast);
    }
    let golden: Value = serde_json::from_slice(&std::fs::read(golden)?)?;
    let mut out = io::stdout().lock();
    for prompt in golden["prompts"].as_array().ok_or("no prompts")? {
        let tokens = numbers(&prompt["prompt"]).ok_or("no prompt")?;
        let request =
            Request { prompt: tokens.clone(), max_tokens: Some(64), ignore_end: true, ..Request::default() };
        let mut session = Session::new(&model, Visible::All, tokens.len() + 64);
        let answer = session.generate(&request, &mut |_| ControlFlow::Continue(()))?;
        write!(out, "{}, {} tokens:", prompt["name"].as_str().unwrap_or("?"), tokens.len())?;
        for reference in ["transformers", "llama_cpp"] {
            let Some(greedy) = numbers(&prompt[reference]["greedy"]) else { continue };
            match (0..greedy.len()).find(|at| answer.tokens.get(*at) != Some(&greedy[*at])) {
                None => write!(out, " {reference} alike;")?,
                Some(at) => {
                    let logit =
                        |rank: usize| prompt[reference]["logits"][at][rank].as_f64().unwrap_or(f64::NAN);
                    write!(out, " {reference} differs at {at}, gap {:.4};", logit(0) - logit(1))?;
                }
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn numbers(list: &Value) -> Option<Vec<TokenId>> {
    list.as_array()?.iter().map(|number| number.as_u64().map(|number| number as TokenId)).collect()
}
