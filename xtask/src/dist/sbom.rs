//! What is in the program: a list of its crates with versions, licences and checksums, in `CycloneDX` (version 1.5).

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Release;
use crate::process::{self, output};
use crate::{build, paths};

/// A crate that is linked in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Component {
    name: String,
    version: String,
    licence: String,
}

/// The list for both halves, as JSON.
pub(super) fn text(release: &Release) -> Result<String> {
    let mut components = Vec::new();
    for package in ["lvs-agent", build::KERNEL_SIDE] {
        // Without what only builds and tests take: none of that is in the program.
        let mut tree = process::cargo();
        tree.args(["tree", "--locked", "--package", package, "--edges", "normal", "--prefix", "none"]);
        tree.args(["--no-dedupe", "--target", "x86_64-unknown-linux-gnu", "--format", "{p}|{l}"]);
        components.extend(output(&mut tree)?.lines().filter_map(parse));
    }
    components.sort();
    components.dedup();
    let lock = paths::repository().join("Cargo.lock");
    let lock = fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let bill = bill(&components, &checksums(&lock), release);
    Ok(format!("{bill:#}\n"))
}

/// A line such as `tokio v1.54.1|MIT`; the workspace's own have their path behind the version.
fn parse(line: &str) -> Option<Component> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split_whitespace();
    let name = words.next()?.to_owned();
    let version = words.next()?.strip_prefix('v')?.to_owned();
    // The old way to write OR.
    Some(Component { name, version, licence: licence.replace('/', " OR ").replace("  ", " ") })
}

/// The checksums in `Cargo.lock`, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |block: &str, name: &str| {
        let value = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
        Some(value.trim_matches('"').to_owned())
    };
    let entry =
        |block: &str| Some(((field(block, "name")?, field(block, "version")?), field(block, "checksum")?));
    lock.split("[[package]]").filter_map(entry).collect()
}

fn bill(
    components: &[Component],
    checksums: &BTreeMap<(String, String), String>,
    release: &Release,
) -> Value {
    let component = |one: &Component| {
        let Component { name, version, licence } = one;
        let mut component = json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:cargo/{name}@{version}"),
            "licenses": [{ "expression": licence }],
        });
        if let Some(checksum) = checksums.get(&(name.clone(), version.clone())) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    };
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": "lvs-agent",
                "version": release.version,
                "licenses": [{ "expression": env!("CARGO_PKG_LICENSE") }],
            },
        },
        "components": components.iter().map(component).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_tree_are_read() {
        let component = |name: &str, version: &str, licence: &str| {
            Some(Component { name: name.into(), version: version.into(), licence: licence.into() })
        };
        assert_eq!(parse("tokio v1.54.1|MIT"), component("tokio", "1.54.1", "MIT"));
        assert_eq!(parse("aya v0.14.0|MIT/Apache-2.0"), component("aya", "0.14.0", "MIT OR Apache-2.0"));
        assert_eq!(
            parse("lvs-agent v0.1.0 (/src/lvs-agent)|MIT OR Apache-2.0"),
            component("lvs-agent", "0.1.0", "MIT OR Apache-2.0")
        );
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_crate_has_its_checksum() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"00ff\"\n\n\
                    [[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        let components = [parse("a v1.0.0|MIT").unwrap(), parse("ours v0.1.0|MIT").unwrap()];
        let release = Release { version: "0.1.0".into(), epoch: 0 };
        let bill = bill(&components, &checksums(lock), &release);
        assert_eq!(bill["components"][0]["hashes"][0]["content"], "00ff");
        assert_eq!(bill["components"][0]["purl"], "pkg:cargo/a@1.0.0");
        assert_eq!(bill["components"][1].get("hashes"), None);
    }
}
