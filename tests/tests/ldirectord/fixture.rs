//! The place where both check the same servers: a network namespace with all servers' addresses on its loopback device.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use lvs_tests::{
    lab::{
        dns_server,
        namespace::Namespace,
        process::{self, programs},
    },
    ldirectord::{
        CALLER_VARIABLE, Ldirectord, LdirectordPackage, ROUND, RoundCounter,
        fake_ipvsadm::{CALL_LOG_VARIABLE, CallLog},
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::{sleep, timeout},
};

/// The servers: 10.0.0.1 and `fd00::1`, and so on.
pub(crate) const HOSTS: u8 = 6;
/// Where web servers listen on each, and at the ports 80 and 81.
pub(crate) const WEB: std::ops::RangeInclusive<u16> = 8000..=8031;
/// Where a server listens on each that says "pong".
pub(crate) const PONG: u16 = 7000;
/// Where a server listens on each that says nothing.
pub(crate) const HUNG: u16 = 7001;
/// Where a name server answers on each, over UDP.
pub(crate) const DNS: u16 = 5300;
/// The address that every name has there.
const ADDRESS_OF_NAMES: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// Between two polls.
const PAUSE: Duration = Duration::from_millis(20);

/// A namespace with servers. They are tasks of the runtime that it was made in.
pub(crate) struct Fixture {
    pub(crate) namespace: Namespace,
    folder: TempDir,
    counter: RoundCounter,
    down: BTreeSet<u8>,
    _servers: JoinSet<()>,
}

/// Does `work` on a thread in a new namespace with servers in it.
pub(crate) fn with_fixture<T: Send>(work: impl AsyncFnOnce(&mut Fixture) -> Result<T> + Send) -> Result<T> {
    let namespace = Namespace::create("ldirectord")?;
    let inside = namespace.clone();
    namespace.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut fixture = Fixture::new(inside).await?;
            work(&mut fixture).await
        })
    })
}

impl Fixture {
    async fn new(namespace: Namespace) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("lvs-lab-").tempdir()?;
        fs::create_dir(folder.path().join("down"))?;
        fs::create_dir(folder.path().join("maintenance"))?;
        // Writes down how it was called, and says whether the server is up.
        let (path, shown) = (folder.path().join("check"), folder.path().display());
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> \"{shown}/calls-${{{CALLER_VARIABLE}:-agent}}\"\nip=${{3#[}}\n\
             ! test -e \"{shown}/down/${{ip%]}}\"\n"
        );
        programs::write_script(&path, &script)?;
        let counter = RoundCounter::new(folder.path())?;
        let up = (1..=HOSTS).map(|host| addresses(host, "add")).collect::<String>();
        process::run(&namespace, &["ip", "-batch", "-"], &format!("link set lo up\n{up}"))?;
        let mut servers = JoinSet::new();
        for port in WEB.chain([80, 81, PONG, HUNG]) {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
            servers.spawn(listen(listener, port));
        }
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, DNS)).await?;
        servers.spawn(serve_names(socket));
        Ok(Self { namespace, folder, counter, down: BTreeSet::new(), _servers: servers })
    }

    /// A file in the fixture's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// These hosts are down from now on, and no others.
    pub(crate) fn set_down(&mut self, down: &BTreeSet<u8>) -> Result<()> {
        let mut script = String::new();
        for host in self.down.symmetric_difference(down) {
            let goes = down.contains(host);
            script += &addresses(*host, if goes { "del" } else { "add" });
            for address in [v4(*host), v6(*host)] {
                let file = self.path("down").join(address.to_string());
                if goes { fs::write(file, "")? } else { fs::remove_file(file)? }
            }
        }
        process::run(&self.namespace, &["ip", "-batch", "-"], &script)?;
        self.down.clone_from(down);
        Ok(())
    }

    /// Starts ldirectord with these services and one more, the last, that counts the rounds.
    pub(crate) fn start_ldirectord(&self, package: &LdirectordPackage, text: &str) -> Result<LdirectordRun> {
        self.start_ldirectord_with(package, text, &[])
    }

    /// The same, with more in its environment.
    pub(crate) fn start_ldirectord_with(
        &self,
        package: &LdirectordPackage,
        text: &str,
        more: &[(&str, &Path)],
    ) -> Result<LdirectordRun> {
        let call_log = self.path("calls");
        let environment = [&[(CALL_LOG_VARIABLE, call_log.as_path())], more].concat();
        let ipvsadm = programs::fake_ipvsadm()?;
        let process = package.start(&self.namespace, &self.counted(text), &ipvsadm, &environment)?;
        Ok(LdirectordRun { process, call_log: CallLog::at(&call_log), counter: self.counter.clone() })
    }

    /// These services and the one that counts rounds.
    pub(crate) fn counted(&self, text: &str) -> String {
        self.counter.add_to(text)
    }

    /// How checks by command were called.
    pub(crate) fn calls(&self, who: &str) -> Result<BTreeSet<String>> {
        let file = self.path(&format!("calls-{who}"));
        if !file.exists() {
            return Ok(BTreeSet::new());
        }
        Ok(fs::read_to_string(file)?.lines().map(str::to_owned).collect())
    }
}

/// ldirectord, at work on the recorder.
pub(crate) struct LdirectordRun {
    pub(crate) process: Ldirectord,
    pub(crate) call_log: CallLog,
    counter: RoundCounter,
}

impl LdirectordRun {
    /// Waits until it has gone through all services so many times.
    pub(crate) async fn rounds(&mut self, count: u64) -> Result<()> {
        let goal = self.counter.count() + count;
        let start = Instant::now();
        while self.counter.count() < goal {
            self.process.check_running()?;
            if start.elapsed() > ROUND {
                bail!("ldirectord doesn't get to the end; its log ends with:\n{}", self.process.log_end());
            }
            self.process.wake()?;
            sleep(PAUSE).await;
        }
        Ok(())
    }
}

pub(crate) fn v4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, host).into()
}

pub(crate) fn v6(host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into()
}

fn addresses(host: u8, verb: &str) -> String {
    format!("addr {verb} {}/32 dev lo\naddr {verb} {}/128 dev lo\n", v4(host), v6(host))
}

/// Answers until the socket fails.
async fn serve_names(socket: UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        if let Some(reply) = dns_server::reply(&buffer[..length], ADDRESS_OF_NAMES) {
            // Who goes away early is no fault here.
            socket.send_to(&reply, client).await.ok();
        }
    }
}

async fn listen(listener: TcpListener, port: u16) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(async move {
            // Who goes away early is no fault here.
            timeout(ROUND, answer(stream, port)).await.ok();
        });
    }
}

async fn answer(mut stream: TcpStream, port: u16) -> Result<()> {
    if port == PONG {
        return Ok(stream.write_all(b"pong\n").await?);
    }
    if port == HUNG {
        std::future::pending::<()>().await;
    }
    let mut lines = BufReader::new(&mut stream).lines();
    while !lines.next_line().await?.context("the end")?.is_empty() {}
    let body = "all is well\n";
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}
