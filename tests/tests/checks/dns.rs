use crate::{
    assert_fails, assert_passes,
    server::{Server, free_port},
};

#[tokio::test]
async fn every_type_of_record() {
    let port = free_port();
    let config = format!(
        r#"
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    use-syslog: no
    username: ""
    chroot: ""
    directory: "/run/data"
    pidfile: "/run/unbound.pid"
    trust-anchor-file: ""
    module-config: "iterator"
    local-zone: "example.org." static
    local-data: "example.org. SOA ns.example.org. root.example.org. 1 2 3 4 5"
    local-data: "example.org. NS ns.example.org."
    local-data: "example.org. MX 10 mail.example.org."
    local-data: 'example.org. TXT "some text"'
    local-data: "www.example.org. A 192.0.2.1"
    local-data: "www.example.org. A 192.0.2.2"
    local-data: "www.example.org. AAAA 2001:db8::1"
    local-data: "other.example.org. CNAME www.example.org."
    local-zone: "2.0.192.in-addr.arpa." static
    local-data-ptr: "192.0.2.1 www.example.org"
remote-control:
    control-enable: no
"#
    );
    let Some(server) = Server::start(&[("unbound.conf", config)], "exec unbound -d -c $files/unbound.conf")
    else {
        return;
    };
    let _server = server.listening(port);
    for transport in ["udp", "tcp"] {
        let dns = |keys: &str| format!("type = \"dns\", transport = \"{transport}\", {keys}");
        for (record, name, expect) in [
            ("A", "www.example.org", "192.0.2.2"),
            ("AAAA", "www.example.org.", "2001:DB8:0::1"),
            ("PTR", "192.0.2.1", "www.example.org"),
            ("NS", "example.org", "NS.example.org."),
            ("CNAME", "other.example.org", "www.example.org"),
            ("SOA", "example.org", "ns.example.org"),
            ("MX", "example.org", "mail.example.org"),
            ("TXT", "example.org", "some text"),
        ] {
            let keys = format!("record = \"{record}\", name = \"{name}\"");
            assert_passes(port, &dns(&keys)).await;
            assert_passes(port, &dns(&format!("{keys}, expect = \"{expect}\""))).await;
            assert_fails(port, &dns(&format!("{keys}, expect = \"192.0.2.99\"")), "wanted the record").await;
        }
        assert_fails(port, &dns("name = \"none.example.org\""), "NXDOMAIN").await;
        assert_fails(port, &dns("record = \"AAAA\", name = \"example.org\""), "no records").await;
    }
    assert_passes(port, "type = \"udp\", send-hex = \"1234 0100 0001 0000 0000 0000 076578616d706c65036f726700 0002 0001\", expect = \"^.4\"")
        .await;
    assert_fails(free_port(), "type = \"dns\", name = \"x\"", "refused").await;
}
