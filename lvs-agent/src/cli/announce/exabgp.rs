//! A process of exabgp: commands of its text API go to standard output, and it answers on standard input.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Write as _},
    net::IpAddr,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::lines::{Attributes, Community, lines};
use crate::{
    announce::vips::{Pace, Vip},
    cli::{
        arguments::{ControlArguments, unexpected},
        complain,
    },
    control::{self, AddressHealth, ControlError, HealthVerdict, Reply, Request},
    model::{
        Share,
        defaults::{ANNOUNCE_UP_AFTER, HOLD_DOWN, HOLD_DOWN_MAX},
    },
};

/// How long exabgp may take to read a command: it reads in its loop, and waits for nobody.
const READS_WITHIN: Duration = Duration::from_secs(10);

/// Which VIPs are announced, when, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct ExabgpArguments {
    /// Only this VIP; may be given several times. Without it: the addresses of all services.
    #[arg(long, value_name = "ADDRESS")]
    vip: Vec<IpAddr>,
    /// The routes' next hop; without it exabgp's own address (`self`).
    #[arg(long, value_name = "ADDRESS")]
    next_hop: Option<IpAddr>,
    /// The routes' multi-exit discriminator.
    #[arg(long, value_name = "NUMBER")]
    med: Option<u32>,
    /// The routes' local preference.
    #[arg(long, value_name = "NUMBER")]
    local_preference: Option<u32>,
    /// A community of the routes, such as 65000:1 (65000:1:2 for a large one); may be given several times.
    #[arg(long, value_name = "COMMUNITY")]
    community: Vec<Community>,
    /// A number for the front of the routes' path; may be given several times.
    #[arg(long = "as-path", value_name = "NUMBER")]
    as_path: Vec<u32>,
    /// Only this neighbor of exabgp's is told; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    neighbor: Vec<IpAddr>,
    /// A service counts as healthy while this share of its weight is up; without it while it has its quorum.
    #[arg(long, value_name = "SHARE")]
    min_share: Option<Share>,
    /// A service without its quorum counts as healthy, too, while its backups serve.
    #[arg(long)]
    backups: bool,
    /// How often the agent is asked.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "100ms")]
    interval: Duration,
    /// How long the agent may give no answer before all is withdrawn.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "2s")]
    patience: Duration,
    /// How long services must be unhealthy before their address is withdrawn.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "0s")]
    down_after: Duration,
    /// How long services must be healthy before their address is announced again.
    #[arg(long, value_name = "TIME", default_value_t = ANNOUNCE_UP_AFTER.into())]
    up_after: humantime::Duration,
    /// How long an address stays withdrawn at least; doubles each time that it is withdrawn soon again.
    #[arg(long, value_name = "TIME", default_value_t = HOLD_DOWN.into())]
    hold_down: humantime::Duration,
    /// The longest of these times.
    #[arg(long, value_name = "TIME", default_value_t = HOLD_DOWN_MAX.into())]
    hold_down_max: humantime::Duration,
    #[command(flatten)]
    control: ControlArguments,
}

/// Tells exabgp until it is gone, or until SIGTERM or SIGINT: then all is withdrawn.
pub(super) async fn follow(arguments: &ExabgpArguments) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut speaker = Speaker::new(arguments);
    let mut answers = answers();
    loop {
        let heard = ask(arguments).await;
        if !speaker.tell(heard, Instant::now()).await? {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            answer = answers.recv() => match answer {
                // "done", or "error" with or without a reason.
                Some(answer) if answer.starts_with("error") => complain(&format!("exabgp says: {answer}")),
                Some(_) => {}
                None => return Ok(ExitCode::SUCCESS),
            },
            () = sleep(arguments.interval) => {}
        }
    }
    speaker.withdraw_all().await?;
    Ok(ExitCode::SUCCESS)
}

/// The health of the addresses; the error is for people.
async fn ask(arguments: &ExabgpArguments) -> Result<Vec<AddressHealth>, String> {
    let ExabgpArguments { min_share, backups, patience, control, .. } = arguments;
    let request = Request::Addresses { min_share: *min_share, backups: *backups };
    match control::ask_within(control.path(), &request, *patience).await {
        Ok(Reply::Addresses(addresses)) => Ok(addresses),
        Ok(_) => Err(unexpected().to_string()),
        Err(ControlError::Refused(error)) => Err(error),
        Err(error) => Err(error.to_string()),
    }
}

/// What exabgp says, until it is gone. A thread of its own reads: standard input can't be waited for otherwise.
fn answers() -> mpsc::Receiver<String> {
    /// Answers that may wait; while more do, exabgp's pipe keeps them.
    const ANSWERS: usize = 16;
    let (sender, answers) = mpsc::channel(ANSWERS);
    thread::spawn(move || {
        for answer in io::stdin().lines() {
            let Ok(answer) = answer else { return };
            if sender.blocking_send(answer).is_err() {
                return;
            }
        }
    });
    answers
}

/// Remembers what exabgp was told.
struct Speaker {
    pace: Pace,
    attributes: Attributes,
    only: Vec<IpAddr>,
    patience: Duration,
    vips: BTreeMap<IpAddr, (Vip, bool)>,
    /// When the agent gave its last answer.
    heard: Option<Instant>,
    /// Whether it was said that it gives none.
    has_complained: bool,
}

impl Speaker {
    fn new(arguments: &ExabgpArguments) -> Self {
        let pace = Pace {
            down_after: arguments.down_after,
            up_after: arguments.up_after.into(),
            hold_down: arguments.hold_down.into(),
            hold_down_max: arguments.hold_down_max.into(),
        };
        let attributes = Attributes {
            next_hop: arguments.next_hop,
            med: arguments.med,
            local_preference: arguments.local_preference,
            communities: arguments.community.clone(),
            as_path: arguments.as_path.clone(),
            neighbors: arguments.neighbor.clone(),
        };
        Self {
            pace,
            attributes,
            only: arguments.vip.clone(),
            patience: arguments.patience,
            vips: BTreeMap::new(),
            heard: None,
            has_complained: false,
        }
    }

    /// Tells what has changed. `false`: exabgp is gone.
    async fn tell(
        &mut self,
        heard: Result<Vec<AddressHealth>, String>,
        now: Instant,
    ) -> anyhow::Result<bool> {
        let text = match heard {
            Ok(addresses) => {
                if self.has_complained {
                    complain("the agent answers again");
                }
                (self.heard, self.has_complained) = (Some(now), false);
                self.changes(&addresses, now)
            }
            Err(error) => {
                let is_over = self.heard.is_none_or(|at| now.saturating_duration_since(at) >= self.patience);
                if is_over && !self.has_complained {
                    complain(&format!("{error}; all routes are withdrawn until it answers"));
                    self.has_complained = true;
                }
                if is_over { self.all_withdrawn() } else { String::new() }
            }
        };
        self.write(&text).await
    }

    /// The lines about addresses of which something else is to be said than before.
    fn changes(&mut self, addresses: &[AddressHealth], now: Instant) -> String {
        let is_meant = |one: &&AddressHealth| self.only.is_empty() || self.only.contains(&one.address);
        let health: BTreeMap<IpAddr, &AddressHealth> =
            addresses.iter().filter(is_meant).map(|one| (one.address, one)).collect();
        let (pace, attributes, mut text) = (self.pace, &self.attributes, String::new());
        for address in health.keys() {
            self.vips.entry(*address).or_default();
        }
        for (address, (vip, is_announced)) in &mut self.vips {
            let wanted = match health.get(address) {
                // The configuration has it no longer.
                None | Some(AddressHealth { verdict: HealthVerdict::Stuck, .. }) => Some(false),
                Some(AddressHealth { verdict, is_withheld, .. }) => {
                    let by_health = vip.step(*verdict, pace, now);
                    if *is_withheld { Some(false) } else { by_health }
                }
            };
            if let Some(wanted) = wanted
                && wanted != *is_announced
            {
                *is_announced = wanted;
                text += &lines(*address, wanted, attributes);
            }
        }
        self.vips.retain(|address, _| health.contains_key(address));
        text
    }

    /// The lines that withdraw all that is announced. What was known of services is forgotten with it.
    fn all_withdrawn(&mut self) -> String {
        let announced = std::mem::take(&mut self.vips).into_iter().filter(|(_, (_, announced))| *announced);
        announced.map(|(address, _)| lines(address, false, &self.attributes)).collect()
    }

    async fn withdraw_all(&mut self) -> anyhow::Result<bool> {
        let text = self.all_withdrawn();
        self.write(&text).await
    }

    /// `false`: nobody reads any more.
    async fn write(&self, text: &str) -> anyhow::Result<bool> {
        if text.is_empty() {
            return Ok(true);
        }
        let (text, (done, written)) = (text.to_owned(), oneshot::channel());
        // Who doesn't read stops this thread alone.
        thread::spawn(move || {
            let mut out = io::stdout().lock();
            done.send(out.write_all(text.as_bytes()).and_then(|()| out.flush())).ok();
        });
        match timeout(READS_WITHIN, written).await {
            Ok(Ok(Ok(()))) => Ok(true),
            Ok(Ok(Err(error))) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Ok(Ok(Err(error))) => Err(error).context("writing to standard output"),
            Ok(Err(_)) | Err(_) => bail!("exabgp has read nothing for {READS_WITHIN:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: ExabgpArguments,
    }

    fn speaker(words: &[&str]) -> Speaker {
        Speaker::new(&Line::parse_from([&["exabgp"], words].concat()).arguments)
    }

    fn health(all: &[(&str, HealthVerdict)]) -> Vec<AddressHealth> {
        let one = |(address, verdict): &(&str, HealthVerdict)| AddressHealth {
            address: address.parse().unwrap(),
            verdict: *verdict,
            is_withheld: false,
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn exabgp_hears_of_changes_only() {
        use HealthVerdict::{Healthy, Unhealthy, Unknown};
        let (mut speaker, begin) = (speaker(&["--hold-down", "2s"]), Instant::now());
        let mut at = |seconds: u64, all: &[(&str, HealthVerdict)]| {
            speaker.changes(&health(all), begin + Duration::from_secs(seconds))
        };
        let (one, two) = ("192.0.2.1", "192.0.2.2");
        assert_eq!(at(0, &[(one, Unknown), (two, Healthy)]), "announce route 192.0.2.2/32 next-hop self\n");
        assert_eq!(at(1, &[(one, Healthy), (two, Healthy)]), "announce route 192.0.2.1/32 next-hop self\n");
        assert_eq!(at(2, &[(one, Healthy), (two, Unknown)]), "");
        assert_eq!(at(3, &[(one, Unhealthy), (two, Healthy)]), "withdraw route 192.0.2.1/32 next-hop self\n");
        assert_eq!(at(4, &[(one, Healthy), (two, Healthy)]), "");
        assert_eq!(
            at(9, &[(one, Healthy)]).lines().count(),
            2,
            "one is back, two is gone from the configuration"
        );
    }

    #[test]
    fn exabgp_hears_of_no_route_while_the_director_is_told_to_be_standby() {
        let (mut speaker, begin) = (speaker(&[]), Instant::now());
        let mut at = |seconds: u64, is_withheld| {
            let mut all = health(&[("192.0.2.1", HealthVerdict::Healthy)]);
            all[0].is_withheld = is_withheld;
            speaker.changes(&all, begin + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, true), "");
        assert_eq!(at(1, false), "announce route 192.0.2.1/32 next-hop self\n");
        assert_eq!(at(2, true), "withdraw route 192.0.2.1/32 next-hop self\n");
        assert_eq!(at(3, true), "");
        assert_eq!(at(4, false), "announce route 192.0.2.1/32 next-hop self\n");
    }

    #[tokio::test]
    async fn all_is_withdrawn_once_when_the_agent_is_gone() {
        let (mut speaker, begin) = (speaker(&["--vip", "192.0.2.1"]), Instant::now());
        let all = [("192.0.2.1", HealthVerdict::Healthy), ("192.0.2.2", HealthVerdict::Healthy)];
        assert_eq!(speaker.changes(&health(&all), begin).lines().count(), 1, "only that one was asked for");
        speaker.heard = Some(begin);
        assert!(speaker.tell(Err("gone".to_owned()), begin + Duration::from_millis(1900)).await.unwrap());
        assert!(!speaker.has_complained && speaker.vips.len() == 1);
        assert_eq!(speaker.all_withdrawn(), "withdraw route 192.0.2.1/32 next-hop self\n");
        assert_eq!(speaker.all_withdrawn(), "");
        assert_eq!(speaker.changes(&health(&all), begin).lines().count(), 1, "and announced when it is back");
    }
}
