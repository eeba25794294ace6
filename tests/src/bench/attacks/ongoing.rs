//! Attacks at work.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use super::kinds::{Attack, DNS_PORT, HOSTILE_PORT};
use crate::{
    forged::Forged,
    lab::{
        Lab,
        agent::{LogReader, config::METRICS, metric},
        clients::Transport,
        director::{edit_table, service_lines, service_option},
        dns_server,
        faults::flood::Flood,
        namespace::Namespace,
        process::{self, Process, programs, unprivileged::Account},
        wait,
    },
    testbed::Testbed,
};

/// How long a log may take to be lost.
const LOST_LIMIT: Duration = Duration::from_mins(2);
/// Lines that are caused at a time, so that it is soon.
const LINES: usize = 1000;
/// Files that a crowd may have open.
const FILES: u32 = 20_000;
/// How often the control socket is called a second, and how many callers stay.
const CALLS: f64 = 20.0;
const STAYING: usize = 40;
/// How many parts of a configuration are written a second, and into how many it is cut.
const PARTS_A_SECOND: f64 = 4.0;
const PARTS: usize = 20;
/// Parts after which it is written anew.
const ROUND: usize = PARTS + 8;
/// Where the agent listens for orders.
const CONTROL: &str = "/run/lvs-agent/control";
/// Forged answers a second of each kind.
const ANSWERS: f64 = 300.0;
/// How often a hostile server says the same before it changes its mind.
const MIND: u32 = 3;

/// What must be there before the agent starts.
#[derive(Debug)]
pub(super) struct Props {
    /// The agent's own files.
    pub(super) folder: TempDir,
    hostile: Arc<AtomicBool>,
}

impl Props {
    /// The files and servers that an attack's surroundings need.
    pub(super) fn new(attack: Attack, lab: &Lab, folder: TempDir) -> Result<Self> {
        let props = Self { folder, hostile: Arc::default() };
        let path = props.folder.path();
        match attack {
            Attack::MonitorHangs => {
                nix::unistd::mkfifo(&path.join("monitor"), nix::sys::stat::Mode::S_IRWXU)?;
            }
            Attack::Panics => fs::write(
                path.join("child.toml"),
                "[agent]\nmode = \"observe\"\nmetrics = \"off\"\ncontrol = \"off\"\n",
            )?,
            Attack::AdoptionPanics => {
                let layout = &lab.network.layout;
                let service = service_option(layout.service(), Transport::Tcp);
                let lines = service_lines(&service, layout.method, &lab.addresses());
                edit_table(&lab.network.director, &lines)?;
            }
            Attack::ForgedAnswers | Attack::None(super::kinds::Ground::Names) => {
                for server in &lab.servers {
                    answer_names(server.namespace())?;
                }
            }
            Attack::ControlCharacters => {
                for server in &lab.servers {
                    answer_hostilely(server.namespace(), Arc::clone(&props.hostile))?;
                }
            }
            _ => {}
        }
        Ok(props)
    }
}

/// A name server with one address for all, until the process ends.
fn answer_names(server: &Namespace) -> Result<()> {
    let socket = server.run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DNS_PORT))?))?;
    server.thread("name server", move || -> Result<()> {
        let mut query = [0; 512];
        loop {
            let Ok((length, client)) = socket.recv_from(&mut query) else { continue };
            if let Some(reply) = dns_server::reply(&query[..length], Ipv4Addr::new(192, 0, 2, 77)) {
                socket.send_to(&reply, client).ok();
            }
        }
    })?;
    Ok(())
}

/// A server that says that it is well, and once it is hostile now and then says what forges lines in terminals and
/// logs; until the process ends.
fn answer_hostilely(server: &Namespace, hostile: Arc<AtomicBool>) -> Result<()> {
    let listener = server.run(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, HOSTILE_PORT))?))?;
    server.thread("hostile server", move || {
        for (number, stream) in (0_u32..).zip(listener.incoming()) {
            let Ok(mut stream) = stream else { continue };
            let is_hostile = hostile.load(Ordering::Relaxed) && (number / MIND).is_multiple_of(2);
            let text = if is_hostile { hostile_text(number) } else { "well\n".to_owned() };
            stream.write_all(text.as_bytes()).ok();
        }
        Ok(())
    })?;
    Ok(())
}

/// Each time another one: a forged line of the log, an erased terminal, a title, text that runs backwards.
fn hostile_text(number: u32) -> String {
    format!(
        "{number}\u{1b}[2J\u{1b}]0;{number}\u{7}\r\n{{\"level\":\"INFO\",\"event\":\"edit\",\"at_ns\":{number}}}\n\
         \u{202e}pu\u{2028}\u{85}\u{0}\u{9b}31m{}\n",
        "\u{8}".repeat(100)
    )
}

/// An attack that goes on until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Ongoing {
    floods: Vec<Flood>,
    crowds: Vec<Process>,
    /// Where the crowd's program is.
    program: Option<TempDir>,
    disk: Option<PathBuf>,
}

impl Ongoing {
    /// Begins an attack.
    pub(super) fn begin(attack: Attack, bed: &Testbed, props: &Props) -> Result<Self> {
        let mut ongoing = Self::default();
        match attack {
            Attack::LogReaderGone => lose_log(bed, LogReader::Leaves)?,
            Attack::LogReaderHangs => lose_log(bed, LogReader::Hangs)?,
            Attack::Idle(count) => ongoing.add_crowd(bed, count, false)?,
            Attack::Scrapes => ongoing.add_crowd(bed, 100, true)?,
            Attack::Forged(kind, rate) => ongoing.floods.push(kind.flood(&bed.lab, rate.into())?),
            Attack::ForgedAnswers => {
                for kind in [Forged::EchoReply, Forged::DnsAnswer] {
                    ongoing.floods.push(kind.flood(&bed.lab, ANSWERS)?);
                }
            }
            Attack::OtherProgram => {
                let words = "tc filter add dev lan egress protocol all prio 1 matchall action ok";
                let words: Vec<_> = words.split(' ').collect();
                process::run(&bed.lab.network.director, &words, "")?;
            }
            Attack::Control => ongoing.floods.push(call(&bed.lab.network.director)?),
            Attack::SlowConfig => {
                ongoing.floods.push(write_slowly(&bed.lab.network.director, &bed.agent.config_file())?);
            }
            Attack::FullDisk => {
                let folder = props.folder.path().display().to_string();
                let filler = PathBuf::from(format!("/proc/{}/root{folder}/filler", bed.agent.pid()));
                let mut file = File::create(&filler).with_context(|| filler.display().to_string())?;
                while file.write_all(&[0; 4096]).is_ok() {}
                ongoing.disk = Some(filler);
            }
            Attack::ControlCharacters => props.hostile.store(true, Ordering::Relaxed),
            Attack::FewFiles => {
                ongoing.add_crowd(bed, 1_100, false)?;
                ongoing.floods.push(call(&bed.lab.network.director)?);
            }
            Attack::None(_) | Attack::MonitorHangs | Attack::Panics | Attack::AdoptionPanics => {}
        }
        Ok(ongoing)
    }

    /// A crowd of an ordinary user at the metrics' port.
    fn add_crowd(&mut self, bed: &Testbed, connections: usize, asks: bool) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let user = Account::Unprivileged;
        let program = user.reach(&programs::crowd()?, &folder)?;
        user.own(&[folder.path()])?;
        // That was a service manager's; the agent is root's here.
        Account::usual().own(&[])?;
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={FILES}:{FILES}"));
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
        command.arg(program).args(["--to", METRICS, "--connections", &connections.to_string()]);
        if asks {
            command.arg("--asks");
        }
        self.crowds.push(Process::start(&bed.lab.network.director, "a crowd", &mut command)?);
        self.program = Some(folder);
        Ok(())
    }

    /// Ends it; an error if it has ended by itself, so that nothing was attacked.
    pub(super) fn end(mut self) -> Result<()> {
        for crowd in &mut self.crowds {
            if let Some(status) = crowd.status()? {
                anyhow::bail!("the crowd has ended: {status}");
            }
        }
        self.floods.iter_mut().try_for_each(Flood::stop)?;
        if let Some(filler) = self.disk {
            fs::remove_file(filler)?;
        }
        Ok(())
    }
}

/// Lets the reader of standard error stop, and the log come to know of it.
fn lose_log(bed: &Testbed, reader: LogReader) -> Result<()> {
    bed.agent.set_log_reader(reader);
    wait::until_true("the log to be lost", LOST_LIMIT, || {
        cause_lines(LINES)?;
        Ok(lost_lines(bed)? > 0.0)
    })
}

/// Lets the agent log so many lines: each time that the log's filter is set. Else a queue of thousands would be filled
/// no sooner than the attack is over.
fn cause_lines(lines: usize) -> Result<()> {
    let stream = UnixStream::connect(CONTROL).context("the control socket")?;
    let mut replies = BufReader::new(stream.try_clone()?);
    let mut reply = String::new();
    for _ in 0..lines {
        (&stream).write_all(b"{\"command\":\"log-level\",\"filter\":\"info\"}\n")?;
        reply.clear();
        replies.read_line(&mut reply)?;
    }
    Ok(())
}

/// How many lines of the log the agent has lost.
pub(super) fn lost_lines(bed: &Testbed) -> Result<f64> {
    Ok(metric(&bed.agent.metrics()?, "lvs_log_lines_lost_total", &[]).unwrap_or_default())
}

/// Callers of the control socket, each with something else that is no question. Some stay.
fn call(director: &Namespace) -> Result<Flood> {
    let staying = Mutex::new(VecDeque::new());
    Flood::of(director, CALLS, move |number| {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // A full queue is the agent's answer to this.
        if socket.connect(&SockAddr::unix(CONTROL)?).is_ok() {
            let request = hostile_request(number);
            // Nobody reads it all: it is too long.
            io::Write::write(&mut (&socket), &request).ok();
            let mut staying = staying.lock().unwrap_or_else(PoisonError::into_inner);
            staying.push_back(socket);
            if staying.len() > STAYING {
                staying.pop_front();
            }
        }
        Ok(())
    })
}

fn hostile_request(number: u32) -> Vec<u8> {
    match number % 7 {
        0 => Vec::new(),
        1 => vec![b'x'; 8000],
        2 => b"{\"command\":\"status\"".to_vec(),
        // Nobody reads the answers.
        3 => b"{\"version\":1,\"command\":\"status\"}\n".repeat(100),
        4 => vec![0xff, 0xfe, b'\n', 0, b'\n'],
        5 => [b"[".repeat(4000), b"\n".to_vec()].concat(),
        _ => b"{\"version\":1,\"command\":\"drain\",\"server\":\"10.0.0.99\"}\n".to_vec(),
    }
}

/// Writes the configuration again and again, part by part: once into a file that stays open, once into one that is
/// deleted and opened anew for each part.
fn write_slowly(director: &Namespace, file: &Path) -> Result<Flood> {
    let text = fs::read(file)?;
    let part = text.len().div_ceil(PARTS);
    let parts: Vec<Vec<u8>> = text.chunks(part).map(<[u8]>::to_vec).collect();
    let (file, open, round) = (file.to_owned(), Mutex::new(None), AtomicU32::new(0));
    Flood::of(director, PARTS_A_SECOND, move |number| {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = number as usize % ROUND;
        if at == 0 {
            if round.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                fs::remove_file(&file)?;
            }
            *open = Some(File::create(&file)?);
        }
        if let (Some(part), Some(opened)) = (parts.get(at), open.as_mut()) {
            opened.write_all(part)?;
            if round.load(Ordering::Relaxed) % 2 == 0 {
                *open = Some(File::options().append(true).open(&file)?);
            }
        } else {
            *open = None;
        }
        Ok(())
    })
}

/// The memory of a process that is its own and in use, in MiB.
pub(super) fn resident(process: nix::unistd::Pid) -> Result<f64> {
    let status = File::open(format!("/proc/{process}/status"))?;
    for line in BufReader::new(status).lines() {
        if let Some(size) = line?.strip_prefix("VmRSS:") {
            let kibibytes: f64 = size.trim().trim_end_matches("kB").trim().parse()?;
            return Ok(kibibytes / 1024.0);
        }
    }
    anyhow::bail!("process {process} has no memory")
}

/// Servers of the lab that are no part of an attack, by their addresses.
pub(super) fn is_of_attack(server: SocketAddr) -> bool {
    server.port() == HOSTILE_PORT
}
