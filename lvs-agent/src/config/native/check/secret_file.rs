//! Files of which the content is part of the check: secrets.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use zeroize::Zeroizing;

/// The most of a file that is looked at.
const MOST: u64 = 1 << 20;

/// The first line of a file with a secret, which must not be empty.
pub(super) fn first_line(path: &Path) -> Result<Zeroizing<String>, &'static str> {
    let content = Zeroizing::new(content(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "is to have the secret, but there is no such file; make it, for this user alone"
        }
        io::ErrorKind::PermissionDenied => "is to have the secret, but can't be read by this user",
        _ => "is to have the secret, but can't be read",
    })?);
    let text = str::from_utf8(&content).map_err(|_| "is to have the secret, but is not UTF-8")?;
    match text.lines().next() {
        None | Some("") => Err("is to have the secret, but there is none in its first line"),
        Some(line) => Ok(Zeroizing::new(line.to_owned())),
    }
}

/// The beginning of a file, without waiting for a writer, should it be a pipe.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut content = Vec::new();
    file.take(MOST).read_to_end(&mut content)?;
    Ok(content)
}
