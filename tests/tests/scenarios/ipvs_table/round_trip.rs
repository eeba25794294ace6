//! What this program writes ipvsadm(8) reads, and the other way round; and every kind of edit.

use lvs_agent::{
    ipvs::{Destination, Edit, KernelWeight, Table},
    model::{AddressFamily, DestinationKey, ForwardingMethod, ServiceKey, Tunnel, TunnelFlags},
};

use super::{
    apply, connect, edits, in_namespace, ipvsadm, ipvsadm_restore, ipvsadm_rules,
    matrix::tables,
    rules::{destination_rule, ipvsadm_thresholds, rules, threshold_lines},
    sorted,
};

#[test]
fn ipvsadm_reads_what_this_program_writes() {
    in_namespace(|| async {
        let mut client = connect().await;
        for table in tables() {
            apply(&mut client, &edits(&table)).await;
            assert_eq!(ipvsadm_rules(), sorted(rules(&table, destination_rule)));
            assert_eq!(ipvsadm_thresholds(), threshold_lines(&table));
            assert_eq!(client.table().await.unwrap(), table);
            ipvsadm("-C");
        }
    });
}

#[test]
fn this_program_reads_what_ipvsadm_writes() {
    let with_thresholds = |service: &ServiceKey, destination: &Destination| {
        let (upper, lower) = (destination.upper_threshold, destination.lower_threshold);
        format!("{} -x {upper} -y {lower}", destination_rule(service, destination))
    };
    in_namespace(move || async move {
        let mut client = connect().await;
        for table in tables() {
            ipvsadm_restore(&rules(&table, with_thresholds));
            assert_eq!(client.table().await.unwrap(), table);
            ipvsadm("-C");
        }
        assert_eq!(client.table().await.unwrap(), Table::default());
    });
}

/// What edits make of a table, in steps that are compared one by one.
fn steps(from: &Table, to: &Table) -> Vec<Vec<Edit>> {
    let destinations = |table: &Table| -> Vec<(ServiceKey, Destination)> {
        let services = table.services.iter();
        services.flat_map(|(key, entry)| entry.destinations.values().map(|one| (*key, *one))).collect()
    };
    let each = |table: &Table, edit: fn(ServiceKey, Destination) -> Edit| -> Vec<Edit> {
        destinations(table).into_iter().map(|(service, one)| edit(service, one)).collect()
    };
    // Local and bypassing servers, of which ipvsadm can't make any, have the IP version of their service.
    let same_version = |edit: &Edit| {
        edit.server().is_some_and(|server| server.is_ipv4() == (edit.service().family() == AddressFamily::V4))
    };
    let with_method = |method| {
        let edits = destinations(to).into_iter().map(|(service, destination)| Edit::SetDestination {
            service,
            destination: Destination { method, ..destination },
        });
        edits.filter(same_version).collect()
    };
    let extremes = |service, destination| Edit::SetDestination {
        service,
        destination: Destination {
            method: ForwardingMethod::Tunnel,
            tunnel: Tunnel::Gue { port: 1, flags: TunnelFlags::CHECKSUM },
            weight: KernelWeight(i32::MAX),
            upper_threshold: i32::MAX.cast_unsigned(),
            lower_threshold: 1,
            ..destination
        },
    };
    let delete = |service, destination: Destination| {
        Edit::DeleteDestination(DestinationKey { service, server: destination.server })
    };
    vec![
        to.services.values().map(|entry| Edit::SetService(entry.service.clone())).collect(),
        each(from, extremes),
        with_method(ForwardingMethod::Local),
        with_method(ForwardingMethod::Bypass),
        each(from, |service, destination| Edit::SetDestination { service, destination }),
        each(from, delete),
        each(to, |service, destination| Edit::AddDestination { service, destination }),
        to.services.keys().skip(1).map(|key| Edit::DeleteService(*key)).collect(),
    ]
}

#[test]
fn every_kind_of_edit_changes_what_it_should_and_nothing_else() {
    in_namespace(|| async {
        let mut client = connect().await;
        let [first, second, third] = tables().try_into().unwrap();
        for (from, to) in [(&first, &second), (&second, &third), (&third, &first)] {
            let mut model = from.clone();
            apply(&mut client, &edits(from)).await;
            for step in steps(from, to) {
                apply(&mut client, &step).await;
                for edit in &step {
                    model.apply(edit).unwrap_or_else(|error| panic!("{edit}: {error}"));
                }
                assert_eq!(client.table().await.unwrap(), model, "after {} and the like", step[0]);
            }
            ipvsadm("-C");
        }
    });
}
