use std::fs;

use crate::{
    assert_fails, assert_passes,
    server::{Server, free_port},
};

/// Makes keys and certificates as old tools and appliances do, and starts a server of OpenSSL's for each line of
/// `servers`: a port, the name of a certificate, and options.
fn openssl(servers: &[(u16, &str, &str)]) -> Option<Server> {
    let starts: Vec<String> = servers
        .iter()
        .map(|(port, name, options)| {
            format!(
                "openssl s_server -quiet -www -accept {port} -cert {name}.pem -key {name}.key {options} &\n"
            )
        })
        .collect();
    let starts = starts.concat();
    let script = format!(
        "new() {{ openssl req -x509 -nodes -days 9 -subj /CN=appliance -keyout $1.key -out $1.pem -newkey $2 -$3; }}\n\
         new own rsa:2048 sha256\n\
         new short rsa:1024 sha1\n\
         openssl req -new -nodes -subj /CN=first -newkey rsa:2048 -keyout first.key -out first.csr\n\
         openssl x509 -req -in first.csr -signkey first.key -out first.pem\n\
         openssl x509 -in first.pem -noout -text >first.txt\n\
         cp own.pem short.pem first.pem first.txt $files/\n\
         {starts}wait"
    );
    let server = Server::start(&[], &script)?;
    Some(servers.iter().fold(server, |server, (port, ..)| server.listening(*port)))
}

#[tokio::test]
async fn old_certificates_keys_and_signatures() {
    let [own, short, first, sha1] = std::array::from_fn(|_| free_port());
    let any = "-cipher DEFAULT:@SECLEVEL=0";
    let Some(server) = openssl(&[
        (own, "own", ""),
        (short, "short", any),
        (first, "first", any),
        (sha1, "own", "-tls1_2 -cipher DEFAULT:@SECLEVEL=0 -sigalgs RSA+SHA1"),
    ]) else {
        return;
    };
    let text = fs::read_to_string(server.files().join("first.txt")).unwrap();
    assert!(text.contains("Version: 1 (0x0)"), "a certificate of version 1:\n{text}");
    for port in [own, short, first, sha1] {
        assert_passes(port, "type = \"https\"").await;
        assert_passes(port, "type = \"https\", tls-name = \"any.example.org\"").await;
        assert_fails(port, "type = \"https\", tls-verify = true", "").await;
    }
    // One that may be an authority, and is the server's own.
    let pinned = |name: &str| format!("tls-ca = \"{}\"", server.files().join(name).display());
    assert_passes(own, &format!("type = \"https\", {}", pinned("own.pem"))).await;
    assert_passes(own, &format!("type = \"https\", tls-name = \"www.example.org\", {}", pinned("own.pem")))
        .await;
    assert_fails(own, &format!("type = \"https\", {}", pinned("ca.pem")), "certificate").await;
}

#[tokio::test]
async fn servers_with_nothing_but_old_methods() {
    let [rsa, cbc, old] = std::array::from_fn(|_| free_port());
    let Some(_server) = openssl(&[
        (rsa, "own", "-tls1_2 -cipher AES128-GCM-SHA256:AES256-SHA256"),
        (cbc, "own", "-tls1_2 -cipher ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA384"),
        (old, "own", "-tls1_1 -cipher DEFAULT:@SECLEVEL=0"),
    ]) else {
        return;
    };
    assert_fails(rsa, "type = \"https\"", "only old cipher suites (RSA key exchange").await;
    assert_fails(cbc, "type = \"https\"", "only old cipher suites").await;
    assert_fails(old, "type = \"https\"", "only TLS 1.1 or older").await;
}
