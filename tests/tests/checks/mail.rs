use crate::{
    bad, good,
    server::{Server, free_port},
};

#[tokio::test]
async fn smtp_and_submission() {
    let (port, tls, submission) = (free_port(), free_port(), free_port());
    let config = format!(
        r#"
pki www.example.org cert "/run/data/rsa.pem"
pki www.example.org key "/run/data/rsa-key.pem"
table users file:/run/data/users
listen on 127.0.0.1 port {port} tls pki www.example.org
listen on 127.0.0.1 port {tls} smtps pki www.example.org
listen on 127.0.0.1 port {submission} tls-require pki www.example.org auth <users>
action "keep" maildir
match from local for local action "keep"
"#
    );
    let script = r#"
        echo "me $(openssl passwd -6 secret)" > users
        # Its private process for keys knows RSA only.
        openssl req -x509 -newkey rsa:2048 -nodes -keyout rsa-key.pem -out rsa.pem -subj /CN=www.example.org 2> /dev/null
        chmod 600 rsa-key.pem
        mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd; chmod 711 /var/spool/smtpd
        cp $files/smtpd.conf /run/data/; chmod 644 smtpd.conf users
        exec smtpd -d -f /run/data/smtpd.conf
    "#;
    let Some(server) = Server::start(&[("smtpd.conf", config)], script) else { return };
    let server = server.listening(submission);
    let ca =
        format!("tls-name = \"www.example.org\", tls-ca = \"{}\"", server.files().join("ca.pem").display());
    good(port, "type = \"smtp\"").await;
    good(port, "type = \"smtp\", helo = \"director.example.org\", tls = \"starttls\"").await;
    good(tls, "type = \"smtps\"").await;
    let login = "user = \"me\", password = \"secret\"";
    good(submission, &format!("type = \"submission\", tls = \"starttls\", {login}")).await;
    bad(submission, "type = \"submission\", tls = \"starttls\", user = \"me\", password = \"x\"", "535")
        .await;
    bad(
        port,
        "type = \"smtp\", tls = \"starttls\", tls-verify = true, tls-name = \"a.example\"",
        "certificate",
    )
    .await;
    bad(port, "type = \"pop3\"", "220").await;
    bad(port, "type = \"smtps\"", "TLS").await;
}

#[tokio::test]
async fn imap_and_pop3() {
    let (imap, imaps, pop3, pop3s) = (free_port(), free_port(), free_port(), free_port());
    let config = format!(
        r#"
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
"#
    );
    let script = r"
        mkdir -p /run/dovecot /run/dovecot-state /run/mail; chown vmail:vmail /run/mail
        exec dovecot -F -c $files/dovecot.conf
    ";
    let Some(server) = Server::start(&[("dovecot.conf", config)], script) else { return };
    let _server = server.listening(imap).listening(pop3s);
    let login = "user = \"me\", password = \"secret\"";
    for (kind, plain, wrapped) in [("imap", imap, imaps), ("pop3", pop3, pop3s)] {
        good(plain, &format!("type = \"{kind}\"")).await;
        good(plain, &format!("type = \"{kind}\", {login}")).await;
        good(plain, &format!("type = \"{kind}\", tls = \"starttls\", {login}")).await;
        good(wrapped, &format!("type = \"{kind}s\", {login}")).await;
        bad(plain, &format!("type = \"{kind}\", user = \"me\", password = \"x\""), "answered").await;
        bad(
            wrapped,
            &format!("type = \"{kind}s\", tls-verify = true, tls-name = \"www.example.org\""),
            "certificate",
        )
        .await;
        bad(plain, &format!("type = \"{kind}s\""), "TLS").await;
    }
    bad(imap, "type = \"nntp\"", "* OK").await;
}
