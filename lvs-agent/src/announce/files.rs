//! Keeps a folder of files as they are wanted. Each file is written beside its place and renamed, so that nobody reads
//! half of it, and only when it changes. A disk that hangs or is full holds up nothing but these files.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{file_name::OF_SERVICE, trouble::Trouble};
use crate::{
    event::{AnnounceWay, Event, Publisher},
    file_work,
};

/// How often it is looked whether files are still there: somebody may have deleted them, or the folder.
const LOOK: Duration = Duration::from_secs(5);
/// How long the disk may take for one pass.
const LIMIT: Duration = Duration::from_secs(5);
/// What the names of files that are being written begin and end with.
const BESIDE: (&str, &str) = (".", ".new");

/// What a file is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// As it is found, there or not.
    AsFound,
    /// It is not to be there.
    Absent,
    /// With this text.
    Text(String),
}

/// The files of a folder, by their names.
pub(super) type Wishes = Arc<BTreeMap<String, Wish>>;

/// A folder of files.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    way: AnnounceWay,
    events: Publisher,
    /// What is known to be in files, because it was written or read here.
    written: HashMap<String, String>,
    /// Failures in a row.
    trouble: Trouble,
}

impl Folder {
    pub(super) fn new(path: PathBuf, way: AnnounceWay, events: Publisher) -> Self {
        Self { path, way, events, written: HashMap::new(), trouble: Trouble::default() }
    }

    /// Keeps the files as they are wanted, until it is dropped.
    pub(super) async fn keep(&mut self, mut wishes: watch::Receiver<Wishes>) {
        loop {
            let wanted = wishes.borrow_and_update().clone();
            self.pass(wanted, LIMIT).await;
            if self.trouble.is_there() {
                sleep(self.trouble.pause()).await;
                continue;
            }
            tokio::select! {
                changed = wishes.changed() => if changed.is_err() { return },
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Makes the files as they are wanted, once. Says the first failure, and that it works again.
    pub(super) async fn pass(&mut self, wanted: Wishes, limit: Duration) {
        let (path, written) = (self.path.clone(), std::mem::take(&mut self.written));
        let work = file_work::on_file(&self.path, move || Ok(make(&path, &wanted, written)));
        let outcome = match timeout(limit, work).await {
            Ok(Ok(Made { written, failure })) => {
                self.written = written;
                failure.map_or(Ok(()), Err)
            }
            Ok(Err(error)) => Err(error),
            Err(_late) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("it takes longer than {limit:?}")))
            }
        };
        let change = self.trouble.note(self.way, outcome, ToString::to_string);
        let what = self.path.display().to_string();
        self.events.publish_all(change.map(|change| Event::Announcing { way: self.way, what, change }));
    }
}

/// What was made.
struct Made {
    written: HashMap<String, String>,
    /// The first failure; what is about other files was done all the same.
    failure: Option<io::Error>,
}

/// Makes the files of a folder as they are wanted. `written`: what is known to be in them.
fn make(folder: &Path, wanted: &BTreeMap<String, Wish>, mut written: HashMap<String, String>) -> Made {
    let there = match names(folder) {
        Ok(there) => there,
        Err(failure) => return Made { written: HashMap::new(), failure: Some(failure) },
    };
    written.retain(|name, _| there.contains(name));
    let mut failure = None;
    let mut note = |done: io::Result<()>| {
        let is_done = done.is_ok();
        if let Err(error) = done {
            failure.get_or_insert(error);
        }
        is_done
    };
    for (name, wish) in wanted {
        match wish {
            Wish::AsFound => {}
            Wish::Absent => {
                written.remove(name);
                if there.contains(name) {
                    note(remove(&folder.join(name)));
                }
            }
            Wish::Text(text) => {
                let is_so = written.get(name) == Some(text)
                    || there.contains(name)
                        && fs::read(folder.join(name)).is_ok_and(|found| found == text.as_bytes());
                if is_so || note(replace(folder, name, text)) {
                    written.insert(name.clone(), text.clone());
                } else {
                    written.remove(name);
                }
            }
        }
    }
    let is_stale = |name: &&String| {
        let is_of_service = name.starts_with(OF_SERVICE) && !wanted.contains_key(*name);
        is_of_service || name.starts_with(BESIDE.0) && name.ends_with(BESIDE.1)
    };
    for name in there.iter().filter(is_stale) {
        written.remove(name);
        note(remove(&folder.join(name)));
    }
    Made { written, failure }
}

/// The names of the files that are there. The folder is made, for everybody to read, if it isn't there.
fn names(folder: &Path) -> io::Result<HashSet<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            fs::set_permissions(folder, Permissions::from_mode(0o755))?;
            fs::read_dir(folder)?
        }
        entries => entries?,
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
    Ok(entries.map(name).collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Puts a file in the place of another one, if there is one, in one step.
fn replace(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let beside = folder.join([BESIDE.0, name, BESIDE.1].concat());
    let written = write(&beside, text).and_then(|()| fs::rename(&beside, folder.join(name)));
    if written.is_err() {
        // Of a full disk not even that is left.
        fs::remove_file(&beside).ok();
    }
    written
}

/// Writes a file for everybody to read, whatever the process's umask is.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::event::{LineFile, Recorded};

    fn wishes(wishes: &[(&str, Wish)]) -> Wishes {
        Arc::new(wishes.iter().map(|(name, wish)| ((*name).to_owned(), wish.clone())).collect())
    }

    fn text(text: &str) -> Wish {
        Wish::Text(text.to_owned())
    }

    fn there(folder: &Path) -> Vec<(String, String)> {
        let mut there: Vec<_> = names(folder).unwrap().into_iter().collect();
        there.sort();
        there.into_iter().map(|name| (name.clone(), fs::read_to_string(folder.join(name)).unwrap())).collect()
    }

    #[tokio::test]
    async fn files_are_made_replaced_and_removed() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("track");
        let (events, recorded) = (Publisher::default(), Recorded::default());
        events.subscribe(recorded.clone());
        let mut folder = Folder::new(path.clone(), AnnounceWay::TrackFiles, events);
        fs::create_dir(&path).unwrap();
        for (name, content) in
            [("service.gone", "1"), (".service.web.new", "half"), ("theirs", "x"), ("all", "1")]
        {
            fs::write(path.join(name), content).unwrap();
        }
        let first = [("all", Wish::AsFound), ("service.web", text("0\n")), ("service.b", Wish::Absent)];
        folder.pass(wishes(&first), LIMIT).await;
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(there(&path), [pair("all", "1"), pair("service.web", "0\n"), pair("theirs", "x")]);
        let inode = |name: &str| fs::metadata(path.join(name)).unwrap().ino();
        let before = inode("service.web");
        folder.pass(wishes(&first), LIMIT).await;
        assert_eq!(inode("service.web"), before, "what is right is not written again");
        fs::remove_dir_all(&path).unwrap();
        folder.pass(wishes(&[("all", text("1\n")), ("service.web", text("0\n"))]), LIMIT).await;
        assert_eq!(there(&path), [pair("all", "1\n"), pair("service.web", "0\n")], "the folder was deleted");
        assert_eq!(fs::metadata(path.join("all")).unwrap().mode() & 0o777, 0o644);
        assert_eq!(recorded.take(), []);
        // What is written by another agent is not written again after a start.
        let before = inode("all");
        let mut next = Folder::new(path.clone(), AnnounceWay::TrackFiles, Publisher::default());
        next.pass(wishes(&[("all", text("1\n"))]), LIMIT).await;
        assert_eq!((inode("all"), there(&path).len()), (before, 1));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_told_once() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file/track");
        fs::write(parent.path().join("file"), "").unwrap();
        let (events, recorded) = (Publisher::default(), Recorded::default());
        events.subscribe(recorded.clone());
        let mut folder = Folder::new(path, AnnounceWay::ReadyFiles, events);
        for _ in 0..3 {
            folder.pass(wishes(&[("all", text(""))]), LIMIT).await;
        }
        fs::remove_file(parent.path().join("file")).unwrap();
        for _ in 0..2 {
            folder.pass(wishes(&[("all", text(""))]), LIMIT).await;
        }
        let changes: Vec<_> = recorded.take().into_iter().map(|record| record.event).collect();
        let [
            Event::Announcing { change: LineFile::Fails { .. }, .. },
            Event::Announcing { change: LineFile::Works, .. },
        ] = &changes[..]
        else {
            panic!("{changes:?}")
        };
    }
}
