//! Whether a check goes to the server or to the VIP.

use std::ops::Range;

use toml::{Spanned, de::DeValue};

use super::{Kind, ReadCheck};
use crate::{
    config::{
        diagnostics::{Contradiction, FaultList, Prerequisite, ValueFault, WarningKind},
        native::{section::Section, value},
    },
    model::{CheckKind, Mode, ProbePath, Protocol, RealServer, ServiceKey, needs_own_source},
};

/// Whom a check asks, by its name.
pub(in crate::config::native) const PATHS: [(&str, ProbePath); 2] =
    [("server", ProbePath::Server), ("vip", ProbePath::Vip)];

/// Keys that lead a probe elsewhere than to the VIP.
const ELSEWHERE: [&str; 4] = ["port", "connect-to", "device", "mark"];

/// What a check is to know of the service that it is for.
pub(in crate::config::native) struct ServiceContext {
    pub(in crate::config::native) key: ServiceKey,
    /// `via` of the service or of `[defaults]`.
    pub(in crate::config::native) via: Option<Spanned<ProbePath>>,
    pub(in crate::config::native) mode: Mode,
}

impl ServiceContext {
    /// Whether clients connect to an address and port of it.
    fn has_vip(&self) -> bool {
        matches!(self.key, ServiceKey::Address { protocol: Protocol::Tcp, address } if address.port() != 0)
    }
}

/// Whom a check asks.
pub(in crate::config::native) fn path(value: &DeValue<'_>) -> Result<ProbePath, ValueFault> {
    value::word(value, &PATHS)
}

/// `via` of a check, and what can't be written beside it.
pub(super) fn read(
    section: &mut Section<'_>,
    kind: Option<Kind>,
    faults: &mut FaultList,
) -> Option<ProbePath> {
    let is_written = section.is_written("via");
    let path = section.read("via", faults, path)?;
    if *path.get_ref() == ProbePath::Vip && is_written {
        if let Some(kind) = kind.filter(|kind| !kind.connects() || *kind == Kind::Agent) {
            faults.add(path.span(), Contradiction::VipByKind { kind: kind.name() });
        }
        for key in ELSEWHERE {
            if section.is_written(key) {
                faults.add(path.span(), Contradiction::VipAndElsewhere { key });
            }
        }
    }
    Some(path.into_inner())
}

impl ReadCheck<'_> {
    /// Whom the check asks in this service. What is said for many services and can't be done in this one has no effect
    /// there; what is said in the check itself is a fault then.
    pub(super) fn resolve_path(
        &self,
        kind: &CheckKind,
        service: &ServiceContext,
        servers: &[RealServer],
        faults: &mut FaultList,
    ) -> Option<ProbePath> {
        let own = self.check.via.path.map(|path| (path, self.value_span("via")));
        let said = own.or_else(|| service.via.as_ref().map(|via| (*via.get_ref(), via.span())));
        let Some((ProbePath::Vip, place)) = said else { return None };
        let is_own = self.check.via.path.is_some() && !self.lent_path;
        if !service.has_vip() || !kind.can_ask_vip() {
            if is_own && !service.has_vip() {
                let service = service.key.to_string();
                faults.add(place, Contradiction::VipWithoutPort { service });
            } else if is_own && matches!(kind, CheckKind::Dns(_) | CheckKind::Sip(_)) {
                faults.add(place, Contradiction::VipOverUdp);
            }
            return None;
        }
        let ServiceKey::Address { address: vip, .. } = service.key else { return None };
        let lacks_source = |server: &&RealServer| needs_own_source(vip.ip(), server.method);
        if self.check.via.source.is_none()
            && let Some(server) = servers.iter().find(lacks_source)
        {
            faults.add(place, Contradiction::VipWithoutSource { method: server.method });
        } else if let Some(source) = self.check.via.source
            && source.is_ipv4() != vip.is_ipv4()
        {
            let server = vip.ip();
            faults.add(place, Contradiction::OtherSource { source_address: source, server });
        } else if service.mode != Mode::Manage {
            faults.warn(place, WarningKind::VipUnmanaged { mode: service.mode });
        }
        Some(ProbePath::Vip)
    }

    /// Notes that the source must be an address of this director's. Where the VIP is asked it is made one.
    pub(super) fn need_source(&self, faults: &mut FaultList) {
        let Some(source) = self.check.via.source else { return };
        if !self.check.via.wants_vip() {
            faults.need(self.value_span("source"), Prerequisite::Source(source));
        }
    }

    /// The place of a value that is written here or above.
    fn value_span(&self, key: &str) -> Range<usize> {
        self.written.get(key).map_or_else(|| self.place.clone(), Spanned::span)
    }
}
