//! What of the services in force another configuration lacks: half a file lacks its end. Pure.

use std::collections::HashSet;

use crate::model::{DestinationKey, ServiceKey, VirtualService};

/// What would be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing.
    Nothing,
    /// So many services and servers, but the last ones are there.
    Some(usize),
    /// So many, and all behind the last one that is there: the file may be cut off.
    End(usize),
}

/// What of `old` is missing in `new`.
pub(crate) fn loss(old: &[VirtualService], new: &[VirtualService]) -> Loss {
    let (old, new): (Vec<_>, Vec<_>) = (entries(old).collect(), entries(new).collect());
    let kept: HashSet<_> = new.iter().copied().collect();
    let known: HashSet<_> = old.iter().copied().collect();
    let missing = old.iter().filter(|entry| !kept.contains(entry)).count();
    let lacks_last = old.last().is_some_and(|last| !kept.contains(last));
    // Whoever has written something else in the end's place has got as far as that.
    let ends_with_old = new.last().is_none_or(|last| known.contains(last));
    match missing {
        0 => Loss::Nothing,
        missing if lacks_last && ends_with_old => Loss::End(missing),
        missing => Loss::Some(missing),
    }
}

/// Services and their servers and backups, in the order of the file.
fn entries(services: &[VirtualService]) -> impl Iterator<Item = (ServiceKey, Option<DestinationKey>)> {
    services.iter().flat_map(|service| {
        let destinations = service.all_destinations().map(|destination| (service.key, Some(destination)));
        std::iter::once((service.key, None)).chain(destinations)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native;

    /// The last part of a service's address, and those of its servers'.
    type Short<'a> = (u8, &'a [u8]);

    fn services(list: &[Short<'_>]) -> Vec<VirtualService> {
        let mut lines = vec!["[agent]".to_owned(), "mode = \"adopt\"".to_owned()];
        for (service, servers) in list {
            lines.extend(["[[service]]".to_owned(), format!("address = \"192.0.2.{service}:80\"")]);
            lines.push("forward = \"masquerade\"".to_owned());
            for server in *servers {
                lines.extend(["[[service.server]]".to_owned(), format!("address = \"10.0.0.{server}\"")]);
            }
        }
        native::read(&lines.join("\n"), "test.toml".as_ref()).expect("it is a configuration").services
    }

    #[test]
    fn what_is_missing_at_the_end_is_told_from_what_is_missing_elsewhere() {
        let old = services(&[(1, &[1, 2]), (2, &[1, 2])]);
        let cases: [(&[Short<'_>], Loss); 9] = [
            (&[(1, &[1, 2]), (2, &[1, 2])], Loss::Nothing),
            (&[(1, &[1, 2]), (2, &[1, 2, 3])], Loss::Nothing),
            (&[(2, &[2, 1]), (1, &[2, 1])], Loss::Nothing),
            (&[(1, &[1]), (2, &[1, 2])], Loss::Some(1)),
            (&[(2, &[1, 2])], Loss::Some(3)),
            (&[(1, &[1, 2]), (2, &[1, 3])], Loss::Some(1)),
            (&[(1, &[1, 2]), (2, &[1])], Loss::End(1)),
            (&[(1, &[1])], Loss::End(4)),
            (&[], Loss::End(6)),
        ];
        for (new, expected) in cases {
            assert_eq!(loss(&old, &services(new)), expected, "{new:?}");
        }
    }
}
