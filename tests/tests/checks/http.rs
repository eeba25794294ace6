use crate::{
    assert_fails, assert_passes,
    server::{Server, free_port},
};

/// nginx with a page, a redirect, an error, and the same over TLS.
pub(crate) fn nginx(port: u16, tls: u16) -> Option<Server> {
    let config = format!(
        r#"
        daemon off; user root; pid /run/nginx.pid; error_log stderr;
        events {{ }}
        http {{
            access_log off;
            server {{
                listen {port};
                listen {tls} ssl;
                server_name www.example.org;
                ssl_certificate /run/data/cert.pem;
                ssl_certificate_key /run/data/key.pem;
                location = / {{ return 200 "hello from $host over $server_protocol"; }}
                location = /old {{ return 302 /; }}
                location = /away {{ return 302 http://192.0.2.1/; }}
                location = /busy {{ return 503; }}
            }}
            server {{
                listen {port} default_server;
                listen {tls} ssl default_server;
                ssl_reject_handshake on;
                return 404;
            }}
        }}
        "#
    );
    let server = Server::start(
        &[("nginx.conf", config)],
        "mkdir -p /var/log/nginx /var/lib/nginx; exec nginx -c $files/nginx.conf",
    )?;
    Some(server.listening(tls))
}

#[tokio::test]
async fn http_and_https() {
    let (port, tls) = (free_port(), free_port());
    let Some(server) = nginx(port, tls) else { return };
    let host = "host = \"www.example.org\"";
    assert_passes(port, &format!("type = \"http\", {host}, text = \"hello\"")).await;
    assert_passes(
        port,
        &format!("type = \"http\", {host}, pattern = \"^hello .*/1[.]0$\", version = \"1.0\""),
    )
    .await;
    assert_passes(port, &format!("type = \"http\", {host}, unwanted = \"error\", method = \"GET\"")).await;
    assert_passes(port, &format!("type = \"http\", {host}, method = \"HEAD\", status = 200")).await;
    assert_passes(port, &format!("type = \"http\", {host}, path = \"/old\", status = 200, redirects = 1"))
        .await;
    // sha256sum of "hello from www.example.org over HTTP/1.1".
    let digest = "sha256:c0ffee".to_owned() + &"0".repeat(58);
    assert_fails(port, &format!("type = \"http\", {host}, digest = \"{digest}\""), "digest").await;
    assert_passes(
        port,
        &format!("type = \"http\", {host}, pages = [{{ path = \"/\" }}, {{ path = \"/old\" }}]"),
    )
    .await;
    assert_fails(port, "type = \"http\"", "status 404, wanted 200-399").await;
    assert_fails(port, &format!("type = \"http\", {host}, path = \"/busy\""), "status 503").await;
    assert_fails(port, &format!("type = \"http\", {host}, text = \"goodbye\""), "text not found").await;
    assert_fails(port, &format!("type = \"http\", {host}, unwanted = \"hello\""), "unwanted text").await;
    assert_fails(
        port,
        &format!("type = \"http\", {host}, path = \"/away\", redirects = 1"),
        "not this server",
    )
    .await;

    let ca = server.files().join("ca.pem");
    let ca = format!("tls-ca = \"{}\"", ca.display());
    assert_passes(tls, &format!("type = \"https\", {host}, text = \"hello\"")).await;
    assert_passes(tls, &format!("type = \"https\", {host}, {ca}")).await;
    assert_fails(tls, &format!("type = \"https\", {host}, tls-verify = true"), "certificate:").await;
    assert_fails(tls, &format!("type = \"https\", {host}, tls-name = \"other.example.org\", {ca}"), "TLS")
        .await;
    assert_fails(tls, "type = \"https\"", "TLS").await;
    assert_fails(port, &format!("type = \"https\", {host}"), "TLS").await;
    assert_fails(tls, &format!("type = \"http\", {host}"), "status 400").await;
    // A tcp check can speak it, too.
    let get = "GET / HTTP/1.0\\r\\nHost: www.example.org\\r\\n\\r\\n";
    assert_passes(port, &format!("type = \"tcp\", send = \"{get}\", expect = \"^HTTP/1[.]1 200 \"")).await;
    assert_passes(tls, &format!("type = \"tcp\", send = \"{get}\", expect = \"200\", tls = \"direct\", tls-name = \"www.example.org\""))
        .await;
    assert_fails(port, &format!("type = \"tcp\", send = \"{get}\", expect = \"500\""), "text not found")
        .await;
}

#[tokio::test]
async fn http_proxy() {
    let (port, tls, proxy) = (free_port(), free_port(), free_port());
    let Some(_server) = nginx(port, tls) else { return };
    let config =
        format!("User tinyproxy\nGroup tinyproxy\nPort {proxy}\nListen 127.0.0.1\nAllow 127.0.0.1\n");
    let script = "exec tinyproxy -d -c $files/tinyproxy.conf";
    let Some(server) = Server::start(&[("tinyproxy.conf", config)], script) else { return };
    let _server = server.listening(proxy);
    let path = format!("path = \"http://127.0.0.1:{port}/\"");
    assert_passes(
        proxy,
        &format!("type = \"http-proxy\", {path}, host = \"www.example.org\", status = \"200,404\""),
    )
    .await;
    let nowhere = format!("path = \"http://127.0.0.1:{}/\"", free_port());
    assert_fails(proxy, &format!("type = \"http-proxy\", {nowhere}"), "status 5").await;
}
