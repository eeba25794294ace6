//! The settings that can't change without a restart. Pure.

use crate::model::{AgentSettings, Config};

/// `new` with the old values of all settings that need a restart, and the names of those that have changed.
pub(crate) fn without_restart(old: &Config, new: Config) -> (Config, Vec<&'static str>) {
    let Config { agent, passive, services, announce, unlisted, role, sync } = new;
    let AgentSettings {
        metrics,
        on_exit,
        control,
        mode,
        state,
        autoreload,
        foreign,
        connections,
        maintenance,
        callback,
        on_shutdown,
        execute,
        log,
        script_user,
        operators,
        probe_mark,
        vip_marks,
    } = agent;
    let before = &old.agent;
    let settings = [
        ("`metrics` in `[agent]`", metrics != before.metrics),
        ("`control` in `[agent]`", control != before.control),
        ("`mode` in `[agent]`", mode != before.mode),
        ("`state` in `[agent]`", state != before.state),
        ("`foreign` in `[agent]`", foreign != before.foreign),
        ("`maintenance` in `[agent]`", maintenance != before.maintenance),
        ("`execute` in `[agent]`", execute != before.execute),
        ("`log` in `[agent]`", log != before.log),
        ("`script-user` in `[agent]`", script_user != before.script_user),
        ("`operators` in `[agent]`", operators != before.operators),
        ("`probe-mark` in `[agent]`", probe_mark != before.probe_mark),
        ("`vip-marks` in `[agent]`", vip_marks != before.vip_marks),
        ("`[passive]`", passive != old.passive),
        ("`[announce]`", announce != old.announce),
    ];
    let agent = AgentSettings { on_exit, autoreload, connections, callback, on_shutdown, ..before.clone() };
    let changed = settings.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect();
    let (passive, announce) = (old.passive.clone(), old.announce.clone());
    (Config { agent, passive, services, announce, unlisted, role, sync }, changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native;

    #[test]
    fn settings_that_need_a_restart_are_named_and_keep_their_values() {
        let config = |agent: &str, tables: &str| {
            let text = format!(
                "[agent]\n{agent}\n{tables}\n[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n\
                 [[service.server]]\naddress = \"10.0.0.1\"\n"
            );
            native::read(&text, "test.toml".as_ref()).expect("it is a configuration")
        };
        let old = config("", "");
        let cases = [
            ("", "", &[][..]),
            ("autoreload = true", "", &[]),
            ("on-exit = \"remove\"", "", &[]),
            ("on-shutdown = [\"/bin/true\"]", "", &[]),
            ("metrics = \"off\"", "", &["`metrics` in `[agent]`"]),
            ("script-user = \"daemon\"", "", &["`script-user` in `[agent]`"]),
            ("operators = \"adm\"", "", &["`operators` in `[agent]`"]),
            ("probe-mark = 7", "", &["`probe-mark` in `[agent]`"]),
            ("vip-marks = 0x70000", "", &["`vip-marks` in `[agent]`"]),
            ("control = \"off\"", "[passive]\ntick = \"7ms\"", &["`control` in `[agent]`", "`[passive]`"]),
        ];
        for (agent, tables, expected) in cases {
            let new = config(agent, tables);
            let (config, need_restart) = without_restart(&old, new.clone());
            assert_eq!(need_restart, expected, "{agent} {tables}");
            if expected.is_empty() {
                assert_eq!(config, new);
            } else {
                assert_eq!(config, old);
            }
        }
    }
}
