//! Answers who asks for events, from those that are kept. Followers ask again and again: the agent has no queue for
//! them, and one that is too slow misses events and nobody else does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use humantime::format_rfc3339_micros;

use crate::{
    clock::monotonic_ns,
    control::{EventLine, Events},
    event::{Entry, Excerpt, History},
    model::VirtualService,
    telemetry::lines::{Line, lines},
};

/// How many events one answer is about at most; who wants more asks again.
const AT_ONCE: usize = 1000;

/// Which events are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) after: Option<u64>,
    pub(super) instance: Option<u64>,
    pub(super) since: Option<Duration>,
    /// The names under which events may be about the service, if only one is asked for.
    pub(super) service: Option<BTreeSet<String>>,
}

/// The answer. It takes its time over the texts: not for threads of the runtime.
pub(super) fn answer(history: &History, query: &Query) -> Events {
    let instance = history.instance();
    let is_known = query.instance.is_none_or(|known| known == instance);
    let after = query.after.filter(|_| is_known).unwrap_or(0);
    let since_ns = query.since.map_or(0, |since| {
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        monotonic_ns().saturating_sub(since)
    });
    let Excerpt { entries, last, more, lost } = history.after(after, since_ns, AT_ONCE);
    // Who asks for the first time has missed nothing.
    let lost = if query.after.is_some() && is_known { lost } else { 0 };
    let lines = entries.iter().flat_map(|entry| of_entry(entry, query.service.as_ref())).collect();
    Events { instance, next: last, more, lost, lines }
}

fn of_entry(entry: &Arc<Entry>, service: Option<&BTreeSet<String>>) -> Vec<EventLine> {
    let is_about = |line: &Line| {
        service.is_none_or(|names| {
            line.fields.get("service").and_then(|name| name.as_str()).is_some_and(|name| names.contains(name))
        })
    };
    let line = |line: Line| EventLine {
        number: entry.number,
        timestamp: format_rfc3339_micros(entry.record.time).to_string(),
        level: line.level.to_owned(),
        fields: line.fields,
        message: line.message,
        timeline: entry.timeline.clone(),
    };
    lines(&entry.record).into_iter().filter(is_about).map(line).collect()
}

/// The names under which events may be about a service: events of the table call it by its key. `None`: it is none of
/// these services; there may have been one of that name.
pub(super) fn names(services: &[VirtualService], wanted: &str) -> Option<BTreeSet<String>> {
    services.iter().find_map(|service| {
        let key = service.key.to_string();
        let address = key.split_once(' ').map_or("", |(_, address)| address);
        let is_it = service.name == wanted || key == wanted || address == wanted;
        is_it.then(|| BTreeSet::from([service.name.clone(), key]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::native,
        event::{Publisher, examples},
    };

    fn history() -> History {
        let (publisher, history) = (Publisher::default(), History::new());
        publisher.subscribe(history.clone());
        publisher.publish_all(examples());
        history
    }

    fn count(history: &History, query: &Query) -> usize {
        answer(history, query).lines.len()
    }

    #[test]
    fn a_follower_goes_on_where_it_was_and_starts_anew_with_another_agent() {
        let history = history();
        let all = answer(&history, &Query::default());
        assert!(all.lines.len() > 50 && !all.more && all.lost == 0);
        let instance = Some(all.instance);
        let nothing = Query { after: Some(all.next), instance, ..Query::default() };
        assert_eq!(count(&history, &nothing), 0);
        let last = Query { after: Some(all.next - 1), instance, ..Query::default() };
        assert_eq!(answer(&history, &last).lines, all.lines[all.lines.len() - 1..]);
        let other = Query { instance: Some(all.instance + 1), ..nothing };
        assert_eq!(count(&history, &other), all.lines.len());
    }

    #[test]
    fn events_of_one_service_are_found_under_its_name_and_its_key() {
        let text = "[[service]]\nname = \"web\"\naddress = \"192.0.2.80:80\"\nforward = \"masquerade\"\n\
                    [[service.server]]\naddress = \"10.0.0.2:8080\"\n";
        let services = native::read(text, "test.toml".as_ref()).expect("it is a configuration").services;
        let history = history();
        let of = |name: &str| {
            let service = names(&services, name);
            assert!(service.is_some(), "{name}");
            answer(&history, &Query { service, ..Query::default() }).lines
        };
        let web = of("web");
        let kinds: BTreeSet<&str> = web.iter().filter_map(|line| line.text("event")).collect();
        assert!(kinds.contains("edit") && kinds.contains("state") && !kinds.contains("ready"), "{kinds:?}");
        assert_eq!((of("tcp 192.0.2.80:80"), of("192.0.2.80:80")), (web.clone(), web));
        assert_eq!(names(&services, "wbe"), None);
    }

    #[test]
    fn old_events_are_left_out() {
        let history = history();
        let since = |since| Query { since: Some(since), ..Query::default() };
        assert!(count(&history, &since(Duration::from_hours(1))) > 50);
        assert_eq!(count(&history, &since(Duration::ZERO)), 0);
    }
}
