//! What others read of services: exit codes, files, lines, addresses, and exabgp's commands. Through all that may
//! happen to the servers, to the agent, and to the files and devices themselves.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lvs_tests::{
    lab::{
        Lab,
        agent::{Agent, CommandOutput, config::AgentConfig, metric},
        bird::{self, Bird},
        clock::Moment,
        director::prepare_ipvs,
        faults::Fault,
        layout::{Layout, Method},
        namespace::Namespace,
        process::{self, programs},
        wait,
    },
    say,
};
use nix::{libc, sys::signal::Signal};
use tempfile::TempDir;

/// How long anything may take to be told, on a slow machine.
const LIMIT: Duration = Duration::from_secs(20);
/// Within which a stopped agent must be noticed.
const NOTICED: Duration = Duration::from_secs(3);
/// How often `healthy` is measured, and how long it may take beside the start of a process.
const ASKED: usize = 20;
const ANSWERED: Duration = Duration::from_millis(10);

const VIP: &str = "192.0.2.80";

/// A lab whose agent tells others in every way.
struct Told {
    lab: Lab,
    folder: TempDir,
    director: Namespace,
    config: String,
}

impl Told {
    fn build() -> Result<Self> {
        let lab = Lab::build(&Layout::new(Method::Masquerade))?;
        let director = lab.network.director.clone();
        prepare_ipvs(&director)?;
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let plain = AgentConfig::http(&lab.network.layout, &lab.addresses()).to_toml()?;
        let at = folder.path().display();
        let config = format!(
            "{plain}\n[announce]\nready-files = \"{at}/ready\"\nnotify-fifo = \"{at}/fifo\"\n\
             [announce.track-files]\nfolder = \"{at}/track\"\nvalue = 100\n\
             [defaults]\nannounce = {{ device = \"lvs0\", create = true, hold-down = \"1s\" }}\n"
        );
        Ok(Self { lab, folder, director, config })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn track(&self, name: &str) -> String {
        fs::read_to_string(self.path("track").join(name)).unwrap_or_default()
    }

    fn is_ready(&self, name: &str) -> bool {
        self.path("ready").join(name).exists()
    }

    /// The addresses on the device, with their details; nothing if it isn't there.
    fn addresses(&self) -> String {
        process::run(&self.director, &["ip", "-details", "-oneline", "addr", "show", "dev", "lvs0"], "")
            .unwrap_or_default()
    }

    fn is_announced(&self) -> bool {
        self.addresses().contains(&format!("{VIP}/32"))
    }

    fn wait(&self, agent: &Agent, what: &str, condition: impl Fn() -> bool) -> Result<()> {
        wait::until_true(what, LIMIT, || Ok(condition()))
            .with_context(|| format!("{:?}\n{}", self.addresses(), agent.diagnosis()))
    }

    /// Waits until everything says that all is well, or that nothing is.
    fn wait_until(&self, agent: &Agent, is_well: bool) -> Result<()> {
        let (score, code) = if is_well { ("0\n", 0) } else { ("-100\n", 1) };
        self.wait(agent, &format!("the track files to say {score:?}"), || {
            ["all", "service.web"].iter().all(|name| self.track(name) == score)
        })?;
        self.wait(agent, "the ready files", || {
            ["ipv4", "service.web"].iter().all(|name| self.is_ready(name) == is_well)
        })?;
        self.wait(agent, "the address", || self.is_announced() == is_well)?;
        assert_eq!(healthy(agent, &[])?.code, Some(code));
        let shown = metric(&agent.metrics()?, "lvs_announced", &["address=\"192.0.2.80\""]);
        assert_eq!(shown, Some(f64::from(u8::from(is_well))));
        Ok(())
    }

    fn kill_servers(&self) -> Result<()> {
        for server in &self.lab.servers {
            Fault::ProcessKilled.arm(&self.lab.network.switch, server)?.inject()?;
        }
        Ok(())
    }

    fn repair_servers(&mut self) -> Result<()> {
        for server in &mut self.lab.servers {
            Fault::ProcessKilled.repair(&self.lab.network.switch, server)?;
        }
        Ok(())
    }
}

fn healthy(agent: &Agent, words: &[&str]) -> Result<CommandOutput> {
    agent.command(&[&["healthy"], words].concat())
}

/// exabgp's side of `lvs-agent announce exabgp`.
struct Exabgp {
    child: Child,
    lines: Receiver<String>,
}

impl Exabgp {
    fn start(director: &Namespace) -> Result<Self> {
        let mut command = Command::new(programs::agent()?);
        command.args(["announce", "exabgp", "--med", "100", "--hold-down", "1s"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = director.run(|| Ok(command.spawn()?))?;
        let out = BufReader::new(child.stdout.take().context("a piped standard output")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next command.
    fn hear(&self) -> Result<String> {
        self.lines.recv_timeout(LIMIT).context("exabgp is told nothing")
    }
}

impl Drop for Exabgp {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const ANNOUNCED: &str = "announce route 192.0.2.80/32 next-hop self med 100";
const WITHDRAWN: &str = "withdraw route 192.0.2.80/32 next-hop self";

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn others_are_told_how_services_are_whatever_happens() -> Result<()> {
    let mut told = Told::build()?;
    let mut agent = Agent::start(&told.director, &told.config)?;
    agent.wait_until_ready()?;
    told.wait_until(&agent, true)?;
    let mut exabgp = Exabgp::start(&told.director)?;
    assert_eq!(exabgp.hear()?, ANNOUNCED);
    let bird = bird::is_there().then(|| Bird::with_config(&told.director, BIRD)).transpose()?;
    expect_route(&told, bird.as_ref(), true)?;

    measure_healthy(&agent, "web is healthy\n")?;
    assert_eq!(healthy(&agent, &["--service", "wbe"])?.code, Some(3));
    assert_eq!(healthy(&agent, &["--service", "web", "--min-share", "1"])?.code, Some(0));

    told.kill_servers()?;
    told.wait_until(&agent, false)?;
    assert_eq!(exabgp.hear()?, WITHDRAWN);
    expect_route(&told, bird.as_ref(), false)?;
    told.repair_servers()?;
    told.wait_until(&agent, true)?;
    assert_eq!(exabgp.hear()?, ANNOUNCED);
    lines_of_the_fifo(&told)?;

    order_standby(&told, &agent, &exabgp)?;
    disturb(&told, &agent)?;
    stop_the_process(&mut agent, &exabgp)?;

    // exabgp is gone: so is its process.
    drop(exabgp.child.stdin.take());
    wait::until_true("the end of exabgp's process", LIMIT, || Ok(exabgp.child.try_wait()?.is_some()))?;

    // Killed: the address stays, and the next agent takes it away where nobody wants it any more.
    agent.signal(Signal::SIGKILL)?;
    agent.wait_for_end()?;
    assert!(told.is_announced());
    assert_eq!(healthy(&agent, &[])?.code, Some(3));
    let plain = told.config.split("\n[announce]").next().unwrap_or_default().to_owned();
    let mut agent = Agent::start(&told.director, &plain)?;
    agent.wait_until_ready()?;
    told.wait(&agent, "the leftover to go", || !told.is_announced())?;
    agent.stop()?;
    others_address_stays(&told)
}

/// bird takes for routes what is on the device.
const BIRD: &str = "router id 10.9.9.1;\nprotocol device { scan time 1; }\n\
                    protocol direct { ipv4; ipv6; interface \"lvs0\"; }\n";

/// Waits until bird has a route to the VIP, or none. Without bird nothing is asked.
fn expect_route(told: &Told, bird: Option<&Bird>, is_there: bool) -> Result<()> {
    let Some(bird) = bird else {
        say("without bird");
        return Ok(());
    };
    let route = format!("{VIP}/32");
    wait::until_true("bird's route", LIMIT, || {
        Ok(bird.routes(&told.director).is_ok_and(|routes| routes.contains(&route) == is_there))
    })
}

/// How long `healthy` takes, beside what any process takes to start. The VM's processor is a slow one.
fn measure_healthy(agent: &Agent, expected: &str) -> Result<()> {
    let took = |words: &[&str], expected: &str| -> Result<Duration> {
        let begin = Moment::now();
        let answer = agent.command(words)?;
        let took = Moment::now().since(begin);
        assert!(answer.code == Some(0) && answer.stdout.starts_with(expected), "{answer}");
        Ok(took)
    };
    let (mut asked, mut started) = (Vec::new(), Vec::new());
    for _ in 0..ASKED {
        asked.push(took(&["healthy"], expected)?);
        started.push(took(&["--version"], "lvs-agent")?);
    }
    asked.sort_unstable();
    started.sort_unstable();
    let (median, longest, start) = (asked[ASKED / 2], asked[ASKED - 1], started[ASKED / 2]);
    say(&format!(
        "healthy, {ASKED} times: median {median:?}, longest {longest:?}, of which {start:?} are a process's start"
    ));
    assert!(median.saturating_sub(start) <= ANSWERED, "{asked:?}, {started:?}");
    Ok(())
}

/// keepalived's lines have waited for a reader.
fn lines_of_the_fifo(told: &Told) -> Result<()> {
    let mut fifo =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(told.path("fifo"))?;
    let mut bytes = vec![0; 65536];
    let length = fifo.read(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let services: Vec<_> = text.lines().filter(|line| line.starts_with("VS ")).collect();
    let expected = ["UP", "DOWN", "UP"].map(|state| format!("VS [192.0.2.80]:tcp:80 {state}"));
    assert_eq!(services, expected, "{text}");
    let down = "RS [10.0.0.1]:tcp:80 [192.0.2.80]:tcp:80 DOWN";
    assert_eq!(text.lines().filter(|line| *line == down).count(), 1, "{text}");
    Ok(())
}

/// A director that is ordered to be standby announces nothing, and says that its services are healthy all the same.
fn order_standby(told: &Told, agent: &Agent, exabgp: &Exabgp) -> Result<()> {
    assert_eq!(agent.command(&["role", "standby"])?.code, Some(0));
    told.wait(agent, "the address to go", || !told.is_announced())?;
    assert_eq!(exabgp.hear()?, WITHDRAWN);
    assert!(told.track("all") == "0\n" && told.is_ready("ipv4"));
    assert_eq!(healthy(agent, &[])?.code, Some(0));
    assert_eq!(agent.command(&["role", "auto"])?.code, Some(0));
    assert_eq!(exabgp.hear()?, ANNOUNCED);
    told.wait_until(agent, true)
}

/// Files and the device go and come back; a folder that can't be written is told once.
fn disturb(told: &Told, agent: &Agent) -> Result<()> {
    fs::remove_dir_all(told.path("track"))?;
    told.wait(agent, "the folder that was deleted", || told.track("all") == "0\n")?;
    process::run(&told.director, &["ip", "addr", "del", "192.0.2.80/32", "dev", "lvs0"], "")?;
    told.wait(agent, "the address that was deleted", || told.is_announced())?;
    process::run(&told.director, &["ip", "link", "del", "lvs0"], "")?;
    told.wait(agent, "the device that was deleted", || told.is_announced())?;
    let addresses = told.addresses();
    assert!(addresses.contains("metric 9747"), "its mark: {addresses}");

    // A file in the folder's place.
    fs::remove_dir_all(told.path("ready"))?;
    fs::write(told.path("ready"), "")?;
    let count = |event: &str| {
        let lines = agent.lines();
        lines.iter().filter(|line| line.contains(&format!("\"event\":\"{event}\""))).count()
    };
    told.wait(agent, "it to be told", || count("announce-failed") == 1)?;
    let failures = || metric(&agent.metrics().unwrap_or_default(), "lvs_announce_failures_total", &["ready"]);
    told.wait(agent, "another try", || failures() >= Some(2.0))?;
    assert_eq!(count("announce-failed"), 1, "{}", agent.diagnosis());
    fs::remove_file(told.path("ready"))?;
    told.wait(agent, "the files to be back", || told.is_ready("service.web") && count("announce-works") == 1)
}

/// A stopped process is noticed by `healthy` and by exabgp's process.
fn stop_the_process(agent: &mut Agent, exabgp: &Exabgp) -> Result<()> {
    agent.signal(Signal::SIGSTOP)?;
    let begin = Moment::now();
    let answer = healthy(agent, &[])?;
    let noticed = Moment::now().since(begin);
    assert_eq!(answer.code, Some(4), "{answer}");
    assert_eq!(exabgp.hear()?, WITHDRAWN);
    let withdrawn = Moment::now().since(begin);
    say(&format!("stopped: healthy says so after {noticed:?}, routes are withdrawn after {withdrawn:?}"));
    assert!(noticed <= NOTICED && withdrawn <= NOTICED, "{noticed:?} {withdrawn:?}");
    agent.signal(Signal::SIGCONT)?;
    assert_eq!(exabgp.hear()?, ANNOUNCED);
    let again =
        wait::until_true("it to be healthy again", LIMIT, || Ok(healthy(agent, &[])?.code == Some(0)));
    again.with_context(|| agent.diagnosis())
}

/// What somebody else has put on the device is not the agent's to take away.
fn others_address_stays(told: &Told) -> Result<()> {
    process::run(&told.director, &["ip", "addr", "add", "192.0.2.80/32", "dev", "lvs0"], "")?;
    let mut agent = Agent::start(&told.director, &told.config)?;
    agent.wait_until_ready()?;
    told.wait(&agent, "it to be told", || {
        agent.lines().iter().any(|line| line.contains("\"event\":\"vip-foreign\""))
    })?;
    told.kill_servers()?;
    told.wait(&agent, "the ready file to go", || !told.is_ready("service.web"))?;
    assert!(told.is_announced());
    agent.stop()?;
    assert!(told.is_announced());
    assert!(!told.is_ready("ipv4") && told.track("all") == "-100\n", "the track files stay");
    Ok(())
}

/// The part that decides hangs, and the one that answers lives.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_stuck_controller_is_noticed() -> Result<()> {
    let told = Told::build()?;
    let mut agent = Agent::start_under(&told.director, &told.config, &["env", "LVS_HANG=controller"])?;
    agent.wait_until_ready()?;
    // It hangs some seconds after its start: after it was last heard of.
    let mut begin = Moment::now();
    let answer = wait::until("healthy to say that the agent is stuck", LIMIT, || {
        let asked = Moment::now();
        let answer = healthy(&agent, &[])?;
        let is_stuck = answer.code == Some(4);
        if !is_stuck {
            begin = asked;
        }
        Ok(is_stuck.then_some(answer))
    })?;
    let noticed = Moment::now().since(begin);
    assert!(answer.stdout.contains("stuck"), "{answer}");
    say(&format!("a stuck controller: healthy says so after {noticed:?}"));
    assert!(noticed <= NOTICED, "{noticed:?}");
    told.wait(&agent, "the files to say so", || told.track("all") == "-100\n" && !told.is_ready("ipv4"))?;
    let files = Moment::now().since(begin);
    say(&format!("files say so after {files:?}"));
    assert!(files <= NOTICED, "{files:?}");
    // It has no lifetime: traffic outlives the agent.
    assert!(told.is_announced());
    agent.stop().ok();
    Ok(())
}

/// With a thousand servers.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_thousand_services_make_healthy_no_slower() -> Result<()> {
    let told = Told::build()?;
    let service = |number: u16| {
        format!(
            "[[service]]\naddress = \"192.0.2.{}:{}\"\ncheck = {{ type = \"on\" }}\nforward = \"masquerade\"\n\
             [[service.server]]\naddress = \"10.0.0.{}:80\"\n",
            number % 250 + 1,
            1000 + number,
            number % 3 + 1
        )
    };
    let services: String = (0..1000).map(service).collect();
    let at = told.folder.path().display();
    let text = format!("[announce.track-files]\nfolder = \"{at}/track\"\n{services}");
    let mut agent = Agent::start(&told.director, &text)?;
    agent.wait_until_ready()?;
    wait::until_true("all to be healthy", LIMIT, || Ok(healthy(&agent, &[])?.code == Some(0)))?;
    // A start's own work is over with its last file: what is measured is what keepalived meets all day.
    told.wait(&agent, "a file for each", || files_in(&told.path("track")).is_ok_and(|count| count == 1001))?;
    measure_healthy(&agent, "all 1000 services are healthy\n")?;
    agent.stop()?;
    Ok(())
}

fn files_in(folder: &Path) -> Result<usize> {
    let count = fs::read_dir(folder)?.count();
    ensure!(count > 0, "nothing in {}", folder.display());
    Ok(count)
}
