//! Servers that keep a lower weight while they are down.

use super::*;

#[test]
fn a_server_that_is_down_keeps_the_lower_weight() {
    let mut case = Case::new(&web("on-failure = { weight = 3 }", 3));
    assert_eq!(case.weights(), [0, 0, 0], "nobody has asked them yet");
    for host in 1..=3 {
        case.becomes(host, true);
    }
    assert_eq!(case.weights(), [10, 10, 10]);
    case.becomes(1, false);
    assert_eq!(case.weights(), [3, 10, 10]);
    let maintained = AdminState::from(AdminCommands { maintenance: true, ..AdminCommands::default() });
    case.engine.set_admin_state(&key(1), maintained, case.now);
    case.engine.set_admin_state(&key(2), maintained, case.now);
    assert_eq!(case.weights(), [0, 0, 10], "maintenance takes a server out, be it down or up");
    case.engine.set_admin_state(&key(1), AdminState::default(), case.now);
    assert_eq!(case.weights(), [3, 0, 10]);
    case.becomes(1, true);
    assert_eq!(case.weights(), [10, 0, 10]);
}

#[test]
fn the_lower_weight_is_never_above_the_servers_own() {
    let mut case = Case::new(&web("on-failure = { weight = 20 }", 2));
    case.becomes(1, true);
    case.becomes(1, false);
    assert_eq!(case.weights(), [10, 0]);
}

/// Such servers make no quorum: the backup comes in beside them.
#[test]
fn a_lowered_server_is_no_part_of_the_quorum() {
    let backup = "[[service.backup]]\naddress = \"10.0.0.3\"\nweight = 7\nchecked = false\n";
    let text = web("on-failure = { weight = 3 }", 2) + backup;
    let mut case = Case::new(&text);
    for up in [true, false] {
        case.becomes(1, up);
        case.becomes(2, up);
    }
    assert_eq!(case.weights(), [3, 3, 7]);
    case.becomes(2, true);
    assert_eq!(case.weights(), [3, 10, -1]);
}

#[test]
fn another_way_out_holds_from_the_reload_on() {
    let mut case = Case::new(&web("on-failure = { weight = 3 }", 2));
    case.becomes(1, true);
    case.becomes(1, false);
    for (lines, weight) in [("", 0), ("on-failure = \"remove\"", -1), ("on-failure = { weight = 4 }", 4)] {
        case.engine.replace(&services(&web(lines, 2)), |_| Presence::Absent, case.now);
        assert_eq!(case.weights::<1>(), [weight], "{lines}");
    }
}
