//! All secrets of a configuration, to be hidden where it is shown.

use super::{Backup, Check, Config, FurtherChecks, RealServer, Unlisted, VirtualService};

impl Config {
    /// Hides all secrets that stand in the configuration itself, rather than in files; how many there were.
    pub fn hide_secrets(&mut self) -> usize {
        let Self { agent: _, passive: _, services, announce: _, unlisted, role: _, sync: _ } = self;
        let Unlisted { check, further, .. } = unlisted;
        let of_services: usize = services.iter_mut().map(of_service).sum();
        of_services + of_checks(Some(check), further)
    }
}

fn of_service(service: &mut VirtualService) -> usize {
    let VirtualService { check, further, servers, policy, .. } = service;
    let of_servers: usize = servers.iter_mut().map(of_server).sum();
    let of_backups: usize = policy
        .backups
        .iter_mut()
        .map(|Backup { server, check }| {
            of_server(server) + of_checks(check.as_mut(), &mut FurtherChecks::default())
        })
        .sum();
    of_checks(Some(check), further) + of_servers + of_backups
}

fn of_server(RealServer { check, further, .. }: &mut RealServer) -> usize {
    of_checks(check.as_mut(), further)
}

fn of_checks(first: Option<&mut Check>, further: &mut FurtherChecks) -> usize {
    first.into_iter().chain(&mut further.checks).map(|check| check.kind.hide_secrets()).sum()
}
