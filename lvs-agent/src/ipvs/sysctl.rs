//! `net.ipv4.vs`: what the kernel does with connections. Each network namespace has its own
//! (`Documentation/networking/ipvs-sysctl.rst`).

use std::{fmt, fs, io, path::PathBuf};

/// A setting that decides what becomes of connections when their server is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sysctl {
    /// Whether a connection whose server is gone, or has weight 0 and a SYN comes, is forgotten at once.
    ExpireNodestConn,
    /// Whether a persistent client's template is worth nothing once its server has weight 0.
    ExpireQuiescentTemplate,
    /// Whether a SYN on a known connection may be scheduled anew: 0 never, bit 0 where that is safe, bit 1 in FIN-WAIT,
    /// too.
    ConnReuseMode,
    /// Whether connections have conntrack entries as well. It is only read.
    Conntrack,
}

impl Sysctl {
    /// Those that decide what becomes of connections, which the agent may set.
    pub const ALL: [Self; 3] = [Self::ExpireNodestConn, Self::ExpireQuiescentTemplate, Self::ConnReuseMode];

    /// Its name below `net.ipv4.vs`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ExpireNodestConn => "expire_nodest_conn",
            Self::ExpireQuiescentTemplate => "expire_quiescent_template",
            Self::ConnReuseMode => "conn_reuse_mode",
            Self::Conntrack => "conntrack",
        }
    }

    fn path(self) -> PathBuf {
        PathBuf::from("/proc/sys/net/ipv4/vs").join(self.name())
    }

    /// Its value in the network namespace of the calling thread. It is there once the kernel has loaded IPVS.
    pub fn read(self) -> io::Result<i32> {
        let text = fs::read_to_string(self.path())?;
        let number = text.trim().parse();
        number.map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{:?} is no number", text.trim()))
        })
    }

    /// Sets it there.
    pub fn write(self, value: i32) -> io::Result<()> {
        fs::write(self.path(), value.to_string())
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net.ipv4.vs.{}", self.name())
    }
}
