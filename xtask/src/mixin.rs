//! `cargo xtask mixin` and the step `mixin` of the tests: what is made of the mixin's sources, and whether Prometheus
//! takes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cache::Cache;
use crate::{paths, process, tools};

/// The folders of the sources, and of what is made of them.
const SOURCES: &str = "contrib/mixin";
const GENERATED: &str = "generated";

/// What Grafana puts in place of its variables, as something that Prometheus can read.
const VARIABLES: [(&str, &str); 3] = [("$__rate_interval", "5m"), ("$instance", ".+"), ("$service", ".+")];

/// Writes all that is made of the sources.
pub(crate) fn generate(cache: &Cache) -> Result<()> {
    let folder = sources().join(GENERATED);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in made(cache)? {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Whether it is up to date, whether Prometheus takes rules and queries, and whether alerts fire as they should.
pub(crate) fn check(cache: &Cache) -> Result<[bool; 4]> {
    let promtool = tools::promtool(cache)?;
    let made = made(cache)?;
    let rules: Vec<PathBuf> = made.keys().filter(|name| is_rules(name)).map(|name| generated(name)).collect();
    let queries = tempfile::Builder::new().suffix(".yaml").tempfile().context("a temporary file")?;
    fs::write(queries.path(), as_rules(&queries_of(&made)?))?;
    let promtool = |words: &[&str], files: &[PathBuf]| -> Result<bool> {
        Ok(process::status(process::command(&promtool).args(words).args(files))?.success())
    };
    Ok([
        up_to_date(&made),
        promtool(&["check", "rules"], &rules)?,
        promtool(&["check", "rules"], &[queries.path().to_owned()])?,
        promtool(&["test", "rules"], &[sources().join("tests/alerts.yaml")])?,
    ])
}

fn sources() -> PathBuf {
    paths::repository().join(SOURCES)
}

fn generated(name: &str) -> PathBuf {
    sources().join(GENERATED).join(name)
}

/// Whether a file has rules, and not a dashboard.
fn is_rules(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "yaml")
}

/// The files that are made of the sources: their names and texts.
fn made(cache: &Cache) -> Result<BTreeMap<String, String>> {
    let mut jsonnet = process::command(tools::jsonnet(cache)?);
    let printed = process::output(jsonnet.arg(sources().join("generate.jsonnet")))?;
    serde_json::from_str(&printed).context("generate.jsonnet gives texts by file name")
}

/// Tells which files differ from what is made.
fn up_to_date(made: &BTreeMap<String, String>) -> bool {
    let old = made
        .iter()
        .filter(|(name, text)| fs::read_to_string(generated(name)).map_or(true, |there| there != **text));
    let old: Vec<_> = old.map(|(name, _)| name.as_str()).collect();
    if !old.is_empty() {
        println!("not as the sources say: {}; run `cargo xtask mixin`", old.join(", "));
    }
    old.is_empty()
}

/// The queries of all dashboards.
fn queries_of(made: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut queries = Vec::new();
    for (name, text) in made.iter().filter(|(name, _)| !is_rules(name)) {
        let dashboard: Value = serde_json::from_str(text).with_context(|| format!("{name} is no JSON"))?;
        let panels = dashboard["panels"].as_array().with_context(|| format!("{name} has no panels"))?;
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        queries.extend(targets.filter_map(|target| target["expr"].as_str()).map(plain));
    }
    Ok(queries)
}

/// A query as Prometheus gets it.
fn plain(query: &str) -> String {
    VARIABLES.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value))
}

/// The same as recording rules, which promtool can read. JSON is YAML.
fn as_rules(queries: &[String]) -> String {
    let rule = |(number, query): (usize, &String)| serde_json::json!({ "record": format!("query{number}"), "expr": query });
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    serde_json::json!({ "groups": [{ "name": "dashboards", "rules": rules }] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_dashboards_become_rules() {
        let dashboard = r#"{"panels":[{"title":"row"},{"targets":[{"expr":"rate(x{i=~\"$instance\"}[$__rate_interval])"}]}]}"#;
        let made = BTreeMap::from([
            ("a.json".to_owned(), dashboard.to_owned()),
            ("b.yaml".to_owned(), "x".to_owned()),
        ]);
        let queries = queries_of(&made).unwrap();
        assert_eq!(queries, ["rate(x{i=~\".+\"}[5m])"]);
        let rules = r#"{"groups":[{"name":"dashboards","rules":[{"expr":"rate(x{i=~\".+\"}[5m])","record":"query0"}]}]}"#;
        assert_eq!(as_rules(&queries), rules);
    }
}
