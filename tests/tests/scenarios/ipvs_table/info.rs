//! Version, timeouts and daemons of IPVS, and its counters of connections.

use std::time::{Duration, Instant};

use lvs_agent::{
    ipvs::{CountedTable, DaemonRole, IpvsClient, Timeouts},
    model::DestinationKey,
};

use super::{PATIENCE, address, connect, in_namespace, ipvsadm, run, web};

#[test]
fn version_timeouts_and_daemons_are_read() {
    in_namespace(|| async {
        let mut client = connect().await;
        let info = client.info().await.unwrap();
        let (major, minor, patch) = info.version;
        let said = format!("version {major}.{minor}.{patch} (size={})", info.connection_table_size);
        assert!(ipvsadm("-L -n").contains(&said), "{said}");

        let seconds = |number| Some(Duration::from_secs(number));
        ipvsadm("--set 111 22 33");
        let read = client.timeouts().await.unwrap();
        assert_eq!(read, Timeouts { tcp: seconds(111), tcp_fin: seconds(22), udp: seconds(33) });
        client.set_timeouts(&Timeouts { udp: seconds(44), ..Timeouts::default() }).await.unwrap();
        assert!(ipvsadm("-L --timeout").contains("111 22 44"), "{}", ipvsadm("-L --timeout"));

        assert_eq!(client.daemons().await.unwrap(), vec![]);
        run("ip", "address add 10.0.0.1/24 dev lo");
        run("ip", "link set lo multicast on");
        ipvsadm("--start-daemon backup --mcast-interface lo --syncid 5 --mcast-port 9999");
        let daemons = client.daemons().await.unwrap();
        ipvsadm("--stop-daemon backup");
        let [daemon] = daemons.as_slice() else { panic!("{daemons:?}") };
        assert_eq!((daemon.role, daemon.device.as_str()), (DaemonRole::Backup, "lo"));
        assert_eq!((daemon.sync_id, daemon.port), (5, 9999));
        assert_eq!(client.daemons().await.unwrap(), vec![]);
    });
}

#[test]
fn connections_are_counted() {
    in_namespace(|| async {
        let mut client = connect().await;
        run("ip", "address add 192.0.2.1/32 dev lo");
        ipvsadm("-A -t 192.0.2.1:80 -s rr");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:80").await.unwrap();
        ipvsadm("-a -t 192.0.2.1:80 -r 127.0.0.1:80 -m -w 1");
        let _connection = tokio::net::TcpStream::connect("192.0.2.1:80").await.unwrap();
        let _accepted = listener.accept().await.unwrap();
        let key = DestinationKey { service: web(), server: address("127.0.0.1:80") };
        let all = counted(&mut client, key).await;
        let of_server = all.statistics.destinations[&key];
        assert_eq!((of_server.active, of_server.inactive, of_server.persistent), (1, 0, 0));
        assert_eq!(of_server.traffic.connections, 1);
        assert!(of_server.traffic.packets_in >= 2, "SYN and ACK: {of_server:?}");
        assert!(of_server.traffic.bytes_in >= 80, "SYN and ACK: {of_server:?}");
        assert_eq!(all.statistics.services[&web()].connections, 1);
        assert_eq!(all.table, client.table().await.unwrap());
    });
}

/// Reads until a connection was counted for server and service: the kernel does its sums every two seconds only,
/// and not at once for both.
async fn counted(client: &mut IpvsClient, key: DestinationKey) -> CountedTable {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = client.counted_table().await.unwrap();
        let statistics = &all.statistics;
        let [of_server, of_service] =
            [statistics.destinations[&key].traffic, statistics.services[&key.service]];
        if (of_server.connections > 0 && of_service.connections > 0) || Instant::now() > deadline {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
