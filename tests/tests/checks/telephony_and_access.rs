use crate::{
    assert_fails, assert_passes,
    server::{Server, free_port},
};

#[tokio::test]
async fn radius() {
    let port = free_port();
    let config = format!(
        r"
prefix = /usr
raddbdir = /run/data
libdir = /usr/lib/freeradius
logdir = /run/data
run_dir = /run/data
pidfile = /run/data/freeradius.pid
max_request_time = 5
log {{
    destination = stdout
}}
security {{
    allow_vulnerable_openssl = yes
}}
thread pool {{
    start_servers = 1
    max_servers = 2
}}
client localhost {{
    ipaddr = 127.0.0.1
    secret = shared
    require_message_authenticator = yes
}}
modules {{
    pap {{
    }}
    files {{
        usersfile = /run/data/users
    }}
}}
server default {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    authorize {{
        files
        pap
    }}
    authenticate {{
        Auth-Type PAP {{
            pap
        }}
    }}
}}
"
    );
    let users = "me Cleartext-Password := \"a password of more than sixteen bytes\"\n".to_owned();
    let script = r"
        cp $files/radiusd.conf $files/users /run/data/; echo '$INCLUDE /usr/share/freeradius/dictionary' > dictionary
        exec freeradius -f -l stdout -d /run/data
    ";
    let Some(server) = Server::start(&[("radiusd.conf", config), ("users", users)], script) else { return };
    let _server = server.logging("Ready to process requests");
    let login = "user = \"me\", password = \"a password of more than sixteen bytes\"";
    assert_passes(port, &format!("type = \"radius\", {login}, secret = \"shared\"")).await;
    let wrong = "user = \"me\", password = \"x\"";
    assert_fails(port, &format!("type = \"radius\", {wrong}, secret = \"shared\""), "Access-Reject").await;
    assert_passes(port, &format!("type = \"radius\", {wrong}, secret = \"shared\", reject-is-alive = true"))
        .await;
    // A request that is signed with another secret is not answered.
    assert_fails(
        port,
        &format!("type = \"radius\", {login}, secret = \"other\", read-timeout = \"300ms\""),
        "in time",
    )
    .await;
    assert_fails(free_port(), &format!("type = \"radius\", {login}, secret = \"shared\""), "refused").await;
}

#[tokio::test]
async fn sip() {
    let (port, tls) = (free_port(), free_port());
    let config = format!(
        r#"
debug=2
enable_tls=yes
log_stderror=yes
fork=yes
children=1
tcp_children=1
shm_mem_size=16
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
listen=tls:127.0.0.1:{tls}
loadmodule "pv.so"
loadmodule "sl.so"
loadmodule "tls.so"
modparam("tls", "config", "/run/data/tls.cfg")
request_route {{
    if ($rU == "busy") {{
        sl_send_reply("486", "Busy Here");
        exit;
    }}
    sl_send_reply("200", "OK");
}}
"#
    );
    let encryption = "\
        [server:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\n\
        private_key = /run/data/key.pem\ncertificate = /run/data/cert.pem\n"
        .to_owned();
    let script = "cp $files/tls.cfg /run/data/; exec kamailio -DD -E -f $files/kamailio.cfg -Y /run/data";
    let files = [("kamailio.cfg", config), ("tls.cfg", encryption)];
    let Some(server) = Server::start(&files, script) else { return };
    let _server = server.listening(port).listening(tls);
    for transport in ["udp", "tcp"] {
        assert_passes(port, &format!("type = \"sip\", transport = \"{transport}\"")).await;
        assert_passes(port, &format!("type = \"sip\", transport = \"{transport}\", user = \"me\"")).await;
        assert_fails(port, &format!("type = \"sip\", transport = \"{transport}\", user = \"busy\""), "486")
            .await;
    }
    assert_passes(tls, "type = \"sips\"").await;
    assert_fails(tls, "type = \"sips\", tls-verify = true, tls-name = \"www.example.org\"", "certificate")
        .await;
    assert_fails(port, "type = \"sips\", read-timeout = \"1s\", connect-timeout = \"1s\"", "").await;
    assert_fails(free_port(), "type = \"sip\"", "refused").await;
}
