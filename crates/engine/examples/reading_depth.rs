//! How should a text be read at full depth, and in how many bits kept, so that what follows it is least surprising?
//!
//! ```text
//! cargo run --release -p longleaf-engine --example reading_depth -- MODEL FILE [context] [places] [words…]
//! ```
//! At some places of a text, `context` tokens are read in one way or another, and kept; they are then laid out in their
//! order from position 0, and the 512 tokens behind them are scored by a plain pass that sees all of them. Only ways
//! whose line holds all the words are taken.
#![expect(clippy::print_stdout, reason = "a report")]
use longleaf_engine::kernel::{
    Attend, BLOCK_TOKENS, BlockAngles, Compute, Dequantise, KvBits, KvBlock, KvFormat, KvView, Precision,
};
use longleaf_engine::sampler::log_prob;
use longleaf_engine::store::finder::{Head, Profile};
use longleaf_engine::store::full::{Layout, Reader, Stride};
use longleaf_engine::{Document, Model, Special};
use longleaf_model::{Attention, Decoder, Qkv, Rotation, Scratch};
use std::convert::Infallible;
use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const TAIL: usize = 512;

/// A context that is there, and what follows it.
#[derive(Debug)]
struct Following {
    compute: Arc<Compute>,
    heads: usize,
    rotation: Rotation,
    context: Vec<Vec<KvBlock>>,
    own: Vec<Vec<KvBlock>>,
}

impl Attention for Following {
    type Error = Infallible;

    fn attend(
        &mut self,
        layer: usize,
        at: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Infallible> {
        let (cos, sin) = self.rotation.at(at.start as i64..at.end as i64);
        let shape = &self.context[layer][0];
        let (kv_heads, dim) = (shape.kv_heads(), shape.head_dim());
        let (mut queries, mut keys) = (qkv.queries.to_vec(), qkv.keys.to_vec());
        if let Some(bias) = qkv.key_bias {
            keys.chunks_exact_mut(bias.len())
                .for_each(|key| key.iter_mut().zip(bias).for_each(|(k, b)| *k += b));
        }
        self.compute.rope(&mut queries, self.heads, dim, cos, sin);
        self.compute.rope(&mut keys, kv_heads, dim, cos, sin);
        let width = BLOCK_TOKENS * kv_heads * dim;
        for (keys, values) in keys.chunks(width).zip(qkv.values.chunks(width)) {
            let mut block = KvBlock::new(KvFormat::Bf16, kv_heads, dim);
            block.write(0, keys, values);
            self.own[layer].push(block);
        }
        let blocks = self.context[layer].iter().chain(&self.own[layer]).enumerate();
        let views: Vec<KvView<'_>> = blocks
            .map(|(index, block)| KvView {
                block,
                len: BLOCK_TOKENS.min(at.end - index * BLOCK_TOKENS),
                offset: (index * BLOCK_TOKENS) as i64 - at.start as i64,
                window: i64::MAX,
            })
            .collect();
        let scale = 1.0 / (dim as f32).sqrt();
        self.compute.attend(
            &Attend { queries: &queries, heads: self.heads, views: &views, scale },
            out,
            None,
        );
        Ok(())
    }
}

struct Way {
    name: String,
    stride: Stride,
    bits: (KvBits, KvBits),
    precision: Precision,
}

/// Mean `-ln p` of the tokens behind `context`, which is read in one of the ways; they are scored exactly.
fn surprise((decoder, scorer): (&Decoder, &Decoder), way: &Way, context: &[u32], tail: &[u32]) -> (f64, f64) {
    let config = decoder.config();
    let compute = decoder.compute();
    let layout = Layout::new(config, way.bits.0, way.bits.1);
    let profile = Profile::known(config).unwrap_or(Profile {
        heads: vec![Head { layer: 0, head: 0 }],
        run: Profile::RUN,
        distance: 1024,
        passages: Profile::PASSAGES,
    });
    let mut reader = Reader::new(decoder, &profile, layout, way.stride);
    let mut rows = vec![Vec::new(); reader.streams().len()];
    let start = std::time::Instant::now();
    for tokens in context.chunks(way.stride.tokens) {
        reader.read(tokens, &mut rows);
    }
    let seconds = start.elapsed().as_secs_f64();
    let blocks = &rows[rows.len() - 2];
    let mut rotation = Rotation::new(&config.rope, config.window);
    let angles: Vec<BlockAngles> = (0..context.len() / BLOCK_TOKENS)
        .map(|block| {
            let start = (block * BLOCK_TOKENS) as i64;
            let angles = rotation.frequencies().len();
            let (cos, sin) = rotation.at(start..start + BLOCK_TOKENS as i64);
            BlockAngles::new(angles, cos, sin)
        })
        .collect();
    let row = layout.form.bytes();
    let layer = |layer: usize| {
        let rows = blocks.chunks_exact(row).skip(layer).step_by(config.layers);
        let key_bias = decoder.key_bias(layer);
        let from: Vec<Dequantise<'_>> = rows
            .zip(&angles)
            .map(|(bytes, angles)| Dequantise { bytes, key_bias, angles: Some(angles) })
            .collect();
        let mut to = vec![KvBlock::new(KvFormat::Bf16, config.kv_heads, config.head_dim); from.len()];
        compute.dequantise_kv(&layout.form, &from, &mut to);
        to
    };
    let mut attention = Following {
        compute: compute.clone(),
        heads: config.heads,
        rotation,
        context: (0..config.layers).map(layer).collect(),
        own: vec![Vec::new(); config.layers],
    };
    let (mut sum, mut count) = (0.0, 0);
    let Ok(()) = scorer.forward_all(
        &tail[..tail.len() - 1],
        context.len(),
        &mut attention,
        &mut Scratch::new(),
        &mut |position, logits| {
            sum -= log_prob(logits, tail[position - context.len() + 1]);
            count += 1;
        },
    );
    (sum / f64::from(count), context.len() as f64 / seconds)
}

fn ways(context: usize) -> Vec<Way> {
    let mut ways = Vec::new();
    let bits = |keys: KvBits, values: KvBits| format!("k{} v{}", keys.count(), values.count());
    let (eight, four) = (KvBits::Eight, KvBits::Four);
    let mut push = |name: &str, stride: Stride, (keys, values): (KvBits, KvBits), precision| {
        let name = format!("{name} {} {precision:?}", bits(keys, values));
        ways.push(Way { name, stride, bits: (keys, values), precision });
    };
    let dense = Stride { tokens: 512, window: context.next_multiple_of(512), sinks: 0 };
    for precision in [Precision::Exact, Precision::Coarse] {
        for both in [(eight, eight), (eight, four), (four, four)] {
            push("dense", dense, both, precision);
        }
    }
    for run in [1024, 2048, 4096] {
        let stride = Stride { tokens: run, window: 0, sinks: 0 };
        push(&format!("runs of {run}"), stride, (eight, four), Precision::Coarse);
    }
    for (tokens, window, sinks) in [
        (1024, 256, 64),
        (1024, 384, 64),
        (1024, 512, 0),
        (1024, 512, 4),
        (1024, 512, 64),
        (1024, 768, 64),
        (1024, 1024, 64),
        (1024, 2048, 64),
    ] {
        let name = format!("stride {tokens} window {window} sinks {sinks}");
        push(&name, Stride { tokens, window, sinks }, (eight, four), Precision::Coarse);
    }
    ways
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, file, options @ ..] = &arguments[..] else {
        return Err("usage: reading_depth MODEL FILE [context] [places] [words…]".into());
    };
    let context: usize = options.first().map_or(Ok(6144), |n| n.parse())?;
    let places: usize = options.get(1).map_or(Ok(4), |n| n.parse())?;
    let words = options.get(2..).unwrap_or_default();
    let compute = Arc::new(Compute::new(std::thread::available_parallelism()?.get()));
    let document = Document::new("text", std::fs::read(file)?)?;
    let exact = &Model::open(Path::new(path), &compute)?;
    let tokens = exact.tokenizer().encode(document.text(), Special::Text);
    let between = (tokens.len() - context - TAIL) / places;
    for way in ways(context) {
        if !words.iter().all(|word| way.name.contains(word.as_str())) {
            continue;
        }
        let reader = &exact.decoder().clone().with_precision(way.precision);
        let (mut sum, mut speed) = (0.0, 0.0);
        for place in 0..places {
            let (context, tail) = tokens[place * between..][..context + TAIL].split_at(context);
            let (nll, tokens) = surprise((reader, exact.decoder()), &way, context, tail);
            sum += nll / places as f64;
            speed += tokens / places as f64;
        }
        println!("{:<55} perplexity {:8.4}, read at {speed:5.0} tokens/s", way.name, sum.exp());
    }
    Ok(())
}
