//! Where the crates come from, under which licences, and which must not come in: what `cargo deny` checks, from
//! `cargo metadata`. cargo-deny itself would have to be built before each fresh run; where it is installed, it is asked
//! for advisories, too.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::process;

const TABLE: &str = "xtask/src/supply.rs";

/// What a program under MIT or Apache-2.0 may have in it without asking more of whoever passes it on than to name it.
const LICENCES: &[&str] =
    &["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Unicode-3.0", "Unlicense", "Zlib"];

/// The one registry, by cargo's name for it. What belongs to the workspace has no source.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that must not come in by a feature of another one, and why.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-sys", "a C build of a TLS library; rustls uses ring here"),
    ("h2", "HTTP/2 is neither served nor asked: switch off the feature http2 of hyper"),
    ("native-tls", "a second TLS library; rustls is the one"),
    ("openssl-sys", "a second TLS library, in C; rustls is the one"),
    ("quinn", "HTTP/3 is neither served nor asked"),
];

/// Crates that are there in several versions, and whose wish that is.
const DUPLICATES: &[(&str, &str)] = &[
    ("base64", "lettre, and rcgen in tests, have 0.23; the metrics exporter and postgres-protocol 0.22"),
    ("darling", "at build time only: the derive macros of neli and of ratatui"),
    ("darling_core", "as darling"),
    ("darling_macro", "as darling"),
    ("bit-vec", "tests only: yasna (of rcgen) and proptest"),
    ("getrandom", "ring has 0.2, metrics-util's rand 0.3, the newest rand 0.4"),
    ("hashbrown", "tokio-util, metrics-util and aya have one each"),
    ("nom", "lettre has 8; x509-parser (of rcgen, tests only) 7"),
    ("rand", "metrics-util has 0.9, postgres-protocol 0.10"),
    ("rand_core", "as rand"),
    ("syn", "at build time only: macros that have not moved to version 3"),
    ("synstructure", "as syn"),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Prints what is not as it should be; returns whether that is nothing.
pub(crate) fn check() -> Result<bool> {
    let mut cargo = process::cargo();
    // What other platforms would add is never built.
    cargo.args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]);
    let output = cargo.stderr(Stdio::inherit()).output().context("starting cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed; is Cargo.lock up to date?");
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("what cargo metadata prints")?;
    let problems = problems(&metadata.packages);
    for problem in &problems {
        println!("{problem}");
    }
    println!("supply: {} crates, {} problems", metadata.packages.len(), problems.len());
    Ok(advisories()? && problems.is_empty())
}

/// Asks cargo-deny for advisories, where it and its database can be had.
fn advisories() -> Result<bool> {
    let succeeds = |arguments: &[&str]| {
        let mut cargo = process::cargo();
        cargo
            .arg("deny")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|end| end.success())
    };
    if !succeeds(&["--version"]) || !succeeds(&["fetch", "db"]) {
        println!("supply: advisories are not checked: cargo-deny or its database is not here");
        return Ok(true);
    }
    let status =
        process::cargo().args(["deny", "check", "advisories"]).status().context("starting cargo deny")?;
    Ok(status.success())
}

fn problems(packages: &[Package]) -> Vec<String> {
    let mut problems: Vec<String> = packages.iter().flat_map(of_package).collect();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let is_single = |name: &&str| versions.get(name).is_some_and(|versions| versions.len() == 1);
    for (name, _) in DUPLICATES.iter().filter(|(name, _)| is_single(name)) {
        problems.push(format!("{name} is there in one version only; take it out of {TABLE}"));
    }
    for (name, versions) in &versions {
        if versions.len() > 1 && !DUPLICATES.iter().any(|(known, _)| known == name) {
            let versions: Vec<_> = versions.iter().copied().collect();
            problems.push(format!(
                "{name} is there in versions {}; make it one, or give the reason in {TABLE}",
                versions.join(" and ")
            ));
        }
    }
    problems
}

fn of_package(package: &Package) -> Vec<String> {
    let Package { name, version, license, source } = package;
    let mut problems = Vec::new();
    if let Some((_, why)) = BANNED.iter().find(|(banned, _)| banned == name) {
        problems.push(format!("{name} {version} must not come in: {why}"));
    }
    if source.as_deref().is_some_and(|source| source != SOURCE) {
        problems.push(format!("{name} {version} comes from another place than crates.io"));
    }
    match license {
        Some(license) if is_allowed(license) => {}
        Some(license) => {
            problems.push(format!("{name} {version} has a licence that {TABLE} doesn't allow: {license}"));
        }
        None => problems.push(format!("{name} {version} doesn't say its licence")),
    }
    problems
}

/// Whether an SPDX expression can be met with [`LICENCES`]. `/` is the old way to write OR; AND binds closer; an
/// exception only adds rights.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = either(&mut words);
    allowed && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>) -> bool {
    let mut allowed = both(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= both(words);
    }
    allowed
}

fn both(words: &mut Words<'_>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        return either(words) & words.next_if_eq(&")").is_some();
    }
    let allowed = words.next().is_some_and(|name| LICENCES.contains(&name));
    if words.next_if_eq(&"WITH").is_some() {
        return words.next().is_some() && allowed;
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_read_as_spdx_writes_them() {
        let cases = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 OR MIT AND ISC", true),
            ("(GPL-3.0 OR MIT) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND LGPL-2.1", false),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 / MIT", true),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("", false),
            ("MIT MIT", false),
            ("(MIT", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(is_allowed(expression), expected, "{expression}");
        }
    }

    #[test]
    fn each_kind_of_problem_is_found() {
        let package = |name: &str, version: &str, license: Option<&str>, source: Option<&str>| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.map(str::to_owned),
            source: source.map(str::to_owned),
        };
        let good = || package("a", "1.0.0", Some("MIT"), Some(SOURCE));
        assert_eq!(problems(&[good(), package("ours", "0.1.0", Some("MIT"), None)]), [] as [String; 0]);
        for (bad, word) in [
            (package("h2", "1.0.0", Some("MIT"), Some(SOURCE)), "HTTP/2"),
            (package("b", "1.0.0", Some("MIT"), Some("git+ssh://elsewhere")), "another place"),
            (package("b", "1.0.0", Some("GPL-3.0"), Some(SOURCE)), "GPL-3.0"),
            (package("b", "1.0.0", None, Some(SOURCE)), "its licence"),
            (package("a", "2.0.0", Some("MIT"), Some(SOURCE)), "1.0.0 and 2.0.0"),
        ] {
            let found = problems(&[good(), bad]);
            assert!(found.len() == 1 && found[0].contains(word), "{found:?}");
        }
    }
}
