//! dpkg's list of installed packages, and the part of it that every Debian has.

use std::collections::{BTreeMap, BTreeSet};

/// Where dpkg keeps its list.
pub(crate) const STATUS: &str = "/var/lib/dpkg/status";

/// The part of a list that every Debian has: packages that are essential or required, and what those need. Sets of
/// packages that are chosen by it are the same on every machine, whatever else is installed there.
pub(crate) fn minimal(status: &str) -> String {
    let stanzas: Vec<Stanza<'_>> = status.split("\n\n").filter_map(Stanza::of).collect();
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, stanza) in stanzas.iter().enumerate() {
        for name in stanza.names() {
            by_name.entry(name).or_default().push(number);
        }
    }
    let is_basic = |number: &usize| stanzas[*number].is_basic();
    let mut waiting: Vec<usize> = (0..stanzas.len()).filter(is_basic).collect();
    let mut kept = BTreeSet::new();
    while let Some(number) = waiting.pop() {
        if kept.insert(number) {
            let needed = stanzas[number].needs().filter_map(|name| by_name.get(name));
            waiting.extend(needed.flatten());
        }
    }
    let mut status = String::new();
    for number in kept {
        status.push_str(stanzas[number].text);
        status.push_str("\n\n");
    }
    status
}

/// What is said about an installed package.
struct Stanza<'t> {
    text: &'t str,
}

impl<'t> Stanza<'t> {
    /// `None` if the package isn't installed.
    fn of(text: &'t str) -> Option<Self> {
        let stanza = Self { text: text.trim_matches('\n') };
        stanza.field("Status").filter(|status| status.ends_with(" installed"))?;
        stanza.field("Package").map(|_| stanza)
    }

    /// The first line of a field.
    fn field(&self, name: &str) -> Option<&'t str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn is_basic(&self) -> bool {
        self.field("Essential") == Some("yes") || self.field("Priority") == Some("required")
    }

    /// Its own name and those that it provides.
    fn names(&self) -> impl Iterator<Item = &'t str> {
        self.field("Package").into_iter().chain(relations(self.field("Provides")))
    }

    /// The packages that it depends on, every alternative.
    fn needs(&self) -> impl Iterator<Item = &'t str> {
        relations(self.field("Depends")).chain(relations(self.field("Pre-Depends")))
    }
}

/// The names in a list of relations such as `libc6 (>= 2.35), a | b:any`.
fn relations(list: Option<&str>) -> impl Iterator<Item = &str> {
    let names = list.unwrap_or_default().split([',', '|']);
    names.filter_map(|name| name.split_whitespace().next()?.split(':').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "\
Package: dpkg
Essential: yes
Status: install ok installed
Priority: required
Pre-Depends: libc6 (>= 2.34), tar (>= 1.28-1)
Description: x
 more

Package: libc6
Status: install ok installed
Priority: optional
Depends: libgcc-s1, libcrypt1 (>= 1:4.4) | libcrypt2:any

Package: libgcc-s1
Status: install ok installed
Priority: optional

Package: libcrypt-new
Status: install ok installed
Priority: optional
Provides: libcrypt1 (= 1:4.4)

Package: tar
Essential: yes
Status: install ok installed
Priority: required

";

    fn names(status: &str) -> Vec<&str> {
        status.lines().filter_map(|line| line.strip_prefix("Package: ")).collect()
    }

    #[test]
    fn what_every_debian_has_is_kept_whole() {
        assert_eq!(names(&minimal(BASE)), ["dpkg", "libc6", "libgcc-s1", "libcrypt-new", "tar"]);
        assert!(minimal(BASE).contains("Description: x\n more\n\n"));
    }

    #[test]
    fn what_else_is_installed_changes_nothing() {
        let more = "\
Package: libwww-perl
Status: install ok installed
Priority: optional
Depends: perl:any, liburi-perl (>= 1.10)

Package: ldirectord
Status: install ok installed
Priority: optional
Depends: libwww-perl

Package: qemu-system-x86
Status: install ok installed
Priority: optional
Essential: no

Package: libcrypt1
Status: deinstall ok config-files
Priority: required

";
        assert_eq!(minimal(&format!("{BASE}{more}")), minimal(BASE));
        assert_eq!(minimal(&format!("{more}{BASE}")), minimal(BASE));
    }
}
