//! Lines in files, such as ldirectord's `monitorfile`.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::mpsc::Receiver, task::spawn_blocking};
use tracing::{info, warn};

use super::within;

/// How long the disk may take for a batch of lines.
const LIMIT: Duration = Duration::from_secs(10);
/// Lines that are written at once.
const BATCH: usize = 256;

/// A line at the end of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file, which is made if it isn't there.
    pub file: PathBuf,
    /// The line, without its end.
    pub text: String,
}

/// Writes lines in the order in which they come, until nobody has any more. A file that can't be written to is told of once.
pub(super) async fn carry_out(lines: &mut Receiver<Line>) {
    let mut failing: HashSet<PathBuf> = HashSet::new();
    let mut waiting = Vec::with_capacity(BATCH);
    while lines.recv_many(&mut waiting, BATCH).await > 0 {
        for (file, text) in by_file(waiting.drain(..)) {
            let path = file.clone();
            let work = async {
                spawn_blocking(move || append(&path, text.as_bytes()))
                    .await
                    .unwrap_or_else(|error| Err(io::Error::other(error)))
            };
            match within(LIMIT, "writing", work).await {
                Ok(()) if failing.remove(&file) => {
                    info!(event = "notify", "{} is written to again", file.display());
                }
                Ok(()) => {}
                Err(error) => {
                    if failing.insert(file.clone()) {
                        warn!(event = "notify", "cannot add lines to {}: {error}", file.display());
                    }
                }
            }
        }
    }
}

/// What goes to each file, in order.
fn by_file(lines: impl Iterator<Item = Line>) -> Vec<(PathBuf, String)> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for Line { file, text } in lines {
        let index = files.iter().position(|(known, _)| *known == file).unwrap_or_else(|| {
            files.push((file, String::new()));
            files.len() - 1
        });
        if let Some((_, all)) = files.get_mut(index) {
            all.push_str(&text);
            all.push('\n');
        }
    }
    files
}

/// Opened each time, as it may be rotated away between two lines.
fn append(file: &Path, text: &[u8]) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::Notifier;

    #[tokio::test]
    async fn lines_are_added_in_order_and_a_bad_file_holds_up_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("good"), folder.path().join("none/bad"));
        std::fs::write(&good, "first\n").unwrap();
        let (notifier, mut notify) = Notifier::new();
        for number in 0..1000 {
            notifier.line(bad.clone(), number.to_string());
            notifier.line(good.clone(), number.to_string());
        }
        drop(notifier);
        carry_out(&mut notify.lines).await;
        let expected = (0..1000).fold("first\n".to_owned(), |all, number| all + &format!("{number}\n"));
        assert_eq!(std::fs::read_to_string(good).unwrap(), expected);
        assert!(!bad.exists());
    }
}
