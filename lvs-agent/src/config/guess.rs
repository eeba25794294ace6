//! What a file that is no configuration looks like, so that its reader can say more than where it stumbled.

use super::ldirectord;

/// What a text looks like that neither format takes; `None`: like the agent's own format, as far as can be seen.
pub(super) fn other_format(text: &str) -> Option<&'static str> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !is_comment(line)).collect();
    let first = lines.first()?;
    if text.starts_with("#!") {
        return Some("a script");
    }
    if lines.iter().any(|line| line.starts_with("[[service") || line.starts_with("[agent")) {
        return None;
    }
    let whole = text.trim_start();
    let by_beginning = [
        ("{", "JSON"),
        ("<", "XML or HTML"),
        ("-----BEGIN ", "a certificate or key (PEM)"),
        ("%YAML", "YAML"),
        ("---", "YAML"),
        (
            "IP Virtual Server version",
            "a listing of ipvsadm; write its services into a file of one of the two formats",
        ),
        ("-A ", "rules of ipvsadm --save; write its services into a file of one of the two formats"),
        ("table ", "rules of nftables"),
        ("*", "rules of iptables-save"),
    ];
    if let Some((_, name)) = by_beginning
        .iter()
        .find(|(beginning, _)| whole.starts_with(beginning) || first.starts_with(beginning))
    {
        return Some(name);
    }
    let by_word = [
        (
            &["virtual_server", "virtual_server_group", "vrrp_instance", "global_defs", "vrrp_script"][..],
            "keepalived's configuration",
        ),
        (&["frontend", "backend", "listen", "defaults", "global"], "HAProxy's configuration"),
        (&["upstream", "server", "http", "events", "stream", "worker_processes"], "nginx's configuration"),
    ];
    let word_of = |line: &str| line.split([' ', '\t', '{', ';']).next().unwrap_or_default().to_owned();
    let is_one =
        |words: &[&str], line: &&&str| !line.contains('=') && words.contains(&word_of(line).as_str());
    if let Some((_, name)) = by_word.iter().find(|(words, _)| lines.iter().any(|line| is_one(words, &line))) {
        return Some(name);
    }
    if lines.iter().any(|line| ldirectord::has_directive(line)) {
        return Some(
            "a file of ldirectord's without a line such as virtual=192.0.2.80:80, which would show it",
        );
    }
    let is_header = |line: &&&str| line.starts_with('[');
    let units = ["[Unit]", "[Service]", "[Install]", "[Network]", "[Match]"];
    if lines.iter().any(|line| units.contains(line)) {
        return Some("a unit of systemd");
    }
    if !lines.iter().any(|line| line.contains('=')) {
        let is_yaml = lines.iter().any(|line| line.ends_with(':') || line.contains(": "));
        return match lines.iter().find(is_header) {
            Some(_) => None,
            None if is_yaml => Some("YAML"),
            None => Some("text without any setting"),
        };
    }
    None
}

fn is_comment(line: &str) -> bool {
    line.is_empty() || line.starts_with(['#', ';', '!'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_looks_like() {
        for (text, words) in [
            ("{\n  \"service\": []\n}\n", "JSON"),
            ("# x\n---\nservice:\n  - a\n", "YAML"),
            ("service:\n  address: 192.0.2.1\n", "YAML"),
            ("<?xml version=\"1.0\"?>\n", "XML"),
            ("! x\nglobal_defs {\n}\nvirtual_server 192.0.2.1 80 {\n  delay_loop 6\n}\n", "keepalived"),
            ("global\n  daemon\ndefaults\n  mode http\nfrontend x\n  bind :80\n", "HAProxy"),
            ("upstream a {\n  server 10.0.0.1;\n}\n", "nginx"),
            ("-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1\n", "ipvsadm --save"),
            ("IP Virtual Server version 1.2.1 (size=4096)\n", "a listing of ipvsadm"),
            ("#!/bin/sh\nexit 0\n", "a script"),
            ("[Unit]\nDescription=x\n[Service]\nExecStart=/bin/x\n", "systemd"),
            ("-----BEGIN CERTIFICATE-----\nabc\n", "PEM"),
            ("real=10.0.0.1:80 masq\n", "ldirectord's without"),
            ("hello, world\n", "text without any setting"),
        ] {
            let found = other_format(text).unwrap_or_else(|| panic!("{text}"));
            assert!(found.contains(words), "{text}: {found}");
        }
        for text in [
            "",
            "# x\n",
            "[[service]]\naddress = 1.2.3.4\n",
            "a = [\n",
            "[agent\n",
            "service = [ { address = 5 } ]\n",
        ] {
            assert_eq!(other_format(text), None, "{text}");
        }
    }
}
