//! What others are told of services.

use super::*;

#[test]
fn what_is_announced_is_read_as_it_is_written() {
    let fronts = [
        "",
        "[announce]\nmin-share = 0.5\nbackups = true\nready-files = \"/run/ready\"\nnotify-fifo = \"/run/fifo\"",
        "[announce.track-files]\nfolder = \"/run/track\"\nvalue = 253\nup-after = \"off\"\nat-stop = \"fault\"",
        "[announce.track-files]\nfolder = \"/run/track\"",
    ];
    let services = [
        "announce = \"off\"",
        "announce = { device = \"lvs0\" }",
        "announce = { device = \"lvs0\", create = true, lifetime = \"10s\", down-after = \"300ms\", on-exit = \"remove\" }",
        "announce = { device = \"lvs0\", up-after = \"off\", hold-down = \"off\", hold-down-max = \"1s\" }",
    ];
    for front in fronts {
        for service in services {
            let config = good(&format!("{front}\n{}", in_service(service)));
            let written = to_toml(&config);
            assert_eq!(good(&written), config, "{written}");
        }
    }
    let all = good(&in_front("[defaults]\nannounce = { device = \"lvs0\" }"));
    assert_eq!(all.services[0].announce, Some(VipAnnouncement::on("lvs0")));
    let none = good(&format!(
        "[defaults]\nannounce = {{ device = \"lvs0\" }}\n{}",
        in_service("announce = \"off\"")
    ));
    assert_eq!(none.services[0].announce, None);
}

#[test]
fn faults_of_announcements_have_their_places() {
    let cases: [(&str, Places); 9] = [
        ("[announce]\nmin-share = 1.5", &[(2, 13, "above")]),
        ("[announce]\nready = \"/run\"", &[(2, 1, "ready-files")]),
        ("[announce.track-files]\nvalue = \"fault\"", &[(1, 1, "folder")]),
        ("[announce.track-files]\nfolder = \"/run/t\"\nvalue = 254", &[(3, 9, "253")]),
        ("[announce.track-files]\nfolder = \"/run/t\"\nvalue = 0", &[(3, 9, "1")]),
        ("[defaults]\nannounce = { create = true }", &[(2, 12, "device")]),
        ("[defaults]\nannounce = { device = \"a/b\" }", &[(2, 23, "device")]),
        ("[defaults]\nannounce = { device = \"lvs0\", lifetime = \"1s\" }", &[(2, 42, "too short")]),
        ("[defaults]\nannounce = { device = \"lvs0\", hold-down = \"9m\" }", &[(2, 12, "hold-down-max")]),
    ];
    for (front, expected) in cases {
        assert_faults(&in_front(front), expected);
    }
    let other = "[[service]]\naddress = \"192.0.2.80:443\"\nforward = \"masquerade\"\n\
                 announce = { device = \"lvs1\" }\n[[service.server]]\naddress = \"10.0.0.1\"\n";
    let one = in_service("announce = { device = \"lvs0\" }");
    assert_faults(&(one.clone() + other), &[(8, 11, "announced otherwise by the service in line 2")]);
    good(&(one + &other.replace("lvs1", "lvs0")));
    let mark = "[[service]]\nmark = 7\nforward = \"masquerade\"\nannounce = { device = \"lvs0\" }\n\
                [[service.server]]\naddress = \"10.0.0.1\"\n";
    assert_faults(mark, &[(4, 1, "firewall mark")]);
    let inherited = format!(
        "[defaults]\nannounce = {{ device = \"lvs0\" }}\n{}",
        mark.replace("announce = { device = \"lvs0\" }", "")
    );
    assert_eq!(good(&inherited).services[0].announce, None);
}
