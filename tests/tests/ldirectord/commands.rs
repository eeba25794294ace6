//! Command lines that ldirectord hands to a shell, and how the programs are called in the end.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use lvs_agent::{
    config::{self, Strictness},
    model::{CommandLine, ServiceKey},
};
use lvs_tests::{
    lab::process::programs,
    ldirectord::{CALLER_VARIABLE, RoundCounter},
};

use crate::{
    fixture::{Fixture, with_fixture},
    for_each_in_parallel, package,
};

/// How many files are made.
const FILES: u64 = 8;
/// Programs that write down how they were called. The last two are called by nobody who means to.
const PROGRAMS: [&str; 4] = ["note", "two words", "ldirectord", "start"];

#[test]
fn commands_are_those_of_ldirectords_shell() -> Result<()> {
    let Some(package) = package() else { return Ok(()) };
    for_each_in_parallel(&(0..FILES).collect::<Vec<_>>(), |seed| {
        with_fixture(async |fixture| {
            let notes = Notes::new(fixture)?;
            let text = Lines { rng: Rng::with_seed(*seed) }.file(&notes);
            fixture.set_down(&BTreeSet::from([1]))?;
            let mut ldirectord =
                fixture.start_ldirectord_with(&package, &text, &[("PATH", Path::new(&notes.path))])?;
            // It runs what `execute` names after its first round.
            ldirectord.rounds(2).await?;
            let mut theirs = notes.of("ldirectord")?;
            // Another ldirectord is also started for no file, and ends at once.
            theirs.retain(|call| !call.starts_with("ldirectord <>") && !call.starts_with("ldirectord < >"));
            ldirectord.process.stop()?;
            notes.run_as_agent(&text).with_context(|| format!("file {seed}:\n{text}"))?;
            let ours = notes.of("agent")?;
            ensure!(ours == theirs, "file {seed}:\n{text}\nagent {ours:#?}\nldirectord {theirs:#?}");
            ensure!(!theirs.is_empty(), "file {seed}: ldirectord runs nothing:\n{text}");
            Ok(())
        })
    })
}

/// The programs, and what they have written down.
struct Notes {
    folder: PathBuf,
    /// Where a shell looks for programs: there first.
    path: OsString,
}

impl Notes {
    fn new(fixture: &Fixture) -> Result<Self> {
        let folder = fixture.path("programs");
        fs::create_dir(&folder)?;
        let shown = folder.display();
        let script = format!(
            "#!/bin/sh\n{{ printf '%s' \"${{0##*/}}\"; printf ' <%s>' \"$@\"; echo; }} \
             >> \"{shown}/of-${CALLER_VARIABLE}\"\n"
        );
        for program in PROGRAMS {
            programs::write_script(&folder.join(program), &script)?;
        }
        let mut path = OsString::from(&folder);
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        Ok(Self { folder, path })
    }

    fn program(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The calls at the loss of a server and at the start, but for those of the service that counts rounds.
    fn of(&self, caller: &str) -> Result<BTreeSet<String>> {
        let file = self.folder.join(format!("of-{caller}"));
        let calls = if file.exists() { fs::read_to_string(file)? } else { String::new() };
        let is_meant = |call: &&str| call.contains("start") && !call.contains(RoundCounter::ADDRESS);
        Ok(calls.lines().filter(is_meant).map(str::to_owned).collect())
    }

    /// Runs all that the agent runs for a file whose servers are down.
    fn run_as_agent(&self, text: &str) -> Result<()> {
        let read = config::read_bytes(text.as_bytes(), Path::new("ldirectord.cf"), Strictness::Strict)?;
        let config = read.config;
        for service in &config.services {
            let ServiceKey::Address { address, .. } = service.key else { continue };
            if let Some(line) = &service.notify.fallback_command {
                self.run(line, &["start", &address.to_string(), "tcp"])?;
            }
        }
        for file in &config.agent.execute {
            let arguments = vec![file.display().to_string()];
            let program = self.program("ldirectord").into();
            self.run(&CommandLine { program, arguments }, &["start"])?;
        }
        Ok(())
    }

    fn run(&self, CommandLine { program, arguments }: &CommandLine, more: &[&str]) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments).args(more).env("PATH", &self.path).env(CALLER_VARIABLE, "agent");
        // It may well fail, as it does with ldirectord; what counts is how it was called.
        command.status().map(drop).with_context(|| format!("{} {arguments:?}", program.display()))
    }
}

/// Makes up command lines.
struct Lines {
    rng: Rng,
}

impl Lines {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(..of.len())]
    }

    /// A file in which every service loses its only server.
    fn file(&mut self, notes: &Notes) -> String {
        let mut text = String::from("checktimeout=1\ncheckinterval=1\n");
        let global = if self.rng.bool() { self.command(notes) } else { self.nothing() };
        writeln!(text, "fallbackcommand={global}").ok();
        for _ in 0..3 {
            let file = self.one(&["other.cf", "/etc/a.cf", "two words.cf", "it's.cf"]);
            let value = if self.rng.u8(..5) == 0 { self.nothing() } else { self.quoted(file) };
            writeln!(text, "execute={value}").ok();
        }
        for number in 1..=4 {
            let own = match self.rng.u8(..4) {
                0 => String::new(),
                // ldirectord takes the outermost quotes away before the shell does.
                1 => format!("    fallbackcommand=\"{}\"\n", self.command(notes)),
                _ => format!("    fallbackcommand={}\n", self.plain_command(notes)),
            };
            // There it cuts lines at the first of these, wherever it stands.
            let own = own.replace('#', "+");
            write!(text, "virtual=192.0.2.{number}:80\n    real=10.0.0.1:80 masq\n").ok();
            write!(text, "    checktype=connect\n{own}").ok();
        }
        text
    }

    /// What names no program.
    fn nothing(&mut self) -> String {
        self.one(&["\"\"", "''", "\"\"''", "\" \"", "\"\" x"]).to_owned()
    }

    /// A program and its arguments, in any quotes.
    fn command(&mut self, notes: &Notes) -> String {
        let program = notes.program(self.one(&PROGRAMS[..2]));
        let program = self.quoted(&program);
        format!("{program}{}", self.arguments())
    }

    /// The same, beginning without a quote.
    fn plain_command(&mut self, notes: &Notes) -> String {
        format!("{}{}", notes.program(PROGRAMS[0]), self.arguments())
    }

    fn arguments(&mut self) -> String {
        let words = ["-x", "a b", "it's", "--to=a,b", "", "a;b", "#1", "a#1", "*.cf", "ü", "$none", "a>b"];
        let arguments = (0..self.rng.usize(..4)).map(|_| {
            let word = self.one(&words);
            format!("{}{}", self.one(&[" ", "  ", "\t"]), self.quoted(word))
        });
        arguments.collect::<Vec<_>>().concat()
    }

    /// A word as somebody might quote it for a shell.
    fn quoted(&mut self, word: &str) -> String {
        let half = word.char_indices().nth(word.chars().count() / 2).map_or(0, |(at, _)| at);
        let (first, second) = word.split_at(half);
        match self.rng.u8(..5) {
            0 if is_plain(word) => word.to_owned(),
            1 if !first.is_empty() => {
                format!("{}{}", self.in_some_quotes(first), self.in_some_quotes(second))
            }
            2 if !word.is_empty() => {
                word.chars().map(|c| if is_plain(c) { c.to_string() } else { format!("\\{c}") }).collect()
            }
            _ => self.in_some_quotes(word),
        }
    }

    fn in_some_quotes(&mut self, word: &str) -> String {
        let is_shells = |c| matches!(c, '"' | '$' | '`' | '\\');
        match (word.contains(is_shells), word.contains('\'')) {
            (false, false) if self.rng.bool() => format!("'{word}'"),
            (false, _) => format!("\"{word}\""),
            (true, _) => format!("'{word}'"),
        }
    }
}

/// Whether a shell takes all of it as it is.
fn is_plain(text: impl Into<String>) -> bool {
    let text = text.into();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_=,".contains(&byte))
}
