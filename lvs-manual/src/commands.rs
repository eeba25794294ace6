//! The pages of the command and of each subcommand.

use anyhow::Result;
use clap::Command;
use clap_mangen::Man;

use crate::COMMANDS;

/// The name of each page's file, and its text.
pub(crate) fn pages(mut command: Command) -> Result<Vec<(String, String)>> {
    // Works out the full names of subcommands.
    command.build();
    let mut pages = vec![page(&command, "lvs-agent")?];
    for subcommand in command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
        pages.push(page(subcommand, &format!("lvs-agent-{}", subcommand.get_name()))?);
    }
    Ok(pages)
}

fn page(command: &Command, name: &str) -> Result<(String, String)> {
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section(COMMANDS)
        .source(concat!("lvs-agent ", env!("CARGO_PKG_VERSION")))
        .manual("lvs-agent");
    let mut text = Vec::new();
    man.render(&mut text)?;
    let text = String::from_utf8(text)? + &see_also(name);
    Ok((format!("{name}.{COMMANDS}"), text))
}

fn see_also(name: &str) -> String {
    let program = if name == "lvs-agent" { "" } else { "lvs\\-agent(8), " };
    format!(".SH \"SEE ALSO\"\n{program}lvs\\-agent.toml(5), ipvsadm(8), /usr/share/doc/lvs\\-agent/\n")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use lvs_agent::cli::Cli;

    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let pages = pages(Cli::command()).unwrap();
        for name in ["lvs-agent.8", "lvs-agent-run.8", "lvs-agent-status.8", "lvs-agent-drain.8"] {
            let (_, text) = pages.iter().find(|(page, _)| page == name).expect(name);
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}: {text}");
        }
        let (_, run) = pages.iter().find(|(page, _)| page == "lvs-agent-run.8").unwrap();
        assert!(run.contains("\\-\\-config") && run.contains("Exit codes"), "{run}");
        assert!(!run.contains("\\-\\-beside"), "what is hidden in the help is hidden here");
    }
}
