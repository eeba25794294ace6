//! What becomes of servers that are down, and what is run at a clean stop.

use super::*;
use crate::model::CommandLine;

#[test]
fn a_server_that_is_down_may_keep_a_weight() {
    let on_failure = |value: &str| {
        let config = good(&in_service(&format!("on-failure = {value}")));
        assert_eq!(good(&to_toml(&config)), config, "written and read again: {value}");
        config.services[0].on_failure
    };
    assert_eq!(on_failure("{ weight = 3 }"), Some(OnFailure::Lower(Weight(3))));
    assert_eq!(on_failure("{ weight = 0 }"), Some(OnFailure::Quiesce));
    let inherited = good(&in_front("[defaults]\non-failure = { weight = 3 }"));
    assert_eq!(inherited.services[0].on_failure, Some(OnFailure::Lower(Weight(3))));
    assert_eq!(good(&to_toml(&inherited)), inherited);
    for (value, words) in [
        ("{ weight = 70000 }", "70000 is above 65535"),
        ("{ weight = \"3\" }", "a whole number"),
        ("{}", "write { weight = 1 }"),
        ("{ weight = 1, wait = 2 }", "has other keys than \"weight\""),
        ("3", "a word in quotes"),
    ] {
        assert_faults(&in_service(&format!("on-failure = {value}")), &[(4, 14, words)]);
    }
}

#[test]
fn a_command_at_a_clean_stop() {
    let config = good(&in_front("[agent]\non-shutdown = [\"/bin/stop\", \"all\"]"));
    let line = CommandLine { program: "/bin/stop".into(), arguments: vec!["all".to_owned()] };
    assert_eq!(config.agent.on_shutdown, Some(line));
    assert_eq!(good(&to_toml(&config)), config, "written and read again");
    assert_faults(&in_front("[agent]\non-shutdown = [\"stop\"]"), &[(2, 15, "not an absolute path")]);
}
