//! Command lines that ldirectord hands to a shell.

use std::path::{Path, PathBuf};

use super::{
    entry::{Entry, Home, is_blank},
    findings::Findings,
    quotes::{self, Around},
    value,
};
use crate::{
    config::diagnostics::{Leniency, Note, Prerequisite},
    model::CommandLine,
};

/// Characters for which a shell is needed, by perlfunc(1), `exec`; but for quotes, and the backslash.
const SHELL: &str = "$&*(){}[];|?<>~`\n";
/// What a backslash takes the meaning from within double quotes (POSIX, Shell Command Language, 2.2.3).
const ESCAPED: &str = "$`\"\\";

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing.
    Nothing,
    /// A program, or a shell.
    Run(CommandLine),
}

impl Command {
    /// The command line, if there is something to run.
    pub(super) fn line(&self) -> Option<&CommandLine> {
        match self {
            Self::Nothing => None,
            Self::Run(line) => Some(line),
        }
    }
}

/// The words that a shell would make of a text; `None` if only a shell can tell.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            // Within double quotes these are still the shell's.
            Some('"') if matches!(c, '$' | '`') => return None,
            Some('"') if c == '\\' => {
                let escaped = chars.next_if(|next| ESCAPED.contains(*next));
                word.get_or_insert_default().push(escaped.unwrap_or(c));
            }
            None if c == '\\' => word.get_or_insert_default().push(chars.next()?),
            None if matches!(c, '"' | '\'') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            None if is_blank(c) => words.extend(word.take()),
            None if SHELL.contains(c) || (c == '#' && word.is_none()) => return None,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// A command line as a shell would take it.
fn line(text: &str) -> Command {
    match words(text) {
        Some(words) => match words.split_first() {
            // A program without a name isn't there.
            None => Command::Nothing,
            Some((program, _)) if program.trim_matches(is_blank).is_empty() => Command::Nothing,
            Some((program, arguments)) => {
                Command::Run(CommandLine { program: program.into(), arguments: arguments.to_vec() })
            }
        },
        None => Command::Run(CommandLine {
            program: "/bin/sh".into(),
            // What is appended are the shell's own arguments then.
            arguments: vec!["-c".to_owned(), format!("{text} \"$@\""), "ldirectord".to_owned()],
        }),
    }
}

/// `fallbackcommand`. In a virtual service the double quotes around it are ldirectord's own, all others the shell's.
pub(super) fn fallback(entry: &Entry, findings: &mut Findings) -> Option<Command> {
    let directive = entry.directive.name();
    let text = match entry.home {
        Home::Global => for_shell(entry, findings)?,
        Home::Virtual(_) => match value::between_quotes(&entry.value) {
            Some((inner, rest)) => {
                findings.rest(entry, rest);
                inner.to_owned()
            }
            None => for_shell(entry, findings)?,
        },
    };
    let command = line(&text);
    match &command {
        Command::Nothing if entry.home != Home::Global => {
            findings.lenient(&entry.place, Leniency::NoCommand { directive });
        }
        Command::Nothing => {
            findings.note(&entry.place, Note::RunsNothing { directive, why: "no program is named" });
        }
        Command::Run(line) if line.program.to_string_lossy().contains(is_blank) => {
            let text = line.program.display().to_string();
            findings.note(&entry.place, Note::CommandWithBlanks { directive, text });
        }
        Command::Run(_) => {}
    }
    if let Some(line) = command.line() {
        need(entry, &line.program, findings);
    }
    Some(command)
}

/// `callback`, which ldirectord only runs if the whole of it is a program.
pub(super) fn callback(entry: &Entry, findings: &mut Findings) -> Option<Command> {
    let text = value::maybe_empty(entry, findings)?;
    if text.trim_matches(is_blank).is_empty() {
        let why = "no program is named";
        findings.note(&entry.place, Note::RunsNothing { directive: entry.directive.name(), why });
        return Some(Command::Nothing);
    }
    let program = value::path(entry, text, findings);
    need(entry, &program, findings);
    Some(Command::Run(CommandLine { program, arguments: Vec::new() }))
}

/// Notes that a program is needed, where its path is written.
fn need(entry: &Entry, program: &Path, findings: &mut Findings) {
    if program.is_absolute() {
        let key = entry.directive.name();
        findings.need(entry, Prerequisite::Command { key, path: program.to_owned() });
    }
}

/// `execute`: the file of another instance, as the shell hands it to ldirectord.
pub(super) fn execute(entry: &Entry, findings: &mut Findings) -> Option<PathBuf> {
    let text = for_shell(entry, findings)?;
    let directive = entry.directive.name();
    let Some(words) = words(&text) else {
        findings.value(entry, "is more than the name of a file; write the name alone");
        return None;
    };
    match &words[..] {
        [name] if !name.trim_matches(is_blank).is_empty() => {
            let path = found_config(name);
            findings.need(entry, Prerequisite::OtherConfig(path.clone()));
            return Some(path);
        }
        [] | [_] => {
            findings.note(&entry.place, Note::RunsNothing { directive, why: "no file is named" });
        }
        [..] => {
            let why = "a line names one file; write a line for each";
            findings.note(&entry.place, Note::RunsNothing { directive, why });
        }
    }
    None
}

/// A text for a shell, whose own quotes stay; others around the whole of it are taken away, which is noted.
fn for_shell(entry: &Entry, findings: &mut Findings) -> Option<String> {
    match quotes::around(&entry.value) {
        Around::Foreign { inner, first, last } if !first.is_ascii() && !last.is_ascii() => {
            let (directive, quotes) = (entry.directive.name(), quotes::pair(first, last));
            findings.lenient(&entry.place, Leniency::ForeignQuotes { directive, quotes });
            Some(inner.to_owned())
        }
        Around::OneEnd(quote) | Around::Foreign { first: quote, .. }
            if quotes::is_foreign(quote) && !quote.is_ascii() =>
        {
            findings.value(entry, format!("has the quote {quote}, which no shell knows; write \" or '"));
            None
        }
        _ => Some(entry.value.clone()),
    }
}

/// Where ldirectord would find another configuration.
fn found_config(name: &str) -> PathBuf {
    let places = ["/etc/ha.d", "/etc/ha.d/conf"].map(|folder| PathBuf::from(format!("{folder}/{name}")));
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_only_used_where_it_is_needed() {
        let run = |program: &str, arguments: &[&str]| {
            let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
            Command::Run(CommandLine { program: program.into(), arguments })
        };
        let shell = |text: &str| run("/bin/sh", &["-c", &format!("{text} \"$@\""), "ldirectord"]);
        // Each as `sh -c 'TEXT start'` runs it.
        let cases = [
            ("/bin/fb -x", run("/bin/fb", &["-x"])),
            ("\"/bin/fb\" -x", run("/bin/fb", &["-x"])),
            ("'/bin/fb' '-x y'", run("/bin/fb", &["-x y"])),
            ("\"/bin/a b\"", run("/bin/a b", &[])),
            ("/bin/\"fb\"", run("/bin/fb", &[])),
            ("/bin/fb \"\"", run("/bin/fb", &[""])),
            ("/bin/fb#x", run("/bin/fb#x", &[])),
            ("/bin/a\\ b \\$x '\\'", run("/bin/a b", &["$x", "\\"])),
            ("/bin/fb \"a\\b \\\"c\\\" \\$x\"", run("/bin/fb", &["a\\b \"c\" $x"])),
            ("/bin/fb \\", shell("/bin/fb \\")),
            ("/bin/fb \"$HOME\"", shell("/bin/fb \"$HOME\"")),
            ("/bin/fb; echo", shell("/bin/fb; echo")),
            ("/bin/fb 'x", shell("/bin/fb 'x")),
            ("", Command::Nothing),
            ("  ", Command::Nothing),
            ("\"\"", Command::Nothing),
            ("''", Command::Nothing),
            ("\" \"", Command::Nothing),
            ("\"\" x", Command::Nothing),
        ];
        for (text, expected) in cases {
            assert_eq!(line(text), expected, "{text}");
        }
    }
}
