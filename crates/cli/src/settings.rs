//! What the command line and the environment ask for. Nothing else reads the environment.
use crate::args::{self, Common, UsageError};
use crate::machine;
use anyhow::{Result, anyhow};
use longleaf_engine::kernel::{self, Compute, Kernels, Precision};
use longleaf_engine::pull::{Hub, PackageIndex};
use longleaf_engine::{Library, Sources};
use std::path::PathBuf;

/// The settings of one run.
#[derive(Debug)]
pub(crate) struct Settings {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Threads to compute with.
    pub(crate) threads: usize,
    /// Kernel set to compute with.
    pub(crate) kernels: &'static dyn Kernels,
    /// Whether the kernel set was asked for.
    pub(crate) kernels_forced: bool,
    /// How closely products follow f32, if it was said.
    pub(crate) precision: Option<Precision>,
    /// Bytes that a memory may keep in RAM.
    pub(crate) ram: usize,
    /// Where data is kept.
    pub(crate) home: PathBuf,
    /// The models.
    pub(crate) library: Library,
}

impl Settings {
    pub(crate) fn new(common: &Common) -> Result<Self> {
        let forced = common.kernels.clone().or_else(|| variable("LONGLEAF_KERNELS"));
        let kernels = match &forced {
            Some(name) => kernel::by_name(name).ok_or_else(|| {
                let names: Vec<_> = kernel::supported().iter().map(|set| set.name()).collect();
                UsageError(format!("no kernel set {name:?} on this machine; it has {}", names.join(", ")))
            })?,
            None => kernel::best(),
        };
        let home = home()?;
        let hub = variable("HF_HUB_OFFLINE").is_none_or(|value| value == "0").then(|| Hub {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()),
            token: variable("HF_TOKEN"),
        });
        let library =
            Library::new(home.join("models"), Sources { hub, packages: Some(PackageIndex::default()) });
        Ok(Self {
            json: common.json,
            threads: common.threads.map_or_else(machine::cores, std::num::NonZeroUsize::get),
            kernels,
            kernels_forced: forced.is_some(),
            precision: common.precision.map(|precision| match precision {
                args::Precision::Exact => Precision::Exact,
                args::Precision::Fast => Precision::Fast,
                args::Precision::Coarse => Precision::Coarse,
            }),
            ram: usize::try_from(common.ram.unwrap_or_else(default_ram)).unwrap_or(usize::MAX),
            home,
            library,
        })
    }

    /// The folder of a memory: a path is one already (it has a separator), a name lies among our data.
    pub(crate) fn memory(&self, name: &str) -> PathBuf {
        if name.contains(std::path::is_separator) { name.into() } else { self.memories().join(name) }
    }

    /// Where memories that have names lie.
    pub(crate) fn memories(&self) -> PathBuf {
        self.home.join("memories")
    }

    /// Kernels and threads, started.
    pub(crate) fn compute(&self) -> Compute {
        Compute::with(self.kernels, self.threads)
    }
}

/// A quarter of what there is: others want to work on this machine too.
fn default_ram() -> u64 {
    machine::ram().map_or(1 << 30, |ram| ram.total_bytes / 4)
}

/// `$LONGLEAF_HOME`, else the user's folder for application data.
fn home() -> Result<PathBuf> {
    if let Some(home) = variable("LONGLEAF_HOME") {
        return Ok(home.into());
    }
    if let Some(data) = variable("XDG_DATA_HOME") {
        return Ok(PathBuf::from(data).join("longleaf"));
    }
    let user = variable("HOME")
        .or_else(|| variable("USERPROFILE"))
        .ok_or_else(|| anyhow!("no home folder is known to keep models in; set LONGLEAF_HOME"))?;
    Ok(PathBuf::from(user).join(".local").join("share").join("longleaf"))
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
