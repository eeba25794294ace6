//! The errors of reading and changing the kernel's table, in words for people.

use std::{fmt, time::Duration};

use nix::errno::Errno;

use super::{
    codec::{DecodeError, EncodeError},
    daemons::DaemonEdit,
    edit::{Conflict, Edit},
    table::{SchedulerName, Service},
};
use crate::{
    model::{DestinationKey, ServiceKey},
    netlink::NetlinkError,
};

/// An operation that can fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Looking up the number of the `IPVS` netlink family.
    Connect,
    /// Asking for version and table size.
    ReadInfo,
    /// Dumping the services.
    ReadServices,
    /// Dumping the destinations of a service.
    ReadDestinations(ServiceKey),
    /// Asking for the connections' timeouts.
    ReadTimeouts,
    /// Setting the connections' timeouts.
    SetTimeouts,
    /// Dumping the synchronisation daemons.
    ReadDaemons,
    /// Starting or stopping a synchronisation daemon.
    Daemon(DaemonEdit),
    /// Changing the table.
    Edit(Box<Edit>),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect to IPVS"),
            Self::ReadInfo => f.write_str("read the version of IPVS"),
            Self::ReadServices => f.write_str("read the services of the IPVS table"),
            Self::ReadDestinations(service) => write!(f, "read the servers of service {service}"),
            Self::ReadTimeouts => f.write_str("read the timeouts of IPVS"),
            Self::SetTimeouts => f.write_str("set the timeouts of IPVS"),
            Self::ReadDaemons => f.write_str("read the synchronisation daemons of IPVS"),
            Self::Daemon(edit) => edit.fmt(f),
            Self::Edit(edit) => edit.fmt(f),
        }
    }
}

/// Reading or changing the kernel's table failed.
#[derive(Debug, thiserror::Error)]
pub enum IpvsError {
    /// The netlink family isn't there: the module isn't loaded, or was unloaded.
    #[error("the kernel has no ip_vs: modprobe ip_vs")]
    NoIpvs,
    /// Even reading takes privileges.
    #[error("can't {0}: needs root or CAP_NET_ADMIN (outside of user namespaces)")]
    NotPermitted(Operation),
    /// The table isn't as this program believed: others have changed it.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The kernel can't load the scheduler.
    #[error(
        "can't use service {service}: scheduler \"{scheduler}\" is not available: modprobe ip_vs_{scheduler}"
    )]
    NoScheduler {
        /// The service that asks for it.
        service: ServiceKey,
        /// The scheduler.
        scheduler: SchedulerName,
    },
    /// The kernel can't load the scheduler or the persistence engine; it doesn't say which.
    #[error(
        "can't use service {service}: scheduler \"{scheduler}\" or persistence engine \"{engine}\" is not available: \
         modprobe ip_vs_{scheduler} ip_vs_pe_{engine}"
    )]
    NoSchedulerOrEngine {
        /// The service that asks for them.
        service: ServiceKey,
        /// The scheduler.
        scheduler: SchedulerName,
        /// The persistence engine.
        engine: String,
    },
    /// The kernel has no IPv6, or no IPVS for it.
    #[error("can't {0}: the kernel's IPVS has no support for that IP version")]
    NoSuchFamily(Operation),
    /// The kernel refused to start or stop a synchronisation daemon.
    #[error("can't {edit}: {reason}", reason = daemon_reason(edit, *.errno))]
    DaemonRefused {
        /// What it refused.
        edit: DaemonEdit,
        /// Why.
        errno: Errno,
    },
    /// The kernel refused for another reason.
    #[error("can't {operation}: the kernel says: {reason}{hint}", reason = .errno.desc(), hint = hint(*.errno))]
    Refused {
        /// The operation that it refused.
        operation: Operation,
        /// Why.
        errno: Errno,
    },
    /// The kernel didn't answer. An edit may have been made all the same.
    #[error("can't {operation}: no answer from the kernel within {after:?}")]
    Timeout {
        /// The operation that wasn't answered.
        operation: Operation,
        /// How long this program waited for an answer.
        after: Duration,
    },
    /// Others change the table faster than it can be read.
    #[error("can't {0}: the table kept changing while it was read; try again")]
    Unsteady(Operation),
    /// The kernel's answer can't be understood.
    #[error("can't {operation}: the kernel's answer makes no sense: {error}")]
    Answer {
        /// The operation that was answered.
        operation: Operation,
        /// What is wrong with the answer.
        error: DecodeError,
    },
    /// The kernel gave no answer to a request that has one.
    #[error("can't {0}: the kernel's answer is empty")]
    NoAnswer(Operation),
    /// The request couldn't be built.
    #[error("can't {operation}: {error}")]
    Encode {
        /// The operation that it was part of.
        operation: Operation,
        /// Why it couldn't be built.
        error: EncodeError,
    },
    /// The netlink socket failed.
    #[error("can't {operation}: netlink socket: {reason}")]
    Socket {
        /// The operation that failed.
        operation: Operation,
        /// The socket's error.
        reason: String,
    },
}

impl IpvsError {
    /// The error of an operation whose exchange with the kernel failed.
    pub(super) fn new(operation: Operation, error: NetlinkError) -> Self {
        match error {
            NetlinkError::Kernel(errno) => Self::refused(operation, errno),
            NetlinkError::Timeout(after) => Self::Timeout { operation, after },
            NetlinkError::Unsteady => Self::Unsteady(operation),
            NetlinkError::Socket(reason) => Self::Socket { operation, reason },
        }
    }

    /// The meaning of the kernel's refusal (`ip_vs_genl_set_cmd` and below).
    fn refused(operation: Operation, errno: Errno) -> Self {
        match errno {
            Errno::EPERM | Errno::EACCES => Self::NotPermitted(operation),
            Errno::EAFNOSUPPORT if !matches!(operation, Operation::Daemon(_)) => {
                Self::NoSuchFamily(operation)
            }
            errno => match operation {
                Operation::Edit(edit) => Self::edit_refused(*edit, errno),
                Operation::Daemon(edit) => Self::DaemonRefused { edit, errno },
                operation => Self::Refused { operation, errno },
            },
        }
    }

    fn edit_refused(edit: Edit, errno: Errno) -> Self {
        let service = edit.service();
        let destination = edit.server().map(|server| DestinationKey { service, server });
        match (errno, &edit, destination) {
            (Errno::ESRCH, _, _) => Conflict::ServiceMissing(service).into(),
            (Errno::EEXIST, _, None) => Conflict::ServiceExists(service).into(),
            (Errno::EEXIST, _, Some(key)) => Conflict::DestinationExists(key).into(),
            (Errno::ENOENT, _, Some(key)) => Conflict::DestinationMissing(key).into(),
            (Errno::ENOENT, Edit::AddService(service) | Edit::SetService(service), None) => {
                Self::no_module(service)
            }
            _ => Self::Refused { operation: Operation::Edit(Box::new(edit)), errno },
        }
    }

    fn no_module(service: &Service) -> Self {
        let scheduler = service.scheduler.clone();
        match service.persistence_engine.clone() {
            None => Self::NoScheduler { service: service.key, scheduler },
            Some(engine) => Self::NoSchedulerOrEngine { service: service.key, scheduler, engine },
        }
    }
}

/// What its refusals of a daemon mean: `ip_vs_genl_new_daemon`, `start_sync_thread`, `make_send_sock` and
/// `make_receive_sock` of Linux 6.1.
fn daemon_reason(edit: &DaemonEdit, errno: Errno) -> String {
    let DaemonEdit::Start(daemon) = edit else {
        return match errno {
            Errno::ESRCH => "none runs".to_owned(),
            errno => format!("the kernel says: {}", errno.desc()),
        };
    };
    let (role, device) = (daemon.role, &daemon.device);
    let version = if daemon.group.is_some_and(|group| group.is_ipv6()) { "IPv6" } else { "IPv4" };
    match errno {
        Errno::EEXIST => format!("a {role} runs already"),
        Errno::ENODEV => format!("there is no interface {device}, or it has no {version}"),
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EADDRNOTAVAIL => {
            format!("the interface {device} is down, or has no {version} address")
        }
        Errno::EADDRINUSE => format!("another program has the UDP port {}", daemon.port),
        Errno::EAFNOSUPPORT => format!("this kernel has no {version}"),
        Errno::EINVAL => {
            "the kernel refuses: a server is of another IP version than its service, which can't be \
                          synchronised, or it has no IPVS for that group's IP version"
                .to_owned()
        }
        errno => format!("the kernel says: {}", errno.desc()),
    }
}

/// What the kernel's shorter answers usually mean, from its source.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EINVAL => {
            " (a server that is no unicast address, one of another IP version than its service without a tunnel, \
             a GUE tunnel without a port, a netmask out of range, or port 0 without persistence)"
        }
        Errno::ERANGE => " (a negative weight, or a lower threshold above the upper one)",
        Errno::ENOPROTOOPT => " (the module ip_vs is being unloaded)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ipvs::{Destination, KernelWeight, ServiceFlags},
        model::{ForwardingMethod, Protocol, Tunnel},
    };

    fn key() -> ServiceKey {
        ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.1:80".parse().unwrap() }
    }

    fn service(engine: Option<&str>) -> Service {
        Service {
            key: key(),
            scheduler: "mh".try_into().unwrap(),
            flags: ServiceFlags::NONE,
            persistence: None,
            persistence_engine: engine.map(str::to_owned),
        }
    }

    fn destination() -> Destination {
        Destination {
            server: "10.0.0.1:80".parse().unwrap(),
            method: ForwardingMethod::Masquerade,
            tunnel: Tunnel::Ipip,
            weight: KernelWeight(1),
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    #[test]
    fn refusals_are_explained() {
        let add = Edit::AddService(service(None));
        let with_engine = Edit::SetService(service(Some("sip")));
        let set = Edit::SetDestination { service: key(), destination: destination() };
        let add_server = Edit::AddDestination { service: key(), destination: destination() };
        let cases = [
            (&add, Errno::ENOENT, "scheduler \"mh\" is not available: modprobe ip_vs_mh"),
            (&with_engine, Errno::ENOENT, "modprobe ip_vs_mh ip_vs_pe_sip"),
            (&add, Errno::EEXIST, "service tcp 192.0.2.1:80 is in the kernel's table already"),
            (&set, Errno::ESRCH, "service tcp 192.0.2.1:80 is not in the kernel's table"),
            (&set, Errno::ENOENT, "server tcp 192.0.2.1:80 -> 10.0.0.1:80 is not in the kernel's table"),
            (
                &add_server,
                Errno::EEXIST,
                "server tcp 192.0.2.1:80 -> 10.0.0.1:80 is in the kernel's table already",
            ),
            (&set, Errno::EPERM, "can't set server tcp 192.0.2.1:80 -> 10.0.0.1:80 weight 1: needs root"),
            (&set, Errno::EINVAL, "the kernel says: Invalid argument"),
        ];
        for (edit, errno, part) in cases {
            let operation = Operation::Edit(Box::new(edit.clone()));
            let text = IpvsError::new(operation, NetlinkError::Kernel(errno)).to_string();
            assert!(text.contains(part), "{edit} refused with {errno}: {text}");
        }
    }

    #[test]
    fn refusals_of_daemons_are_explained() {
        use crate::{ipvs::WantedDaemon, model::SyncSettings};
        let start = DaemonEdit::Start(WantedDaemon::of(&SyncSettings::on("eth9"))[0].to_daemon());
        let cases = [
            (Errno::ENODEV, "there is no interface eth9, or it has no IPv4"),
            (Errno::ENETUNREACH, "the interface eth9 is down, or has no IPv4 address"),
            (Errno::EEXIST, "a master runs already"),
            (Errno::EPERM, "needs root or CAP_NET_ADMIN"),
            (Errno::EAFNOSUPPORT, "this kernel has no IPv4"),
            (Errno::ENOMEM, "the kernel says: "),
        ];
        for (errno, part) in cases {
            let error = IpvsError::new(Operation::Daemon(start.clone()), NetlinkError::Kernel(errno));
            let text = error.to_string();
            assert!(
                text.starts_with("can't start sync daemon master on eth9") && text.contains(part),
                "{text}"
            );
        }
    }

    #[test]
    fn reading_without_privileges_says_what_is_needed() {
        let text = IpvsError::new(Operation::ReadServices, NetlinkError::Kernel(Errno::EPERM)).to_string();
        assert!(text.contains("root or CAP_NET_ADMIN"), "{text}");
    }
}
