//! Whether the bounds of the unread mass hold.
use crate::{Done, Watched, dot, rotated};
use longleaf_engine::adaptive::{Adaptive, Budget, RamBlocks, Settings};
use longleaf_engine::kernel::{BLOCK_TOKENS, KvFormat};
use longleaf_engine::{Model, TokenId};
use longleaf_model::Scratch;
use std::io::{self, Write};

/// How often the bounds of the unread mass hold: 1,000 queries of one head each, and all choices' means.
pub(crate) fn bound(model: &Model, tokens: &[TokenId]) -> Done {
    let (config, decoder) = (model.config(), model.decoder());
    let (heads, kv_heads, dim) = (config.heads, config.kv_heads, config.head_dim);
    let (group, scale) = (heads / kv_heads, 1.0 / (dim as f32).sqrt());
    for budget in [Budget::Blocks(2), Budget::Blocks(8)] {
        let settings = Settings { window: 2, budget, ..Settings::default() };
        let none = RamBlocks::new(KvFormat::Bf16, config.layers, config.kv_size());
        let adaptive = Adaptive::new(config, decoder.compute(), KvFormat::Bf16, settings, none, tokens.len());
        let mut watched = Watched::new(adaptive, config.layers, 1);
        let mut scratch = Scratch::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let (mut rows, mut held, mut mean_held, mut means) = (0, 0, 0, 0);
        let (mut unread, mut first) = (0.0, 0);
        // The choice of the run of a piece is there when the piece ends.
        let starts = (0..).map(|run| settings.sinks + run * BLOCK_TOKENS);
        let runs: Vec<usize> = starts.skip(1).take_while(|end| *end <= tokens.len()).collect();
        let wanted = 1000_usize.div_ceil(runs.len().saturating_sub(settings.window + 9).max(1));
        for end in runs {
            decoder.read(&tokens[first..end], first, &mut watched, &mut scratch)?;
            first = end;
            let start = end - BLOCK_TOKENS;
            let chosen: Vec<Vec<usize>> = watched.inner.chosen().collect();
            let local = ((start - settings.sinks) / BLOCK_TOKENS + 1).saturating_sub(settings.window);
            if local < 10 {
                continue;
            }
            for turn in 0..wanted {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let layer = (random >> 33) as usize % config.layers;
                let Some(found) = watched.inner.unread(layer) else { continue };
                let count = found.rows.len() / heads;
                let truth = |row: usize| {
                    let (token, head) = (found.end - count + row / heads, row % heads);
                    let at = (token * heads + head) * dim;
                    let query = rotated(model, &watched.queries[layer][at..at + dim], dim, token as i64, 0);
                    let (mut read, mut not) = (0.0_f64, 0.0_f64);
                    let key = |token: usize| {
                        let at = (token * kv_heads + head / group) * dim;
                        &watched.keys[layer][at..at + dim]
                    };
                    for token in 0..=token {
                        let key = rotated(model, key(token), dim, token as i64, 0);
                        let weight = f64::from(scale * dot(&query, &key)).exp();
                        let block = token.checked_sub(settings.sinks).map(|rest| rest / BLOCK_TOKENS);
                        let is_read =
                            block.is_none_or(|block| block >= local || chosen[layer].contains(&block));
                        *(if is_read { &mut read } else { &mut not }) += weight;
                    }
                    not / read
                };
                let row = (random >> 17) as usize % found.rows.len();
                let real = truth(row);
                rows += 1;
                held += usize::from(found.rows[row] >= real);
                unread += real / (1.0 + real);
                // All rows of a choice take long: one choice a run.
                if turn == 0 {
                    let all = (0..found.rows.len()).step_by(5).map(truth).collect::<Vec<_>>();
                    means += 1;
                    mean_held += usize::from(found.bound >= all.iter().sum::<f64>() / all.len() as f64);
                }
            }
        }
        writeln!(
            io::stdout(),
            "{budget:?}: bound of a query's head holds in {held} of {rows} ({:.1} %), of a choice's mean in \
             {mean_held} of {means}; unread {:.3}",
            100.0 * held as f64 / rows as f64,
            unread / rows as f64,
        )?;
    }
    Ok(())
}
