//! Lines without indentation that could be global, and are a virtual service's.
//!
//! ldirectord takes a directive of both scopes at the beginning of a line for a global one, which ends the service
//! above. Where lines of that service follow, or are written without indentation themselves, ldirectord refuses the
//! file, and its author can only mean the service: taken as global ones, such lines of several services would overwrite
//! each other, and the last would hold for all.

use std::collections::HashSet;

use super::{
    directive::{Directive, Scope},
    entry::is_blank,
};

/// Where such lines begin, in bytes.
pub(super) fn of_virtuals(text: &str) -> HashSet<usize> {
    let mut found = HashSet::new();
    let mut block: Option<Block> = None;
    let mut start = 0;
    for line in text.split('\n') {
        if let Some((scope, is_indented)) = scope_of(line) {
            match (scope, &mut block) {
                (Scope::Head, block) => *block = Some(Block::default()),
                (Scope::Virtual, Some(block)) => {
                    block.is_flush_left |= !is_indented;
                    found.extend(block.undecided.drain(..));
                }
                (Scope::Both, Some(block)) if is_indented => found.extend(block.undecided.drain(..)),
                (Scope::Both, Some(block)) if block.is_flush_left => drop(found.insert(start)),
                (Scope::Both, Some(block)) => block.undecided.push(start),
                (Scope::Global, _) | (_, None) => {}
            }
        }
        start += line.len() + 1;
    }
    found
}

/// A virtual service up to the line that is looked at.
#[derive(Default)]
struct Block {
    /// Whether a line that can only be the service's stands at the beginning of its line.
    is_flush_left: bool,
    /// Lines that are the service's if another line of it follows.
    undecided: Vec<usize>,
}

/// Where the directive of a line belongs, and whether anything is before it.
fn scope_of(line: &str) -> Option<(Scope, bool)> {
    let rest = line.trim_start_matches(is_blank);
    let (name, _) = rest.split_once('=')?;
    let directive = Directive::of(name.trim_end_matches(is_blank))?;
    Some((directive.scope(), rest.len() < line.len()))
}
