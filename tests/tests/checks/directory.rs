use crate::{
    assert_fails, assert_passes,
    server::{Server, free_port},
};

#[tokio::test]
async fn ldap() {
    let (port, tls) = (free_port(), free_port());
    let config = r#"
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile /run/slapd.pid
TLSCertificateFile /run/data/cert.pem
TLSCertificateKeyFile /run/data/key.pem
TLSCACertificateFile /run/data/ca.pem
database mdb
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw secret
directory /run/ldap
"#;
    let entries =
        "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n";
    let script = format!(
        "mkdir /run/ldap; slapadd -f $files/slapd.conf -l $files/entries.ldif\n\
         exec slapd -d 0 -f $files/slapd.conf -h 'ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls}'"
    );
    let files = [("slapd.conf", config.to_owned()), ("entries.ldif", entries.to_owned())];
    let Some(server) = Server::start(&files, &script) else { return };
    let server = server.listening(tls);
    let login = "user = \"cn=admin,dc=example,dc=org\", password = \"secret\"";
    let base = "base = \"dc=example,dc=org\"";
    let ca =
        format!("tls-name = \"www.example.org\", tls-ca = \"{}\"", server.files().join("ca.pem").display());
    assert_passes(port, "type = \"ldap\"").await;
    assert_passes(port, &format!("type = \"ldap\", {base}")).await;
    assert_passes(
        port,
        &format!("type = \"ldap\", password-unencrypted = true, {login}, {base}, expect = \"Exam.le\""),
    )
    .await;
    assert_passes(port, &format!("type = \"ldap\", tls = \"starttls\", {login}, {ca}")).await;
    assert_passes(tls, &format!("type = \"ldaps\", {login}, {base}")).await;
    assert_passes(tls, &format!("type = \"ldaps\", {ca}")).await;
    assert_fails(
        port,
        "type = \"ldap\", user = \"cn=admin,dc=example,dc=org\", password = \"x\", password-unencrypted = true",
        "invalidCredentials (49)",
    )
    .await;
    assert_fails(port, "type = \"ldap\", base = \"dc=none,dc=org\"", "noSuchObject (32)").await;
    assert_fails(port, &format!("type = \"ldap\", {base}, expect = \"Other\""), "text not found").await;
    assert_fails(tls, "type = \"ldaps\", tls-verify = true, tls-name = \"www.example.org\"", "certificate")
        .await;
    assert_fails(port, "type = \"ldaps\", connect-timeout = \"1s\"", "").await;
}
