//! What keys and values in few bits change. The tiny models' random weights make much of every difference: real
//! models lose a fiftieth of that (see `docs/experiments.md`).
use longleaf_engine::Model;
use longleaf_engine::kernel::{Compute, KvBits, KvQuantisation};
use longleaf_engine::scoring::{score, score_quantised};
use longleaf_model::Visible;
use std::path::Path;
use std::sync::Arc;

#[test]
fn few_bits_change_little() {
    for name in ["smollm2", "qwen2", "qwen3"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(name);
        let model = Model::open(&path, &Arc::new(Compute::new(2))).expect("a tiny model");
        let tokens: Vec<u32> =
            (0..model.config().window.min(250) as u32).map(|i| (i * i + 3 * i) % 90).collect();
        let config = model.config();
        let form = |keys, values| KvQuantisation {
            keys,
            values,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        };
        let forms = [
            form(KvBits::Eight, KvBits::Eight),
            form(KvBits::Eight, KvBits::Four),
            form(KvBits::Four, KvBits::Four),
        ];
        let (plain, few) = score_quantised(&model, &tokens, &forms).expect("they fit");
        assert_eq!(plain, score(&model, &tokens, 1, Visible::All).expect("they fit"), "{name}");
        let mut last = 0.0;
        for (few, most) in few.iter().zip([2e-3, 0.05, 0.1]) {
            assert_eq!(few.score.tokens, plain.tokens);
            let each = few.divergence / plain.tokens as f64;
            assert!((last..most).contains(&each), "{name}: {each} nats a token after {last}");
            last = each;
        }
    }
}
