//! The page of the configuration file: the example that the agent's tests read, one entry for each of its lines.

use std::fmt::Write as _;

/// Every key with its default.
const EXAMPLE: &str = include_str!("../../lvs-agent/src/config/native/example.toml");

const HEAD: &str = r#"
.SH NAME
lvs\-agent.toml \- configuration of lvs\-agent(8)
.SH DESCRIPTION
The file that
.B lvs\-agent run \-\-config
reads, in TOML.
A file in ldirectord's format is read as well.
Services, servers and the forwarding method have no default; everything else may be left out, and is then as shown
here.
A duration has a unit: "250ms", "1s".
A faulty file is refused whole, with line and column.
.B lvs\-agent check\-config
.I FILE
prints what a file is understood to say, and
.B lvs\-agent reload
puts a changed one in force.
.PP
What each kind of check asks, and its keys, are in /usr/share/doc/lvs\-agent/checks.md; policy.md there has quorums,
backups, slow start and flapping; modes.md what "manage", "adopt" and "observe" do.
"#;

const TAIL: &str = r#".SH FILES
.TP
/etc/lvs\-agent/lvs\-agent.toml
The file that the service reads. A secret in it is seen by whoever may read the file; it can stand in a file of its
own: password = { file = "/etc/lvs\-agent/password" }.
.SH "SEE ALSO"
lvs\-agent(8), lvs\-agent\-check\-config(8), ipvsadm(8), /usr/share/doc/lvs\-agent/
"#;

/// The page.
pub(crate) fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH LVS\\-AGENT.TOML 5 \"\" \"lvs\\-agent {version}\" \"lvs\\-agent\"{HEAD}");
    for line in EXAMPLE.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (code, comment) = split(line);
        let (code, comment) = (escaped(code), escaped(&sentence(comment)));
        // Writing to a string can't fail.
        let written = if line.starts_with('[') {
            let explanation = if comment.is_empty() { String::new() } else { format!("{comment}\n") };
            write!(page, ".SH \"{}\"\n{explanation}", code.replace('"', "\\(dq"))
        } else {
            writeln!(page, ".TP\n.B \"{}\"\n{comment}", code.replace('"', "\\(dq"))
        };
        debug_assert!(written.is_ok());
    }
    page + TAIL
}

/// A line's code and its comment. A number sign within quotes begins none.
fn split(line: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '#' if !quoted => return (line[..at].trim_end(), line[at + 1..].trim()),
            _ => {}
        }
    }
    (line, "")
}

/// A comment as a sentence; what begins with a name from the file stays as it is.
fn sentence(comment: &str) -> String {
    let text = comment.replace("docs/", "/usr/share/doc/lvs-agent/");
    if text.is_empty() || text.ends_with(['.', '…']) { text } else { text + "." }
}

/// Text as roff prints it: no escapes, no requests, and minus signs that can be copied.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_comment_are_told_apart() {
        let cases = [
            ("fall = 3  # failures in a row", ("fall = 3", "failures in a row")),
            ("path = \"/a#b\"  # one", ("path = \"/a#b\"", "one")),
            ("[agent]", ("[agent]", "")),
            ("# all of it", ("", "all of it")),
        ];
        for (line, expected) in cases {
            assert_eq!(split(line), expected, "{line}");
        }
    }

    #[test]
    fn roff_prints_what_was_meant() {
        assert_eq!(escaped("a-b \\ c"), "a\\-b \\e c");
        assert_eq!(escaped(".SH x"), "\\&.SH x");
    }

    #[test]
    fn every_key_of_the_example_is_in_the_page() {
        let page = page();
        for line in EXAMPLE.lines().filter(|line| line.contains(" = ")) {
            let key = escaped(line.split(" = ").next().unwrap().trim());
            assert!(page.contains(&format!(".B \"{key} = ")), "{key}");
        }
        assert!(!page.contains("docs/"), "paths are those of the installed files");
    }
}
