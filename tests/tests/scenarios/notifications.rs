//! Notifications by the whole agent with a file of ldirectord's: mails by a relay and by the local mail
//! program, commands, lines in files, and agents for other files, with their logs. And that none of it delays a check.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use lvs_tests::lab::{
    Lab,
    agent::Agent,
    director::prepare_ipvs,
    faults::Fault,
    layout::{Layout, Method},
    namespace::Namespace,
    process, wait,
};
use tempfile::TempDir;

/// How long a notification may take, on a slow machine.
const LIMIT: Duration = Duration::from_secs(40);
/// How many regular checks, one a second, must go on while mails and commands hang.
const CHECKS: usize = 5;
/// How long they may take in that case.
const CHECKS_IN: Duration = Duration::from_secs(8);

/// How the first service's server stands in the table.
const SERVED: &str = "-a -t 192.0.2.80:80 -r 10.0.0.1:80 -m -w 1";

/// Gives the agent a mail program and a syslog daemon of its own, in a mount namespace of its own.
const WRAPPER: &str = r#"
set -e
mkdir "$folder/sbin" "$folder/usr-sbin" "$folder/dev"
mount --bind /usr/sbin "$folder/usr-sbin"
for program in "$folder"/usr-sbin/*; do ln -s "$program" "$folder/sbin/"; done
ln -sf "$folder/sendmail" "$folder/sbin/sendmail"
mount --bind "$folder/sbin" /usr/sbin
cp -a /dev/null "$folder/dev/null"
ln -s "$folder/syslog" "$folder/dev/log"
mount --bind "$folder/dev" /dev
exec "$@"
"#;

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn notifications_are_sent_and_never_delay_a_check() -> Result<()> {
    let mut lab = Lab::build(&Layout::new(Method::Masquerade))?;
    let director = lab.network.director.clone();
    prepare_ipvs(&director)?;
    let recipients = Recipients::open(&director)?;
    let mut agent = recipients.start(&director)?;
    agent.wait_until_ready()?;

    recipients.wait_for("the mail by the relay", || {
        let mails = recipients.relay.mails();
        let mail = "Subject: [web] Added real server: 10.0.0.1:80 (192.0.2.80:80) (Weight set to 1)\r\n";
        mails.iter().any(|text| text.contains(mail) && text.contains("Comment: call me\r\n"))
    })?;
    recipients.wait_for_line("mailed", "-i -f lvs@example.org -- local@example.org")?;
    recipients.wait_for_line(
        "mailed",
        "Subject: Added real server: 10.0.0.1:80 (192.0.2.80:81) (Weight set to 1)",
    )?;
    recipients.wait_for_line("checked", "192.0.2.80 81 10.0.0.1 80")?;
    recipients.wait_for_line("fallback", "stop 192.0.2.80:80 tcp")?;
    recipients.wait_for_line("monitor", "10.0.0.1:80 [up] -")?;
    recipients.wait_for_line("quorum", "up")?;
    recipients.wait_for_line("second.log", "event=\"ready\"")?;
    // LOCAL3 and information.
    recipients.wait_for("a line in the syslog", || {
        recipients.syslog().iter().any(|line| line.starts_with("<158>lvs-agent[") && line.contains("ready"))
    })?;

    let armed = Fault::ProcessKilled.arm(&lab.network.switch, &lab.servers[0])?;
    armed.inject()?;
    recipients.wait_for("the mail about the failure", || {
        let mails = recipients.relay.mails();
        let mail = "Subject: [web] Deleted real server: 10.0.0.1:80 (192.0.2.80:80)\r\n";
        mails.iter().any(|text| text.contains(mail) && text.contains("refused"))
    })?;
    recipients.wait_for_line("fallback", "start 192.0.2.80:80 tcp")?;
    recipients.wait_for_line("monitor", "10.0.0.1:80 [down] connection refused")?;
    recipients.wait_for_line("quorum", "down")?;

    // From here on the relay answers no more, and commands don't end.
    recipients.hang()?;
    let before = recipients.count("monitor", "10.0.0.1:80 [down]");
    Fault::ProcessKilled.repair(&lab.network.switch, &mut lab.servers[0])?;
    recipients.wait_for_line("hung", "stop 192.0.2.80:80 tcp")?;
    wait::until_true("the relay to be asked in vain", LIMIT, || {
        Ok(recipients.relay.asked.load(Ordering::Relaxed))
    })?;
    let checks = recipients.count("monitor", "10.0.0.1:80 [");
    wait::until_true("regular checks beside a hung relay and a hung command", CHECKS_IN, || {
        Ok(recipients.count("monitor", "10.0.0.1:80 [") >= checks + CHECKS)
    })?;
    let table = process::run(&director, &["ipvsadm", "-Sn"], "")?;
    assert!(table.contains(SERVED), "{before} failures, then: {table}");
    recipients.go_on()?;

    let maintained = recipients.path("maintenance").join("10.0.0.1:80");
    fs::write(&maintained, "")?;
    wait_for_server(&director, "to be taken out for its maintenance", false)?;
    fs::remove_file(&maintained)?;
    wait_for_server(&director, "to be put back after its maintenance", true)?;
    process::run(&director, &["ipvsadm", "-d", "-t", "192.0.2.80:80", "-r", "10.0.0.1:80"], "")?;
    wait_for_server(&director, "to be put back after somebody has deleted it", true)?;

    let file = agent.config_file();
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replace("comment=call me", "comment=call us"))?;
    recipients.wait_for_line("callback", &file.display().to_string())?;

    agent.stop()?;
    recipients.wait_for("the mail about the stop", || {
        let mail = "Subject: [web] Purged virtual server (stop): 192.0.2.80:80\r\n";
        recipients.relay.mails().iter().any(|text| text.contains(mail) && text.contains("call us"))
    })?;
    recipients.wait_for_line("second.log", "event=\"stopped\"")?;
    recipients.wait_for("the third agent's last line", || {
        recipients.syslog().iter().any(|line| line.contains("stopped"))
    })?;
    assert_eq!(
        process::run(&director, &["ipvsadm", "-Sn"], "")?,
        "",
        "all three have taken their services along"
    );
    Ok(())
}

/// Waits until the server is in the first of its services, or isn't.
fn wait_for_server(director: &Namespace, what: &str, is_in: bool) -> Result<()> {
    wait::until_true(&format!("the server {what}"), LIMIT, || {
        Ok(process::run(director, &["ipvsadm", "-Sn"], "")?.contains(SERVED) == is_in)
    })
}

/// Everything that is notified: mail relay, syslog, commands, files.
struct Recipients {
    folder: TempDir,
    relay: Relay,
    socket: UnixDatagram,
    lines: Mutex<Vec<String>>,
}

impl Recipients {
    fn open(director: &Namespace) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let socket = UnixDatagram::bind(folder.path().join("syslog"))?;
        socket.set_nonblocking(true)?;
        fs::create_dir(folder.path().join("maintenance"))?;
        let relay = Relay::open(director)?;
        let recipients = Self { folder, relay, socket, lines: Mutex::default() };
        let path = recipients.folder.path().display();
        for (name, script) in [
            ("sendmail", format!("echo \"$*\" >> {path}/mailed; cat >> {path}/mailed")),
            ("check", format!("echo \"$*\" >> {path}/checked")),
            ("callback.sh", format!("echo \"$*\" >> {path}/callback")),
            (
                "fallback.sh",
                format!(
                    "if test -e {path}/hang; then echo \"$*\" >> {path}/hung; while test -e {path}/hang; do sleep 0.1; done; fi\n\
                     echo \"$*\" >> {path}/fallback"
                ),
            ),
            ("quorum.sh", format!("echo \"$*\" >> {path}/quorum")),
        ] {
            recipients.write(name, &format!("#!/bin/sh\n{script}\n"))?;
            fs::set_permissions(recipients.path(name), fs::Permissions::from_mode(0o755))?;
        }
        Ok(recipients)
    }

    fn start(&self, director: &Namespace) -> Result<Agent> {
        let path = self.folder.path().display();
        self.write(
            "second.toml",
            &format!(
                "[agent]\non-exit = \"remove\"\nlog = \"{path}/second.log\"\n\
                 [[service]]\nname = \"second\"\naddress = \"192.0.2.80:82\"\nforward = \"masquerade\"\n\
                 fall = 1\nrise = 1\ncheck = {{ type = \"connect\", interval = \"1s\" }}\n\
                 quorum = {{ weight = 1, up = [\"{path}/quorum.sh\", \"up\"], down = [\"{path}/quorum.sh\", \"down\"] }}\n\
                 [[service.server]]\naddress = \"10.0.0.1:80\"\n"
            ),
        )?;
        self.write(
            "third.cf",
            "logfile=\"local3\"\nvirtual=192.0.2.80:83\n    real=10.0.0.2:80 masq\n    checktype=connect\n",
        )?;
        let text = format!(
            "checkinterval=1\nchecktimeout=1\nautoreload=yes\ncallback=\"{path}/callback.sh\"\n\
             maintenancedir={path}/maintenance\nreaddquiescent=yes\n\
             execute={path}/second.toml\nexecute={path}/third.cf\n\
             emailalertfrom=lvs@example.org\nfallbackcommand={path}/fallback.sh\n\
             virtual=192.0.2.80:80\n    real=10.0.0.1:80 masq\n    checktype=connect\n    servicename=web\n    \
             comment=call me\n    emailalert=ops@example.org\n    smtp=127.0.0.1\n    monitorfile={path}/monitor\n\
             virtual=192.0.2.80:81\n    real=10.0.0.1:80 masq\n    checktype=external\n    \
             checkcommand={path}/check\n    emailalert=local@example.org\n"
        );
        let folder = format!("folder={path}");
        Agent::start_under(
            director,
            &text,
            &["env", &folder, "unshare", "--mount", "sh", "-c", WRAPPER, "sh"],
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), text).with_context(|| name.to_owned())
    }

    /// Lets commands and the relay hang.
    fn hang(&self) -> Result<()> {
        self.relay.hangs.store(true, Ordering::Relaxed);
        self.write("hang", "")
    }

    fn go_on(&self) -> Result<()> {
        self.relay.hangs.store(false, Ordering::Relaxed);
        Ok(fs::remove_file(self.path("hang"))?)
    }

    fn wait_for(&self, what: &str, there: impl Fn() -> bool) -> Result<()> {
        wait::until_true(what, LIMIT, || Ok(there())).with_context(|| self.received())
    }

    fn wait_for_line(&self, file: &str, words: &str) -> Result<()> {
        self.wait_for(&format!("{words:?} in {file}"), || self.count(file, words) > 0)
    }

    /// How many lines of a file have these words.
    fn count(&self, file: &str, words: &str) -> usize {
        let text = fs::read_to_string(self.path(file)).unwrap_or_default();
        text.lines().filter(|line| line.contains(words)).count()
    }

    /// All that has come to the syslog.
    fn syslog(&self) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [0; 8192];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        lines.clone()
    }

    /// Everything, for errors.
    fn received(&self) -> String {
        let files = ["mailed", "checked", "callback", "fallback", "hung", "quorum", "monitor", "second.log"];
        let text = |name: &&str| fs::read_to_string(self.path(name)).unwrap_or_default();
        let files =
            files.iter().map(|name| format!("{name}:\n{}\n", text(name))).collect::<Vec<_>>().concat();
        format!("{files}syslog: {:#?}\nmails: {:#?}", self.syslog(), self.relay.mails())
    }
}

/// A mail server at port 25 of the director's loopback device.
struct Relay {
    mails: Arc<Mutex<Vec<String>>>,
    hangs: Arc<AtomicBool>,
    /// Whether somebody has been kept waiting.
    asked: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Relay {
    fn open(director: &Namespace) -> Result<Self> {
        let mails = Arc::<Mutex<Vec<String>>>::default();
        let [hangs, asked, stop] = [(); 3].map(|()| Arc::<AtomicBool>::default());
        let listener = director.run(|| Ok(TcpListener::bind("127.0.0.1:25")?))?;
        listener.set_nonblocking(true)?;
        let (kept, hung, noted, end) =
            (Arc::clone(&mails), Arc::clone(&hangs), Arc::clone(&asked), Arc::clone(&stop));
        let thread = thread::Builder::new().name("relay".to_owned()).spawn(move || {
            while !is(&end) {
                if let Ok((stream, _)) = listener.accept() {
                    if is(&hung) {
                        noted.store(true, Ordering::Relaxed);
                        while is(&hung) && !is(&end) {
                            thread::sleep(Duration::from_millis(20));
                        }
                    } else if let Some(mail) = receive(stream).ok().flatten() {
                        kept.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })?;
        Ok(Self { mails, hangs, asked, stop, thread: Some(thread) })
    }

    fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Takes one mail.
fn receive(stream: TcpStream) -> Result<Option<String>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut answer, mut lines) = (stream.try_clone()?, BufReader::new(stream));
    answer.write_all(b"220 relay\r\n")?;
    let (mut mail, mut line) = (None, String::new());
    while lines.read_line(&mut line)? > 0 {
        let is_data = line.starts_with("DATA");
        answer.write_all(if is_data { b"354 go on\r\n" } else { b"250 ok\r\n" })?;
        line.clear();
        if is_data {
            let mut text = String::new();
            while lines.read_line(&mut line)? > 0 && line != ".\r\n" {
                text += &line;
                line.clear();
            }
            line.clear();
            answer.write_all(b"250 taken\r\n")?;
            // Long headers are folded; whoever reads them unfolds them (RFC 5322, 2.2.3).
            mail = Some(text.replace("\r\n ", " "));
        }
    }
    Ok(mail)
}
