//! What can't be changed while the agent runs. Pure.

use crate::model::{AgentSettings, Config};

/// `new` as far as it can hold now, and the settings that need a restart: of those the old ones hold on.
pub(super) fn keep(old: &Config, new: Config) -> (Config, Vec<&'static str>) {
    let Config { agent, passive, services, unlisted } = new;
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
        execute,
        log,
    } = agent;
    let was = &old.agent;
    let fixed = [
        ("`metrics` in `[agent]`", metrics != was.metrics),
        ("`control` in `[agent]`", control != was.control),
        ("`mode` in `[agent]`", mode != was.mode),
        ("`state` in `[agent]`", state != was.state),
        ("`foreign` in `[agent]`", foreign != was.foreign),
        ("`maintenance` in `[agent]`", maintenance != was.maintenance),
        ("`execute` in `[agent]`", execute != was.execute),
        ("`log` in `[agent]`", log != was.log),
        ("`[passive]`", passive != old.passive),
    ];
    let agent = AgentSettings { on_exit, autoreload, connections, callback, ..was.clone() };
    let changed = fixed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect();
    (Config { agent, passive: old.passive.clone(), services, unlisted }, changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native;

    #[test]
    fn what_needs_a_restart_is_named_and_stays() {
        let config = |agent: &str, rest: &str| {
            let text = format!(
                "[agent]\n{agent}\n{rest}\n[[service]]\naddress = \"192.0.2.1:80\"\nforward = \"masquerade\"\n\
                 [[service.server]]\naddress = \"10.0.0.1\"\n"
            );
            native::read(&text, "test.toml".as_ref()).expect("it is a configuration")
        };
        let old = config("", "");
        let cases = [
            ("", "", &[][..]),
            ("autoreload = true", "", &[]),
            ("on-exit = \"remove\"", "", &[]),
            ("metrics = \"off\"", "", &["`metrics` in `[agent]`"]),
            ("control = \"off\"", "[passive]\ntick = \"7ms\"", &["`control` in `[agent]`", "`[passive]`"]),
        ];
        for (agent, rest, expected) in cases {
            let new = config(agent, rest);
            let (kept, fixed) = keep(&old, new.clone());
            assert_eq!(fixed, expected, "{agent} {rest}");
            if expected.is_empty() {
                assert_eq!(kept, new);
            } else {
                assert_eq!(kept, old);
            }
        }
    }
}
