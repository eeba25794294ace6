//! `net.ipv4.vs`: what the kernel does with connections. Each network namespace has its own
//! (`Documentation/networking/ipvs-sysctl.rst`).

use std::{fmt, fs, io, path::PathBuf};

/// A setting that decides what becomes of connections when their server is out, or their director.
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
    /// With which packet another director is told of a connection, and after how many again: two numbers.
    SyncThreshold,
    /// By how many seconds a connection's timeout must differ for it to be told of again.
    SyncRefreshPeriod,
    /// How often that is repeated.
    SyncRetries,
    /// How many threads a synchronisation daemon has.
    SyncPorts,
    /// Whether of persistent clients only the template is told of.
    SyncPersistMode,
    /// Whether nothing is balanced while a backup daemon runs.
    BackupOnly,
}

impl Sysctl {
    /// Those that decide what becomes of connections whose server is out, which the agent may set.
    pub const ALL: [Self; 3] = [Self::ExpireNodestConn, Self::ExpireQuiescentTemplate, Self::ConnReuseMode];

    /// Its name below `net.ipv4.vs`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ExpireNodestConn => "expire_nodest_conn",
            Self::ExpireQuiescentTemplate => "expire_quiescent_template",
            Self::ConnReuseMode => "conn_reuse_mode",
            Self::Conntrack => "conntrack",
            Self::SyncThreshold => "sync_threshold",
            Self::SyncRefreshPeriod => "sync_refresh_period",
            Self::SyncRetries => "sync_retries",
            Self::SyncPorts => "sync_ports",
            Self::SyncPersistMode => "sync_persist_mode",
            Self::BackupOnly => "backup_only",
        }
    }

    fn path(self) -> PathBuf {
        PathBuf::from("/proc/sys/net/ipv4/vs").join(self.name())
    }

    /// Its value in the network namespace of the calling thread. It is there once the kernel has loaded IPVS.
    pub fn read(self) -> io::Result<i32> {
        match self.read_all()? {
            SysctlValue::One(value) | SysctlValue::Two(value, _) => Ok(value),
        }
    }

    /// The same with both numbers, where it has two.
    pub fn read_all(self) -> io::Result<SysctlValue> {
        let text = fs::read_to_string(self.path())?;
        let mut words = text.split_whitespace().map(str::parse);
        match (words.next(), words.next(), words.next()) {
            (Some(Ok(value)), None, None) => Ok(SysctlValue::One(value)),
            (Some(Ok(first)), Some(Ok(second)), None) => Ok(SysctlValue::Two(first, second)),
            _ => {
                let error = format!("{:?} is no number", text.trim());
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Sets it there.
    pub fn write(self, value: SysctlValue) -> io::Result<()> {
        fs::write(self.path(), value.to_string())
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net.ipv4.vs.{}", self.name())
    }
}

/// The value of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SysctlValue {
    /// A number.
    One(i32),
    /// Two of them, as `sync_threshold` has.
    Two(i32, i32),
}

impl fmt::Display for SysctlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(value) => write!(f, "{value}"),
            Self::Two(first, second) => write!(f, "{first} {second}"),
        }
    }
}
