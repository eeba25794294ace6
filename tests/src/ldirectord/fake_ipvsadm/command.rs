//! What a call of ipvsadm asks for.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use lvs_agent::{
    ipvs::{Destination, Edit, KernelWeight, SchedulerName, Service, ServiceFlags},
    model::{
        AddressFamily, DestinationKey, ForwardingMethod, Netmask, Persistence, Protocol, Scheduler,
        ServiceKey, Tunnel,
    },
};

/// One call.
pub(super) enum Call {
    /// `-L -n`
    List {
        thresholds: bool,
    },
    Edit(Edit),
}

/// The options of a call that have come so far.
#[derive(Default)]
struct Options {
    action: Option<char>,
    thresholds: bool,
    protocol: Option<Protocol>,
    address: Option<String>,
    mark: Option<u32>,
    v6: bool,
    scheduler: Option<String>,
    persistent: Option<u64>,
    netmask: Option<String>,
    flags: Option<String>,
    one_packet: bool,
    server: Option<String>,
    method: Option<ForwardingMethod>,
    weight: Option<i32>,
    upper: Option<u32>,
    lower: Option<u32>,
}

pub(super) fn parse(call: &str) -> Result<Call> {
    let mut options = Options::default();
    let mut words = call.split_whitespace();
    while let Some(word) = words.next() {
        options.take(word, &mut words).with_context(|| format!("{word} in \"{call}\""))?;
    }
    options.call().with_context(|| format!("\"{call}\""))
}

impl Options {
    fn take<'a>(&mut self, word: &str, rest: &mut impl Iterator<Item = &'a str>) -> Result<()> {
        let mut value = || rest.next().context("it takes a value");
        match word {
            "-A" | "-E" | "-D" | "-a" | "-e" | "-d" | "-L" => self.action = word.chars().nth(1),
            "-n" => {}
            "--thresholds" => self.thresholds = true,
            "-t" | "-u" => {
                self.protocol = Some(if word == "-t" { Protocol::Tcp } else { Protocol::Udp });
                self.address = Some(value()?.to_owned());
            }
            "-f" => self.mark = Some(number(value()?)?),
            "-6" => self.v6 = true,
            "-s" => self.scheduler = Some(value()?.to_owned()),
            "-p" => self.persistent = Some(number(value()?)?),
            "-M" => self.netmask = Some(value()?.to_owned()),
            "-b" => self.flags = Some(value()?.to_owned()),
            "-o" => self.one_packet = true,
            "-r" => self.server = Some(value()?.to_owned()),
            "-m" => self.method = Some(ForwardingMethod::Masquerade),
            "-g" => self.method = Some(ForwardingMethod::DirectRoute),
            "-i" => self.method = Some(ForwardingMethod::Tunnel),
            "-w" => self.weight = Some(number(value()?)?),
            "-x" => self.upper = Some(number(value()?)?),
            "-y" => self.lower = Some(number(value()?)?),
            _ => bail!("unknown option"),
        }
        Ok(())
    }

    fn call(&self) -> Result<Call> {
        let action = self.action.context("no action")?;
        if action == 'L' {
            return Ok(Call::List { thresholds: self.thresholds });
        }
        let service = self.service_key()?;
        Ok(Call::Edit(match action {
            'A' => Edit::AddService(self.service(service)?),
            'E' => Edit::SetService(self.service(service)?),
            'D' => Edit::DeleteService(service),
            'a' => Edit::AddDestination { service, destination: self.destination(service)? },
            'e' => Edit::SetDestination { service, destination: self.destination(service)? },
            _ => Edit::DeleteDestination(DestinationKey { service, server: self.server(service)? }),
        }))
    }

    fn service_key(&self) -> Result<ServiceKey> {
        if let Some(mark) = self.mark {
            let family = if self.v6 { AddressFamily::V6 } else { AddressFamily::V4 };
            return Ok(ServiceKey::Mark { mark, family });
        }
        let address = self.address.as_deref().context("no service")?;
        let protocol = self.protocol.context("no protocol")?;
        Ok(ServiceKey::Address { protocol, address: address.parse().context("the service's address")? })
    }

    fn service(&self, key: ServiceKey) -> Result<Service> {
        let scheduler: Scheduler = self.scheduler.as_deref().unwrap_or("wlc").parse()?;
        let scheduler = SchedulerName::from(scheduler);
        let persistence = match self.persistent {
            Some(seconds) => Some(Persistence::new(Duration::from_secs(seconds), self.netmask(key)?)),
            None => None,
        };
        let mut flags = if self.one_packet { ServiceFlags::ONE_PACKET } else { ServiceFlags::NONE };
        for name in self.flags.iter().flat_map(|flags| flags.split(',')) {
            flags = flags | flag(name)?;
        }
        Ok(Service { key, scheduler, flags, persistence, persistence_engine: None })
    }

    fn netmask(&self, key: ServiceKey) -> Result<Netmask> {
        let Some(written) = &self.netmask else { return Ok(Netmask::whole_address(key.family())) };
        Ok(match key.family() {
            AddressFamily::V4 => Netmask::V4(written.parse()?),
            AddressFamily::V6 => Netmask::V6(number(written)?),
        })
    }

    fn destination(&self, service: ServiceKey) -> Result<Destination> {
        let (upper_threshold, lower_threshold) =
            (self.upper.unwrap_or_default(), self.lower.unwrap_or_default());
        // So does `ip_vs_add_dest` in net/netfilter/ipvs/ip_vs_ctl.c.
        ensure!(lower_threshold <= upper_threshold, "the lower threshold is above the upper one");
        let server = self.ported(service)?;
        ensure!(is_taken_by_kernel(server.ip()), "the kernel takes no such address");
        Ok(Destination {
            server,
            method: self.method(),
            tunnel: Tunnel::default(),
            weight: KernelWeight(self.weight.unwrap_or(1)),
            upper_threshold,
            lower_threshold,
        })
    }

    fn method(&self) -> ForwardingMethod {
        self.method.unwrap_or(ForwardingMethod::DirectRoute)
    }

    /// The server as ipvsadm adds it: one that is not masqueraded has the service's port.
    fn ported(&self, service: ServiceKey) -> Result<SocketAddr> {
        let mut server = self.server(service)?;
        if let ServiceKey::Address { address, .. } = service
            && self.method() != ForwardingMethod::Masquerade
        {
            server.set_port(address.port());
        }
        Ok(server)
    }

    /// The server as it is written; without a port it has the service's.
    fn server(&self, service: ServiceKey) -> Result<SocketAddr> {
        let written = self.server.as_deref().context("no server")?;
        if let Ok(server) = written.parse() {
            return Ok(server);
        }
        let port = match service {
            ServiceKey::Address { address, .. } => address.port(),
            ServiceKey::Mark { .. } => 0,
        };
        Ok(SocketAddr::new(written.parse().context("the server's address")?, port))
    }
}

/// Whether a server may have this address, by `ip_vs_new_dest` in `net/netfilter/ipvs/ip_vs_ctl.c`.
fn is_taken_by_kernel(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified()
        }
        IpAddr::V6(address) => !address.is_multicast() && !address.is_unicast_link_local(),
    }
}

fn flag(name: &str) -> Result<ServiceFlags> {
    Ok(match name {
        "flag-1" | "sh-fallback" | "mh-fallback" => ServiceFlags::SCHEDULER_1,
        "flag-2" | "sh-port" | "mh-port" => ServiceFlags::SCHEDULER_2,
        "flag-3" => ServiceFlags::SCHEDULER_3,
        _ => bail!("no flag of a scheduler"),
    })
}

fn number<N: FromStr<Err: std::error::Error + Send + Sync + 'static>>(word: &str) -> Result<N> {
    word.parse().with_context(|| format!("\"{word}\" is no number"))
}
