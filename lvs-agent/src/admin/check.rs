//! Checks on request: the checks of some servers are made once, now, for somebody to look at. No result goes to the
//! controller: health is what the regular checks say.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use tokio::task::JoinSet;

use crate::{
    control::{CheckReport, CheckStep, Checked, CheckedServer},
    engine::{
        selection::{ServerSelector, Unknown, select},
        status::check_outcome,
    },
    model::{Check, CheckKind, DestinationKey, Role, VirtualService},
    probe::{Inspection, ProbeTarget, Prober, Step, Verdict, reported},
};

/// The most probes of one request, all at the same time: each has a descriptor.
const MOST: usize = 64;
/// The longest that any may take; the one who asks waits for all.
const LONGEST: Duration = Duration::from_mins(1);

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotChecked {
    /// There is no such server.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// Too many probes at once.
    #[error(
        "that is {0} probes, and at most {MOST} are made at once; name a port, or a service with --service"
    )]
    TooMany(usize),
    /// A probe ended in a panic.
    #[error("a probe has ended by an internal error: {0}")]
    Broken(tokio::task::JoinError),
}

/// A probe that several services may ask for.
type Job = (ProbeTarget, CheckKind, Duration);

/// Makes the checks of the selected servers once. Equal checks of one server are made once for all services.
pub(crate) async fn check_now(
    services: &[VirtualService],
    selector: &ServerSelector,
    prober: &Prober,
) -> Result<Checked, NotChecked> {
    let services: Vec<_> = services.iter().collect();
    let selected: Vec<_> = select(&services, selector)?
        .into_iter()
        .filter_map(|key| Some((key, checks_of(&services, &key)?)))
        .collect();
    let mut jobs: Vec<Job> = Vec::new();
    let mut numbers: HashMap<Job, usize> = HashMap::new();
    let mut rows = Vec::new();
    for (key, (service, checks)) in &selected {
        let of_server = checks.iter().map(|check| {
            let job = job(key.server, check);
            *numbers.entry(job.clone()).or_insert_with(|| {
                jobs.push(job);
                jobs.len() - 1
            })
        });
        rows.push((*service, key.server, of_server.collect::<Vec<_>>()));
    }
    if jobs.len() > MOST {
        return Err(NotChecked::TooMany(jobs.len()));
    }
    let reports = make(jobs, prober).await?;
    let servers = rows.into_iter().map(|(service, address, numbers)| CheckedServer {
        service: service.to_owned(),
        address,
        checks: numbers.iter().filter_map(|number| reports.get(number).cloned()).collect(),
    });
    Ok(Checked::new(servers.collect()))
}

/// A destination's checks, and the name of its service.
fn checks_of<'a>(services: &[&'a VirtualService], key: &DestinationKey) -> Option<(&'a str, Vec<&'a Check>)> {
    let service = *services.iter().find(|service| service.key == key.service)?;
    let is_it = |role: &Role| service.destination_of(*role).as_ref() == Some(key);
    let role = service.roles().find(is_it)?;
    Some((&service.name, service.checks_of_role(role).collect()))
}

fn job(server: SocketAddr, check: &Check) -> Job {
    (ProbeTarget::of_check(server, check), check.kind.clone(), check.timeout.min(LONGEST))
}

async fn make(jobs: Vec<Job>, prober: &Prober) -> Result<HashMap<usize, CheckReport>, NotChecked> {
    let mut running = JoinSet::new();
    for (number, (target, kind, timeout)) in jobs.into_iter().enumerate() {
        let prober = prober.clone();
        running.spawn(async move {
            let inspection = prober.inspect(target, &kind, timeout).await;
            (number, report(&target, &kind, timeout, inspection))
        });
    }
    let mut reports = HashMap::new();
    while let Some(ended) = running.join_next().await {
        let (number, report) = ended.map_err(NotChecked::Broken)?;
        reports.insert(number, report);
    }
    Ok(reports)
}

fn report(target: &ProbeTarget, kind: &CheckKind, timeout: Duration, inspection: Inspection) -> CheckReport {
    let Inspection { steps, outcome } = inspection;
    let result = check_outcome(Verdict::of(&outcome));
    let says = reported(&outcome).map(|reported| format!(", {reported}")).unwrap_or_default();
    let (text, took) = match outcome {
        Ok(success) => (format!("answered{says}"), success.latency),
        Err(failure) => (failure.reason.to_string(), failure.after),
    };
    let asked = match kind {
        CheckKind::On | CheckKind::Off | CheckKind::File(_) => None,
        CheckKind::Ping => Some(target.address.ip().to_string()),
        _ => Some(target.address.to_string()),
    };
    let steps = steps.into_iter().map(|Step { phase, from, took }| CheckStep {
        step: phase.to_string(),
        from_ms: ms(from),
        took_ms: ms(took),
    });
    CheckReport {
        check: kind.name().to_owned(),
        asked,
        timeout_ms: ms(timeout),
        result,
        text,
        took_ms: ms(took),
        steps: steps.collect(),
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{config::native, control::CheckOutcome};

    fn services(text: &str) -> Vec<VirtualService> {
        let text = format!("[defaults]\nforward = \"masquerade\"\n{text}");
        native::read(&text, "test.toml".as_ref()).expect("it is a configuration").services
    }

    fn selector(server: &str) -> ServerSelector {
        ServerSelector { server: server.parse().unwrap(), service: None }
    }

    /// Answers every HTTP request; the number of connections is the result.
    async fn web_server(listener: TcpListener, connections: usize) {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
    }

    #[tokio::test]
    async fn equal_checks_are_made_once_and_shown_for_each_service() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let text = |vip: &str| {
            format!(
                "[[service]]\naddress = \"{vip}\"\ncheck = {{ type = \"http\", text = \"ok\" }}\n\
                 [[service.server]]\naddress = \"{server}\"\n"
            )
        };
        let services = services(&(text("192.0.2.1:80") + &text("192.0.2.2:80")));
        let connections = tokio::spawn(web_server(listener, 1));
        let checked = check_now(&services, &selector("127.0.0.1"), &Prober::new()).await.unwrap();
        connections.await.unwrap();
        assert!(checked.all_answered(), "{checked:?}");
        let names: Vec<_> = checked.servers.iter().map(|server| server.service.as_str()).collect();
        assert_eq!(names, ["tcp 192.0.2.1:80", "tcp 192.0.2.2:80"]);
        assert_eq!(checked.servers[0].checks, checked.servers[1].checks);
        let [report] = &checked.servers[0].checks[..] else { panic!("{checked:?}") };
        assert_eq!((report.check.as_str(), report.text.as_str()), ("http", "answered"));
        assert_eq!(report.asked, Some(server.to_string()));
        let steps: Vec<_> = report.steps.iter().map(|step| step.step.as_str()).collect();
        assert_eq!(steps, ["connection", "reply", "body"]);
        let ends = report.steps.iter().map(|step| step.from_ms + step.took_ms);
        assert!(ends.is_sorted(), "{report:?}");
    }

    #[tokio::test]
    async fn a_failure_is_the_last_step_and_what_is_not_asked_has_none() {
        // It has ended, and its port is nobody's.
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let services = services(&format!(
            "[[service]]\naddress = \"192.0.2.1:80\"\ncheck = {{ type = \"off\" }}\n[[service.server]]\naddress = \"{closed}\"\n\
             [[service]]\naddress = \"192.0.2.2:80\"\n[[service.server]]\naddress = \"{closed}\"\n"
        ));
        let checked = check_now(&services, &selector("127.0.0.1"), &Prober::new()).await.unwrap();
        let reports: Vec<_> = checked.servers.iter().flat_map(|server| &server.checks).collect();
        let shown: Vec<_> =
            reports.iter().map(|report| (report.result, report.text.as_str(), report.steps.len())).collect();
        let failed = CheckOutcome::Failure;
        assert_eq!(shown, [(failed, "the check is \"off\"", 0), (failed, "connection refused", 1)]);
        assert_eq!(reports[0].asked, None);
        assert_eq!(reports[1].steps[0].step, "connection");
    }

    #[tokio::test]
    async fn more_probes_than_descriptors_can_be_spared_for_are_refused() {
        let service = |port: usize| {
            format!(
                "[[service]]\naddress = \"192.0.2.1:{port}\"\n[[service.server]]\naddress = \"127.0.0.1:{port}\"\n"
            )
        };
        let text: String = (1..=MOST + 1).map(service).collect();
        let refused = check_now(&services(&text), &selector("127.0.0.1"), &Prober::new()).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "that is 65 probes, and at most 64 are made at once; name a port, or a service with --service"
        );
        let unknown = check_now(&services(&text), &selector("127.0.0.2"), &Prober::new()).await.unwrap_err();
        assert!(unknown.to_string().starts_with("no service has a server 127.0.0.2"), "{unknown}");
    }
}
