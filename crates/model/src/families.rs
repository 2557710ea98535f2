//! The families of models that are read, as data.
//!
//! One table says by which names a family goes and what its layer has; everything else is numbers from the file.
//! To add a family whose layer differs only in these columns, add a row; new arithmetic needs an arm in `layer.rs`.
use crate::config::{Config, MAX_LAYERS, Rope, RopeScaling};
use crate::error::Error;
use crate::gguf::{Gguf, Value};
use crate::weights::{RowOrder, Tensor, Weights};
use std::path::Path;

/// Which projections have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bias {
    /// Queries, keys and values.
    Qkv,
    /// All four or none, as `attention_bias` says.
    Configured,
    /// None.
    None,
}

/// Where a limit on how far a layer sees comes from in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sliding {
    /// There is none.
    None,
    /// `sliding_window`, in every layer; 4,096 if the key is absent.
    Everywhere,
    /// `sliding_window` in the layers that `layer_types` names, or from `max_window_layers` on, if
    /// `use_sliding_window`.
    Upper,
}

/// One row of the table.
#[derive(Debug)]
struct Family {
    /// `model_type` in `config.json`, and the name we use.
    name: &'static str,
    /// `general.architecture` in GGUF.
    gguf: Option<&'static str>,
    /// How GGUF orders its query and key rows.
    gguf_rows: RowOrder,
    bias: Bias,
    /// Queries and keys are normed head by head.
    qk_norm: bool,
    sliding: Sliding,
}

/// Mistral's GGUF files call themselves `llama`.
const FAMILIES: [Family; 4] = [
    Family {
        name: "llama",
        gguf: Some("llama"),
        gguf_rows: RowOrder::Pairs,
        bias: Bias::Configured,
        qk_norm: false,
        sliding: Sliding::None,
    },
    Family {
        name: "mistral",
        gguf: None,
        gguf_rows: RowOrder::Pairs,
        bias: Bias::None,
        qk_norm: false,
        sliding: Sliding::Everywhere,
    },
    Family {
        name: "qwen2",
        gguf: Some("qwen2"),
        gguf_rows: RowOrder::Halves,
        bias: Bias::Qkv,
        qk_norm: false,
        sliding: Sliding::Upper,
    },
    Family {
        name: "qwen3",
        gguf: Some("qwen3"),
        gguf_rows: RowOrder::Halves,
        bias: Bias::Configured,
        qk_norm: true,
        sliding: Sliding::Upper,
    },
];

/// The names of all families that are read.
pub fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.name)
}

pub(crate) fn gguf_row_order(architecture: &str) -> RowOrder {
    FAMILIES.iter().find(|f| f.gguf == Some(architecture)).map_or(RowOrder::Halves, |f| f.gguf_rows)
}

const SCALINGS: &str = "none, linear, dynamic, yarn, llama3";

pub(crate) fn unsupported(path: &Path, what: &'static str, found: &str, known: impl Into<String>) -> Error {
    Error::Unsupported { path: path.to_owned(), what, found: found.to_owned(), known: known.into() }
}

/// The keys of one architecture in a GGUF file.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn wrong(&self, key: &'static str, value: &Value<'_>, expected: &'static str) -> Error {
        let found = match value {
            Value::Unsigned(n) => n.to_string(),
            Value::Signed(n) => n.to_string(),
            Value::Float(x) => x.to_string(),
            other => other.kind_name().to_owned(),
        };
        Error::Config { path: self.gguf.path().to_owned(), what: key, found, expected }
    }

    fn value(&self, key: &str) -> Option<Value<'a>> {
        self.gguf.value(&self.name(key))
    }

    fn size(&self, key: &'static str) -> Result<Option<usize>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.unsigned().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(self.wrong(key, &value, "a whole number")),
        }
    }

    fn need_size(&self, key: &'static str) -> Result<usize, Error> {
        self.size(key)?.ok_or_else(|| self.missing(self.name(key)))
    }

    fn number(&self, key: &'static str) -> Result<Option<f64>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.number().map(Some).ok_or_else(|| self.wrong(key, &value, "a number"))
    }

    fn missing(&self, name: String) -> Error {
        Error::Missing { path: self.gguf.path().to_owned(), name }
    }
}

/// What a GGUF file says of its model.
pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Config, Error> {
    let path = gguf.path();
    let architecture = gguf
        .string("general.architecture")?
        .ok_or_else(|| Error::Missing { path: path.to_owned(), name: "general.architecture".to_owned() })?;
    let family = FAMILIES.iter().find(|f| f.gguf == Some(architecture)).ok_or_else(|| {
        let known: Vec<_> = FAMILIES.iter().filter_map(|f| f.gguf).collect();
        unsupported(path, "architecture", architecture, known.join(", "))
    })?;
    let keys = Keys { gguf, architecture };
    if keys.size("expert_count")?.is_some_and(|experts| experts > 0) {
        return Err(unsupported(path, "kind of layer", "mixture of experts", "dense"));
    }
    let hidden_size = keys.need_size("embedding_length")?;
    let heads = keys.need_size("attention.head_count")?;
    let layers = keys.need_size("block_count")?;
    let head_dim = match keys.size("attention.key_length")? {
        Some(dim) => dim,
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    if let Some(value_dim) = keys.size("attention.value_length")?
        && value_dim != head_dim
    {
        return Err(Error::Config {
            path: path.to_owned(),
            what: "attention.value_length",
            found: value_dim.to_string(),
            expected: "the same as attention.key_length",
        });
    }
    let embedding =
        gguf.find(Tensor::Embedding)?.ok_or_else(|| keys.missing(Tensor::Embedding.gguf_name()))?;
    let has = |tensor| gguf.find(tensor).map(|found| found.is_some());
    let rope_dim = keys.size("rope.dimension_count")?.unwrap_or(head_dim);
    if family.gguf_rows == RowOrder::Pairs && rope_dim != head_dim {
        return Err(Error::Config {
            path: path.to_owned(),
            what: "rope.dimension_count",
            found: rope_dim.to_string(),
            expected: "the head dimension",
        });
    }
    let window = keys.need_size("context_length")?;
    let scaling = gguf_scaling(&keys, window, rope_dim)?;
    let sliding = keys.size("attention.sliding_window")?.filter(|window| *window > 0);
    Config {
        family: family.name,
        layers,
        hidden_size,
        heads,
        kv_heads: keys.size("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        intermediate_size: keys.need_size("feed_forward_length")?,
        vocab_size: embedding.shape[0],
        window: stretched(window, &scaling),
        rms_eps: keys
            .number("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| keys.missing(keys.name("attention.layer_norm_rms_epsilon")))?
            as f32,
        rope: Rope { base: keys.number("rope.freq_base")?.unwrap_or(10_000.0), dim: rope_dim, scaling },
        qkv_bias: family.bias == Bias::Qkv || has(Tensor::QueryBias(0))?,
        output_bias: has(Tensor::OutputBias(0))?,
        qk_norm: family.qk_norm,
        tied_head: !has(Tensor::Head)?,
        sliding: vec![sliding; layers.min(MAX_LAYERS + 1)].into(),
    }
    .check(path)
}

fn gguf_scaling(keys: &Keys<'_>, window: usize, rope_dim: usize) -> Result<RopeScaling, Error> {
    let path = keys.gguf.path();
    if let Some(factors) = keys.gguf.tensor("rope_freqs.weight") {
        if *factors.shape() != [rope_dim / 2] {
            return Err(Error::Shape {
                path: path.to_owned(),
                name: factors.name.to_owned(),
                found: factors.shape().to_vec(),
                expected: vec![rope_dim / 2],
            });
        }
        let mut values = vec![0.0; rope_dim / 2];
        longleaf_kernel::block::decode(factors.dtype, factors.bytes, &mut values);
        return Ok(RopeScaling::Factors(values.into()));
    }
    let kind = match keys.value("rope.scaling.type") {
        None => keys.value("rope.scale_linear").map_or("none", |_| "linear"),
        Some(Value::String(kind)) => kind,
        Some(other) => return Err(keys.wrong("rope.scaling.type", &other, "a string")),
    };
    let factor = match keys.number("rope.scaling.factor")? {
        Some(factor) => factor,
        None => keys.number("rope.scale_linear")?.unwrap_or(1.0),
    };
    let trained = keys.size("rope.scaling.original_context_length")?.unwrap_or(window);
    match kind {
        "none" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor }),
        "yarn" => Ok(RopeScaling::Yarn {
            factor,
            trained,
            attention: keys.number("rope.scaling.attn_factor")?.unwrap_or(1.0) * yarn_attention(factor, 1.0),
            fast: keys.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            slow: keys.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            truncate: true,
        }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor,
            low: keys.number("rope.scaling.low_freq_factor")?.unwrap_or(1.0),
            high: keys.number("rope.scaling.high_freq_factor")?.unwrap_or(4.0),
            trained,
        }),
        other => Err(unsupported(path, "rope scaling", other, SCALINGS)),
    }
}

/// How many positions a model bears that says `stated`: published configurations state the window before YaRN and
/// dynamic NTK, and the one after linear and Llama 3's scaling.
fn stretched(stated: usize, scaling: &RopeScaling) -> usize {
    match scaling {
        RopeScaling::Yarn { factor, trained, .. } | RopeScaling::DynamicNtk { factor, trained } => {
            stated.max((factor * *trained as f64) as usize)
        }
        _ => stated,
    }
}

/// The factor on cosine and sine that YaRN's paper recommends.
fn yarn_attention(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}

/// The keys of a JSON object.
pub(crate) struct Object<'a> {
    pub(crate) path: &'a Path,
    pub(crate) json: &'a serde_json::Value,
}

impl<'a> Object<'a> {
    /// The value, unless it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a serde_json::Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn read<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&'a serde_json::Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Error::Config {
            path: self.path.to_owned(),
            what: key,
            found: value.to_string().chars().take(80).collect(),
            expected,
        })
    }

    pub(crate) fn size(&self, key: &'static str) -> Result<Option<usize>, Error> {
        self.read(key, "a whole number", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    pub(crate) fn number(&self, key: &'static str) -> Result<Option<f64>, Error> {
        self.read(key, "a number", serde_json::Value::as_f64)
    }

    pub(crate) fn boolean(&self, key: &'static str) -> Result<Option<bool>, Error> {
        self.read(key, "true or false", serde_json::Value::as_bool)
    }

    pub(crate) fn string(&self, key: &'static str) -> Result<Option<&'a str>, Error> {
        self.read(key, "a string", serde_json::Value::as_str)
    }

    pub(crate) fn need<T>(&self, key: &'static str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| Error::Missing { path: self.path.to_owned(), name: key.to_owned() })
    }
}

/// What a `config.json` says of its model.
pub(crate) fn from_hugging_face(path: &Path, json: &serde_json::Value) -> Result<Config, Error> {
    let config = Object { path, json };
    let name = config.need("model_type", config.string("model_type")?)?;
    let family = FAMILIES
        .iter()
        .find(|f| f.name == name)
        .ok_or_else(|| unsupported(path, "model_type", name, families().collect::<Vec<_>>().join(", ")))?;
    if let Some(quantization) = config.get("quantization_config") {
        let method = quantization.get("quant_method").and_then(serde_json::Value::as_str);
        return Err(unsupported(path, "quantisation", method.unwrap_or("unnamed"), "F32, F16, BF16"));
    }
    match config.string("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => {}
        other => return Err(unsupported(path, "hidden_act", other, "silu")),
    }
    if config.boolean("mlp_bias")?.unwrap_or(false) {
        return Err(unsupported(path, "kind of layer", "mlp_bias", "a feed-forward part without a bias"));
    }
    let size = |key| config.need(key, config.size(key)?);
    let (hidden_size, heads) = (size("hidden_size")?, size("num_attention_heads")?);
    let layers = size("num_hidden_layers")?;
    let head_dim = match config.size("head_dim")? {
        Some(dim) => dim,
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    let positions = size("max_position_embeddings")?;
    let rope = json_rope(&config, positions, head_dim)?;
    let configured = family.bias == Bias::Configured && config.boolean("attention_bias")?.unwrap_or(false);
    Config {
        family: family.name,
        layers,
        hidden_size,
        heads,
        kv_heads: config.size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate_size: size("intermediate_size")?,
        vocab_size: size("vocab_size")?,
        window: stretched(positions, &rope.scaling),
        rms_eps: config.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope,
        qkv_bias: family.bias == Bias::Qkv || configured,
        output_bias: configured,
        qk_norm: family.qk_norm,
        tied_head: config.boolean("tie_word_embeddings")?.unwrap_or(false),
        sliding: json_sliding(&config, family.sliding, layers.min(MAX_LAYERS + 1))?,
    }
    .check(path)
}

fn json_sliding(config: &Object<'_>, sliding: Sliding, layers: usize) -> Result<Box<[Option<usize>]>, Error> {
    let window = config.size("sliding_window")?;
    match sliding {
        Sliding::None => Ok(vec![None; layers].into()),
        Sliding::Everywhere => {
            let window = if config.json.get("sliding_window").is_none() { Some(4096) } else { window };
            Ok(vec![window; layers].into())
        }
        Sliding::Upper => {
            let window = window.or(Some(4096)).filter(|_| {
                config.json.get("use_sliding_window").and_then(serde_json::Value::as_bool).unwrap_or(false)
            });
            let types = config.read("layer_types", "a list of kinds of attention", |v| v.as_array())?;
            let first = config.size("max_window_layers")?.unwrap_or(28);
            (0..layers)
                .map(|layer| match types {
                    None => Ok(window.filter(|_| layer >= first)),
                    Some(types) => match types.get(layer).and_then(serde_json::Value::as_str) {
                        Some("full_attention") => Ok(None),
                        Some("sliding_attention") => Ok(window),
                        other => Err(unsupported(
                            config.path,
                            "layer type",
                            other.unwrap_or("nothing"),
                            "full_attention, sliding_attention",
                        )),
                    },
                })
                .collect()
        }
    }
}

/// The keys stand in `rope_parameters` (transformers 5), or in `rope_scaling` with `rope_theta` beside it.
fn json_rope(config: &Object<'_>, positions: usize, head_dim: usize) -> Result<Rope, Error> {
    let none = serde_json::Value::Null;
    let json = config.get("rope_parameters").or_else(|| config.get("rope_scaling")).unwrap_or(&none);
    let rope = Object { path: config.path, json };
    let base = match rope.number("rope_theta")? {
        Some(base) => base,
        None => config.number("rope_theta")?.unwrap_or(10_000.0),
    };
    let part = match rope.number("partial_rotary_factor")? {
        Some(part) => part,
        None => config.number("partial_rotary_factor")?.unwrap_or(1.0),
    };
    let kind = match rope.string("rope_type")? {
        Some(kind) => kind,
        None => rope.string("type")?.unwrap_or("default"),
    };
    if json
        .as_object()
        .is_some_and(|o| o.contains_key("full_attention") || o.contains_key("sliding_attention"))
    {
        return Err(unsupported(config.path, "rope scaling", "one per kind of layer", SCALINGS));
    }
    let factor = rope.number("factor")?;
    let trained = match rope.size("original_max_position_embeddings")? {
        Some(trained) => trained,
        None => config.size("original_max_position_embeddings")?.unwrap_or(positions),
    };
    let scaling = match kind {
        "default" | "none" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: rope.need("factor", factor)? },
        "dynamic" => RopeScaling::DynamicNtk { factor: rope.need("factor", factor)?, trained: positions },
        "yarn" => {
            let factor = factor.unwrap_or(positions as f64 / trained as f64);
            let attention = match rope.number("attention_factor")? {
                Some(given) => given,
                None => match (rope.number("mscale")?, rope.number("mscale_all_dim")?) {
                    (Some(one), Some(all)) if one != 0.0 && all != 0.0 => {
                        yarn_attention(factor, one) / yarn_attention(factor, all)
                    }
                    _ => yarn_attention(factor, 1.0),
                },
            };
            RopeScaling::Yarn {
                factor,
                trained,
                attention,
                fast: rope.number("beta_fast")?.unwrap_or(32.0),
                slow: rope.number("beta_slow")?.unwrap_or(1.0),
                truncate: rope.boolean("truncate")?.unwrap_or(true),
            }
        }
        "llama3" => RopeScaling::Llama3 {
            factor: rope.need("factor", factor)?,
            low: rope.need("low_freq_factor", rope.number("low_freq_factor")?)?,
            high: rope.need("high_freq_factor", rope.number("high_freq_factor")?)?,
            trained,
        },
        other => return Err(unsupported(config.path, "rope scaling", other, SCALINGS)),
    };
    Ok(Rope { base, dim: (head_dim as f64 * part) as usize, scaling })
}
