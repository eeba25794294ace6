//! A command's exit status, and a file's content.

use std::{io, net::IpAddr, os::unix::process::ExitStatusExt, path::Path, process::ExitStatus};

use tokio::{fs::OpenOptions, io::AsyncReadExt};

use super::{
    CommandEnd, FailureReason, LocalFault, Phase, ProbeTarget, context::ProbeContext, outcome::Answer,
};
use crate::{
    model::{CommandCheck, CommandConvention, Reported, ServiceKey, Weight},
    process::ProcessGroup,
};

/// The longest file that is read.
const MAX_FILE: u64 = 64;

/// Runs the command. It has a process group of its own, which is killed whole at the deadline, or when the check is
/// dropped.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &CommandCheck) -> Result<Answer, FailureReason> {
    let Some((program, arguments)) = check.argv.split_first() else {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "no command");
        return Err(LocalFault::new("run the command", &error).into());
    };
    let added = match check.convention {
        CommandConvention::Ldirectord => added_arguments(&context.target, check.service).to_vec(),
        _ => Vec::new(),
    };
    let started = ProcessGroup::start_as(context.run_as, program, arguments.iter().chain(&added));
    let mut group = started.map_err(|error| LocalFault::new("run the command", &error))?;
    let waiting =
        async { group.wait().await.map_err(|error| LocalFault::new("wait for the command", &error).into()) };
    let status = context.deadline.until_end(Phase::Exit, waiting).await?;
    evaluate(status, check.convention)
}

/// What ldirectord adds: the VIP or the mark, its port (0 for a mark), the server's address and its port. Addresses of
/// IPv6 are in brackets.
fn added_arguments(target: &ProbeTarget, service: Option<ServiceKey>) -> [String; 4] {
    let shown = |ip: IpAddr| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let (vip, port) = match service {
        Some(ServiceKey::Address { address, .. }) => (shown(address.ip()), address.port()),
        Some(ServiceKey::Mark { mark, .. }) => (mark.to_string(), 0),
        None => (String::new(), 0),
    };
    [vip, port.to_string(), shown(target.address.ip()), target.address.port().to_string()]
}

fn evaluate(status: ExitStatus, convention: CommandConvention) -> Result<Answer, FailureReason> {
    let end = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(Answer::default()),
        (Some(code @ 2..=255), _) if convention == CommandConvention::KeepalivedDynamic => {
            let weight = Weight(u16::try_from(code - 2).unwrap_or_default());
            return Ok(Answer { weight: Some(Reported::Weight(weight)), connect: None });
        }
        (Some(code), _) => CommandEnd::Exit(code),
        (None, signal) => CommandEnd::Signal(signal.unwrap_or_default()),
    };
    Err(FailureReason::Command(end))
}

/// Reads a weight from a file. A file that can't be read, or has something else in it, says nothing about the server.
pub(super) async fn read_weight(context: &ProbeContext<'_>, path: &Path) -> Result<Answer, FailureReason> {
    let reading = async {
        let weight =
            weight(path).await.map_err(|error| LocalFault::new("read the file with the weight", &error))?;
        Ok(Answer { weight: Some(Reported::Weight(weight)), connect: None })
    };
    context.deadline.until_end(Phase::Reply, reading).await
}

async fn weight(path: &Path) -> io::Result<Weight> {
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem);
    // Without waiting for a writer, should it be a pipe.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).await?;
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).await?;
    let number = text.trim().parse().map_err(|_| invalid("not a number from 0 to 65535"))?;
    Ok(Weight(number))
}

#[cfg(test)]
mod tests {
    use std::{fs, net::SocketAddr, time::Duration};

    use super::*;
    use crate::{
        model::{CheckKind, Protocol},
        privileges::RunAs,
        probe::{
            Probe, Prober,
            testing::{self, LONG, closed_port},
        },
    };

    fn script(text: &str, convention: CommandConvention) -> CommandCheck {
        let argv = ["/bin/sh", "-c", text, "name"].map(str::to_owned).to_vec();
        CommandCheck { argv, convention, service: None }
    }

    async fn probe(check: CommandCheck) -> Result<Option<Reported>, FailureReason> {
        probe_about("10.0.0.1:80", check).await
    }

    async fn probe_about(server: &str, check: CommandCheck) -> Result<Option<Reported>, FailureReason> {
        let target = ProbeTarget::at(server.parse().unwrap());
        let outcome = Prober::new().probe(target, &CheckKind::Command(check), LONG).await;
        outcome.map(|success| success.weight).map_err(|failure| failure.reason)
    }

    #[tokio::test]
    async fn exit_statuses_pass_or_fail_the_check() {
        use CommandConvention::{Keepalived, KeepalivedDynamic, Ldirectord};
        let failed = |status| Err(FailureReason::Command(CommandEnd::Exit(status)));
        let cases = [
            ("exit 0", Ldirectord, Ok(None)),
            ("exit 1", Ldirectord, failed(1)),
            ("exit 3", Keepalived, failed(3)),
            ("exit 0", KeepalivedDynamic, Ok(None)),
            ("exit 1", KeepalivedDynamic, failed(1)),
            ("exit 2", KeepalivedDynamic, Ok(Some(Reported::Weight(Weight(0))))),
            ("exit 255", KeepalivedDynamic, Ok(Some(Reported::Weight(Weight(253))))),
            ("kill -9 $$", KeepalivedDynamic, Err(FailureReason::Command(CommandEnd::Signal(9)))),
        ];
        for (text, convention, expected) in cases {
            assert_eq!(probe(script(text, convention)).await, expected, "{text} {convention:?}");
        }
    }

    #[tokio::test]
    async fn a_command_gets_the_arguments_of_its_convention() {
        let mark = ServiceKey::Mark { family: crate::model::AddressFamily::V4, mark: 7 };
        let address = "192.0.2.1:443".parse().unwrap();
        let service = ServiceKey::Address { protocol: Protocol::Tcp, address };
        let cases = [
            (CommandConvention::Ldirectord, Some(service), "192.0.2.1 443 10.0.0.1 80"),
            (CommandConvention::Ldirectord, Some(mark), "7 0 10.0.0.1 80"),
            (CommandConvention::Keepalived, Some(service), ""),
        ];
        for (convention, service, expected) in cases {
            let check = script(&format!("test \"$*\" = '{expected}'"), convention);
            assert_eq!(probe(CommandCheck { service, ..check }).await, Ok(None), "{expected}");
        }
        let address = "[2001:db8::1]:443".parse().unwrap();
        let service = Some(ServiceKey::Address { protocol: Protocol::Tcp, address });
        let check = script("test \"$*\" = '[2001:db8::1] 443 [fd00::1] 80'", CommandConvention::Ldirectord);
        assert_eq!(probe_about("[fd00::1]:80", CommandCheck { service, ..check }).await, Ok(None));
    }

    /// None of root's rights, none of the agent's groups, and nothing of its environment.
    #[tokio::test]
    async fn a_command_runs_as_its_user_alone() {
        let (run_as, _) = RunAs::for_commands(None).unwrap();
        if run_as.is_root() {
            eprintln!("not tested: commands can't run as nobody here");
            return;
        }
        let (user, group) = run_as
            .ids()
            .unwrap_or_else(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
        let words = ["HOME", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "SHLVL", "USER", "_"].join("\\|");
        let conditions = [
            format!("test $(id -u) = {user}"),
            format!("test $(id -g) = {group}"),
            format!("! env | grep -v '^\\({words}\\)='"),
            "grep -q 'CapEff:[[:space:]]*0*$' /proc/self/status".to_owned(),
            "grep -q 'CapAmb:[[:space:]]*0*$' /proc/self/status".to_owned(),
        ];
        let target = ProbeTarget::at("10.0.0.1:80".parse().unwrap());
        let prober = Prober::new().with_commands_as(run_as.clone());
        for condition in conditions {
            let check = CheckKind::Command(script(&condition, CommandConvention::Keepalived));
            let outcome = prober.probe(target, &check, LONG).await.map_err(|failure| failure.reason);
            assert!(outcome.is_ok(), "{condition}: {outcome:?}");
        }
        if run_as.is_other_user() {
            let check = script(&format!("test \"$(id -G)\" = {group}"), CommandConvention::Keepalived);
            assert!(
                prober.probe(target, &CheckKind::Command(check), LONG).await.is_ok(),
                "other groups are left"
            );
        }
    }

    #[tokio::test]
    async fn a_command_that_cannot_be_run_says_nothing_about_the_server() {
        let argv = vec!["/nowhere/at/all".to_owned()];
        let check = CommandCheck { argv, convention: CommandConvention::Keepalived, service: None };
        let result = probe(check).await;
        assert!(matches!(result, Err(FailureReason::Local(_))), "{result:?}");
    }

    /// The command's own children and grandchildren end with it, though they ignore the gentler signals.
    #[tokio::test]
    async fn a_hung_command_is_killed_with_all_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let text = format!(
            "trap '' TERM HUP INT; (trap '' TERM; echo $$ >> {0}; sleep 1000) & echo $! >> {0}; sleep 1000",
            pids.display()
        );
        let check = CheckKind::Command(script(&text, CommandConvention::Keepalived));
        // Ends too early while the shell hasn't started them both.
        let started = || fs::read_to_string(&pids).is_ok_and(|pids| pids.lines().count() >= 2);
        let result = testing::probe_patiently(closed_port(), &check, |_| !started()).await;
        assert_eq!(result, Err(FailureReason::TimedOut { phase: Phase::Exit }));
        let pids = fs::read_to_string(&pids).unwrap();
        assert!(pids.lines().count() >= 2, "{pids}");
        // A killed process is a zombie until its new parent has waited for it.
        let is_running = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        let until = std::time::Instant::now() + LONG;
        while pids.lines().any(is_running) {
            assert!(std::time::Instant::now() < until, "still running");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_file_gives_the_weight() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weight");
        let probe = async |path: &Path| {
            let target = ProbeTarget::at(SocketAddr::from(([10, 0, 0, 1], 80)));
            let outcome = Prober::new().probe(target, &CheckKind::File(path.to_owned()), LONG).await;
            outcome.map(|success| success.weight).map_err(|failure| failure.reason)
        };
        for (content, weight) in [("5\n", 5), ("0", 0), (" 65535 \n", 65535)] {
            fs::write(&path, content).unwrap();
            let reported = Some(Reported::Weight(Weight(weight)));
            assert_eq!(probe(&path).await, Ok(reported), "{content:?}");
        }
        for content in ["", "-1", "65536", "x", "1 2"] {
            fs::write(&path, content).unwrap();
            assert!(matches!(probe(&path).await, Err(FailureReason::Local(_))), "{content:?}");
        }
        for path in [&directory.path().join("none"), directory.path()] {
            assert!(matches!(probe(path).await, Err(FailureReason::Local(_))));
        }
    }
}
