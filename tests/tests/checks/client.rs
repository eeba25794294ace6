//! What a check says about itself: a certificate, headers, secrets.

use std::fs;

use rcgen::{CertificateParams, KeyPair};

use crate::{
    assert_fails, assert_passes,
    server::{Server, free_port},
};

/// OpenSSL's server, which only talks to clients with a certificate from the authority, and tells them a page.
fn openssl(port: u16, arguments: &str) -> Option<Server> {
    let script = format!(
        "exec openssl s_server -accept {port} -cert cert.pem -key key.pem -CAfile ca.pem -Verify 2 \
         -verify_return_error -www {arguments}"
    );
    Some(Server::start(&[], &script)?.listening(port))
}

#[tokio::test]
async fn a_server_that_demands_a_certificate() {
    for arguments in ["-tls1_3", "-tls1_3 -num_tickets 0", "-tls1_2"] {
        let port = free_port();
        let Some(server) = openssl(port, arguments) else { return };
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["www.example.org".to_owned()]).expect("a name");
        let own = params.self_signed(&key).expect("signed");
        let foreign = server.files().join("foreign.pem");
        fs::write(&foreign, own.pem() + &key.serialize_pem()).expect("written");
        let file = |name: &str| server.files().join(name).display().to_string();
        let ours = format!("tls-cert = \"{}\", tls-key = \"{}\"", file("cert.pem"), file("key.pem"));
        let foreign = format!("tls-cert = \"{}\"", foreign.display());
        for check in ["type = \"tcp\", tls = \"direct\"", "type = \"https\""] {
            assert_passes(port, &format!("{check}, {ours}")).await;
            assert_fails(port, check, "").await;
            assert_fails(port, &format!("{check}, {foreign}"), "").await;
        }
    }
}

#[tokio::test]
async fn headers_and_secrets() {
    let port = free_port();
    let config = format!(
        r#"
        daemon off; user root; pid /run/nginx.pid; error_log stderr;
        events {{ }}
        http {{
            access_log off;
            server {{
                listen {port};
                location /header {{ if ($http_x_check != "a, b") {{ return 403; }} return 200; }}
                location /agent {{ if ($http_user_agent != "probe/1") {{ return 403; }} return 200; }}
                location /token {{ if ($http_authorization != "Bearer abc.def") {{ return 401; }} return 200; }}
                location /basic {{ auth_basic "private"; auth_basic_user_file /run/data/users.pem; try_files /nothing =204; }}
            }}
        }}
        "#
    );
    let files = [
        ("nginx.conf", config),
        ("users.pem", "lvs:{PLAIN}open sesame\n".to_owned()),
        ("basic", "lvs:open sesame\n".to_owned()),
        ("wrong", "lvs:open\n".to_owned()),
        ("token", "abc.def\n".to_owned()),
    ];
    let files: Vec<(&str, String)> = files.into_iter().collect();
    let script = "mkdir -p /var/log/nginx /var/lib/nginx; exec nginx -c $files/nginx.conf";
    let Some(server) = Server::start(&files, script) else { return };
    let server = server.listening(port);
    let file = |name: &str| format!("\"{}\"", server.files().join(name).display());
    let page = |path: &str, keys: &str| format!("type = \"http\", path = \"{path}\", {keys}");
    assert_passes(port, &page("/header", "headers = { X-Check = \"a, b\" }")).await;
    assert_fails(port, &page("/header", "headers = { X-Check = \"a\" }"), "status 403").await;
    assert_passes(port, &page("/agent", "user-agent = \"probe/1\"")).await;
    assert_fails(port, &page("/agent", "status = 200"), "status 403").await;
    assert_passes(
        port,
        &page("/token", &format!("password-unencrypted = true, bearer-token-file = {}", file("token"))),
    )
    .await;
    assert_fails(port, &page("/token", "status = 200"), "status 401").await;
    assert_passes(
        port,
        &page("/basic", &format!("password-unencrypted = true, basic-auth-file = {}", file("basic"))),
    )
    .await;
    assert_fails(
        port,
        &page("/basic", &format!("password-unencrypted = true, basic-auth-file = {}", file("wrong"))),
        "status 401",
    )
    .await;
    assert_fails(port, &page("/basic", "status = 200"), "status 401").await;
}
