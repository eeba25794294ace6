//! What surrounds the agent fails or attacks: a lost terminal, a panic, a crowd at the metrics' port. Servers that die
//! meanwhile are taken out, and traffic goes on.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, Result};
use lvs_agent::{TaskKind, TaskName};
use lvs_tests::{
    lab::{
        Lab,
        agent::{
            Agent,
            config::{AgentConfig, METRICS},
            metric,
        },
        clock::Moment,
        director::{prepare_ipvs, table_watcher::TableWatcher},
        faults::Fault,
        layout::{Layout, Method},
        wait,
    },
    testbed::{EDIT_LIMIT, Setup, Testbed},
};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::Signal,
    unistd::Pid,
};

/// The exit code after the end of a task that the agent can't do without.
const TASK_ENDED: i32 = 4;
/// Idle connections to the metrics' port: more than the usual limit of descriptors, with the server's and the clients'
/// ends in different processes.
const CROWD: usize = 1_100;

/// A lab with an agent that was started under a wrapper.
struct Bed {
    lab: Lab,
    agent: Agent,
    watcher: TableWatcher,
}

impl Bed {
    fn start(wrapper: &[&str], change: impl FnOnce(AgentConfig) -> AgentConfig) -> Result<Self> {
        let layout = Layout::new(Method::Masquerade);
        let lab = Lab::build(&layout)?;
        prepare_ipvs(&lab.network.director)?;
        let config = change(AgentConfig::http(&layout, &lab.addresses())).to_toml()?;
        let agent = Agent::start_under(&lab.network.director, &config, wrapper)?;
        let watcher = TableWatcher::start(&lab.network.director)?;
        Ok(Self { lab, agent, watcher })
    }

    fn wait_until_all_serve(&mut self) -> Result<()> {
        let servers = self.lab.addresses();
        let waited = wait::until_true("every server to be in the table", EDIT_LIMIT, || {
            let table = self.watcher.table()?;
            self.agent.check_running()?;
            // At first there is nothing that they could be missing in.
            Ok(!table.services.is_empty() && servers.iter().all(|server| table.is_in_everywhere(*server)))
        });
        waited.with_context(|| self.agent.diagnosis())
    }

    /// Kills a server's process and waits until it is out.
    fn lose(&mut self, server: usize) -> Result<()> {
        let address = self.lab.addresses()[server];
        Fault::ProcessKilled.arm(&self.lab.network.switch, &self.lab.servers[server])?.inject()?;
        let waited = wait::until_true("the killed server to be taken out", EDIT_LIMIT, || {
            self.agent.check_running()?;
            Ok(self.watcher.table()?.is_out(address))
        });
        waited.with_context(|| self.agent.diagnosis())
    }

    fn lost_lines(&self) -> Result<f64> {
        metric(&self.agent.metrics()?, "lvs_log_lines_lost_total", &[]).context("the count of lost lines")
    }
}

/// A wrapper that lets standard error go to a pipe with a name.
fn stderr_to(pipe: &Path) -> Result<Vec<String>> {
    nix::unistd::mkfifo(pipe, nix::sys::stat::Mode::S_IRWXU)?;
    let script = "pipe=$1; shift; exec \"$@\" 2>\"$pipe\"";
    Ok(["env", "LVS_LOG=debug", "sh", "-c", script, "sh"]
        .into_iter()
        .map(str::to_owned)
        .chain([pipe.display().to_string()])
        .collect())
}

/// Whether the thread that writes the log is in the middle of that: `write` is system call 1 on x86-64 (proc(5)).
fn is_writing(agent: Pid) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{agent}/task"))? {
        let thread = thread?.path();
        if fs::read_to_string(thread.join("comm"))?.trim() == "log" {
            return Ok(fs::read_to_string(thread.join("syscall"))?.starts_with("1 "));
        }
    }
    Ok(false)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn an_agent_whose_standard_error_is_lost_or_hangs_goes_on_deciding() -> Result<()> {
    for is_lost in [true, false] {
        let folder = tempfile::tempdir()?;
        let pipe = folder.path().join("stderr");
        let wrapper = stderr_to(&pipe)?;
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let mut bed = Bed::start(&wrapper, |config| config)?;
        let reader = File::open(&pipe)?;
        fcntl(&reader, FcntlArg::F_SETPIPE_SZ(4096))?;
        let mut lines = BufReader::new(reader).lines();
        while !lines.next().context("the agent's log has ended")??.contains("\"event\":\"ready\"") {}
        bed.wait_until_all_serve()?;
        // From now on nobody reads: either nobody can, or the pipe fills up.
        let reader = (!is_lost).then_some(lines);
        wait::until_true("the log to be lost or to hang", Duration::from_mins(2), || {
            if is_lost { Ok(bed.lost_lines()? > 0.0) } else { is_writing(bed.agent.pid()) }
        })?;
        bed.lose(1)?;
        let begin = Moment::now();
        let status = bed.agent.stop()?;
        assert!(status.success(), "lost {is_lost}: {status}");
        assert!(Moment::now().since(begin) < Duration::from_secs(10), "lost {is_lost}");
        drop(reader);
    }
    Ok(())
}

/// All tasks whose end means this, by name.
fn tasks(kind: TaskKind) -> impl Iterator<Item = String> {
    TaskName::ALL.iter().filter(move |task| task.kind() == kind).map(ToString::to_string)
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_panic_in_a_task_that_all_depends_on_leaves_the_table_and_is_told_at_the_next_start() -> Result<()> {
    for task in tasks(TaskKind::Needed) {
        let variable = format!("LVS_PANIC={task}");
        // The end would remove all services if it were a clean one.
        let mut bed = Bed::start(&["env", &variable], |config| config.on_exit("remove"))?;
        let status = bed.agent.wait_for_end()?;
        assert_eq!(status.code(), Some(TASK_ENDED), "{task}: {}", bed.agent.diagnosis());
        let table = bed.watcher.table()?;
        let servers = bed.lab.addresses();
        let all_in = servers.iter().all(|server| table.is_in_everywhere(*server));
        assert!(!table.services.is_empty() && all_in, "{task}: {table:?}");
        let log = bed.agent.lines().join("\n");
        assert!(log.contains(&format!("the task {task} has ended")), "{task}: {log}");

        bed.agent = Agent::start(
            &bed.lab.network.director,
            &AgentConfig::http(&Layout::new(Method::Masquerade), &servers).to_toml()?,
        )?;
        bed.agent.wait_until_ready()?;
        let log = bed.agent.lines().join("\n");
        assert!(log.contains("\"event\":\"after-failure\"") && log.contains(&task), "{task}: {log}");
        let status: ExitStatus = bed.agent.stop()?;
        assert!(status.success(), "{task}: {status}");
    }
    Ok(())
}

/// All of them in one agent; the adoption of a table in another, as only one that adopts has it.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_panic_in_a_task_beside_is_told_and_the_task_starts_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let child = folder.path().join("child.toml");
    fs::write(&child, "[agent]\nmode = \"observe\"\nmetrics = \"off\"\ncontrol = \"off\"\n")?;
    let needed = [
        format!(
            "[agent]\nexecute = [\"{}\"]\nmaintenance = \"{}\"\n",
            child.display(),
            folder.path().join("maintenance").display()
        ),
        "[agent]\nmode = \"adopt\"\n".to_owned(),
    ];
    for (agent, is_adopting) in needed.iter().zip([false, true]) {
        let wanted: Vec<_> =
            tasks(TaskKind::Restarted).filter(|task| (task == "adoption") == is_adopting).collect();
        // The thread of the metrics port is nobody's task: its end is told by the port's task, which must be alive.
        let thread: &[_] = if is_adopting { &["metrics-thread"] } else { &[] };
        let names: Vec<_> = wanted.iter().map(String::as_str).chain(thread.iter().copied()).collect();
        let variable = format!("LVS_PANIC={}", names.join(","));
        let mut bed = Bed::start(&[], |config| config)?;
        bed.wait_until_all_serve()?;
        let text = AgentConfig::http(&Layout::new(Method::Masquerade), &bed.lab.addresses()).to_toml()?;
        assert!(bed.agent.stop()?.success());
        let text = text.replacen("[agent]\n", agent, 1);
        let text = text.replacen("[[service]]\n", "[[service]]\nsecond-chance = true\n", 1);
        bed.agent = Agent::start_under(&bed.lab.network.director, &text, &["env", &variable])?;
        for task in wanted
            .iter()
            .map(|task| format!("the task {task} has ended"))
            .chain(thread.iter().map(|_| "metrics are not served".to_owned()))
        {
            wait::until_true(&task, EDIT_LIMIT, || {
                bed.agent.check_running()?;
                Ok(bed.agent.lines().iter().any(|line| line.contains(&task)))
            })
            .with_context(|| bed.agent.diagnosis())?;
        }
        bed.lose(0)?;
        wait::until_true("metrics", EDIT_LIMIT, || Ok(bed.agent.metrics().is_ok()))?;
        // One server is down.
        let answered = || Ok(bed.agent.command(&["status"])?.code == Some(1));
        wait::until_true("an answer", EDIT_LIMIT, answered)?;
        let status = bed.agent.stop()?;
        assert!(status.success(), "{agent}: {status}");
    }
    Ok(())
}

/// A pipe that nobody reads, a disk without room, and an agent in another network namespace.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn what_hangs_or_is_full_holds_up_nothing_and_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (pipe, disk) = (folder.path().join("monitor"), folder.path().join("disk"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
    fs::create_dir(&disk)?;
    let state = disk.join("state.json");
    let text = |control: &str, servers: &[SocketAddr]| -> Result<String> {
        let agent = format!("[agent]\nstate = \"{}\"\ncontrol = \"{control}\"\n", state.display());
        let text = AgentConfig::http(&Layout::new(Method::Masquerade), servers).to_toml()?;
        let monitored = format!("[[service]]\nmonitor-file = \"{}\"\n", pipe.display());
        Ok(text.replacen("[agent]\n", &agent, 1).replacen("[[service]]\n", &monitored, 1))
    };
    let mut bed = Bed::start(&[], |config| config)?;
    bed.wait_until_all_serve()?;
    assert!(bed.agent.stop()?.success());
    let servers = bed.lab.addresses();
    // In the VM nothing outlasts it; what is mounted here goes with it.
    let disk_name = disk.display().to_string();
    let script = format!("mount -t tmpfs -o size=64k,mode=700 tmpfs {disk_name} && exec \"$@\"");
    let wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    bed.agent =
        Agent::start_under(&bed.lab.network.director, &text("/run/lvs-agent/control", &servers)?, &wrapper)?;
    bed.agent.wait_until_ready()?;
    bed.wait_until_all_serve()?;
    let pid = bed.agent.pid();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let cores = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .context("a limit of core dumps")?;
    assert_eq!(cores.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["1", "1"], "{cores}");
    let threads = || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count()) };
    let before = threads()?;

    // The disk as the agent sees it.
    let filler = format!("/proc/{pid}/root{disk_name}/filler");
    let mut file = File::create(filler)?;
    while file.write_all(&[0; 4096]).is_ok() {}
    let server = servers[1].to_string();
    for _ in 0..2 {
        let output = bed.agent.command(&["drain", &server])?;
        assert!(output.code == Some(0) && output.stderr.contains("not kept"), "{output}");
        assert!(output.stderr.contains("No space left"), "{output}");
    }
    bed.lose(0)?;
    assert!(threads()? <= before + 4, "{} threads, {before} before", threads()?);

    // The same network namespace, then another one, with the state file of the first.
    let mut second = Agent::start(&bed.lab.network.director, &text("/run/lvs-agent/second", &servers)?)?;
    assert_eq!(second.wait_for_end()?.code(), Some(3), "{}", second.diagnosis());
    let begin = Moment::now();
    assert!(bed.agent.stop()?.success());
    assert!(Moment::now().since(begin) < Duration::from_secs(10));
    bed.agent = Agent::start(&bed.lab.network.director, &text("/run/lvs-agent/control", &servers)?)?;
    bed.agent.wait_until_ready()?;
    let there = text("/run/lvs-agent/second", &servers)?.replace(&format!("{METRICS:?}"), "\"off\"");
    let mut elsewhere = Agent::start(&bed.lab.network.switch, &there)?;
    assert_eq!(elsewhere.wait_for_end()?.code(), Some(1), "{}", elsewhere.diagnosis());
    let log = elsewhere.lines().join("\n");
    assert!(log.contains("uses the state file") && log.contains("`state` in `[agent]`"), "{log}");
    assert!(bed.agent.stop()?.success());
    Ok(())
}

/// Connections that say nothing, and scrapes at once, while a server dies.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_crowd_at_the_metrics_port_takes_nothing_from_the_checks() -> Result<()> {
    let mut testbed = Testbed::start(&Setup::new(Method::Masquerade).rate(100.0))?;
    let director = testbed.lab.network.director.clone();
    let address: SocketAddr = METRICS.parse()?;
    let descriptors = |pid| -> Result<usize> { Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count()) };
    let pid = testbed.agent.pid();
    let before = descriptors(pid)?;
    let crowd = director.run(|| {
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            // Those that the agent closes make room for further ones.
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").ok();
            crowd.push(stream);
            if crowd.len() > 300 {
                crowd.remove(0);
            }
        }
        Ok(crowd)
    })?;
    assert!(descriptors(pid)? < before + 100, "{} descriptors", descriptors(pid)?);
    let (seen, _) = testbed.failover(Fault::ProcessKilled, 1, Duration::from_secs(1))?;
    assert_eq!(seen.violations(), [] as [&str; 0]);
    drop(crowd);
    wait::until_true("metrics", EDIT_LIMIT, || Ok(testbed.agent.metrics().is_ok()))?;
    testbed.agent.signal(Signal::SIGTERM)?;
    assert!(testbed.agent.wait_for_end()?.success());
    Ok(())
}

/// A file that can always be opened, and never be written to.
#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_log_that_cannot_be_written_is_no_reason_to_end() -> Result<()> {
    assert!(OpenOptions::new().write(true).open("/dev/full").is_ok());
    let mut bed = Bed::start(&["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"], |config| config)?;
    bed.wait_until_all_serve()?;
    bed.lose(2)?;
    assert!(bed.lost_lines()? > 0.0);
    assert!(bed.agent.stop()?.success());
    Ok(())
}
