//! Files of configurations, in any format, read and read again.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    diagnostics::{ConfigError, Fault, FaultKind, FileError, FileErrorKind, Place, Strictness},
    guess, ldirectord,
    name_grace::{NameGrace, NamePolicy},
    native,
    reading::Reading,
};
use crate::model::Mode;

/// The largest file that is read. 10,000 servers take about a tenth of it.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The file that a configuration is read from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's path; messages name it as it is given here.
    pub path: PathBuf,
    /// How exact it must be.
    pub strictness: Strictness,
    /// What may be done to the kernel's table, whatever the file says; `None`: what it says.
    pub mode: Option<Mode>,
    /// The folder of the control socket and the state file where the file names no others; `None`: the usual one.
    pub runtime_directory: Option<PathBuf>,
    /// Whether host names may have no address yet.
    pub names: NameGrace,
}

/// A file as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Arc<[u8]>);

/// It may hold passwords.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

impl Content {
    /// Whether this is the beginning of `whole`, which goes on with more than blanks.
    #[must_use]
    pub fn is_beginning_of(&self, whole: &Self) -> bool {
        let rest = whole.0.strip_prefix(self.0.trim_ascii_end());
        rest.is_some_and(|rest| !rest.trim_ascii().is_empty())
    }
}

impl Source {
    /// A file whose host names must all have addresses.
    #[must_use]
    pub fn new(path: PathBuf, strictness: Strictness, mode: Option<Mode>) -> Self {
        Self { path, strictness, mode, runtime_directory: None, names: NameGrace::default() }
    }

    /// The same with another folder for the control socket and the state file.
    #[must_use]
    pub fn placed_in(self, runtime_directory: Option<PathBuf>) -> Self {
        Self { runtime_directory, ..self }
    }

    /// The same at a start, where names may have none yet.
    #[must_use]
    pub fn at_start(self) -> Self {
        Self { names: NameGrace::begun(), ..self }
    }

    /// Leaves services out that stay as they are in the kernel's table, until all their names have addresses.
    pub fn leave_out_kept(&self, reading: &mut Reading) {
        let Reading { config, unresolved, .. } = reading;
        config
            .services
            .retain(|service| !(unresolved.partial.contains(&service.key) && self.names.keeps(&service.key)));
    }

    /// Reads and validates the file, whole, and warns of what its checks need and this director hasn't.
    pub fn read(&self) -> Result<Reading, ConfigError> {
        self.read_with_content().1
    }

    /// The same, with the content; none where the file can't be read at all.
    pub fn read_with_content(&self) -> (Option<Content>, Result<Reading, ConfigError>) {
        let bytes = match content(&self.path) {
            Ok(bytes) => bytes,
            Err(kind) => return (None, Err(FileError { path: self.path.clone(), kind }.into())),
        };
        let names = self.names.policy();
        let reading = read_bytes_in_mode(&bytes, &self.path, self.strictness, self.mode, names);
        let reading = reading.map(|mut reading| {
            if let Some(folder) = &self.runtime_directory {
                reading.config.agent.place_in(folder);
            }
            self.leave_out_kept(&mut reading);
            reading
        });
        (Some(Content(bytes.into())), reading.map(Reading::on_this_director))
    }
}

/// Reads and validates the file at `path`, whole, and warns of what its checks need and this director hasn't. The
/// format is recognised by the content.
pub fn read_file(path: &Path, strictness: Strictness) -> Result<Reading, ConfigError> {
    let bytes = content(path).map_err(|kind| FileError { path: path.to_owned(), kind })?;
    read_bytes(&bytes, path, strictness).map(Reading::on_this_director)
}

/// Reads and validates the content of a file. `origin` names it in messages.
pub fn read_bytes(bytes: &[u8], origin: &Path, strictness: Strictness) -> Result<Reading, ConfigError> {
    read_bytes_in_mode(bytes, origin, strictness, None, NamePolicy::Needed)
}

/// The same for another mode than the one that is written.
fn read_bytes_in_mode(
    bytes: &[u8],
    origin: &Path,
    strictness: Strictness,
    mode: Option<Mode>,
    names: NamePolicy,
) -> Result<Reading, ConfigError> {
    // Comments of files from before UTF-8 do no harm in ldirectord's format.
    let lossy = String::from_utf8_lossy(bytes);
    if ldirectord::is_ldirectord(&lossy) {
        let reading = ldirectord::read(&lossy, origin, strictness, names)?;
        return reading.in_mode(mode);
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let place = Place::new(&text, &(text.len()..text.len()));
        let (line, column) = (place.line, place.column);
        let kind = FileErrorKind::NotText { offset: error.valid_up_to(), line, column };
        FileError { path: origin.to_owned(), kind }
    })?;
    native::read_in_mode(text, origin, mode).map_err(|error| unless_other_format(error, text, origin))
}

/// The error, or what the file looks like if it isn't even TOML.
fn unless_other_format(error: ConfigError, text: &str, origin: &Path) -> ConfigError {
    let is_syntax = |fault: &Fault| matches!(fault.kind, FaultKind::Syntax { .. });
    match &error {
        ConfigError::Content(faults) if faults.first.iter().any(is_syntax) => match guess::other_format(text)
        {
            Some(looks_like) => {
                let kind = FileErrorKind::OtherFormat { looks_like };
                FileError { path: origin.to_owned(), kind }.into()
            }
            None => error,
        },
        _ => error,
    }
}

/// The file's content.
fn content(path: &Path) -> Result<Vec<u8>, FileErrorKind> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileErrorKind::Missing,
        io::ErrorKind::IsADirectory => FileErrorKind::Directory,
        _ => FileErrorKind::Io(error),
    };
    let mut bytes = Vec::new();
    // One byte more than allowed shows that a file is too large and doesn't just fit, even where the file has no
    // size of its own, such as a pipe.
    File::open(path).map_err(explain)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(explain)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileErrorKind::TooLarge { limit: MAX_FILE_BYTES });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_content_is_recognised() {
        let content = |text: &str| Content(text.as_bytes().into());
        let whole = content("a = 1\nb = 2\n");
        for (text, expected) in [
            ("", true),
            ("a = 1\n", true),
            ("a = 1\n\n", true),
            ("a = 1\nb", true),
            ("a = 1\nb = 2", false),
            ("a = 1\nb = 2\n", false),
            ("a = 1\nb = 2\nc = 3\n", false),
            ("a = 2\n", false),
        ] {
            assert_eq!(content(text).is_beginning_of(&whole), expected, "{text:?}");
        }
        assert_eq!(format!("{:?}", content("secret")), "Content(6 bytes)");
    }

    #[test]
    fn a_file_of_neither_format_is_told_by_what_it_looks_like() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lvs");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_file(&path, Strictness::Lenient).expect_err(text).to_string()
        };
        for (text, looks_like) in [
            ("{\n  \"service\": []\n}\n", "JSON"),
            ("service:\n  address: 192.0.2.1\n", "YAML"),
            ("global_defs {\n}\nvirtual_server 192.0.2.1 80 {\n}\n", "keepalived's configuration"),
            ("-A -t 192.0.2.1:80 -s rr\n", "rules of ipvsadm --save"),
            ("real=10.0.0.1:80 masq\n", "a file of ldirectord's without a line such as virtual="),
        ] {
            let error = read(text);
            assert!(error.contains(&format!("this looks like {looks_like}")), "{text}: {error}");
            assert!(error.contains("(TOML, with [[service]])"), "{text}: {error}");
            assert!(error.starts_with(&path.display().to_string()), "{text}: {error}");
        }
        // The agent's own format with a fault in its grammar: the place counts.
        let error = read("[[service]]\naddress = 192.0.2.1\n");
        assert!(error.contains(":2:") && !error.contains("looks like"), "{error}");
    }
}
