//! Any bytes as a configuration, in both formats: a result, or an error with line and column; never a panic. And what
//! is read is written down and read again as the same.
//!
//! The bytes are valid files with mistakes in them: cut, doubled, swapped, overwritten. With `LVS_LONG` set it goes on
//! for a minute.

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use crate::model::{Config, ForwardingMethod, Tunnel};

use super::{
    diagnostics::{ConfigError, FileErrorKind, Strictness},
    ldirectord, native,
    reading::Format,
};

const ROUNDS: u32 = 3000;
const LONG: Duration = Duration::from_mins(1);

/// Every directive of ldirectord's.
const LDIRECTORD: &str = "\
checktimeout=3
negotiatetimeout=4
checkinterval=5
failurecount=2
fallback=127.0.0.1:80 gate # comment
fallback6=[::1]:80
fallbackcommand=/bin/fb
autoreload=yes
callback=\"/bin/cb\"
logfile=\"local0\"
emailalert=\"a@example.org,b@example.org\"
emailalertfrom=c@example.org
emailalertfreq=60
emailalertstatus=running,stopping
smtp=127.0.0.1
execute=other.cf
quiescent=yes
readdquiescent=no
cleanstop=no
fork=no
supervised=no
maintenancedir=/tmp

virtual=192.0.2.80:80
    real=10.0.0.1->10.0.0.3:8080 masq 2 \"/a b\", \"^ok$\" l:1 u:9
    real=10.0.0.9:80 masq 5
    fallback=10.0.0.250:81 masq
    service=http
    scheduler=wlc
    persistent=600
    netmask=255.255.255.0
    request=\"index.html\"
    receive=\"{\\\"ok\\\"}\"
    virtualhost=\"www.example.org\"
    httpmethod=GET
    schedflags=sh-port
    monitorfile=/tmp/monitor
    servicename=web
    comment=call me
    checktype=3
virtual=7
  real=10.0.0.1:80 gate 2  # RS

\treal=10.0.0.2 ipip
    service=imaps
    login=\"u\"
    passwd=\"p\"
virtual6=[2001:db8::80]:53
    real6=[2001:db8::1]:53 masq
    protocol=udp
    ops=yes
    service=dns
    request=\"www.example.org\"
    receive=\"192.0.2.1\"
virtual=192.0.2.81:25
    real=10.0.0.1 gate
    checktype=external
    checkcommand=\"/bin/true\"
    quiescent=no
virtual=192.0.2.82:3306
    real=10.0.0.1 gate
    login=\"u\"
    database=\"d\"
    secret=\"s\"
    request=\"select 1\"
    load=\"x\"
virtual=192.0.2.83:99
    real=10.0.0.1 gate
    service=simpletcp
    request=\"hello\\n\"
    receive=\"world\"
    checkport=98
    checkcount=2
";

/// Without what has no effect: the tunnel of a server that is not reached by one.
fn looked_at(config: &Config) -> Config {
    let mut config = config.clone();
    for service in &mut config.services {
        let backups = service.policy.backups.iter_mut().map(|backup| &mut backup.server);
        for server in service.servers.iter_mut().chain(backups) {
            if server.method != ForwardingMethod::Tunnel {
                server.tunnel = Tunnel::default();
            }
        }
    }
    config
}

/// The first line in which they differ, where they do.
fn assert_same(again: &Config, first: &Config, text: &str) {
    let (again, first) = (looked_at(again), looked_at(first));
    if again != first {
        let (again, first) = (format!("{again:#?}"), format!("{first:#?}"));
        let lines = again.lines().zip(first.lines()).find(|(one, other)| one != other);
        panic!("{lines:?}\n{text}");
    }
}

/// Says whether it was read at all.
fn read(bytes: &[u8]) -> bool {
    let shown = String::from_utf8_lossy(bytes);
    for strictness in [Strictness::Lenient, Strictness::Strict] {
        let result = if ldirectord::is_ldirectord(&shown) {
            ldirectord::read_without_names(&shown, strictness)
        } else {
            crate::config::read_bytes(bytes, Path::new("fuzz"), strictness)
        };
        match result {
            Ok(reading) => {
                let text = native::to_toml(&reading.config);
                let again = native::read(&text, Path::new("written"))
                    .unwrap_or_else(|error| panic!("{shown}\n{text}\n{error}"));
                assert_same(&again, &reading.config, &text);
                assert!(
                    reading
                        .warnings
                        .iter()
                        .all(|warning| warning.place.line >= 1 && warning.place.column >= 1)
                );
                return true;
            }
            Err(ConfigError::Content(faults)) => {
                assert!(faults.first.iter().all(|fault| fault.place.line >= 1 && fault.place.column >= 1));
                assert!(!faults.first.is_empty() && faults.to_string().contains('^'));
            }
            Err(ConfigError::Mode(_)) => panic!("no mode was asked for"),
            Err(ConfigError::File(fault)) => match fault.kind {
                FileErrorKind::NotText { line, column, .. } => assert!(line >= 1 && column >= 1, "{fault}"),
                FileErrorKind::OtherFormat { .. } => assert!(str::from_utf8(bytes).is_ok(), "{fault}"),
                _ => panic!("nothing was read from a disk: {fault}"),
            },
        }
    }
    false
}

/// One mistake.
fn mutate(chance: &mut fastrand::Rng, text: &mut Vec<u8>) {
    const SCRAPS: [&[u8]; 24] = [
        b"#",
        b"\"",
        b"\n",
        b"\n\n",
        b"=",
        b" ",
        b"\t",
        b"->",
        b":",
        b"0",
        b"99999999999999999999",
        b"virtual=",
        b"real=",
        b"[",
        b"]",
        b"\r\n",
        b"\xff",
        b"\xc3\xbc",
        b"\\",
        b"yes",
        b"-1",
        b"10.0.0.1",
        b"\0",
        b"{",
    ];
    let at = chance.usize(0..=text.len());
    let end = (at + chance.usize(0..30)).min(text.len());
    match chance.u8(0..6) {
        0 => drop(text.drain(at..end)),
        1 => {
            let copy = text[at..end].to_vec();
            let to = chance.usize(0..=text.len());
            text.splice(to..to, copy);
        }
        2 | 3 => {
            let scrap = SCRAPS[chance.usize(0..SCRAPS.len())];
            let end = if chance.bool() { at } else { end };
            text.splice(at..end, scrap.iter().copied());
        }
        4 => {
            // Two lines change places.
            let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let (one, other) = (chance.usize(0..lines.len()), chance.usize(0..lines.len()));
            lines.swap(one, other);
            *text = lines.join(&b'\n');
        }
        _ => {
            if let Some(byte) = text.get_mut(at) {
                *byte = chance.u8(..);
            }
        }
    }
}

#[test]
fn valid_files_are_read() {
    let reading = crate::config::read_bytes(LDIRECTORD.as_bytes(), Path::new("l.cf"), Strictness::Lenient);
    let reading = reading.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(reading.format, Format::Ldirectord);
    assert!(read(LDIRECTORD.as_bytes()));
    assert!(read(include_bytes!("native/example.toml")));
    assert!(read(include_bytes!("ldirectord/published.cf")));
}

#[test]
fn files_with_mistakes_are_read_or_refused() {
    let long = env::var_os("LVS_LONG").is_some();
    let toml = native::to_toml(
        &crate::config::read_bytes(LDIRECTORD.as_bytes(), Path::new("l.cf"), Strictness::Lenient)
            .expect("it is valid")
            .config,
    );
    let files =
        [LDIRECTORD, include_str!("native/example.toml"), include_str!("ldirectord/published.cf"), &toml];
    let seed = if long { fastrand::u64(..) } else { 20_261_125 };
    let mut chance = fastrand::Rng::with_seed(seed);
    let began = Instant::now();
    let (mut rounds, mut well) = (0, 0);
    while if long { began.elapsed() < LONG } else { rounds < ROUNDS } {
        let mut text = files[chance.usize(0..files.len())].as_bytes().to_vec();
        for _ in 0..chance.u8(0..5) {
            mutate(&mut chance, &mut text);
        }
        rounds += 1;
        well += u32::from(read(&text));
    }
    // Neither is everything refused nor everything read: the mistakes are of the right size. (Seed in the message.)
    assert!(well > rounds / 20 && well < rounds, "{well} of {rounds} were read (seed {seed})");
}

#[test]
fn noise_is_read_or_refused() {
    let mut chance = fastrand::Rng::with_seed(7);
    for _ in 0..ROUNDS / 3 {
        let length = chance.usize(0..200);
        let noise: Vec<u8> = std::iter::repeat_with(|| chance.u8(..)).take(length).collect();
        read(&noise);
        read(&[b"virtual=1\n    ", &noise[..]].concat());
        let text: Vec<u8> = noise.iter().map(|byte| b"\n\t =#\":v1r"[usize::from(byte % 10)]).collect();
        read(&[b"virtual=1\n", &text[..]].concat());
    }
}
