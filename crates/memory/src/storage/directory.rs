//! Files in a folder.
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};

use super::{Guard, Input, Output, Storage};

/// The file whose lock the writer holds. It stays empty.
const LOCK: &str = "LOCK";

/// A folder of a file system. Reads are `pread`, nothing is mapped: the memory used is the memory asked for, and an
/// unreadable file is an error instead of a signal.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// An existing folder.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// A folder, made if it is not there.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let directory = Self::new(path);
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // That the folder is there must survive a power cut too; a parent that cannot be opened is not ours.
            let _ = Self::new(parent).sync_names();
        }
        Ok(directory)
    }
}

#[derive(Debug)]
struct Locked {
    _file: File,
}

impl Guard for Locked {}

impl Storage for Directory {
    fn location(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Guard>>> {
        let path = self.path.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(Locked { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is not one of ours; it still shows that the folder is in use.
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != LOCK {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(File::create(self.path.join(name))?))
    }

    fn extend(&self, name: &str, len: u64) -> io::Result<Box<dyn Output>> {
        let mut file = OpenOptions::new().write(true).open(self.path.join(name))?;
        file.set_len(len)?;
        file.seek(SeekFrom::Start(len))?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Input>> {
        Ok(Box::new(File::open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    /// All at once: the file system's journal then needs one round for all of them. The threads only wait.
    fn sync_all(&self, files: &mut [&mut dyn Output]) -> io::Result<()> {
        thread::scope(|scope| {
            let waiting: Vec<_> = files.iter_mut().map(|file| scope.spawn(|| file.sync())).collect();
            // Every one is waited for, whatever the others say.
            let results: Vec<_> = waiting.into_iter().map(ScopedJoinHandle::join).collect();
            results.into_iter().try_for_each(|result| result.expect("syncing does not panic"))
        })
    }

    #[cfg(unix)]
    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Elsewhere a folder cannot be synced; renames are durable in their order.
    #[cfg(not(unix))]
    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Input for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(self, bytes, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    bytes = &mut bytes[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}
