//! A file that is not whole yet.
use super::{Failure, PullEvent};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// `NAME.part`.
#[derive(Debug)]
pub(super) struct Partial {
    target: PathBuf,
    path: PathBuf,
    file: File,
    len: u64,
}

impl Partial {
    /// Open what there is of `target`, or start it.
    pub(super) fn open(target: &Path) -> Result<Self, Failure> {
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let open = || {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            Ok::<_, io::Error>((file.metadata()?.len(), file))
        };
        let (len, file) = open().map_err(Failure::io(&path))?;
        Ok(Self { target: target.to_owned(), path, file, len })
    }

    /// Bytes that are here.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Keep the first `len` bytes and go on from there.
    pub(super) fn keep(&mut self, len: u64) -> Result<(), Failure> {
        let mut cut = || {
            self.file.set_len(len)?;
            self.file.seek(SeekFrom::Start(len))
        };
        cut().map_err(Failure::io(&self.path))?;
        self.len = len;
        Ok(())
    }

    /// Append all of `from`. Where reading fails, what came before is kept and `broken` names the failure.
    pub(super) fn append(
        &mut self,
        mut from: impl Read,
        watch: &mut dyn FnMut(PullEvent<'_>),
        broken: impl FnOnce(io::Error) -> Failure,
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; 1 << 18];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    self.file.write_all(&buffer[..n]).map_err(Failure::io(&self.path))?;
                    self.len += n as u64;
                    watch(PullEvent::Bytes(self.len));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// Check size and hash where they are known, and give the file its name.
    pub(super) fn finish(
        self,
        expected: Option<(u64, &str)>,
        watch: &mut dyn FnMut(PullEvent<'_>),
    ) -> Result<(), Failure> {
        if let Some((bytes, hash)) = expected {
            if self.len != bytes {
                return Err(Failure::Size { path: self.target, expected: bytes, found: self.len });
            }
            if !hash.is_empty() {
                watch(PullEvent::Checking);
                let found = sha256(&self.path).map_err(Failure::io(&self.path))?;
                if found != hash {
                    fs::remove_file(&self.path).map_err(Failure::io(&self.path))?;
                    return Err(Failure::Hash { path: self.target, expected: hash.to_owned(), found });
                }
            }
        }
        let publish = || {
            self.file.sync_all()?;
            fs::rename(&self.path, &self.target)?;
            File::open(self.target.parent().expect("a file in a folder"))?.sync_all()
        };
        publish().map_err(Failure::io(&self.target))
    }
}

/// SHA-256 of a file, in lower-case hexadecimal.
pub(super) fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    }))
}
