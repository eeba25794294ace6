//! Adds lines to files, such as ldirectord's `monitorfile`.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::AtomicU64,
    time::Duration,
};

use tokio::{sync::mpsc::Receiver, task::spawn_blocking};

use super::{Lost, within};
use crate::event::{Event, LineFile, Publisher};

/// How long the disk may take for a batch of lines.
const LIMIT: Duration = Duration::from_secs(10);
/// Lines that are written at once.
const BATCH: usize = 256;

/// A line at the end of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file, which is created if it doesn't exist.
    pub file: PathBuf,
    /// The line, without its end.
    pub text: String,
}

/// Writes lines in their order, until all senders are dropped. A file that can't be written to is reported once. `lost`
/// counts the lines that found the queue full.
pub(super) async fn write_all(lines: &mut Receiver<Line>, events: &Publisher, lost: &AtomicU64) {
    let mut failing: HashSet<PathBuf> = HashSet::new();
    let mut waiting = Vec::with_capacity(BATCH);
    while lines.recv_many(&mut waiting, BATCH).await > 0 {
        Lost::publish("line", lost, events);
        for (path, text) in by_file(waiting.drain(..)) {
            let file = path.clone();
            let work = async {
                spawn_blocking(move || append(&file, text.as_bytes()))
                    .await
                    .unwrap_or_else(|error| Err(io::Error::other(error)))
            };
            let change = match within(LIMIT, "writing", work).await {
                Ok(()) => failing.remove(&path).then_some(LineFile::Works),
                Err(error) => {
                    failing.insert(path.clone()).then(|| LineFile::Fails { error: error.to_string() })
                }
            };
            events.publish_all(change.map(|change| Event::LineFile { path, change }));
        }
    }
}

/// The text for each file, in order.
fn by_file(lines: impl Iterator<Item = Line>) -> Vec<(PathBuf, String)> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for Line { file, text } in lines {
        let index = files.iter().position(|(known, _)| *known == file).unwrap_or_else(|| {
            files.push((file, String::new()));
            files.len() - 1
        });
        if let Some((_, text_of_file)) = files.get_mut(index) {
            text_of_file.push_str(&text);
            text_of_file.push('\n');
        }
    }
    files
}

/// Adds text to a file. It is opened each time, as it may be rotated away between two lines.
fn append(file: &Path, text: &[u8]) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::Notifier;

    #[tokio::test]
    async fn lines_are_added_in_order_and_a_bad_file_delays_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let (good, bad) = (directory.path().join("good"), directory.path().join("none/bad"));
        std::fs::write(&good, "first\n").unwrap();
        let (notifier, mut notify) = Notifier::new(Publisher::default());
        for number in 0..1000 {
            notifier.line(bad.clone(), number.to_string());
            notifier.line(good.clone(), number.to_string());
        }
        drop(notifier);
        write_all(&mut notify.lines, &Publisher::default(), &AtomicU64::new(0)).await;
        let expected = (0..1000).fold("first\n".to_owned(), |text, number| text + &format!("{number}\n"));
        assert_eq!(std::fs::read_to_string(good).unwrap(), expected);
        assert!(!bad.exists());
    }
}
