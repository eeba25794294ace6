use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{task::LocalSet, time::timeout};

use super::*;
use crate::{
    control::{Events, Status},
    telemetry::source::{Asked, StatusSource, TableWeight},
};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIMIT: Duration = Duration::from_secs(30);

/// Counts how often it is asked.
#[derive(Default)]
struct Counting(AtomicUsize);

impl StatusSource for Counting {
    fn table_weights(&self) -> Asked<'_, Vec<TableWeight>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn status(&self, _: Duration) -> Asked<'_, Arc<Status>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(Arc::default()) })
    }

    fn events(&self, _: Option<(u64, u64)>, _: usize) -> Asked<'_, Events> {
        Box::pin(async { Ok(Events::default()) })
    }
}

async fn next(stream: &mut EventStream) -> Option<String> {
    let message = timeout(LIMIT, stream.next()).await.expect("a message in time")?;
    Some(String::from_utf8(message.to_vec()).unwrap())
}

fn counting() -> (Feed, Arc<Counting>) {
    let (slot, agent) = (SourceSlot::default(), Arc::new(Counting::default()));
    let source: Arc<dyn StatusSource> = agent.clone();
    assert!(slot.set(source).is_ok());
    (Feed::new(slot), agent)
}

#[tokio::test(start_paused = true)]
async fn all_pages_together_ask_the_agent_once_and_none_asks_nothing() {
    let (feed, agent) = counting();
    LocalSet::new()
        .run_until(async {
            let running = feed.run();
            let watching = async {
                sleep(Duration::from_mins(10)).await;
                assert_eq!(agent.0.load(Ordering::Relaxed), 0, "nobody has the page open");
                let open = |host| {
                    feed.open(Ipv4Addr::new(127, 0, 0, host).into(), CancellationToken::new()).unwrap()
                };
                let mut pages: Vec<EventStream> = (0..20).map(|page| open(page % 4)).collect();
                for page in &mut pages {
                    let first = next(page).await.unwrap();
                    assert!(first.starts_with("event: all\ndata: {") && first.ends_with("}\n\n"), "{first}");
                }
                for page in &mut pages {
                    let second = next(page).await.unwrap();
                    assert!(second.starts_with("event: changes\n"), "{second}");
                }
                let asked = agent.0.load(Ordering::Relaxed);
                assert!((2..=4).contains(&asked), "{asked}");
                drop(pages);
                sleep(Duration::from_mins(10)).await;
                assert!(agent.0.load(Ordering::Relaxed) <= asked + 2, "nobody has it open any more");
            };
            tokio::select! {
                () = running => {}
                () = watching => {}
            }
        })
        .await;
}

#[tokio::test]
async fn pages_are_few_and_one_address_has_fewer() {
    let (feed, _) = counting();
    let open = |address| feed.open(address, CancellationToken::new());
    let mut pages: Vec<EventStream> = (0..VIEWERS_OF_ONE).map(|_| open(LOCAL).expect("room")).collect();
    assert!(open(LOCAL).is_none());
    for host in 1.. {
        match open(Ipv4Addr::new(127, 0, 1, host).into()) {
            Some(page) => pages.push(page),
            None => break,
        }
    }
    assert_eq!(pages.len(), VIEWERS);
    pages.truncate(1);
    assert!(open(LOCAL).is_some(), "whose page is closed makes room");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_closed_and_an_agent_that_starts_says_so() {
    let (feed, _) = counting();
    let starting = Feed::new(SourceSlot::default());
    let too_slow = CancellationToken::new();
    let _deaf = feed.open(LOCAL, too_slow.clone()).unwrap();
    let mut waiting = starting.open(LOCAL, CancellationToken::new()).unwrap();
    tokio::select! {
        () = feed.run() => {}
        () = starting.run() => {}
        closed = timeout(LIMIT, too_slow.cancelled()) => closed.expect("it is closed"),
    }
    assert_eq!(
        next(&mut waiting).await.unwrap(),
        "event: trouble\ndata: {\"text\":\"the agent is starting\"}\n\n"
    );
}
