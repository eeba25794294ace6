//! The systemd journal, in its own protocol: one datagram a line, with a journal field for each field of the line
//! (systemd's "Native Journal Protocol").

use std::{env, io, os::fd::AsFd as _, path::PathBuf};

use nix::sys::stat::fstat;
use serde_json::{Map, Value};
use tracing::Level;

use super::{daemon::DaemonSocket, severity};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest text of a field. A datagram that is too long for the socket is refused whole; its buffer takes some
/// 200 KiB (`net.core.wmem_default`).
const MAX: usize = 16 << 10;

pub(super) struct Journal(DaemonSocket);

impl Journal {
    pub(super) fn open() -> io::Result<Self> {
        Self::open_at(SOCKET.into())
    }

    pub(super) fn open_at(path: PathBuf) -> io::Result<Self> {
        DaemonSocket::open(path).map(Self)
    }

    pub(super) fn write(&mut self, level: Level, line: &[u8]) -> io::Result<()> {
        self.0.send(&entry(level, line))
    }
}

/// Whether what is written to standard error goes to the journal: systemd says so in the environment, which programs
/// hand on that have put something else in its place (systemd.exec(5), `$JOURNAL_STREAM`).
#[must_use]
pub fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = fstat(io::stderr().as_fd()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// A line as an entry of the journal. It is JSON with one field each; another one is the message as it is.
fn entry(level: Level, line: &[u8]) -> Vec<u8> {
    let mut entry = Vec::new();
    add(&mut entry, "PRIORITY", &severity(level).to_string());
    add(&mut entry, "SYSLOG_IDENTIFIER", "lvs-agent");
    match serde_json::from_slice::<Map<String, Value>>(line) {
        Ok(fields) => {
            for (name, value) in &fields {
                let Some(name) = field_name(name) else { continue };
                match value {
                    Value::String(text) => add(&mut entry, &name, text),
                    other => add(&mut entry, &name, &other.to_string()),
                }
            }
        }
        Err(_) => add(&mut entry, "MESSAGE", String::from_utf8_lossy(line).trim_end()),
    }
    entry
}

/// The journal's name of a field: capital letters, digits and underscores, 64 at most. The journal itself knows when a
/// line came, and the priority is the level. What is the program's own begins with `LVS_`.
fn field_name(name: &str) -> Option<String> {
    match name {
        "timestamp" | "level" => None,
        "message" => Some("MESSAGE".to_owned()),
        other => {
            let own = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
            Some(format!("LVS_{}", other.chars().map(own).take(60).collect::<String>()))
        }
    }
}

/// Adds a field with its length, as any text may stand in it.
fn add(entry: &mut Vec<u8>, name: &str, text: &str) {
    let text = text.get(..text.floor_char_boundary(MAX)).unwrap_or(text);
    entry.extend(name.as_bytes());
    entry.push(b'\n');
    entry.extend((text.len() as u64).to_le_bytes());
    entry.extend(text.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use proptest::prelude::*;

    use super::*;

    /// Reads an entry as the journal does.
    fn fields(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let name = String::from_utf8(entry[..end].to_vec()).unwrap();
            let (length, rest) = entry[end + 1..].split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            fields.push((name, String::from_utf8(rest[..length].to_vec()).unwrap()));
            assert_eq!(rest[length], b'\n');
            entry = &rest[length + 1..];
        }
        fields
    }

    #[test]
    fn each_field_of_a_line_is_a_field_of_the_journal() {
        let line = r#"{"timestamp":"2026","level":"WARN","message":"down\nFORGED=1","event":"transition","at_ns":7,"target":"lvs_agent","is-new":true}"#;
        let expected = [
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "lvs-agent"),
            ("MESSAGE", "down\nFORGED=1"),
            ("LVS_EVENT", "transition"),
            ("LVS_AT_NS", "7"),
            ("LVS_TARGET", "lvs_agent"),
            ("LVS_IS_NEW", "true"),
        ];
        let mut fields = fields(&entry(Level::WARN, line.as_bytes()));
        let mut expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        fields.sort();
        expected.sort();
        assert_eq!(fields, expected);
        let plain = entry(Level::INFO, b"3 lines of the log were lost\n");
        assert!(plain.ends_with(b"3 lines of the log were lost\n"));
    }

    #[test]
    fn an_entry_reaches_the_journal_that_was_started_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut daemon = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::open_at(path.clone()).unwrap();
        for text in ["one", "two"] {
            journal.write(Level::ERROR, format!("{{\"message\":\"{text}\"}}\n").as_bytes()).unwrap();
            let mut bytes = [0; 1024];
            let length = daemon.recv(&mut bytes).unwrap();
            assert!(fields(&bytes[..length]).contains(&("MESSAGE".to_owned(), text.to_owned())));
            drop(daemon);
            std::fs::remove_file(&path).unwrap();
            daemon = UnixDatagram::bind(&path).unwrap();
        }
    }

    proptest! {
        #[test]
        fn any_line_is_a_valid_entry(name in any::<String>(), text in any::<String>(), line in any::<Vec<u8>>()) {
            let json = serde_json::json!({ name: text }).to_string();
            for line in [json.as_bytes(), &line] {
                for (name, _) in fields(&entry(Level::INFO, line)) {
                    prop_assert!((1..=64).contains(&name.len()), "{}", name);
                    prop_assert!(name.bytes().all(|byte| byte == b'_' || byte.is_ascii_uppercase() || byte.is_ascii_digit()));
                }
            }
        }
    }
}
