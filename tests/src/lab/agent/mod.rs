//! The agent as a process in the director's namespace, with its configuration file, its log and its metrics.

pub mod config;
pub mod log;

use std::{
    ffi::{OsStr, OsString},
    fmt, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
    path::PathBuf,
    process::{ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::Signal,
    unistd::Pid,
};
use tempfile::TempDir;

use crate::lab::{
    agent::{
        config::METRICS,
        log::{AgentEvent, EventKind},
    },
    namespace::Namespace,
    process::{Process, programs, unprivileged::Account},
    wait,
};

/// The name of its configuration file.
const CONFIG: &str = "agent.toml";
/// How long the agent may take to start, on a slow machine.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long it may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to give its metrics.
const METRICS_LIMIT: Duration = Duration::from_secs(10);
/// Lines of the log that an error quotes.
const QUOTED_LINES: usize = 60;

/// What a command of the agent's program printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutput {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl fmt::Display for CommandOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.code, self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// What becomes of the reader of the agent's standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogReader {
    /// It reads each line.
    Reads,
    /// It is gone after the next line.
    Leaves,
    /// It reads no more after the next line, and the pipe holds no more than a page.
    Hangs,
}

/// What the agent has logged, and who reads it.
#[derive(Debug)]
struct Log {
    lines: Vec<String>,
    reader: LogReader,
    /// The end of the pipe that nobody reads any more.
    held: Option<BufReader<ChildStderr>>,
}

/// A running (or ended) agent. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    director: Namespace,
    log: Arc<Mutex<Log>>,
    reader: Option<JoinHandle<Result<()>>>,
    /// Holds the configuration file.
    folder: TempDir,
}

impl Agent {
    /// Starts the agent on `director` with the text of a configuration file. It need not succeed: see
    /// [`wait_until_ready`](Self::wait_until_ready) and [`wait_for_end`](Self::wait_for_end).
    pub fn start(director: &Namespace, config: &str) -> Result<Self> {
        Self::start_under(director, config, &[] as &[&str])
    }

    /// The same without a configuration file.
    pub fn start_without_config(director: &Namespace) -> Result<Self> {
        Self::start_with(director, None, &[] as &[&str], Account::usual())
    }

    /// The same as an account.
    pub fn start_as(account: Account, director: &Namespace, config: &str) -> Result<Self> {
        Self::start_with(director, Some(config), &[] as &[&str], account)
    }

    /// The same under a wrapper such as `setpriv …`.
    pub fn start_under(director: &Namespace, config: &str, wrapper: &[impl AsRef<OsStr>]) -> Result<Self> {
        Self::start_with(director, Some(config), wrapper, Account::usual())
    }

    /// The same with all that can be said: under a wrapper, as an account.
    pub fn start_with(
        director: &Namespace,
        config: Option<&str>,
        wrapper: &[impl AsRef<OsStr>],
        account: Account,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        let file = folder.path().join(CONFIG);
        fs::write(&file, config.unwrap_or_default())?;
        let agent = account.reach(&programs::agent()?, &folder)?;
        account.own(&[folder.path(), &file])?;
        let account = account.wrapper();
        let wrapper = account.iter().map(OsString::as_os_str).chain(wrapper.iter().map(AsRef::as_ref));
        let mut words = wrapper.chain([agent.as_os_str()]);
        let mut command = Command::new(words.next().context("a program")?);
        command.args(words).args(["--log-format", "json", "run"]);
        if config.is_some() {
            command.arg("--config").arg(&file);
        }
        command.env_remove("LVS_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::start(director, "the agent", &mut command)?;
        let pipe = BufReader::new(process.take_stderr().context("a piped standard error")?);
        let log = Log { lines: Vec::new(), reader: LogReader::Reads, held: None };
        let log = Arc::new(Mutex::new(log));
        let theirs = Arc::clone(&log);
        let reader = director.thread("agent log", move || read_log(pipe, &theirs))?;
        Ok(Self { process, director: director.clone(), log, reader: Some(reader), folder })
    }

    /// From the next line of its log on, the reader of its standard error does this.
    pub fn set_log_reader(&self, reader: LogReader) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).reader = reader;
    }

    /// Whether the reader of its standard error reads no more.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join(CONFIG)
    }

    /// Runs the program with these words, such as `reload`, in the director's namespace, and waits for its end.
    pub fn command(&self, words: &[&str]) -> Result<CommandOutput> {
        let printed = self.ask(words)?;
        crate::say(&format!("{}: {printed}", words.join(" ")));
        Ok(printed)
    }

    /// The same without a word: for what is printed at length.
    pub fn ask(&self, words: &[&str]) -> Result<CommandOutput> {
        let program = programs::agent()?;
        let output = self.director.run(|| Ok(Command::new(&program).args(words).output()?))?;
        Ok(CommandOutput {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Every line of its log so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// Every event in its log so far.
    #[must_use]
    pub fn events(&self) -> Vec<AgentEvent> {
        self.lines().iter().filter_map(|line| AgentEvent::parse(line)).collect()
    }

    /// The events in its log after so many lines, which is then how many there are.
    #[must_use]
    pub fn events_since(&self, lines: &mut usize) -> Vec<AgentEvent> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let new = log.lines.get(*lines..).unwrap_or_default();
        *lines = log.lines.len();
        new.iter().filter_map(|line| AgentEvent::parse(line)).collect()
    }

    /// Waits until its programs are attached and the table is built.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        wait::until_true("the agent to be ready", START_LIMIT, || {
            self.check_running()?;
            Ok(self.events().iter().any(|event| event.kind == EventKind::Ready {}))
        })
        .with_context(|| self.diagnosis())
    }

    /// An error if it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        match self.process.status()? {
            Some(status) => bail!("the agent has ended: {status}"),
            None => Ok(()),
        }
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits for its end and for the last line of its log.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let status = self.process.wait(STOP_LIMIT).with_context(|| self.diagnosis())?;
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_panic| anyhow!("the reader of the agent's log panicked"))??;
        }
        Ok(status)
    }

    /// Asks it to stop with SIGTERM and waits for its end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait_for_end()
    }

    /// The text of its `/metrics`.
    pub fn metrics(&self) -> Result<String> {
        self.director.run(get_metrics).context("cannot read the agent's metrics")
    }

    /// The end of its log, for errors.
    #[must_use]
    pub fn diagnosis(&self) -> String {
        let lines = self.lines();
        let from = lines.len().saturating_sub(QUOTED_LINES);
        format!("the agent's log ended with:\n{}", lines[from..].join("\n"))
    }
}

/// Reads the log until it ends, or until its reader is to do something else.
fn read_log(mut pipe: BufReader<ChildStderr>, log: &Mutex<Log>) -> Result<()> {
    /// The least that a pipe can hold on x86-64 (pipe(7)).
    const PAGE: i32 = 4096;
    let mut line = String::new();
    while pipe.read_line(&mut line)? > 0 {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.lines.push(line.trim_end_matches('\n').to_owned());
        line.clear();
        match log.reader {
            LogReader::Reads => {}
            LogReader::Leaves => return Ok(()),
            LogReader::Hangs => {
                // One that is fuller than that stays as it is.
                fcntl(pipe.get_ref().as_fd(), FcntlArg::F_SETPIPE_SZ(PAGE)).ok();
                log.held = Some(pipe);
                return Ok(());
            }
        }
    }
    Ok(())
}

fn get_metrics() -> Result<String> {
    let mut stream = TcpStream::connect(METRICS)?;
    stream.set_read_timeout(Some(METRICS_LIMIT))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {METRICS}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without a body")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("not status 200: {head}");
    }
    Ok(body.to_owned())
}

/// The sum of all samples of a metric in the text form of Prometheus, over those whose line contains all of `labels`;
/// `None` if there is no such sample.
#[must_use]
pub fn metric(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let samples = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    let values: Vec<f64> =
        samples.filter_map(|line| line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok())).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_the_samples_asked_for() {
        let text =
            "# TYPE a counter\na{server=\"x\",kind=\"k\"} 2\na{server=\"y\",kind=\"k\"} 3\nab 7\nc 1.5\n";
        for (name, labels, value) in [
            ("a", &[][..], Some(5.0)),
            ("a", &["server=\"x\"", "kind=\"k\""][..], Some(2.0)),
            ("a", &["server=\"z\""][..], None),
            ("c", &[][..], Some(1.5)),
            ("b", &[][..], None),
        ] {
            assert_eq!(metric(text, name, labels), value, "{name} {labels:?}");
        }
    }
}
