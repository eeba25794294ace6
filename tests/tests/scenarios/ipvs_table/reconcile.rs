//! The edits that lead from the table as it is to the table as it is wanted.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use lvs_agent::{
    ipvs::{IpvsClient, KernelWeight, Wanted, WantedDestination, WantedService, Wish, difference},
    model::{ForwardingMethod, Netmask, Persistence, Protocol, ServiceKey, Tunnel, TunnelFlags, Weight},
};

use super::{address, apply, connect, in_namespace, ipvsadm, ipvsadm_restore, scheduler, web};

/// Makes the edits that lead from what is to what is wanted.
async fn reach(client: &mut IpvsClient, wanted: &Wanted) {
    let table = client.table().await.unwrap();
    apply(client, &difference(&table, wanted)).await;
}

/// A managed service with these servers and weights.
fn wanted(servers: &[(&str, u16)]) -> Wanted {
    let mut service = WantedService::new(scheduler("wrr"));
    for (server, weight) in servers {
        let destination = WantedDestination::new(ForwardingMethod::Tunnel, Weight(*weight));
        service.destinations.insert(address(server), destination);
    }
    Wanted { services: BTreeMap::from([(web(), service)]), ..Wanted::default() }
}

#[test]
fn the_difference_leads_to_what_is_wanted_and_keeps_what_others_set() {
    in_namespace(|| async {
        let mut client = connect().await;
        ipvsadm_restore(
            &[
                "-A -u 192.0.2.9:53 -s sh -p 60 -b sh-port",
                "-a -u 192.0.2.9:53 -r 10.0.0.9:53 -g -w 0",
                "-A -t 192.0.2.1:80 -s rr -p 30 -M 255.255.0.0",
                "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -i -w 1 -x 9 -y 3 --tun-type gue --tun-port 6080 --tun-csum",
                "-a -t 192.0.2.1:80 -r 10.0.0.7:80 -g -w 1",
            ]
            .map(str::to_owned),
        );
        let foreign = ServiceKey::Address { protocol: Protocol::Udp, address: address("192.0.2.9:53") };
        let untouched = client.table().await.unwrap().services[&foreign].clone();
        let plans = [
            wanted(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 3)]),
            wanted(&[("10.0.0.1:80", 0), ("10.0.0.2:80", 3)]),
            wanted(&[("10.0.0.1:80", 5)]),
            wanted(&[("10.0.0.1:80", 0), ("[2001:db8::2]:80", 65_535)]),
        ];
        for plan in &plans {
            for edit in difference(&client.table().await.unwrap(), plan) {
                client.apply(&edit).await.unwrap_or_else(|error| panic!("{edit}: {error}"));
                assert!(client.table().await.unwrap().services[&web()].takes_connections(), "after: {edit}");
            }
            let table = client.table().await.unwrap();
            assert_eq!(difference(&table, plan), vec![]);
            assert_eq!(table.services[&foreign], untouched);
            let kept = table.services[&web()].destinations[&address("10.0.0.1:80")];
            let tunnel = Tunnel::Gue { port: 6080, flags: TunnelFlags::CHECKSUM };
            assert_eq!((kept.tunnel, kept.upper_threshold, kept.lower_threshold), (tunnel, 9, 3));
            let persistence = table.services[&web()].service.persistence;
            let netmask = Netmask::V4(Ipv4Addr::new(255, 255, 0, 0));
            assert_eq!(persistence, Some(Persistence::new(Duration::from_secs(30), netmask)));
        }
        let mut last = wanted(&[("10.0.0.1:80", 1)]);
        if let Some(service) = last.services.get_mut(&web()) {
            service.persistence = Wish::Set(None);
        }
        reach(&mut client, &last).await;
        assert_eq!(client.table().await.unwrap().services[&web()].service.persistence, None);
        let gone = Wanted { unwanted: [web()].into(), ..Wanted::default() };
        reach(&mut client, &gone).await;
        assert_eq!(client.table().await.unwrap().services.keys().collect::<Vec<_>>(), [&foreign]);
    });
}

#[test]
fn a_weight_that_this_program_never_sets_is_read_and_replaced() {
    in_namespace(|| async {
        let mut client = connect().await;
        ipvsadm("-A -t 192.0.2.1:80 -s rr");
        ipvsadm("-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 2147483647");
        let table = client.table().await.unwrap();
        let weight = table.services[&web()].destinations[&address("10.0.0.1:80")].weight;
        assert_eq!(weight, KernelWeight(i32::MAX));
        let own = wanted(&[("10.0.0.1:80", 1)]);
        reach(&mut client, &own).await;
        assert_eq!(difference(&client.table().await.unwrap(), &own), vec![]);
    });
}
