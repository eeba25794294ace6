//! Runs a server out of the unpacked packages.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use lvs_tests::lab::wait;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::certificates;

/// Where the packages are unpacked.
const PACKAGES: &str = "LVS_CHECK_SERVERS";
/// How long a server may take to start.
const START: Duration = Duration::from_mins(1);

/// Mounts the packages' files over this machine's, and gives every server the users that it wants to run as. What is
/// written goes to memory and is gone with the namespace.
const MOUNTS: &str = r#"
set -e
scratch="$files/scratch"
mkdir "$scratch"
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch/etc" "$scratch/etc.work" "$scratch/var" "$scratch/var.work"
over() { mount -t overlay overlay -o "lowerdir=$1:$2$3" "$2"; }
over "$packages/usr" /usr ""
for part in lib bin sbin; do
    if [ -d "$packages/$part" ]; then over "$packages/$part" "/usr/$part" ""; fi
done
over "$packages/etc" /etc ",upperdir=$scratch/etc,workdir=$scratch/etc.work"
over "$packages/var" /var ",upperdir=$scratch/var,workdir=$scratch/var.work"
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
number=60100
for name in unbound freerad ftp news dovecot dovenull vmail Debian-exim postgres mysql openldap tinyproxy; do
    number=$((number + 1))
    getent group $name > /dev/null || echo "$name:x:$number:" >> /etc/group
    getent passwd $name > /dev/null || echo "$name:x:$number:$number::/run/home:/bin/sh" >> /etc/passwd
done
mkdir -m 755 /run/data /run/empty /run/home
cp "$files"/*.pem /run/data/
cd /run/data
"#;

/// A server, and all that it has started. Dropping it ends them.
pub(crate) struct Server {
    process: Child,
    files: TempDir,
}

impl Server {
    /// Starts a server. `files` are written for it to `$files`, and `script` ends with `exec` of the server in the
    /// foreground. Certificates are in `/run/data`. `None`, if the packages aren't there.
    pub(crate) fn start(files: &[(&str, String)], script: &str) -> Option<Self> {
        let Some(packages) = env::var_os(PACKAGES).map(PathBuf::from) else {
            lvs_tests::say("skipped: run `cargo xtask test --only checks`");
            return None;
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        certificates::write(directory.path());
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("written");
        }
        let log = fs::File::create(directory.path().join("log")).expect("created");
        let process = Command::new("unshare")
            // With a PID namespace of its own everything ends with its first process.
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"])
            .arg(format!("{MOUNTS}\n{script}"))
            .env("packages", packages)
            .env("files", directory.path())
            .env_remove("LD_LIBRARY_PATH")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("unshare is there");
        Some(Self { process, files: directory })
    }

    /// Waits until something accepts connections on `port`.
    pub(crate) fn listening(mut self, port: u16) -> Self {
        let up = wait::until_true("the server", START, || {
            if self.process.try_wait()?.is_some() {
                anyhow::bail!("it has ended:\n{}", self.log());
            }
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        });
        if let Err(error) = up {
            panic!("{error:#}\n{}", self.log());
        }
        self
    }

    /// Waits until the server says this.
    pub(crate) fn logging(mut self, words: &str) -> Self {
        let up = wait::until_true("the server", START, || {
            if self.process.try_wait()?.is_some() {
                anyhow::bail!("it has ended:\n{}", self.log());
            }
            Ok(self.log().contains(words))
        });
        if let Err(error) = up {
            panic!("{error:#}\n{}", self.log());
        }
        self
    }

    /// What the server has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap_or_default()
    }

    /// Where the files for it are.
    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lvs_tests::say(&format!("the server said:\n{}", self.log()));
        }
        // The kernel ends the rest of the namespace with its first process. `unshare` would end that one with itself,
        // but not where it has changed its user, which makes it forget that wish.
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let first = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        match first {
            // `unshare` waits for it, and then ends, too.
            Some(first) => kill(Pid::from_raw(first), Signal::SIGKILL).ok(),
            None => self.process.kill().ok(),
        };
        self.process.wait().ok();
    }
}

/// A port that nothing uses, neither over TCP nor over UDP.
pub(crate) fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
