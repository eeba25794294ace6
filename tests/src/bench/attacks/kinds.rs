//! The attacks by name, what each is compared with, and the surroundings that it needs.

use std::{fmt, net::SocketAddr, path::Path};

use anyhow::{Result, bail};
use lvs_agent::{TaskKind, TaskName};

use crate::{
    forged::Forged,
    lab::{
        agent::config::{AgentConfig, CheckSection, ServiceSection},
        layout::{Layout, Method},
    },
    testbed::Setup,
};

/// Servers, of which half lose their process and half their link, each once.
pub(super) const SERVERS: u8 = 6;
/// Where a hostile server answers.
pub(super) const HOSTILE_PORT: u16 = 90;
/// Where a name server answers.
pub(super) const DNS_PORT: u16 = 53;
/// Where the servers of further services would be, if somebody asked.
const FURTHER_PORT: u16 = 8000;
/// The files that the agent may have open where they are few.
const FEW_FILES: u32 = 128;
/// How often each task panics, at the most: more than its pauses leave time for.
const PANICS: usize = 20;

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    /// Nothing is done, in these surroundings.
    None(Ground),
    /// Whoever read standard error has gone.
    LogReaderGone,
    /// Whoever reads standard error does not go on.
    LogReaderHangs,
    /// So many connections of an ordinary user to the metrics' port say nothing.
    Idle(usize),
    /// A hundred clients ask for the metrics of many servers at once.
    Scrapes,
    /// So many packets a second are forged.
    Forged(Forged, u32),
    /// Replies to pings and answers to questions for names are forged.
    ForgedAnswers,
    /// Another program hides all packets to the servers from the agent's.
    OtherProgram,
    /// Callers of the control socket stay, say nonsense, or don't read the answers.
    Control,
    /// The configuration is written again and again, slowly, and read as soon as it changes.
    SlowConfig,
    /// Nobody takes what is written to the monitor file.
    MonitorHangs,
    /// The state file's disk is full.
    FullDisk,
    /// Servers answer with line ends, colours and directions.
    ControlCharacters,
    /// Few files may be open, and crowds want them all.
    FewFiles,
    /// Tasks that can be started again panic.
    Panics,
    /// The same with the task that only an agent has that adopts.
    AdoptionPanics,
}

/// The surroundings of an attack: only rows with the same can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Masqueraded servers that are asked for a page.
    Usual,
    /// The same, where answers bypass the director.
    DirectRoute,
    /// The same as the usual ones with 1,500 servers more, which nothing is asked.
    Many,
    /// Servers that are pinged, and name servers beside them.
    Names,
}

impl Ground {
    pub(super) const ALL: [Self; 4] = [Self::Usual, Self::DirectRoute, Self::Many, Self::Names];

    fn layout(self) -> Layout {
        let method = if self == Self::DirectRoute { Method::DirectRoute } else { Method::Masquerade };
        Layout::new(method).servers(SERVERS)
    }

    /// Whether a server whose process is killed is to be found: no ping can tell.
    pub(super) fn notices_processes(self) -> bool {
        self != Self::Names
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usual => "masquerade",
            Self::DirectRoute => "direct route",
            Self::Many => "1,500 servers more",
            Self::Names => "ping and DNS checks",
        })
    }
}

impl Attack {
    /// All of them, each ground first without any.
    pub(super) fn all() -> Vec<Self> {
        let calm = Ground::ALL.map(Self::None);
        let attacks = [
            Self::LogReaderGone,
            Self::LogReaderHangs,
            Self::Idle(1_100),
            Self::Idle(10_000),
            Self::Scrapes,
            Self::Forged(Forged::Unreachable, 4),
            Self::Forged(Forged::Unreachable, 600),
            Self::Forged(Forged::Reset, 600),
            Self::Forged(Forged::SynAck, 600),
            Self::Forged(Forged::Handshake, 600),
            Self::ForgedAnswers,
            Self::OtherProgram,
            Self::Control,
            Self::SlowConfig,
            Self::MonitorHangs,
            Self::FullDisk,
            Self::ControlCharacters,
            Self::FewFiles,
            Self::Panics,
            Self::AdoptionPanics,
        ];
        calm.into_iter().chain(attacks).collect()
    }

    /// Those of these names, each with what it is compared with; all where there are none.
    pub(super) fn chosen(names: &[String]) -> Result<Vec<Self>> {
        let all = Self::all();
        if let Some(unknown) = names.iter().find(|name| all.iter().all(|attack| attack.word() != **name)) {
            let words: Vec<_> = all.iter().map(|attack| attack.word()).collect();
            bail!("--only {unknown} means nothing; what does: {}", words.join(", "));
        }
        let is_named = |attack: &Self| names.is_empty() || names.contains(&attack.word());
        let grounds: Vec<_> =
            all.iter().filter(|attack| is_named(attack)).map(|attack| attack.ground()).collect();
        let is_wanted = |attack: &Self| match attack {
            Self::None(ground) => grounds.contains(ground),
            attack => is_named(attack),
        };
        Ok(all.into_iter().filter(is_wanted).collect())
    }

    pub(super) fn ground(self) -> Ground {
        match self {
            Self::None(ground) => ground,
            Self::Forged(Forged::Handshake, _) => Ground::DirectRoute,
            Self::Scrapes => Ground::Many,
            Self::ForgedAnswers => Ground::Names,
            _ => Ground::Usual,
        }
    }

    /// Whether it hides the packets of servers whose link is lost: the regular checks find these, by design.
    pub(super) fn hides_packets(self) -> bool {
        matches!(self, Self::OtherProgram | Self::Forged(Forged::Handshake, _))
    }

    /// Whether the agent's log can't be read.
    pub(super) fn loses_log(self) -> bool {
        matches!(self, Self::LogReaderGone | Self::LogReaderHangs)
    }

    /// Its name on the command line.
    pub(super) fn word(self) -> String {
        let word = match self {
            Self::None(Ground::Usual) => "none",
            Self::None(Ground::DirectRoute) => "none-direct-route",
            Self::None(Ground::Many) => "none-many",
            Self::None(Ground::Names) => "none-names",
            Self::LogReaderGone => "log-gone",
            Self::LogReaderHangs => "log-hangs",
            Self::Idle(count) => return format!("idle-{count}"),
            Self::Scrapes => "scrapes",
            Self::Forged(Forged::Unreachable, rate) => return format!("icmp-{rate}"),
            Self::Forged(Forged::Reset, _) => "resets",
            Self::Forged(Forged::SynAck, _) => "syn-acks",
            Self::Forged(Forged::Handshake, _) => "handshakes",
            Self::Forged(Forged::EchoReply, _) => "echo-replies",
            Self::Forged(Forged::DnsAnswer, _) => "dns-answers",
            Self::ForgedAnswers => "answers",
            Self::OtherProgram => "program",
            Self::Control => "control",
            Self::SlowConfig => "config",
            Self::MonitorHangs => "monitor-file",
            Self::FullDisk => "disk",
            Self::ControlCharacters => "texts",
            Self::FewFiles => "files",
            Self::Panics => "panics",
            Self::AdoptionPanics => "adoption",
        };
        word.to_owned()
    }

    /// The lab and the agent that it needs. `folder` is for files of the agent's own.
    pub(super) fn setup(self, folder: &Path) -> Setup {
        let layout = self.ground().layout();
        let mut setup = Setup::of(layout);
        match self.ground() {
            Ground::Usual | Ground::DirectRoute => {}
            Ground::Many => setup.config.service.extend(further(&setup.config, layout)),
            Ground::Names => add_names(&mut setup.config, layout),
        }
        match self {
            Self::SlowConfig => setup.config.agent.autoreload = true,
            Self::MonitorHangs => setup.config.service[0].monitor_file = Some(folder.join("monitor")),
            Self::FullDisk => {
                let disk = folder.display();
                setup.config = setup.config.with("state", format!("{disk}/state.json"));
                let script = format!("mount -t tmpfs -o size=64k,mode=700 tmpfs {disk} && exec \"$@\"");
                setup.wrapper = words(&["unshare", "--mount", "sh", "-c", &script, "sh"]);
            }
            Self::ControlCharacters => add_hostile(&mut setup.config, layout),
            Self::FewFiles => {
                setup.wrapper = words(&["prlimit", &format!("--nofile={FEW_FILES}:{FEW_FILES}")]);
            }
            Self::Panics => {
                setup.config =
                    setup.config.with("maintenance", folder.join("maintenance").display().to_string());
                let child = folder.join("child.toml").display().to_string();
                setup.config = setup.config.with("execute", vec![child]);
                setup.wrapper = panicking(|task| task != TaskName::Adoption);
            }
            Self::AdoptionPanics => {
                setup.config.service.clear();
                setup.config = setup.config.with("mode", "adopt");
                setup.wrapper = panicking(|task| task == TaskName::Adoption);
            }
            _ => {}
        }
        setup
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::None(ground) => return write!(f, "none, {ground}"),
            Self::LogReaderGone => "reader of standard error gone",
            Self::LogReaderHangs => "reader of standard error hangs",
            Self::Idle(count) => return write!(f, "{count} idle connections at the metrics' port"),
            Self::Scrapes => "100 scrapes at once, again and again",
            Self::Forged(kind, rate) => return write!(f, "{}, {rate}/s", forged_name(*kind)),
            Self::ForgedAnswers => "forged echo replies and DNS answers, 300/s each",
            Self::OtherProgram => "another tc program in front",
            Self::Control => "hostile callers of the control socket",
            Self::SlowConfig => "configuration written slowly, autoreload",
            Self::MonitorHangs => "monitor file that hangs",
            Self::FullDisk => "disk of the state file full",
            Self::ControlCharacters => "servers' texts with control characters",
            Self::FewFiles => "128 open files at most, and crowds at both ports",
            Self::Panics => "panics of tasks that start again",
            Self::AdoptionPanics => "panics of the adoption of a table",
        };
        f.write_str(words)
    }
}

fn forged_name(kind: Forged) -> &'static str {
    match kind {
        Forged::Unreachable => "forged ICMP \"unreachable\"",
        Forged::Reset => "forged RSTs as the servers",
        Forged::SynAck => "forged SYN-ACKs as the servers",
        Forged::Handshake => "forged SYNs and ACKs as clients, one way",
        Forged::EchoReply => "forged echo replies",
        Forged::DnsAnswer => "forged DNS answers",
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A wrapper that lets the tasks panic as often as they can that can be started again.
fn panicking(wanted: impl Fn(TaskName) -> bool) -> Vec<String> {
    let tasks = TaskName::ALL.iter().filter(|task| task.kind() == TaskKind::Restarted && wanted(**task));
    let names: Vec<_> = tasks.map(ToString::to_string).collect();
    words(&["env", &format!("LVS_PANIC={}", vec![names.join(","); PANICS].join(","))])
}

/// The first service once more at another port, with these servers.
fn like_first(
    config: &AgentConfig,
    layout: Layout,
    name: &str,
    port: u16,
    servers: &[SocketAddr],
) -> ServiceSection {
    let first = &config.service[0];
    let mut service = first.clone();
    name.clone_into(&mut service.name);
    service.address = Some(SocketAddr::new(layout.service().ip(), port).to_string());
    service.server = servers
        .iter()
        .map(|address| {
            let mut server = first.server[0].clone();
            server.address = address.to_string();
            server
        })
        .collect();
    service
}

/// The lab's servers at another port.
fn servers_at(layout: Layout, port: u16) -> Vec<SocketAddr> {
    (0..layout.servers).map(|number| SocketAddr::new(layout.server_address(number), port)).collect()
}

/// Fifteen services with a hundred servers each, of which nothing is asked.
fn further(config: &AgentConfig, layout: Layout) -> Vec<ServiceSection> {
    const SERVICES: u16 = 15;
    const EACH: u16 = 100;
    let here = usize::from(layout.servers);
    let service = |number: u16| {
        let mut servers = servers_at(layout, FURTHER_PORT + number);
        let nowhere = (0..EACH)
            .map(|host| SocketAddr::from(([10, 1, number.to_be_bytes()[1], host.to_be_bytes()[1] + 1], 80)));
        servers.extend(nowhere.take(usize::from(EACH) - here));
        let mut service = like_first(config, layout, &format!("more{number}"), 1000 + number, &servers);
        service.check = CheckSection::of_type("on");
        service
    };
    (0..SERVICES).map(service).collect()
}

/// The servers are only pinged, and asked for a name beside that.
fn add_names(config: &mut AgentConfig, layout: Layout) {
    let mut names = like_first(config, layout, "names", 81, &servers_at(layout, 81));
    names.check = CheckSection { port: Some(DNS_PORT), ..CheckSection::of_type("dns") };
    names.check.other.insert("name".to_owned(), "lab.example".into());
    config.service[0].check = CheckSection::of_type("ping");
    config.service.push(names);
}

/// A service whose servers' answers are hostile.
fn add_hostile(config: &mut AgentConfig, layout: Layout) {
    let mut hostile = like_first(config, layout, "hostile", 82, &servers_at(layout, HOSTILE_PORT));
    hostile.check = CheckSection::of_type("tcp");
    hostile.check.other.insert("expect".to_owned(), "well".into());
    config.service.push(hostile);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attack_has_a_name_of_its_own_and_brings_what_it_is_compared_with() {
        let all = Attack::all();
        let mut words: Vec<_> = all.iter().map(|attack| attack.word()).collect();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), all.len());
        let chosen = Attack::chosen(&["scrapes".to_owned()]).unwrap();
        assert_eq!(chosen, [Attack::None(Ground::Many), Attack::Scrapes]);
        assert_eq!(Attack::chosen(&[]).unwrap(), all);
        assert!(Attack::chosen(&["x".to_owned()]).unwrap_err().to_string().contains("icmp-600"));
    }

    #[test]
    fn each_configuration_can_be_written() {
        for attack in Attack::all() {
            let text = attack.setup(Path::new("/run/x")).config.to_toml().unwrap();
            assert!(text.starts_with("[agent]"), "{attack}: {text}");
        }
    }

    #[test]
    fn a_wrapper_names_every_task_that_can_be_started_again() {
        let named = panicking(|_| true)[1].clone();
        for task in TaskName::ALL.iter().filter(|task| task.kind() == TaskKind::Restarted) {
            assert!(named.contains(&task.to_string()), "{named}");
        }
    }
}
