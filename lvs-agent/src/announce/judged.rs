//! What is to be told, from how well services are served. Pure: the time is an argument.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    file_name::{self, ALL},
    files::Wish,
    steady::Steady,
    track::{self, Score},
    vips::{Pace, Vip},
};
use crate::{
    control::HealthVerdict,
    engine::served::{Criterion, Served, addresses},
    messages::ServedNow,
    model::{
        AddressFamily, AnnounceSettings, Config, OnExit, ServiceKey, TrackFiles, VipAnnouncement,
        defaults::ANNOUNCE_UP_AFTER,
    },
};

/// What is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// The track files, by their names.
    pub(super) track: BTreeMap<String, Wish>,
    /// The ready files.
    pub(super) ready: BTreeMap<String, Wish>,
    /// The addresses.
    pub(super) vips: Vips,
    /// When time alone changes something.
    pub(super) due: Option<Instant>,
}

/// The addresses that are announced on devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vips {
    pub(super) wanted: BTreeMap<IpAddr, WantedVip>,
    /// Whether the agent decides: the kernel keeps no address for one that doesn't.
    pub(super) is_alive: bool,
}

/// An address that is announced on a device while its services are healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedVip {
    pub(super) how: VipAnnouncement,
    /// `None`: as it is found.
    pub(super) announced: Option<bool>,
    /// Whether it goes at a clean stop.
    pub(super) leaves_at_stop: bool,
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Memory {
    track: HashMap<String, Steady<Score>>,
    ready: HashMap<String, Steady<bool>>,
    vips: HashMap<IpAddr, Vip>,
    /// Whether this director was told to be standby when something was last heard.
    is_withheld: bool,
    due: Option<Instant>,
}

impl Memory {
    /// What is to be told now. `now_served`: `None` while nobody decides.
    pub(super) fn judge(&mut self, now_served: Option<&ServedNow>, config: &Config, now: Instant) -> Judged {
        self.due = None;
        let served = now_served.map(|now_served| &*now_served.services);
        let settings = &config.announce;
        let track = match &settings.track_files {
            Some(files) => self.track(files, served, settings, now),
            None => BTreeMap::new(),
        };
        let ready =
            if settings.ready_files.is_some() { self.ready(served, settings, now) } else { BTreeMap::new() };
        if let Some(now_served) = now_served {
            self.is_withheld = !now_served.may_announce;
        }
        let vips = self.vips(served, config, now);
        Judged { track, ready, vips, due: self.due }
    }

    fn track(
        &mut self,
        files: &TrackFiles,
        served: Option<&[Served]>,
        settings: &AnnounceSettings,
        now: Instant,
    ) -> BTreeMap<String, Wish> {
        let (value, worst) = (files.value, track::worst(files.value));
        let mut scores: BTreeMap<String, Option<Score>> = match served {
            Some(served) => {
                let of = |one: &Served| {
                    (file_name::of_service(&one.name), track::score(one, criterion(settings), value))
                };
                served.iter().map(of).collect()
            }
            None => self.track.keys().map(|name| (name.clone(), Some(worst))).collect(),
        };
        let known = scores.values().flatten().min().copied();
        let is_known = !scores.is_empty() && !scores.values().any(Option::is_none) || known == Some(worst);
        scores
            .insert(ALL.to_owned(), if served.is_none() { Some(worst) } else { known.filter(|_| is_known) });
        self.track.retain(|name, _| scores.contains_key(name));
        let mut wanted = BTreeMap::new();
        for (name, score) in scores {
            let steady = self.track.entry(name.clone()).or_default();
            let told = steady.tell(score, worst, files.up_after, now);
            self.due = earlier(self.due, steady.due(files.up_after).filter(|due| *due > now));
            wanted.insert(name, told.map_or(Wish::AsFound, |score| Wish::Text(track::text(score, value))));
        }
        wanted
    }

    fn ready(
        &mut self,
        served: Option<&[Served]>,
        settings: &AnnounceSettings,
        now: Instant,
    ) -> BTreeMap<String, Wish> {
        let mut verdicts: BTreeMap<String, HealthVerdict> = BTreeMap::new();
        let mut note = |name: String, verdict: HealthVerdict| {
            let worst = verdicts.entry(name).or_insert(verdict);
            *worst = verdict.max(*worst);
        };
        for one in served.unwrap_or_default() {
            let verdict = one.verdict(criterion(settings));
            note(file_name::of_service(&one.name), verdict);
            note(of_family(one.key.family()).to_owned(), verdict);
        }
        for name in self.ready.keys().filter(|_| served.is_none()) {
            note(name.clone(), HealthVerdict::Stuck);
        }
        // A family without a service isn't ready.
        for family in [AddressFamily::V4, AddressFamily::V6] {
            verdicts.entry(of_family(family).to_owned()).or_insert(HealthVerdict::Unhealthy);
        }
        self.ready.retain(|name, _| verdicts.contains_key(name));
        let mut wanted = BTreeMap::new();
        for (name, verdict) in verdicts {
            let is_ready = match verdict {
                HealthVerdict::Unknown => None,
                verdict => Some(verdict == HealthVerdict::Healthy),
            };
            let steady = self.ready.entry(name.clone()).or_default();
            let told = steady.tell(is_ready, false, ANNOUNCE_UP_AFTER, now);
            self.due = earlier(self.due, steady.due(ANNOUNCE_UP_AFTER).filter(|due| *due > now));
            wanted.insert(
                name,
                match told {
                    None => Wish::AsFound,
                    Some(true) => Wish::Text(String::new()),
                    Some(false) => Wish::Absent,
                },
            );
        }
        wanted
    }

    fn vips(&mut self, served: Option<&[Served]>, config: &Config, now: Instant) -> Vips {
        let health = served.map(|served| addresses(served, criterion(&config.announce)));
        let mut wanted = BTreeMap::new();
        for service in &config.services {
            let (Some(how), ServiceKey::Address { address, .. }) = (&service.announce, service.key) else {
                continue;
            };
            let ip = address.ip();
            wanted.entry(ip).or_insert_with(|| {
                let health = match &health {
                    // Of an address that is in no table nobody is served.
                    Some(health) => health.get(&ip).copied().unwrap_or(HealthVerdict::Unhealthy),
                    None => HealthVerdict::Stuck,
                };
                let (vip, pace) = (self.vips.entry(ip).or_default(), Pace::from(how));
                let by_health = vip.step(health, pace, now);
                let announced = if self.is_withheld { Some(false) } else { by_health };
                self.due = earlier(self.due, vip.due(pace));
                WantedVip { how: how.clone(), announced, leaves_at_stop: leaves(config, ip, how) }
            });
        }
        let known: HashSet<_> = wanted.keys().copied().collect();
        self.vips.retain(|ip, _| known.contains(ip));
        Vips { wanted, is_alive: served.is_some() }
    }
}

fn criterion(settings: &AnnounceSettings) -> Criterion {
    Criterion { min_share: settings.min_share, backups: settings.backups }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// The ready file of all services of an IP version.
fn of_family(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::V4 => "ipv4",
        AddressFamily::V6 => "ipv6",
    }
}

/// Whether an address goes at a clean stop: as it is said, or else with the last of its services.
fn leaves(config: &Config, ip: IpAddr, how: &VipAnnouncement) -> bool {
    let on_it = config.services.iter().filter(|service| match service.key {
        ServiceKey::Address { address, .. } => address.ip() == ip,
        ServiceKey::Mark { .. } => false,
    });
    let mut ends = on_it.map(|service| service.on_exit.unwrap_or(config.agent.on_exit));
    how.on_exit.map_or_else(|| ends.all(|end| end == OnExit::Remove), |end| end == OnExit::Remove)
}

/// What track and ready files are to say after a clean stop.
pub(super) fn at_stop(judged: &Judged, files: Option<&TrackFiles>) -> Judged {
    let fault = files.filter(|files| files.at_stop == crate::model::TrackAtStop::Fault);
    let track = judged.track.iter().map(|(name, wish)| {
        let worst = |files: &TrackFiles| Wish::Text(track::text(track::worst(files.value), files.value));
        (name.clone(), fault.map_or_else(|| wish.clone(), worst))
    });
    let ready = judged.ready.keys().map(|name| (name.clone(), Wish::Absent));
    Judged { track: track.collect(), ready: ready.collect(), vips: judged.vips.clone(), due: None }
}

/// How long the controller may be silent: with the time from one question to the next it is below three seconds.
pub(super) const SILENCE: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::native, pool::QuorumState};

    const TEXT: &str = "[announce]\nready-files = \"/ready\"\n[announce.track-files]\nfolder = \"/track\"\nvalue = 100\n\
                        [defaults]\nforward = \"masquerade\"\nannounce = { device = \"lvs0\" }\n\
                        [[service]]\nname = \"a b\"\naddress = \"192.0.2.80:80\"\n[[service.server]]\naddress = \"10.0.0.1\"\n\
                        [[service]]\nname = \"web\"\naddress = \"192.0.2.80:443\"\non-exit = \"remove\"\n\
                        [[service.server]]\naddress = \"10.0.0.1\"\n";

    fn config() -> Config {
        native::read(TEXT, "test.toml".as_ref()).expect("it is a configuration")
    }

    fn served(config: &Config, states: &[(QuorumState, u64)]) -> ServedNow {
        let of = |(service, (quorum, up)): (&crate::model::VirtualService, &(QuorumState, u64))| Served {
            name: service.name.as_str().into(),
            key: service.key,
            quorum: *quorum,
            up: *up,
            whole: 4,
            backups_in: 0,
        };
        ServedNow { services: config.services.iter().zip(states).map(of).collect(), may_announce: true }
    }

    #[test]
    fn files_and_addresses_follow_the_services() {
        use QuorumState::{Has, Lost, Unknown};
        let (config, mut judge, begin) = (config(), Memory::default(), Instant::now());
        let text = |text: &str| Wish::Text(text.to_owned());
        let mut at = |seconds: u64, states: Option<&[(QuorumState, u64)]>| {
            let served = states.map(|states| served(&config, states));
            let judged = judge.judge(served.as_ref(), &config, begin + Duration::from_secs(seconds));
            let track: Vec<_> = judged.track.into_values().collect();
            let ready: Vec<_> = judged.ready.into_iter().collect();
            let vips: Vec<_> = judged.vips.wanted.values().map(|vip| vip.announced).collect();
            (track, ready, vips)
        };
        let ready = |wishes: [Wish; 4]| {
            let names = ["ipv4", "ipv6", "service.a%20b", "service.web"];
            names.map(str::to_owned).into_iter().zip(wishes).collect::<Vec<_>>()
        };
        let (here, gone, found) = (text(""), Wish::Absent, Wish::AsFound);
        // In the files' order: all, service.a%20b, service.web.
        assert_eq!(
            at(0, Some(&[(Unknown, 0), (Has, 4)])),
            (
                vec![found.clone(), found.clone(), text("0\n")],
                ready([found.clone(), gone.clone(), found, here.clone()]),
                vec![None],
            )
        );
        assert_eq!(
            at(1, Some(&[(Has, 3), (Has, 4)])),
            (
                vec![text("-25\n"), text("-25\n"), text("0\n")],
                ready([here.clone(), gone.clone(), here.clone(), here.clone()]),
                vec![Some(true)],
            )
        );
        assert_eq!(
            at(2, Some(&[(Has, 3), (Lost, 0)])),
            (
                vec![text("-100\n"), text("-25\n"), text("-100\n")],
                ready([gone.clone(), gone.clone(), here.clone(), gone.clone()]),
                vec![Some(false)],
            )
        );
        // Nobody decides any more: addresses stay as they are.
        assert_eq!(
            at(3, None),
            (
                vec![text("-100\n"); 3],
                ready([gone.clone(), gone.clone(), gone.clone(), gone.clone()]),
                vec![Some(false)],
            )
        );
        at(20, Some(&[(Has, 4), (Has, 4)]));
        assert_eq!(
            at(40, Some(&[(Has, 4), (Has, 4)])),
            (vec![text("0\n"); 3], ready([here.clone(), gone, here.clone(), here]), vec![Some(true)],)
        );
    }

    #[test]
    fn a_director_that_is_told_to_be_standby_announces_nothing() {
        use QuorumState::{Has, Lost, Unknown};

        let (config, mut judge, begin) = (config(), Memory::default(), Instant::now());
        let mut at = |seconds: u64, quorum, may_announce: Option<bool>| {
            let served = may_announce
                .map(|may_announce| ServedNow { may_announce, ..served(&config, &[(Has, 4), (quorum, 4)]) });
            let judged = judge.judge(served.as_ref(), &config, begin + Duration::from_secs(seconds));
            let ready = judged.ready["service.web"] == Wish::Text(String::new());
            (judged.vips.wanted.values().map(|vip| vip.announced).collect::<Vec<_>>(), ready)
        };
        assert_eq!(
            at(0, Unknown, Some(false)),
            (vec![Some(false)], false),
            "before anything is known as well"
        );
        assert_eq!(at(1, Has, Some(false)), (vec![Some(false)], true), "files say how services are");
        assert_eq!(at(2, Has, None).0, [Some(false)], "the order holds while nobody decides");
        assert_eq!(at(10, Has, Some(true)).0, [Some(true)], "at once");
        assert_eq!(at(11, Has, Some(false)).0, [Some(false)], "at once");
        assert_eq!(at(12, Has, Some(true)).0, [Some(true)], "a move is no relapse");
        at(13, Lost, Some(false));
        at(14, Lost, Some(false));
        assert_eq!(at(15, Lost, Some(true)).0, [Some(false)], "its services are not healthy");
    }

    #[test]
    fn a_stop_leaves_what_was_asked_for() {
        let (mut config, mut judge) = (config(), Memory::default());
        let states = [(QuorumState::Has, 4), (QuorumState::Has, 4)];
        let all = served(&config, &states);
        let leaves = |config: &Config| {
            let judged = Memory::default().judge(Some(&all), config, Instant::now());
            judged.vips.wanted.values().map(|vip| vip.leaves_at_stop).collect::<Vec<_>>()
        };
        assert_eq!(leaves(&config), [false], "one of its services stays");
        config.agent.on_exit = OnExit::Remove;
        assert_eq!(leaves(&config), [true]);
        for service in &mut config.services {
            service.announce.as_mut().unwrap().on_exit = Some(OnExit::Keep);
        }
        assert_eq!(leaves(&config), [false]);
        let judged = judge.judge(Some(&all), &config, Instant::now());
        let mut files = config.announce.track_files.clone().unwrap();
        let left = at_stop(&judged, Some(&files));
        assert_eq!(left.track, judged.track);
        assert!(left.ready.values().all(|wish| *wish == Wish::Absent));
        files.at_stop = crate::model::TrackAtStop::Fault;
        let left = at_stop(&judged, Some(&files));
        assert!(left.track.values().all(|wish| *wish == Wish::Text("-100\n".to_owned())), "{left:?}");
    }
}
