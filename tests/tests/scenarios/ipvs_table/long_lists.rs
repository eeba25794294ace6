//! Lists that take many messages, also while others change them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lvs_agent::{
    ipvs::{Destination, Edit, IpvsClient, IpvsError, KernelWeight, Table},
    model::{AddressFamily, ServiceKey},
};

use super::{connect, in_namespace, plain_destination, plain_service, web};

fn numbered(number: u32) -> ServiceKey {
    ServiceKey::Mark { mark: number, family: AddressFamily::V4 }
}

#[test]
fn long_lists_are_read_whole() {
    const SERVICES: u32 = 120;
    const SERVERS: u32 = 500;
    in_namespace(|| async {
        let mut client = connect().await;
        let mut model = Table::default();
        for number in 1..=SERVICES {
            let edit = Edit::AddService(plain_service(numbered(number)));
            client.apply(&edit).await.unwrap();
            model.apply(&edit).unwrap();
        }
        for number in 1..=SERVERS {
            let [_, b, c, d] = number.to_be_bytes();
            let destination = plain_destination(&format!("10.{b}.{c}.{d}:80"));
            let edit = Edit::AddDestination { service: numbered(1), destination };
            client.apply(&edit).await.unwrap();
            model.apply(&edit).unwrap();
        }
        let started = Instant::now();
        assert_eq!(client.table().await.unwrap(), model);
        println!("{SERVICES} services and {SERVERS} servers read in {:?}", started.elapsed());
        println!("{}", time_of_edit(&mut client, numbered(1), "10.0.0.1:80").await);
        client.apply(&Edit::AddService(plain_service(web()))).await.unwrap();
        let destination = plain_destination("10.0.0.1:80");
        client.apply(&Edit::AddDestination { service: web(), destination }).await.unwrap();
        println!("{}", time_of_edit(&mut client, web(), "10.0.0.1:80").await);
    });
}

/// Says how long a change of weight takes. Not a condition: machines differ.
async fn time_of_edit(client: &mut IpvsClient, service: ServiceKey, server: &str) -> String {
    let mut times = Vec::new();
    for number in 0..101 {
        let destination = Destination { weight: KernelWeight(number % 2), ..plain_destination(server) };
        let started = Instant::now();
        client.apply(&Edit::SetDestination { service, destination }).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    format!("set server {service} -> {server}: median {:?}, longest {:?}", times[50], times[100])
}

#[test]
fn a_list_that_changes_while_it_is_read_misses_nothing() {
    const STEADY: u32 = 200;
    const READINGS: u32 = 6;
    in_namespace(|| async {
        let mut client = connect().await;
        for number in 1..=STEADY {
            client.apply(&Edit::AddService(plain_service(numbered(number)))).await.unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let others = busy_neighbour(Arc::clone(&stop));
        let (mut read, mut unsteady) = (0, 0);
        while read < READINGS {
            match client.table().await {
                Ok(table) => {
                    let missing: Vec<_> = (1..=STEADY)
                        .filter(|number| !table.services.contains_key(&numbered(*number)))
                        .collect();
                    assert!(missing.is_empty(), "missing marks: {missing:?}");
                    read += 1;
                }
                Err(IpvsError::Unsteady(_)) => unsteady += 1,
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        let edits = others.join().unwrap();
        println!("{read} readings agreed with themselves, {unsteady} did not, during {edits} edits");
        assert!(edits > 0, "nothing changed meanwhile: this tested nothing");
    });
}

/// A second client, on a thread of its own, that adds and deletes services until it is stopped: first without a
/// pause, then with longer and longer ones, so that a reader finds every pace. Gives the number of its edits.
fn busy_neighbour(stop: Arc<AtomicBool>) -> thread::JoinHandle<u32> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut client = connect().await;
            let mut edits = 0;
            while !stop.load(Ordering::Relaxed) {
                for number in 10_000..10_004 {
                    client.apply(&Edit::AddService(plain_service(numbered(number)))).await.unwrap();
                    edits += 1;
                }
                for number in 10_000..10_004 {
                    client.apply(&Edit::DeleteService(numbered(number))).await.unwrap();
                    edits += 1;
                }
                tokio::time::sleep(Duration::from_micros(u64::from(edits) * 50)).await;
            }
            edits
        })
    })
}
