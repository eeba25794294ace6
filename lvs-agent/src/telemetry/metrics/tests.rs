//! The whole exposition, as a scraper gets it.

use std::{
    collections::BTreeSet,
    env,
    io::Write as _,
    process::{Command, Stdio},
    sync::Arc,
    time::SystemTime,
};

use super::{exposition::open_metrics, table::TableGauges, *};
use crate::{
    config::native,
    event::{Event, Record, Subscriber as _, examples},
    model::VirtualService,
    passive::Evidence,
    pool::Presence,
    telemetry::source::TableWeight,
};

/// Everything that there is: each event has happened, and a service has names that others chose.
fn everything() -> String {
    let text = "[[service]]\nname = \"we\\\"b\\\\\"\naddress = \"192.0.2.80:80\"\nforward = \"masquerade\"\n\
                check = { type = \"http\" }\n[[service.server]]\naddress = \"10.0.0.2:8080\"\n";
    let services = native::read(text, "test.toml".as_ref()).expect("it is a configuration").services;
    let engine = Engine::new(&services, |_| Presence::In);
    let (recorder, exposition) = recorder().unwrap();
    metrics::with_local_recorder(&recorder, || {
        describe();
        let mut counters = EventCounters::new(Arc::default());
        for (sequence, event) in (1..).zip(examples()) {
            counters.on_event(&Record { sequence, at_ns: sequence, time: SystemTime::now(), event });
        }
        let mut gauges = StateGauges::default();
        gauges.show_all(&engine);
        let mut passive = Passive::default();
        let targets = crate::passive::Targets::new(services.iter().flat_map(crate::passive::forwardings));
        passive.follow(&targets, &services);
        let destinations = services.iter().flat_map(VirtualService::destinations);
        passive.signals(destinations.map(|destination| (destination, "web", Some("no-route"))));
        publish_maps(1);
        publish_map_fill("servers", 1, 68);
        gauge!("lvs_agent_info", "mode" => "manage").set(1);
        count_stall();
        publish_unattributed(&bytemuck::Zeroable::zeroed());
        exposition.render()
    })
}

/// The family that a line belongs to.
fn family<'a>(line: &'a str, types: &BTreeSet<&'a str>) -> &'a str {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    let part = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    part.filter(|family| types.contains(family)).unwrap_or(name)
}

#[test]
fn each_family_is_described_and_typed_once_and_stands_together_without_nan() {
    let text = everything();
    let (mut types, mut helps, mut series) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut current = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(helps.insert(help.split(' ').next().unwrap()), "described twice: {line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            current = kind.split(' ').next().unwrap();
            assert!(types.insert(current), "typed twice: {line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            assert_eq!(family(line, &types), current, "{line}");
            assert!(series.insert(name), "twice: {line}");
            assert!(!value.parse::<f64>().unwrap().is_nan(), "{line}");
        }
    }
    assert_eq!(types, helps);
    assert!(types.len() > 50, "{}", types.len());
}

#[test]
fn open_metrics_has_the_same_series() {
    let text = everything();
    let open = open_metrics(&text);
    let series = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(series(&open), series(&text));
    assert!(
        open.ends_with("\n# EOF\n") && !open.contains("\n\n") && !open.contains("_total counter"),
        "{open}"
    );
}

/// A configuration whose servers are other ones each time.
fn round(number: u8) -> Vec<VirtualService> {
    let server = |host: u8| format!("[[service.server]]\naddress = \"10.0.{number}.{host}:80\"\n");
    let servers = (1..=20).map(server).collect::<Vec<_>>().concat();
    let text = format!(
        "[[service]]\nname = \"web {number}\"\naddress = \"192.0.2.{number}:80\"\nforward = \"masquerade\"\n\
         check = {{ type = \"http\" }}\n{servers}"
    );
    native::read(&text, "test.toml".as_ref()).expect("it is a configuration").services
}

/// Nobody scrapes meanwhile: what nobody counts for any more must go all the same.
#[test]
fn servers_that_come_and_go_leave_nothing_behind() {
    let (recorder, exposition) = recorder().unwrap();
    metrics::with_local_recorder(&recorder, || {
        let mut counters = EventCounters::new(Arc::default());
        let (mut gauges, mut passive, mut table) =
            (StateGauges::default(), Passive::default(), TableGauges::default());
        let mut targets = crate::passive::Targets::new([]);
        let (mut sequence, mut most, mut first) = (0, 0, 0);
        for number in 1..=200 {
            let services = round(number);
            let engine = Engine::new(&services, |_| Presence::In);
            gauges.show_all(&engine);
            targets.update(services.iter().flat_map(crate::passive::forwardings));
            passive.follow(&targets, &services);
            let destinations: Vec<DestinationKey> = engine.destinations().map(|(key, ..)| key).collect();
            passive.signals(destinations.iter().map(|destination| (*destination, "web", Some("no-route"))));
            let weight = |destination: &DestinationKey| TableWeight {
                service: format!("web {number}"),
                destination: *destination,
                weight: 1,
            };
            table.show(destinations.iter().map(weight).collect());
            let overloaded = destinations.iter().map(|destination| Event::Overloaded {
                subject: engine.subject(destination),
                evidence: Evidence::NeighbourFailed,
            });
            for event in [Event::Services { services: services.clone().into() }].into_iter().chain(overloaded)
            {
                sequence += 1;
                counters.on_event(&Record { sequence, at_ns: sequence, time: SystemTime::now(), event });
            }
            exposition.run_upkeep();
            let remembered = exposition.series.remembered();
            most = most.max(remembered);
            if number == 1 {
                first = remembered;
            }
            for destination in &destinations {
                gauges.retire_destination(destination);
            }
            gauges.retire_service(&services[0].key);
        }
        assert!(first > 20 * 25 && most == first, "{most} series, {first} at first");
        let text = exposition.render();
        assert!(text.contains("10.0.200.20:80") && !text.contains("10.0.199."), "{text}");
    });
}

#[test]
#[ignore = "asks promtool, which `cargo xtask test --only unit` unpacks"]
fn promtool_has_nothing_to_say() {
    let promtool = env::var_os("LVS_PROMTOOL").expect("LVS_PROMTOOL names promtool");
    let checked = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut checked = checked.expect("promtool starts");
    checked.stdin.take().unwrap().write_all(everything().as_bytes()).unwrap();
    let output = checked.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
