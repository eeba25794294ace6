use std::{fs, io::Write as _, os::unix::net::UnixDatagram};

use super::*;
use crate::model::Facility;

fn say(writer: &LogWriter, level: Level, text: &str) {
    LineWriter { to: writer, level }.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_file_goes_on_where_it_ended_and_after_it_was_rotated_away() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
    fs::write(&path, "before\n").unwrap();
    let mut file = LogFile::open(&path).unwrap();
    file.write(b"one\n", false).unwrap();
    fs::rename(&path, &old).unwrap();
    file.write(b"two\n", false).unwrap();
    file.write(b"three\n", true).unwrap();
    assert_eq!(fs::read_to_string(&old).unwrap(), "before\none\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "two\nthree\n");
    fs::remove_file(&path).unwrap();
    file.write(b"four\n", false).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
}

#[test]
fn queued_lines_are_written_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (writer, thread) = open(&LogTarget::File(path.clone())).unwrap();
    for number in 0..2000 {
        say(&writer, Level::INFO, &format!("{number}\n"));
    }
    drop(thread);
    let expected: String = (0..2000).fold(String::new(), |all, number| all + &format!("{number}\n"));
    assert_eq!(fs::read_to_string(path).unwrap(), expected);
}

/// The pipe's other end reads nothing until more has been said than fits anywhere.
#[test]
fn logging_never_blocks_and_lost_lines_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Opened both ways a pipe waits for nobody.
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let sink = Sink::File(LogFile::open(&path).unwrap());
    let (writer, thread) = start(sink, 16).unwrap();
    let line = format!("{}\n", "x".repeat(99));
    for _ in 0..5000 {
        say(&writer, Level::INFO, &line);
    }
    assert!(thread.lost().total() > 0);
    let mut read = String::new();
    let mut bytes = [0; 4096];
    while !read.contains("lines of the log were lost") {
        let count = io::Read::read(&mut reader, &mut bytes).unwrap();
        read += std::str::from_utf8(&bytes[..count]).unwrap();
    }
    // What is left fits into the pipe.
    drop((writer, thread, reader));
}

#[test]
fn syslog_gets_a_datagram_with_facility_and_severity() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dev-log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let heard = |daemon: &UnixDatagram| {
        let mut bytes = [0; 100];
        let count = daemon.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let pid = std::process::id();
    for (facility, level, priority) in [
        ("local0", Level::INFO, 134),
        ("daemon", Level::WARN, 28),
        ("ftp", Level::ERROR, 91),
        ("kern", Level::DEBUG, 7),
    ] {
        let facility = Facility::named(facility).unwrap();
        let mut syslog = Syslog::open_at(path.clone(), facility).unwrap();
        syslog.write(level, b"web: down\n").unwrap();
        assert_eq!(heard(&daemon), format!("<{priority}>lvs-agent[{pid}]: web: down"));
    }
    let user = Facility::named("user").unwrap();
    let mut syslog = Syslog::open_at(path.clone(), user).unwrap();
    drop(daemon);
    assert!(syslog.write(Level::INFO, b"nobody").is_err());
    fs::remove_file(&path).unwrap();
    let daemon = UnixDatagram::bind(&path).unwrap();
    syslog.write(Level::INFO, b"again").unwrap();
    assert_eq!(heard(&daemon), format!("<14>lvs-agent[{pid}]: again"));
}
