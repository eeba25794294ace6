//! `via = "vip"`: where it may stand, and what it needs.

use super::*;
use crate::model::{Mode, ProbePath, VipMarks};

/// A service with a server by this method; its check is in line 4, `lines` before that.
fn service(lines: &str, check: &str, method: &str) -> String {
    format!(
        "[[service]]\naddress = \"192.0.2.80:80\"\n{lines}\ncheck = {check}\n[[service.server]]\n\
         address = \"10.0.0.1\"\nforward = \"{method}\"\n"
    )
}

fn path(text: &str) -> Option<ProbePath> {
    good(text).services[0].check.via.path
}

#[test]
fn the_vip_is_asked_where_the_check_the_service_or_the_defaults_say_so() {
    let vip = Some(ProbePath::Vip);
    let here = service("", "{ via = \"vip\", source = \"10.0.0.250\" }", "direct-route");
    assert_eq!(path(&here), vip);
    assert_eq!(good(&to_toml(&good(&here))), good(&here), "it is written as it is read");
    let source = "{ source = \"10.0.0.250\" }";
    let of_service = service("via = \"vip\"", source, "tunnel");
    assert_eq!(path(&of_service), vip);
    let of_all = |check: &str| format!("[defaults]\nvia = \"vip\"\n{}", service("", check, "direct-route"));
    assert_eq!(path(&of_all(source)), vip);
    assert_eq!(path(&of_all("{ via = \"server\" }")), None);
    // What was said for all has no effect on what can't be done.
    for check in ["{ type = \"ping\" }", "{ type = \"udp\", port = 53 }", "{ type = \"agent\", port = 5000 }"]
    {
        assert_eq!(path(&of_all(check)), None, "{check}");
    }
    // Answers of masqueraded servers are no martians.
    assert_eq!(path(&service("", "{ via = \"vip\" }", "masquerade")), vip);
}

#[test]
fn what_cannot_go_to_the_vip_is_refused_with_its_place() {
    let direct = |check: &str| service("", check, "direct-route");
    let by_mark = |check: &str| direct(check).replace("address = \"192.0.2.80:80\"", "mark = 3");
    let udp = |check: &str| service("protocol = \"udp\"", check, "direct-route");
    let cases: &[(String, Places)] = &[
        (direct("{ via = \"vip\" }"), &[(4, 17, "needs source = \"ADDRESS\"")]),
        (
            service("via = \"vip\"", "{ type = \"http\" }", "tunnel"),
            &[(3, 7, "by tunnel over IPv4 needs source")],
        ),
        (
            direct("{ type = \"ping\", via = \"vip\" }"),
            &[(4, 32, "of type \"ping\" makes no TCP connection")],
        ),
        (
            direct("{ via = \"vip\", source = \"10.0.0.250\", port = 8080 }"),
            &[(4, 17, "\"port\" has no meaning")],
        ),
        (
            direct("{ via = \"vip\", source = \"10.0.0.250\", mark = 7 }"),
            &[(4, 17, "\"mark\" has no meaning")],
        ),
        (by_mark("{ via = \"vip\", source = \"10.0.0.250\" }"), &[(4, 17, "service mark 3 has no address")]),
        (
            udp("{ type = \"http\", via = \"vip\", source = \"10.0.0.250\" }"),
            &[(4, 9, "port in service"), (4, 32, "no address and port over TCP")],
        ),
        (direct("{ via = \"vip\", source = \"2001:db8::1\" }"), &[(4, 17, "other IP version")]),
        (direct("{ via = \"vips\" }"), &[(4, 17, "write \"server\" or \"vip\"")]),
    ];
    for (text, expected) in cases {
        assert_faults(text, expected);
    }
}

#[test]
fn where_the_table_is_left_alone_the_author_is_told() {
    let text = service("", "{ via = \"vip\", source = \"10.0.0.250\" }", "direct-route");
    for mode in [Mode::Adopt, Mode::Observe] {
        let reading = read_in_mode(&text, Path::new(ORIGIN), Some(mode)).unwrap();
        let [warning] = &reading.warnings[..] else { panic!("{:?}", reading.warnings) };
        let told = warning.to_string();
        assert!(told.starts_with("4:17: ") && told.contains("goes to the server itself"), "{told}");
    }
}

#[test]
fn services_by_a_mark_of_probes_are_refused() {
    let by_mark = |mark: u32| {
        format!(
            "[[service]]\nmark = {mark}\nforward = \"masquerade\"\n[[service.server]]\naddress = \"10.0.0.1\"\n"
        )
    };
    let marks = VipMarks::default();
    good(&by_mark(marks.first() - 1));
    for mark in [marks.first(), marks.last()] {
        assert_faults(&by_mark(mark), &[(2, 8, "other `vip-marks` in `[agent]`")]);
    }
    let of_agent = |first: &str| format!("[agent]\nvip-marks = {first}\n{}", by_mark(0x7_0001));
    assert_faults(&of_agent("0x70000"), &[(4, 8, "other `vip-marks`")]);
    assert_faults(&of_agent("0x70001"), &[(2, 13, "no multiple of 65536")]);
}
