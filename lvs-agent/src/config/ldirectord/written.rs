//! The address of a real server as it is written.
//!
//! ldirectord looks for it anywhere in the line, so that what stands before it doesn't count. An address in the first
//! word is taken first here; only without one is it looked for further on.

use std::net::IpAddr;

use super::entry::is_blank;

/// A real server's line, in parts. Only a first look: names and numbers are judged when they are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written<'t> {
    /// What is before the address.
    pub(super) skipped: &'t str,
    pub(super) first: &'t str,
    /// The end of a range.
    pub(super) last: Option<&'t str>,
    pub(super) port: Option<&'t str>,
    /// What is behind it, without blanks at its beginning.
    pub(super) flags: &'t str,
}

/// The parts of a real server's line, or what is wrong with its address.
pub(super) fn real(text: &str) -> Result<Written<'_>, String> {
    let (word, flags) = text.split_once(is_blank).unwrap_or((text, ""));
    if let Some((first, last, port)) = split_address(word) {
        return Ok(Written { skipped: "", first, last, port, flags: flags.trim_start_matches(is_blank) });
    }
    let later = text.char_indices().skip(1).find_map(|(at, _)| {
        let (word, flags) = text[at..].split_once(is_blank)?;
        let (first, last, port) = split_address(word)?;
        Some(Written { skipped: &text[..at], first, last, port, flags: flags.trim_start_matches(is_blank) })
    });
    // The C library takes even a single number for an address.
    let is_meant = |later: &Written<'_>| {
        let bare = later.first.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok() && !later.skipped.ends_with(':')
    };
    later.filter(is_meant).ok_or_else(|| problem(word, "real server", "10.0.0.1:80 masq 1"))
}

/// Host and port of a fallback server, or what is wrong with them.
pub(super) fn fallback(word: &str) -> Result<(&str, Option<&str>), String> {
    match split_address(word) {
        Some((host, None, port)) => Ok((host, port)),
        _ => Err(problem(word, "fallback server", "127.0.0.1:80 gate")),
    }
}

/// Address, end of the range and port.
fn split_address(text: &str) -> Option<(&str, Option<&str>, Option<&str>)> {
    let (first, rest) = split_host(text)?;
    let (last, rest) = match rest.strip_prefix("->") {
        Some(rest) => split_host(rest).map(|(last, rest)| (Some(last), rest))?,
        None => (None, rest),
    };
    match rest.strip_prefix(':') {
        Some(port) if is_port_word(port) => Some((first, last, Some(port))),
        None if rest.is_empty() => Some((first, last, None)),
        _ => None,
    }
}

/// A host at the beginning: a name, an IPv4 address, or an address in brackets.
fn split_host(text: &str) -> Option<(&str, &str)> {
    if let Some(inner) = text.strip_prefix('[') {
        let end = inner.find(']').filter(|end| is_in_brackets(&inner[..*end]))?;
        return Some(text.split_at(end + 2));
    }
    let arrow = text.find("->").unwrap_or(text.len());
    let end = text[..arrow].find(':').unwrap_or(arrow);
    let (host, rest) = text.split_at(end);
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    is_host.then_some((host, rest))
}

fn is_in_brackets(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c))
}

fn is_port_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// What is wrong with a word that should be an address.
fn problem(word: &str, what: &str, example: &str) -> String {
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    let (host, port) = word.rsplit_once(':').unwrap_or((word, ""));
    let shown: String = word.chars().take(60).collect();
    if word.contains('%') {
        return format!(
            "has a zone in {shown:?}, which the kernel's table doesn't know; write an address that is valid everywhere"
        );
    }
    if bare.parse::<std::net::Ipv6Addr>().is_ok() {
        return format!("has an IPv6 address without brackets; write [{bare}], and the port behind it");
    }
    if let Some(host) =
        host.strip_suffix(':').filter(|host| split_host(host).is_some_and(|(_, rest)| rest.is_empty()))
    {
        return format!("has one colon too many in {shown:?}; write {host}:{port}");
    }
    let belongs = |c: char| c.is_ascii_alphanumeric() || ".-_:[]>".contains(c);
    match word.chars().find(|c| !belongs(*c)) {
        Some(wrong) => format!("has {wrong:?} in the address {shown:?}, where it doesn't belong; remove it"),
        None => format!("has {shown:?} where the address of a {what} should be; write it like {example}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_where_ldirectord_finds_them() {
        // Text, and what is skipped, first, last, port, flags.
        type Parts = (&'static str, &'static str, Option<&'static str>, Option<&'static str>, &'static str);
        let cases: &[(&str, Parts)] = &[
            ("10.0.0.1:80 gate", ("", "10.0.0.1", None, Some("80"), "gate")),
            ("10.0.0.1  masq 1", ("", "10.0.0.1", None, None, "masq 1")),
            ("10.0.0.1->10.0.0.9:80 gate", ("", "10.0.0.1", Some("10.0.0.9"), Some("80"), "gate")),
            ("[fd00::1]:80 gate", ("", "[fd00::1]", None, Some("80"), "gate")),
            ("web-1.x.org:www gate", ("", "web-1.x.org", None, Some("www"), "gate")),
            ("=10.0.0.1:80 gate", ("=", "10.0.0.1", None, Some("80"), "gate")),
            ("http://10.0.0.1:80 gate", ("http://", "10.0.0.1", None, Some("80"), "gate")),
            ("server: 10.0.0.1 gate 2", ("server: ", "10.0.0.1", None, None, "gate 2")),
        ];
        for (text, (skipped, first, last, port, flags)) in cases {
            let expected = Written { skipped, first, last: *last, port: *port, flags };
            assert_eq!(real(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_named() {
        for (text, words) in [
            ("10.0.0.1::5060 gate", "one colon too many in \"10.0.0.1::5060\"; write 10.0.0.1:5060"),
            ("[fd00::1]::5060 gate", "write [fd00::1]:5060"),
            ("fd00::1 gate", "write [fd00::1]"),
            ("[fe80::1%eth0]:80 gate", "a zone in"),
            ("10.0.0.1:80, gate", "has ',' in the address \"10.0.0.1:80,\""),
            ("10.0.0.1: gate", "has \"10.0.0.1:\" where the address"),
            ("", "has \"\" where"),
        ] {
            let problem = real(text).expect_err(text);
            assert!(problem.contains(words), "{text}: {problem}");
        }
    }
}
