//! Random configuration files: valid ones, over ldirectord's directives and the odd layouts that it takes. What it has
//! faults with is left out and has a test of its own: see [`crate::faults`].

use std::{collections::BTreeSet, env, fmt::Write as _};

use anyhow::{Context as _, Result};
use fastrand::Rng;

use crate::{
    compare_runs::{Files, MOST_FAILURES, Outages, compare_runs, compare_runs_of},
    fixture::{DNS, HOSTS, PONG, WEB, with_fixture},
    for_each_in_parallel,
    odd_lines::OddLines,
    package,
};

/// How many files are made, each with several services, and with `LVS_LONG`.
const FILES: u64 = 20;
const MORE_FILES: u64 = 128;

#[test]
fn random_configs_make_the_same_tables() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    let files = if env::var_os("LVS_LONG").is_some() { MORE_FILES } else { FILES };
    for_each_in_parallel(&(0..files).collect::<Vec<_>>(), |seed| {
        with_fixture(async |fixture| {
            let paths = Paths {
                command: fixture.path("check").display().to_string(),
                maintenance: fixture.path("maintenance").display().to_string(),
            };
            let (text, outages) = file(*seed, &paths);
            let compared = compare_runs(fixture, &package, &text, &outages).await;
            compared.with_context(|| format!("file {seed}, hosts that are down: {outages:?}:\n{text}"))
        })
    })
}

/// Lines without indentation and foreign quotes: ldirectord refuses such files, and the agent takes them like the ones
/// that are written as ldirectord wants it.
#[test]
fn sloppy_configs_make_the_same_tables() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    let files = if env::var_os("LVS_LONG").is_some() { MORE_FILES } else { FILES } / 4;
    for_each_in_parallel(&(0..files).collect::<Vec<_>>(), |number| {
        with_fixture(async |fixture| {
            let seed = 1000 + number;
            let paths = Paths {
                command: fixture.path("check").display().to_string(),
                maintenance: fixture.path("maintenance").display().to_string(),
            };
            let (text, outages) = file(seed, &paths);
            let sloppy = OddLines::new(seed).sloppy(&text);
            let files = Files { ldirectord: &text, sloppy: Some(&sloppy) };
            let compared = compare_runs_of(fixture, &package, &files, &outages).await;
            compared.with_context(|| format!("file {seed}, hosts that are down: {outages:?}:\n{sloppy}"))
        })
    })
}

#[test]
fn every_directive_is_generated() {
    let paths = Paths { command: "/check".to_owned(), maintenance: "/maintenance".to_owned() };
    let all: String = (0..FILES).map(|seed| file(seed, &paths).0).collect();
    let all = all.replace(" = ", "=").replace("= ", "=");
    let missing: Vec<_> = DIRECTIVES.iter().filter(|directive| !all.contains(*directive)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What the table depends on, or might.
const DIRECTIVES: &[&str] = &[
    "virtual=",
    "virtual6=",
    "real=",
    "real6=",
    "->",
    "fallback=",
    "fallback6=",
    "checktimeout",
    "negotiatetimeout",
    "checkinterval",
    "checkcount",
    "failurecount",
    "autoreload",
    "quiescent=yes",
    "quiescent=no",
    "readdquiescent",
    "cleanstop=yes",
    "cleanstop=no",
    "maintenancedir",
    "checktype=connect",
    "checktype=negotiate",
    "checktype=ping",
    "checktype=on",
    "checktype=off",
    "checktype=external",
    "checktype=3",
    "service=http",
    "service=simpletcp",
    "service=none",
    "checkcommand",
    "checkport",
    "request",
    "receive",
    "httpmethod",
    "virtualhost",
    "scheduler",
    "persistent",
    "netmask",
    "schedflags",
    "protocol=tcp",
    "protocol=udp",
    "protocol=fwm",
    "ops",
    "servicename",
    "comment",
    "load",
    "l:",
    "u:",
    "gate",
    "masq",
    "ipip",
    "service=dns",
    "\"http://10.0.0.",
    "\"http://localhost:",
    "[fe80::1]",
    "224.0.0.1",
    "/nowhere",
    "monitorfile=monitor",
    "/tcp",
    "weight ",
    "emailalert=Ops",
    "fallbackcommand=\"\"",
    "callback=\"\"",
];

/// What files name that is elsewhere in each run.
struct Paths {
    command: String,
    maintenance: String,
}

/// A file and what becomes of the hosts while it is used.
fn file(seed: u64, paths: &Paths) -> (String, Outages) {
    let mut generator = Generator {
        rng: Rng::with_seed(seed),
        odd: OddLines::new(seed),
        paths,
        marks: false,
        fallback: false,
        counts: false,
    };
    (generator.file(), generator.outages())
}

struct Generator<'a> {
    rng: Rng,
    odd: OddLines,
    paths: &'a Paths,
    /// Whether there are services by firewall mark. ldirectord's global fallback breaks them.
    marks: bool,
    /// Whether a fallback is for all.
    fallback: bool,
    /// Whether failures are counted. ldirectord counts those of a server in two services together.
    counts: bool,
}

/// A service so far.
struct ServiceDraft {
    number: u16,
    v6: bool,
    transport: Transport,
    quiescent: bool,
    /// Its clients' port; 0: none.
    port: u16,
    check: CheckKind,
    /// Whether it has a fallback.
    fallback: bool,
}

/// How clients come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
    Mark,
}

/// How servers are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CheckKind {
    Connect,
    Http,
    Pong,
    Nothing,
    Ping,
    On,
    Off,
    Command,
    Combined,
    Dns,
}

impl Generator<'_> {
    fn happens(&mut self, tenths: u8) -> bool {
        self.rng.u8(..10) < tenths
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(..of.len())]
    }

    fn yes_or_no(&mut self) -> &'static str {
        self.one(&["yes", "no"])
    }

    fn outages(&mut self) -> Outages {
        let mut some = |most: usize| {
            let count = self.rng.usize(..=most);
            (0..count).map(|_| self.rng.u8(1..=HOSTS)).collect::<BTreeSet<_>>()
        };
        let (first, mut second) = (some(2), some(4));
        // Of a server that is down at the start ldirectord sees to one service only.
        let first = if self.counts { first } else { BTreeSet::new() };
        if second == first {
            second.insert(1);
        }
        [first, second, BTreeSet::new()]
    }

    fn file(&mut self) -> String {
        self.marks = self.happens(5);
        self.counts = self.happens(5);
        let quiescent = self.one(&[None, Some("yes"), Some("no")]);
        let mut text = String::from("# generated\n\nchecktimeout=1\ncheckinterval = 1\n");
        text += self.one(&["negotiatetimeout=1\n", "negotiatetimeout =2\n"]);
        if let Some(quiescent) = quiescent {
            writeln!(text, "quiescent={quiescent}").ok();
        }
        let count = self.rng.u64(1..=MOST_FAILURES);
        if self.counts {
            writeln!(text, "failurecount={count}").ok();
        }
        self.fallback = !self.marks && self.happens(5);
        if self.fallback {
            let port = self.one(&["", ":8001"]);
            writeln!(text, "fallback=127.0.0.1{port}{}", self.one(&["", " gate", " masq", " ipip"])).ok();
            writeln!(text, "fallback6=[::1]:8001{}", self.one(&["", " masq"])).ok();
        }
        let (yes, no) = (self.yes_or_no(), self.yes_or_no());
        let missing = self.one(&["", "/nowhere"]);
        for line in [
            format!("readdquiescent={yes}"),
            format!("cleanstop={no}"),
            format!("maintenancedir={}{missing}", self.paths.maintenance),
            "autoreload=no".to_owned(),
            "emailalertfreq=60".to_owned(),
            "checkcount=1".to_owned(),
            "fallbackcommand=\"\"".to_owned(),
            "callback=\"\"".to_owned(),
        ] {
            if self.happens(4) {
                text += &line;
                text += self.one(&["\n", "\n\n", "\n# a comment\n   # and another\n"]);
            }
        }
        for number in 0..self.rng.u16(5..=9) {
            text += &self.service(number, quiescent == Some("yes"));
            text += self.one(&["", "\n", "\n# between\n"]);
        }
        text
    }

    fn service(&mut self, number: u16, mut quiescent: bool) -> String {
        let mark = self.marks && self.happens(4);
        let v6 = self.happens(3);
        let udp = !mark && self.happens(3);
        let mut lines = Vec::new();
        if self.happens(3) {
            let word = self.yes_or_no();
            quiescent = word == "yes";
            lines.push(format!("quiescent={word}"));
        }
        // A server that never comes up is one that is down at the start.
        let never = self.counts || !quiescent;
        let check = match self.check(v6, udp) {
            CheckKind::Off if !never => CheckKind::On,
            check => check,
        };
        let port = if mark { 0 } else { self.rng.u16(8000..8004) };
        let own = self.happens(2);
        let fallback = own || self.fallback;
        let transport = if mark {
            Transport::Mark
        } else if udp {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let draft = ServiceDraft { number, v6, transport, quiescent, port, check, fallback };
        if own {
            lines.push(self.fallback(&draft));
        }
        self.kind(&draft, &mut lines);
        self.transport(&draft, &mut lines);
        self.more(&draft, &mut lines);
        self.servers(&draft, &mut lines);
        self.rng.shuffle(&mut lines);
        let family = if v6 { "6" } else { "" };
        let equals = self.one(&["=", " = ", "= "]);
        let mut text = match (mark, v6) {
            (true, _) => format!("virtual{family}={}{}\n", number + 1, self.odd.behind_mark()),
            (false, false) => {
                format!("virtual{family}=192.0.2.{}:{port}{}\n", 80 + number, self.odd.behind_head())
            }
            (false, true) => {
                format!("virtual{family}=[2001:db8::{}]:{port}{}\n", 80 + number, self.odd.behind_head())
            }
        };
        for line in lines.into_iter().map(|line| self.odd.line(line)).collect::<Vec<_>>() {
            let indent = self.one(&["    ", "\t", "        ", "     "]);
            writeln!(text, "{indent}{}", line.replacen('=', equals, 1)).ok();
            if self.happens(1) {
                text += self.one(&["# a whole line\n", "    # another\n"]);
            }
        }
        text
    }

    fn check(&mut self, v6: bool, udp: bool) -> CheckKind {
        match (udp, v6) {
            // A ping, which ldirectord can't do over IPv6.
            (true, false) => self.one(&[
                CheckKind::Connect,
                CheckKind::Ping,
                CheckKind::On,
                CheckKind::Off,
                CheckKind::Command,
                CheckKind::Nothing,
                CheckKind::Dns,
                CheckKind::Dns,
            ]),
            (true, true) => {
                self.one(&[CheckKind::On, CheckKind::Off, CheckKind::Command, CheckKind::Nothing])
            }
            // Nor HTTP, with the modules that Debian has it depend on.
            (false, true) => self.one(&[
                CheckKind::Connect,
                CheckKind::Connect,
                CheckKind::On,
                CheckKind::Off,
                CheckKind::Command,
                CheckKind::Nothing,
            ]),
            (false, false) => self.one(&[
                CheckKind::Connect,
                CheckKind::Connect,
                CheckKind::Http,
                CheckKind::Http,
                CheckKind::Pong,
                CheckKind::Nothing,
                CheckKind::Ping,
                CheckKind::On,
                CheckKind::Off,
                CheckKind::Command,
                CheckKind::Combined,
            ]),
        }
    }

    /// How its servers are asked.
    fn kind(&mut self, draft: &ServiceDraft, lines: &mut Vec<String>) {
        let mut add = |line: &str| lines.push(line.to_owned());
        match draft.check {
            CheckKind::Connect => add("checktype=connect"),
            CheckKind::Ping => add("checktype=ping"),
            CheckKind::On => add("checktype=on"),
            CheckKind::Off => add("checktype=off"),
            CheckKind::Nothing => ["checktype=negotiate", "service=none"].map(add).into_iter().collect(),
            CheckKind::Command => {
                add("checktype=external");
                let command = &self.paths.command;
                let quoted = self.rng.bool();
                lines.push(if quoted {
                    format!("checkcommand=\"{command}\"")
                } else {
                    format!("checkcommand={command}")
                });
            }
            CheckKind::Pong => {
                for line in
                    ["checktype=negotiate", "service=simpletcp", "request=\"ping\"", "receive=\"p[aeiou]ng\""]
                {
                    add(line);
                }
                lines.push(format!("checkport={PONG}"));
            }
            CheckKind::Dns => {
                add("service=dns");
                add("request=\"www.example.org\"");
                lines.push(format!("checkport={DNS}"));
                // The answer is 192.0.2.77.
                let never = if self.counts || !draft.quiescent { "^10" } else { "\\.77$" };
                let receive = self.one(&["192.0.2.77", "192.0.2.", "^192\\.0\\.2\\.(1|77)$", "0.2", never]);
                lines.push(format!("receive=\"{receive}\""));
            }
            CheckKind::Http | CheckKind::Combined => {
                add("service=http");
                match draft.check {
                    CheckKind::Combined => add("checktype=3"),
                    // It is what a service by address is asked anyway.
                    _ if draft.transport == Transport::Mark || self.rng.bool() => add("checktype=negotiate"),
                    _ => {}
                }
                // A body that doesn't match keeps all of its servers out.
                let never =
                    if self.counts || !draft.quiescent { "receive=\"nothing\"" } else { "receive=\"well\"" };
                let receive = ["receive=\"all is (well|fine)\"", "receive=\"^all\"", never];
                let receive = self.one(&receive);
                let others = [
                    "request=\"health\"",
                    "request=\"/a/b?c=d\"",
                    "httpmethod=GET",
                    "virtualhost=www.example.org",
                    "virtualhost=\"a.example\"",
                    "virtualhost=",
                    "virtualhost=http://www.example.org/x",
                ];
                let first = self.rng.usize(..others.len());
                lines.push(others[first].to_owned());
                if self.happens(5) {
                    lines.push(others[(first + 2) % others.len()].to_owned());
                }
                if self.happens(4) {
                    lines.push(receive.to_owned());
                }
            }
        }
    }

    /// What reaches it, and how.
    fn transport(&mut self, draft: &ServiceDraft, lines: &mut Vec<String>) {
        match draft.transport {
            Transport::Mark => lines.push("protocol=fwm".to_owned()),
            Transport::Udp => lines.push("protocol=udp".to_owned()),
            Transport::Tcp if self.happens(3) => lines.push("protocol=tcp".to_owned()),
            Transport::Tcp => {}
        }
        if draft.transport == Transport::Udp && self.happens(4) {
            lines.push(format!("ops={}", self.yes_or_no()));
        }
        match self.one(&["", "rr", "wrr", "lc", "wlc", "dh", "sed", "nq", "sh", "sh"]) {
            "" => {}
            "sh" => {
                lines.push("scheduler=sh".to_owned());
                let flags = self.one(&["sh-port", "sh-fallback", "sh-port,sh-fallback"]);
                lines.push(format!("schedflags={flags}"));
            }
            scheduler => lines.push(format!("scheduler={scheduler}")),
        }
        if self.happens(3) {
            lines.push(format!("persistent={}", self.rng.u16(1..1000)));
            if self.happens(5) {
                let mask = if draft.v6 { "64" } else { "255.255.255.0" };
                lines.push(format!("netmask={mask}"));
            }
        }
    }

    /// What else may be written.
    fn more(&mut self, draft: &ServiceDraft, lines: &mut Vec<String>) {
        let number = draft.number;
        let count = self.rng.u64(1..=MOST_FAILURES);
        let mut all = vec![
            "checktimeout=1".to_owned(),
            "negotiatetimeout=1".to_owned(),
            "checkinterval=1".to_owned(),
            "checkcount=1".to_owned(),
            format!("cleanstop={}", self.yes_or_no()),
            format!("servicename=service {number}"),
            "comment=call somebody".to_owned(),
            // From the folder that it is started in.
            "monitorfile=monitor".to_owned(),
            "load=\"1\"".to_owned(),
            "emailalertstatus=none".to_owned(),
        ];
        if self.happens(2) {
            lines.push("emailalertstatus=none".to_owned());
            lines.push("emailalert=Ops <ops@example.org>, root admin@example.org".to_owned());
        }
        if self.counts {
            all.push(format!("failurecount={count}"));
        }
        for line in all {
            if self.happens(3) {
                lines.push(line);
            }
        }
    }

    fn fallback(&mut self, draft: &ServiceDraft) -> String {
        let method = self.one(&["", " gate", " masq", " ipip"]);
        if draft.v6 {
            // Without a port it takes the end of an address for one.
            return format!("fallback6=[::1]:{}{method}", self.one(&[8000, 9000]));
        }
        let port = self.one(&["", ":8000", ":9000"]);
        format!("fallback=127.0.0.1{port}{method}")
    }

    fn servers(&mut self, draft: &ServiceDraft, lines: &mut Vec<String>) {
        let mut hosts: Vec<u8> = (1..=HOSTS).collect();
        self.rng.shuffle(&mut hosts);
        if !draft.v6 && self.happens(2) {
            let first = self.rng.u8(1..HOSTS);
            let last = self.rng.u8(first..=HOSTS);
            lines.push(self.server(draft, &format!("10.0.0.{first}->10.0.0.{last}")));
            return;
        }
        for host in hosts.iter().take(self.rng.usize(1..=4)) {
            let address = if draft.v6 { format!("[fd00::{host}]") } else { format!("10.0.0.{host}") };
            lines.push(self.server(draft, &address));
        }
        // One more that the kernel refuses, where it is not the only one that ldirectord finds up.
        let is_like_others =
            matches!(draft.check, CheckKind::Connect | CheckKind::On | CheckKind::Off | CheckKind::Nothing);
        if is_like_others && draft.transport != Transport::Udp && self.happens(2) {
            lines.push(self.server(draft, if draft.v6 { "[fe80::1]" } else { "224.0.0.1" }));
        }
    }

    fn server(&mut self, draft: &ServiceDraft, address: &str) -> String {
        let family = if draft.v6 { "6" } else { "" };
        let mut method = self.one(&["masq", "masq", "gate", "ipip"]);
        // Servers whose failures are counted are in one service only.
        let own = WEB.start() + 8 + draft.number;
        let mut port = if self.counts { own } else { self.rng.u16(8000..8004) };
        if method != "masq" && draft.transport != Transport::Mark && draft.quiescent {
            // A routed server at another port, or without one, stays out there once it is quiescent.
            if self.counts { method = "masq" } else { port = draft.port }
        }
        // Where nothing is asked at it, a port may be missing.
        let asks_none =
            matches!(draft.check, CheckKind::On | CheckKind::Off | CheckKind::Nothing | CheckKind::Ping);
        let stuck = draft.quiescent && method != "masq";
        let port = if asks_none && !stuck && !self.counts && self.happens(3) {
            String::new()
        } else {
            format!(":{port}")
        };
        // ldirectord leaves the fallback out while a server of weight 0 is up.
        let least = if draft.fallback { " 2" } else { " 0" };
        let weight = self.one(&["", " 1", " 5", least, " 100"]);
        let asks = matches!(draft.check, CheckKind::Http) && self.happens(4);
        let asked = match self.rng.u8(..3) {
            _ if !asks => String::new(),
            // Another server is asked instead.
            0 => format!(" \"http://10.0.0.{}:{}/own\", \"well\"", self.rng.u8(1..=HOSTS), WEB.start()),
            1 => format!(" \"http://localhost:{}/own\", \"well\"", WEB.start()),
            _ => " \"own\", \"well\"".to_owned(),
        };
        let limits = self.one(&["", "", " l:5 u:10", " u:7"]);
        let line = self.odd.real(&format!("{address}{port} {method}{weight}{asked}{limits}"));
        format!("real{family}={line}")
    }
}
