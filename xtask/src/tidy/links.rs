//! Links between the documents lead somewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::tree::{File, Kind, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let documents = || tree.files.iter().filter(|file| matches!(file.kind, Kind::Markdown));
    let anchors: BTreeMap<_, _> = documents().map(|file| (file.path.as_str(), anchors(&file.text))).collect();
    let mut violations = Vec::new();
    for file in documents() {
        for (line, link) in links(file) {
            let (target, anchor) =
                link.split_once('#').map_or((link, None), |(to, anchor)| (to, Some(anchor)));
            let path = if target.is_empty() { file.path.clone() } else { resolve(&file.path, target) };
            let message = if !path.is_empty() && !tree.paths.contains(&path) {
                format!("the link {link} leads to {path}, which isn't there; name a file that is")
            } else if let Some(anchor) = anchor
                && anchors.get(path.as_str()).is_some_and(|anchors| !anchors.contains(anchor))
            {
                format!("the link {link} leads to a heading that isn't there; name one of {path}")
            } else {
                continue;
            };
            violations.push(Violation::new(&file.path, line, message));
        }
    }
    violations
}

/// The lines of a document that are no code, numbered from 1, without what is code in them.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut is_fenced = false;
    (1..).zip(text.lines()).filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        let is_code = is_fenced || is_fence || line.starts_with("    ");
        (!is_code).then(|| (number, line.to_owned()))
    })
}

/// The links to files of this repository, with their lines.
fn links(file: &File) -> Vec<(usize, &str)> {
    let numbers: BTreeSet<usize> = prose(&file.text).map(|(number, _)| number).collect();
    let mut links = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()).filter(|(number, _)| numbers.contains(number)) {
        for (at, _) in line.match_indices("](") {
            let is_code = line.get(..at).is_some_and(|before| before.matches('`').count() % 2 == 1);
            let target = line.get(at + 2..).and_then(|rest| rest.split_once(')'));
            let inline = target.map(|(target, _)| target).filter(|_| !is_code);
            links.extend(inline.map(|target| (number, target)));
        }
        let reference = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        links.extend(reference.map(|(_, target)| (number, target.trim())));
    }
    links.retain(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"));
    links
}

/// The headings of a document, as links name them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if let Some(heading) = heading.strip_prefix(' ').filter(|_| heading.len() < line.len()) {
            let slug = slug(heading);
            let mut anchor = slug.clone();
            let mut number = 0;
            while !anchors.insert(anchor) {
                number += 1;
                anchor = format!("{slug}-{number}");
            }
        }
    }
    anchors
}

/// Lower case, blanks as hyphens, without punctuation; of a link its text.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading.trim();
    while let Some((before, target)) = rest.split_once("](") {
        text.push_str(before);
        rest = target.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    let kept = text.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
    kept.map(|char| if char == ' ' { '-' } else { char }).flat_map(char::to_lowercase).collect()
}

/// A target, seen from a document, as a path from the repository's root.
fn resolve(document: &str, target: &str) -> String {
    let mut path: Vec<_> = document.split('/').collect();
    path.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            name => path.push(name),
        }
    }
    path.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::said;

    #[test]
    fn links_to_nowhere_are_found() {
        let files = [
            ("README.md", "# A\n[b](docs/b.md) [c](docs/c.md)\n"),
            ("docs/b.md", "## B, [`x`](../README.md) & y\n[a](../README.md#a) [here](#c)\n[e]: ../e.md\n"),
        ];
        assert_eq!(
            said(check, &files),
            [
                "README.md:2: the link docs/c.md leads to docs/c.md, which isn't there; name a file that is",
                "docs/b.md:2: the link #c leads to a heading that isn't there; name one of docs/b.md",
                "docs/b.md:3: the link ../e.md leads to e.md, which isn't there; name a file that is",
            ]
        );
    }

    #[test]
    fn links_to_files_headings_and_elsewhere_are_right() {
        let files = [
            (
                "README.md",
                "# A\n# A\n[b](docs/b.md#b-x--y) [a](#a-1) [docs](docs) [x](https://x.example/y.md)\n",
            ),
            (
                "docs/b.md",
                "## B, [`x`](../README.md) & y\n`[x](y)`\n\n    [x](y)\n```\n# no heading\n[x](y)\n```\n",
            ),
        ];
        assert_eq!(said(check, &files), Vec::<String>::new());
    }
}
