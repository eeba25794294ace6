use crate::{
    assert_fails, assert_passes,
    server::{Server, free_port},
};

#[tokio::test]
async fn nntp() {
    let port = free_port();
    let config = "hostname = news.checks.internal\nserver = news.example.net\nexpire = 20\n".to_owned();
    // leafnode is started by a super-server, one process for each connection.
    let script = format!(
        r#"
        mkdir -p /etc/news/leafnode; cp $files/config /etc/news/leafnode/config; chown -R news:news /etc/news
        mkdir -p /var/spool/news; for part in leaf.node message.id interesting.groups failed.postings out.going temp.files; do
            mkdir -p /var/spool/news/$part; done; chown -R news:news /var/spool/news
        exec perl -MIO::Socket::INET -e '
            $SIG{{CHLD}} = "IGNORE";
            my $l = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => {port}, Listen => 9, ReuseAddr => 1) or die;
            while (my $c = $l->accept) {{
                if (fork == 0) {{
                    open STDIN, "<&", $c; open STDOUT, ">&", $c;
                    exec "setpriv", "--reuid=news", "--regid=news", "--clear-groups", "leafnode", "-e";
                }}
                close $c;
            }}'
    "#
    );
    let Some(server) = Server::start(&[("config", config)], &script) else { return };
    let _server = server.listening(port);
    assert_passes(port, "type = \"nntp\"").await;
    assert_fails(port, "type = \"imap\"", "20").await;
    assert_fails(port, "type = \"nntp\", tls = \"starttls\"", "wanted 382").await;
    assert_fails(
        port,
        "type = \"nntp\", user = \"me\", password = \"x\", password-unencrypted = true",
        "answered",
    )
    .await;
}

/// vsftpd with anonymous users, and TLS after a command or from the start.
fn vsftpd(port: u16, is_implicit: bool) -> Option<Server> {
    let implicit = if is_implicit { "YES" } else { "NO" };
    let config = format!(
        "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n\
         local_enable=NO\nsecure_chroot_dir=/run/empty\nftp_username=ftp\nanon_root=/run/home\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n\
         ssl_enable=YES\nallow_anon_ssl=YES\nimplicit_ssl={implicit}\nrequire_ssl_reuse=NO\nxferlog_enable=NO\n\
         rsa_cert_file=/run/data/cert.pem\nrsa_private_key_file=/run/data/key.pem\nssl_ciphers=HIGH\n"
    );
    let server = Server::start(&[("vsftpd.conf", config)], "vsftpd $files/vsftpd.conf; echo ended $?")?;
    Some(server.listening(port))
}

#[tokio::test]
async fn ftp() {
    let (port, implicit) = (free_port(), free_port());
    let Some(_server) = vsftpd(port, false) else { return };
    let Some(_implicit) = vsftpd(implicit, true) else { return };
    let login = "user = \"anonymous\", password = \"lvs-agent@example.org\"";
    assert_passes(port, "type = \"ftp\"").await;
    assert_passes(port, &format!("type = \"ftp\", {login}")).await;
    assert_passes(port, &format!("type = \"ftp\", tls = \"starttls\", {login}")).await;
    assert_passes(implicit, &format!("type = \"ftps\", {login}")).await;
    assert_fails(
        port,
        "type = \"ftp\", user = \"nobody\", password = \"x\", password-unencrypted = true",
        "530",
    )
    .await;
    assert_fails(port, "type = \"ftps\"", "TLS").await;
    assert_fails(
        implicit,
        "type = \"ftps\", tls-verify = true, tls-name = \"www.example.org\"",
        "certificate",
    )
    .await;
}
