//! The baseline checks that a configuration asks for: the same server asked the same question is asked once. Pure.

use std::{collections::HashMap, sync::Arc};

use super::decisions::destinations;
use crate::{
    config::{Check, VirtualService},
    probe::{BaselineCheck, CheckId, ProbeTarget},
    service::DestinationKey,
};

/// Checks and who wants to know their results.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) checks: Vec<BaselineCheck>,
    pub(super) subscribers: HashMap<CheckId, Vec<DestinationKey>>,
}

impl Checks {
    pub(super) fn new(services: &[VirtualService]) -> Self {
        let mut all = Self::default();
        let mut ids: HashMap<(ProbeTarget, Arc<Check>), CheckId> = HashMap::new();
        for service in services {
            let shared = Arc::new(service.check.clone());
            for (destination, server) in destinations(service).zip(&service.servers) {
                let check = server.check.clone().map_or_else(|| shared.clone(), Arc::new);
                let target = ProbeTarget::of_check(destination.server, &check);
                let next = CheckId(u32::try_from(ids.len()).unwrap_or(u32::MAX));
                let id = *ids.entry((target, check.clone())).or_insert_with(|| {
                    all.checks.push(BaselineCheck { id: next, target, check: check.clone() });
                    next
                });
                all.subscribers.entry(id).or_default().push(destination);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn one_check_many_services() {
        let text = r#"
            [defaults]
            forward = "masquerade"

            [[service]]
            address = "192.0.2.1:80"
            [[service.server]]
            address = "10.0.0.1:80"
            [[service.server]]
            address = "10.0.0.2:80"

            [[service]]
            address = "192.0.2.2:80"
            [[service.server]]
            address = "10.0.0.1:80"

            [[service]]
            address = "192.0.2.3:80"
            check = { type = "ping" }
            [[service.server]]
            address = "10.0.0.1:80"
        "#;
        let config = crate::config::native::read(text, "test.toml".as_ref()).expect("it is a configuration");
        let Config { services, .. } = config;
        let checks = Checks::new(&services);
        let asked: Vec<usize> =
            checks.checks.iter().map(|check| checks.subscribers[&check.id].len()).collect();
        assert_eq!(asked, [2, 1, 1], "10.0.0.1 by connect for two services, by ping for one; 10.0.0.2 once");
    }
}
