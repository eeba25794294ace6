use crate::{
    assert_fails, assert_passes,
    server::{Server, free_port},
};

#[tokio::test]
async fn mysql() {
    let port = free_port();
    let users = "\
        CREATE DATABASE shop;\n\
        CREATE TABLE shop.things (name TEXT);\n\
        INSERT INTO shop.things VALUES ('thing');\n\
        CREATE USER 'me'@'127.0.0.1' IDENTIFIED BY 'secret';\n\
        CREATE USER 'open'@'127.0.0.1';\n\
        GRANT SELECT ON shop.* TO 'me'@'127.0.0.1';\n";
    let script = format!(
        "mkdir -p /run/mysql /var/lib/mysql-files; chmod 644 key.pem\n\
         mariadb-install-db --no-defaults --datadir=/run/mysql --auth-root-authentication-method=normal --user=root \
             --skip-test-db --basedir=/usr > /run/install.log 2>&1 || {{ cat /run/install.log; exit 1; }}\n\
         exec mariadbd --no-defaults --user=root --datadir=/run/mysql --port={port} --bind-address=127.0.0.1 \
             --socket=/run/mysql.sock --pid-file=/run/mysql.pid --init-file=$files/users.sql --skip-name-resolve \
             --innodb-buffer-pool-size=16M --ssl-cert=/run/data/cert.pem --ssl-key=/run/data/key.pem"
    );
    let Some(server) = Server::start(&[("users.sql", users.to_owned())], &script) else { return };
    let server = server.listening(port);
    let ca =
        format!("tls-name = \"www.example.org\", tls-ca = \"{}\"", server.files().join("ca.pem").display());
    let login = "user = \"me\", password = \"secret\"";
    assert_passes(port, &format!("type = \"mysql\", {login}")).await;
    assert_passes(port, "type = \"mysql\", user = \"open\"").await;
    assert_passes(
        port,
        &format!("type = \"mysql\", {login}, database = \"shop\", query = \"SELECT * FROM things\""),
    )
    .await;
    assert_passes(
        port,
        &format!("type = \"mysql\", {login}, tls = \"starttls\", query = \"SELECT 1\", {ca}"),
    )
    .await;
    let nothing = "query = \"SELECT * FROM things WHERE name = 'x'\"";
    assert_fails(port, &format!("type = \"mysql\", {login}, database = \"shop\", {nothing}"), "no rows")
        .await;
    assert_fails(port, &format!("type = \"mysql\", {login}, query = \"SELECT x FROM nowhere.y\""), "denied")
        .await;
    assert_fails(port, &format!("type = \"mysql\", {login}, query = \"SET @a = 1\""), "no rows").await;
    assert_fails(port, &format!("type = \"mysql\", {login}, database = \"mysql\""), "denied").await;
    assert_fails(port, "type = \"mysql\", user = \"me\", password = \"x\"", "denied").await;
    assert_fails(
        port,
        &format!("type = \"mysql\", {login}, tls = \"starttls\", tls-verify = true"),
        "certificate",
    )
    .await;
    assert_fails(port, "type = \"smtp\"", "answered").await;
}

#[tokio::test]
async fn postgresql() {
    let port = free_port();
    let access = "\
        host all open 127.0.0.1/32 trust\n\
        host all plain 127.0.0.1/32 password\n\
        host all old 127.0.0.1/32 md5\n\
        hostssl all secure 127.0.0.1/32 scram-sha-256\n\
        host all me 127.0.0.1/32 scram-sha-256\n";
    let users = "\
        SET password_encryption = 'md5'; CREATE USER old PASSWORD 'secret';\n\
        SET password_encryption = 'scram-sha-256';\n\
        CREATE USER me PASSWORD 'secret'; CREATE USER plain PASSWORD 'secret';\n\
        CREATE USER secure PASSWORD 'secret'; CREATE USER open;\n";
    let script = format!(
        "bin=/usr/lib/postgresql/15/bin; as=\"setpriv --reuid=postgres --regid=postgres --clear-groups\"\n\
         chown postgres:postgres /run/data key.pem; chmod 600 key.pem; chown postgres /run/home; export HOME=/run/home\n\
         $as $bin/initdb --no-sync --auth=trust --locale=C --pgdata=/run/data/db > /dev/null\n\
         cp $files/pg_hba.conf /run/data/db/\n\
         $as $bin/postgres --single -D /run/data/db postgres < $files/users.sql > /dev/null\n\
         exec $as $bin/postgres -D /run/data/db -p {port} -c listen_addresses=127.0.0.1 \
             -c unix_socket_directories=/run/data -c fsync=off -c ssl=on -c ssl_cert_file=/run/data/cert.pem \
             -c ssl_key_file=/run/data/key.pem"
    );
    let files = [("pg_hba.conf", access.to_owned()), ("users.sql", users.to_owned())];
    let Some(server) = Server::start(&files, &script) else { return };
    let server = server.logging("ready to accept connections").listening(port);
    let ca =
        format!("tls-name = \"www.example.org\", tls-ca = \"{}\"", server.files().join("ca.pem").display());
    let db = "database = \"postgres\"";
    // The server asks this one for the password itself.
    let plain = "user = \"plain\", password = \"secret\"";
    assert_fails(port, &format!("type = \"postgresql\", {db}, {plain}"), "only sent encrypted").await;
    assert_passes(port, &format!("type = \"postgresql\", {db}, {plain}, tls = \"starttls\", {ca}")).await;
    assert_passes(port, &format!("type = \"postgresql\", {db}, {plain}, password-unencrypted = true")).await;
    for user in ["old", "me"] {
        let login = format!("user = \"{user}\", password = \"secret\"");
        assert_passes(port, &format!("type = \"postgresql\", {db}, {login}, query = \"SELECT 1\"")).await;
        let wrong = format!("user = \"{user}\", password = \"x\"");
        assert_fails(port, &format!("type = \"postgresql\", {db}, {wrong}"), "authentication failed").await;
    }
    let secure = "user = \"secure\", password = \"secret\"";
    assert_passes(port, &format!("type = \"postgresql\", {db}, {secure}, tls = \"starttls\", {ca}")).await;
    assert_fails(port, &format!("type = \"postgresql\", {db}, {secure}"), "no pg_hba.conf entry").await;
    assert_fails(
        port,
        &format!("type = \"postgresql\", {db}, {secure}, tls = \"starttls\", tls-verify = true"),
        "certificate",
    )
    .await;
    let open = "user = \"open\"";
    assert_fails(port, &format!("type = \"postgresql\", {open}"), "does not exist").await;
    assert_fails(
        port,
        &format!("type = \"postgresql\", {db}, {open}, query = \"SELECT 1 WHERE false\""),
        "no rows",
    )
    .await;
    assert_fails(port, &format!("type = \"postgresql\", {db}, {open}, query = \"SELEKT\""), "syntax error")
        .await;
    assert_fails(port, "type = \"mysql\", user = \"x\", read-timeout = \"500ms\"", "no greeting in time")
        .await;
}
