//! A file at whose end the log goes on, also after it was rotated away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};

/// Others than the owner's group have no business with it.
const MODE: u32 = 0o640;

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A pipe without a reader is refused at once. Written to is one that has a reader as any file.
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(MODE).custom_flags(libc::O_NONBLOCK).open(path)?;
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).map_err(io::Error::from)?;
        let metadata = file.metadata()?;
        Ok(Self { path: path.to_owned(), file, identity: (metadata.dev(), metadata.ino()) })
    }

    /// Adds text at the end; first opens the file anew if `reopen`, or if another or none is at its path now.
    pub(super) fn write(&mut self, text: &[u8], reopen: bool) -> io::Result<()> {
        if reopen || !self.is_there() {
            // If that fails, the old one is better than none.
            match Self::open(&self.path) {
                Ok(new) => *self = new,
                Err(error) if reopen => return self.file.write_all(text).and(Err(error)),
                Err(_) => {}
            }
        }
        self.file.write_all(text)
    }

    fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }
}
