//! A file at whose end the log goes on, also after it was rotated away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
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
        let file = OpenOptions::new().create(true).append(true).mode(MODE).open(path)?;
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
