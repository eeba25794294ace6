use crate::{
    assert_fails, assert_passes,
    server::{Server, free_port},
};

#[tokio::test]
async fn smtp_and_submission() {
    let (port, tls) = (free_port(), free_port());
    let config = format!(
        r"
primary_hostname = www.example.org
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {tls}
tls_on_connect_ports = {tls}
tls_advertise_hosts = *
tls_certificate = /run/data/cert.pem
tls_privatekey = /run/data/key.pem
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
spool_directory = /run/spool
log_file_path = /run/spool/%slog
pid_file_path = /run/exim.pid
acl_smtp_helo = helo
begin acl
helo:
  deny message = go away
       condition = ${{if eq{{$sender_helo_name}}{{stranger.example.org}}}}
  accept
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{me}}}}{{eq{{$auth3}}{{secret}}}}}}}}
  server_set_id = $auth2
"
    );
    let script = r"
        mkdir /run/spool; chown Debian-exim:Debian-exim /run/spool /run/data/key.pem
        cp $files/exim.conf /run/data/; chmod 600 exim.conf; chown root:root exim.conf
        exec exim4 -bdf -C /run/data/exim.conf
    ";
    let Some(server) = Server::start(&[("exim.conf", config)], script) else { return };
    let server = server.listening(port).listening(tls);
    let ca =
        format!("tls-name = \"www.example.org\", tls-ca = \"{}\"", server.files().join("ca.pem").display());
    let login = "user = \"me\", password = \"secret\"";
    assert_passes(port, "type = \"smtp\"").await;
    assert_passes(port, "type = \"smtp\", helo = \"director.example.org\", tls = \"starttls\"").await;
    assert_passes(port, &format!("type = \"submission\", tls = \"starttls\", {login}, {ca}")).await;
    assert_passes(tls, &format!("type = \"smtps\", {login}, {ca}")).await;
    assert_fails(port, "type = \"smtp\", helo = \"stranger.example.org\"", "550 go away").await;
    assert_fails(port, "type = \"submission\", tls = \"starttls\", user = \"me\", password = \"x\"", "535")
        .await;
    assert_fails(port, &format!("type = \"submission\", password-unencrypted = true, {login}"), "503").await;
    assert_fails(tls, "type = \"smtps\", tls-verify = true, tls-name = \"www.example.org\"", "certificate")
        .await;
    assert_fails(port, "type = \"pop3\"", "220").await;
    assert_fails(port, "type = \"smtps\"", "TLS").await;
}

#[tokio::test]
async fn imap_and_pop3() {
    let (imap, imaps, pop3, pop3s) = (free_port(), free_port(), free_port(), free_port());
    let config = format!(
        r"
protocols = imap pop3
log_path = /dev/stderr
base_dir = /run/dovecot
state_dir = /run/dovecot-state
listen = 127.0.0.1
ssl = yes
ssl_cert = </run/data/cert.pem
ssl_key = </run/data/key.pem
disable_plaintext_auth = no
mail_location = maildir:/run/mail/%u
first_valid_uid = 1
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=vmail gid=vmail home=/run/mail/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
"
    );
    let script = r"
        mkdir -p /run/dovecot /run/dovecot-state /run/mail; chown vmail:vmail /run/mail
        exec dovecot -F -c $files/dovecot.conf
    ";
    let Some(server) = Server::start(&[("dovecot.conf", config)], script) else { return };
    let _server = server.listening(imap).listening(pop3s);
    let login = "user = \"me\", password = \"secret\"";
    for (kind, plain, wrapped) in [("imap", imap, imaps), ("pop3", pop3, pop3s)] {
        assert_passes(plain, &format!("type = \"{kind}\"")).await;
        assert_passes(plain, &format!("type = \"{kind}\", password-unencrypted = true, {login}")).await;
        assert_passes(plain, &format!("type = \"{kind}\", tls = \"starttls\", {login}")).await;
        assert_passes(wrapped, &format!("type = \"{kind}s\", {login}")).await;
        let wrong = "user = \"me\", password = \"x\", password-unencrypted = true";
        assert_fails(plain, &format!("type = \"{kind}\", {wrong}"), "answered").await;
        assert_fails(
            wrapped,
            &format!("type = \"{kind}s\", tls-verify = true, tls-name = \"www.example.org\""),
            "certificate",
        )
        .await;
        assert_fails(plain, &format!("type = \"{kind}s\""), "TLS").await;
    }
    assert_fails(imap, "type = \"nntp\"", "* OK").await;
}
