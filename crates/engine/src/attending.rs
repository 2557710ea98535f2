//! What a sequence attends to: everything, a window, or as much as matters.
use longleaf_kernel::{BLOCK_TOKENS, KvFormat};
use longleaf_memory::adaptive::{Adaptive, Budget, FarBlocks, RamBlocks, Settings, Statistics};
use longleaf_model::{Attention, Config, Decoder, Dense, Qkv, Visible};
use std::ops::Range;
use std::sync::Arc;

/// How the tokens of a sequence attend to those before them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attending {
    /// To all that is visible; a sequence is no longer than the model's window.
    Dense(Visible),
    /// To as much as matters; a sequence may have any length.
    Adaptive(Settings),
}

impl Attending {
    /// The format of a sequence's own keys and values. Adaptive attention lays them out anew at other positions, and
    /// keeps what lies far in few bits anyway.
    pub(crate) fn kv_format(&self, decoder: &Decoder) -> KvFormat {
        match self {
            Self::Dense(_) => decoder.kv_format(),
            Self::Adaptive(_) => KvFormat::Bf16,
        }
    }

    /// What a token sees at most, for estimates of cost.
    pub fn visible(&self, config: &Config) -> Visible {
        match self {
            Self::Dense(visible) => *visible,
            Self::Adaptive(Settings { sinks, window, budget, share, .. }) => {
                let room = (share * config.window as f64) as usize;
                let window = match budget {
                    Budget::Blocks(blocks) => (window + blocks) * BLOCK_TOKENS,
                    Budget::Mass(_) => room.saturating_sub(*sinks),
                    Budget::Unlimited => return Visible::All,
                };
                Visible::Local { sinks: *sinks, window }
            }
        }
    }
}

impl From<Visible> for Attending {
    fn from(visible: Visible) -> Self {
        Self::Dense(visible)
    }
}

impl From<Settings> for Attending {
    fn from(settings: Settings) -> Self {
        Self::Adaptive(settings)
    }
}

/// The attention of one sequence. A pass can only fail where far text lies on disk.
#[derive(Debug)]
pub(crate) enum Sequence<'f> {
    Dense(Box<Dense>),
    Adaptive(Box<Adaptive<Box<dyn FarBlocks + 'f>>>),
}

impl<'f> Sequence<'f> {
    /// An empty one that will hold no more than `length` tokens.
    pub(crate) fn new(decoder: &Decoder, attending: Attending, length: usize) -> Self {
        let (config, compute) = (decoder.config(), decoder.compute());
        let format = attending.kv_format(decoder);
        match attending {
            Attending::Dense(visible) => {
                let dense = Dense::new(config, Arc::clone(compute), format, visible, length);
                Self::Dense(Box::new(dense))
            }
            Attending::Adaptive(settings) => {
                let none = RamBlocks::new(format, config.layers, config.kv_size());
                Self::over(decoder, settings, Box::new(none), length)
            }
        }
    }

    /// One that attends to far text besides itself.
    pub(crate) fn over(
        decoder: &Decoder,
        settings: Settings,
        far: Box<dyn FarBlocks + 'f>,
        length: usize,
    ) -> Self {
        let format = Attending::Adaptive(settings).kv_format(decoder);
        let (config, compute) = (decoder.config(), decoder.compute());
        Self::Adaptive(Box::new(Adaptive::new(config, compute, format, settings, far, length)))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.len(),
            Self::Adaptive(adaptive) => adaptive.len(),
        }
    }

    /// Forget all but far text.
    pub(crate) fn reset(&mut self) {
        match self {
            Self::Dense(dense) => dense.reset(),
            Self::Adaptive(adaptive) => adaptive.reset(),
        }
    }

    /// What adaptive attention chose.
    pub(crate) fn statistics(&self) -> Option<Statistics> {
        match self {
            Self::Dense(_) => None,
            Self::Adaptive(adaptive) => Some(adaptive.statistics()),
        }
    }
}

impl Attention for Sequence<'_> {
    type Error = longleaf_memory::Error;

    fn attend(
        &mut self,
        layer: usize,
        positions: Range<usize>,
        qkv: Qkv<'_>,
        out: &mut [f32],
    ) -> Result<(), Self::Error> {
        match self {
            Self::Dense(dense) => {
                let Ok(()) = dense.attend(layer, positions, qkv, out);
                Ok(())
            }
            Self::Adaptive(adaptive) => adaptive.attend(layer, positions, qkv, out),
        }
    }
}
