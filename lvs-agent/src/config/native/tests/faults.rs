//! What is refused, with which words and at which place.

use super::*;

#[test]
fn faults_in_the_settings() {
    let cases: &[(&str, Places)] = &[
        ("[agent]\nmetrik = 1", &[(2, 1, "did you mean \"metrics\"?")]),
        ("[agent]\non_exit = \"keep\"", &[(2, 1, "did you mean \"on-exit\"?")]),
        ("[agent]\ncolour = 1", &[(2, 1, "known here: metrics, on-exit, control")]),
        ("[agent]\non-exit = \"stay\"", &[(2, 11, "\"stay\" is unknown; write \"keep\" or \"remove\"")]),
        ("[agent]\nmetrics = \"127.0.0.1\"", &[(2, 11, "has no port")]),
        ("[agent]\nmetrics = \"127.0.0.1:0\"", &[(2, 11, "port \"0\"")]),
        ("[agent]\ncontrol = \"run/lvs\"", &[(2, 11, "not an absolute path")]),
        ("[agent]\noperators = \"\"", &[(2, 13, "is not a group")]),
        ("[agent]\noperators = \"a:b\"", &[(2, 13, "is not a group")]),
        ("[agent]\noperators = true", &[(2, 13, "a group, such as")]),
        ("[agent]\nmetrics = \"localhost:9747\"", &[(2, 11, "names are not resolved")]),
        ("[agent]\nmetrics = 9747", &[(2, 11, "or \"off\"")]),
        ("[agent.connections]\nexpire-nodest = \"on\"", &[(2, 17, "\"on\" is unknown; write \"keep\"")]),
        ("[agent.connections]\nexpire-quiescent = 1", &[(2, 20, "true, false or \"keep\"")]),
        ("[agent.connections]\nreuse-mode = 4", &[(2, 14, "4")]),
        ("agent = 1", &[(1, 9, "the whole number 1 is not allowed here; write a table")]),
        ("[passiv]", &[(1, 2, "did you mean \"passive\"?")]),
        (
            "[passive]\nenabled = \"yes\"",
            &[(2, 11, "text (\"yes\") is not allowed here; write true or false")],
        ),
        ("[passive]\ntick = 10", &[(2, 8, "10 has no unit; write \"10ms\" or \"10s\"")]),
        ("[passive]\ntick = 0.5", &[(2, 8, "0.5 has no unit")]),
        ("[passive]\ntick = \"10\"", &[(2, 8, "10 has no unit")]),
        ("[passive]\ntick = \"10 sekunden\"", &[(2, 8, "\"10 sekunden\" is not a duration")]),
        ("[passive]\ntick = \"-1s\"", &[(2, 8, "not a duration")]),
        ("[passive]\ntick = \"\"", &[(2, 8, "not a duration")]),
        ("[passive]\ntick = true", &[(2, 8, "a duration")]),
        ("[passive]\ntick = \"0s\"", &[(2, 8, "\"0s\" is below 1ms")]),
        ("[passive]\ntick = \"0\"", &[(2, 8, "\"0\" is below 1ms")]),
        ("[passive]\ntick = \"999us\"", &[(2, 8, "is below 1ms")]),
        ("[passive]\ntick = \"25h\"", &[(2, 8, "is above 24h")]),
        ("[passive]\ntick = \"99999999999999999999s\"", &[(2, 8, "not a duration")]),
        ("[passive]\ndevices = \"eth1\"", &[(2, 11, "[\"eth1\"]")]),
        ("[passive]\nrecord = \"here\"", &[(2, 10, "not an absolute path")]),
        ("[passive]\nrecord = true", &[(2, 10, "a path in quotes")]),
        ("[passive]\ndevices = [1]", &[(2, 12, "the name of a network device")]),
        ("[passive]\ndevices = [\"\"]", &[(2, 12, "can't be the name")]),
        ("[passive]\ndevices = [\"a/b\"]", &[(2, 12, "characters")]),
        ("[passive]\ndevices = [\"abcdefghijklmnop\"]", &[(2, 12, "longer than 15 bytes")]),
        ("[passive]\ndevices = [\"eth1\", \"eth1\"]", &[(2, 20, "twice")]),
        ("[passive.detector]\nclients = 0", &[(2, 11, "0 is below 1")]),
        ("[passive.detector]\nclients = 33", &[(2, 11, "33 is above 32")]),
        ("[passive.detector]\nrefusals = 0", &[(2, 12, "0 is below 1")]),
        ("[passive.detector]\nphi = 0.5", &[(2, 7, "0.5 is below 1")]),
        ("[passive.detector]\nphi = -2", &[(2, 7, "-2 is below 1")]),
        ("[passive.detector]\nphi = nan", &[(2, 7, "a number, such as 8.0")]),
        ("[passive.detector]\nphi = inf", &[(2, 7, "inf is above 100")]),
        ("[passive.detector]\nphi = \"8\"", &[(2, 7, "a number, such as 8.0")]),
        ("[passive.detector]\nloss = 0.6", &[(2, 8, "0.6 is above 0.5")]),
        ("[passive.detector]\nfalse-alarms = 0", &[(2, 16, "0 is below 0.001")]),
        ("[passive.detector]\nresent-share = 1.1", &[(2, 16, "1.1 is above 1")]),
        ("[passive.detector]\nsilence-masquerade = \"0ms\"", &[(2, 22, "below 1ms")]),
        ("[passive.detector]\nbackoff = \"6s\"", &[(2, 11, "6s is above backoff-max 5s")]),
        ("[passive.detector]\nbackoff-max = \"100ms\"", &[(2, 15, "250ms is above backoff-max 100ms")]),
        ("[passive.burst]\nserver-rate = 0", &[(2, 15, "0 is below 1")]),
        ("[passive.burst]\ntotal-rate = 1000001", &[(2, 14, "above 1000000")]),
        ("[passive.burst]\ntimeout = 100", &[(2, 11, "\"100ms\"")]),
        ("[passive.burst]\nrate = 100", &[(2, 1, "unknown key \"rate\" in [passive.burst]")]),
        ("[defaults]\nfall = 0", &[(2, 8, "0 is below 1")]),
        ("[defaults]\nname = \"a\"", &[(2, 1, "unknown key \"name\" in [defaults]")]),
        ("[defaults]\ncheck = \"http\"", &[(2, 9, "a table")]),
    ];
    for (front, expected) in cases {
        assert_faults(&in_front(front), expected);
    }
}

#[test]
fn faults_in_a_service() {
    let cases: &[(&str, Places)] = &[
        ("fal = 3", &[(4, 1, "unknown key \"fal\" in [[service]]; did you mean \"fall\"?")]),
        ("fall = 0", &[(4, 8, "fall: 0 is below 1; write 1 to 100")]),
        ("fall = -1", &[(4, 8, "-1 is below 1")]),
        ("fall = 101", &[(4, 8, "101 is above 100")]),
        ("fall = 0x7fffffffffffffffffffffffffffffffffff", &[(4, 8, "is above 100")]),
        ("fall = -99999999999999999999999999999999999999999", &[(4, 8, "is below 1")]),
        ("fall = 3.0", &[(4, 8, "a whole number")]),
        ("rise = \"2\"", &[(4, 8, "text (\"2\") is not allowed here; write a whole number")]),
        ("fall = 1979-05-27", &[(4, 8, "a whole number")]),
        ("scheduler = \"wcl\"", &[(4, 13, "\"wcl\" is unknown; write \"rr\", \"wrr\"")]),
        ("on-failure = \"weight 0\"", &[(4, 14, "write \"auto\", \"quiesce\" or \"remove\"")]),
        ("persistent = 300", &[(4, 14, "300 has no unit")]),
        ("persistent = \"1500ms\"", &[(4, 14, "not whole seconds")]),
        ("persistent-netmask = 24", &[(4, 1, "no meaning without \"persistent\"")]),
        ("persistent = \"1s\"\npersistent-netmask = 33", &[(5, 22, "33 is above 32")]),
        ("persistent = \"1s\"\npersistent-netmask = 0", &[(5, 22, "0 is below 1")]),
        ("persistent = \"1s\"\npersistent-netmask = \"255.0.255.0\"", &[(5, 22, "is not a netmask")]),
        ("persistent = \"1s\"\npersistent-netmask = true", &[(5, 22, "the length of a prefix")]),
        ("one-packet = true", &[(4, 14, "UDP only")]),
        ("one-packet = 1", &[(4, 14, "true or false")]),
        ("family = \"ipv6\"", &[(4, 1, "only for a service by firewall mark")]),
        ("tunnel = \"gre\"", &[(4, 10, "a table")]),
        (
            "tunnel = { typ = \"gre\" }",
            &[(4, 10, "tunnel has no \"type\""), (4, 12, "did you mean \"type\"?")],
        ),
        (
            "protocol = \"udp\"\ncheck = { type = \"connect\" }",
            &[(5, 9, "the check has no TCP port in service udp")],
        ),
        ("protocol = \"sctp\"\ncheck = { type = \"http\" }", &[(5, 9, "add port = 80")]),
        ("protocol = \"icmp\"", &[(4, 12, "\"icmp\" is unknown")]),
        ("forward = \"tunnel\"", &[(4, 1, "duplicate key")]),
        ("name = \"\"", &[(4, 8, "is empty")]),
        ("name = \"a\\nb\"", &[(4, 8, "control characters")]),
        ("mark = 3", &[(4, 1, "either an address or a firewall mark")]),
        ("check = \"http\"", &[(4, 9, "a table, such as { … }")]),
        ("check = { type = \"web\" }", &[(4, 18, "\"ping\", \"connect\", \"http\"")]),
        ("check = { typ = \"http\" }", &[(4, 11, "did you mean \"type\"?")]),
        ("check = { path = \"/\" }", &[(4, 11, "\"path\" has no meaning for a check of type \"connect\"")]),
        ("check = { type = \"ping\", port = 1 }", &[(4, 26, "no meaning for a check of type \"ping\"")]),
        ("check = { type = \"htp\", path = \"x\" }", &[(4, 18, "unknown"), (4, 32, "does not start with")]),
        ("check = { port = 0 }", &[(4, 18, "0 is below 1")]),
        ("check = { port = 65536 }", &[(4, 18, "65536 is above 65535")]),
        ("check = { interval = 1 }", &[(4, 22, "1 has no unit; write \"1ms\" or \"1s\"")]),
        ("check = { interval = \"0s\" }", &[(4, 22, "below 1ms")]),
        // The interval is wrong: nothing can be said about the timeout.
        ("check = { interval = \"5 x\", timeout = \"2s\" }", &[(4, 22, "not a duration")]),
        ("check = { type = \"http\", path = \"\" }", &[(4, 33, "does not start with")]),
        ("check = { type = \"http\", path = \"a\" }", &[(4, 33, "write it like \"/health\"")]),
        ("check = { type = \"http\", path = \"/a b\" }", &[(4, 33, "percent-encoded")]),
        ("check = { type = \"http\", path = \"/ä\" }", &[(4, 33, "percent-encoded")]),
        ("check = { type = \"http\", path = \"/a#b\" }", &[(4, 33, "fragment")]),
        ("check = { type = \"http\", path = \"/ HTTP/1.1\\r\\nX: y\" }", &[(4, 33, "forge headers")]),
        ("check = { type = \"http\", host = \"\" }", &[(4, 33, "is empty")]),
        ("check = { type = \"http\", host = \"a\\r\\nX: y\" }", &[(4, 33, "forge headers")]),
        ("check = { type = \"http\", host = \"a b\" }", &[(4, 33, "not a valid host")]),
        ("check = { type = \"http\", host = \"a/b\" }", &[(4, 33, "not a valid host")]),
        ("check = { type = \"http\", host = \"u@a\" }", &[(4, 33, "user name")]),
        ("check = { type = \"http\", status = \"abc\" }", &[(4, 35, "\"200-399\"")]),
        ("check = { type = \"http\", status = \"399-200\" }", &[(4, 35, "\"200-399\"")]),
        ("check = { type = \"http\", status = \"100-199\" }", &[(4, 35, "from 200 to 599")]),
        ("check = { type = \"http\", status = 600 }", &[(4, 35, "from 200 to 599")]),
        (
            "check = { type = \"http\", status = [200] }",
            &[(4, 35, "an array is not allowed here; write status codes")],
        ),
        ("check = { type = \"http\", text = \"\" }", &[(4, 33, "is found in every body")]),
    ];
    for (line, expected) in cases {
        assert_faults(&in_service(line), expected);
    }
}

#[test]
fn faults_in_a_server() {
    let cases: &[(&str, Places)] = &[
        ("address = \"10.0.0.1\"", &[(5, 1, "[[service.server]] has no \"forward\"")]),
        ("forward = \"masquerade\"", &[(5, 1, "[[service.server]] has no \"address\"")]),
        ("weight = 70000", &[(5, 1, "\"address\""), (5, 1, "\"forward\""), (6, 10, "70000 is above 65535")]),
    ];
    for (line, expected) in cases {
        assert_faults(&in_server(line), expected);
    }
    let cases: &[(&str, usize, &str)] = &[
        ("weight = -1", 10, "-1 is below 0"),
        ("weight = 65536", 10, "weight: 65536 is above 65535"),
        ("weight = 1.5", 10, "a whole number"),
        ("forwart = \"masquerade\"", 1, "did you mean \"forward\"?"),
    ];
    for (line, column, piece) in cases {
        let text = format!("{line}\naddress = \"10.0.0.1\"\nforward = \"masquerade\"");
        assert_faults(&in_server(&text), &[(6, *column, piece)]);
    }
    let cases = [
        ("10.0.0.1:0", "port \"0\" in \"10.0.0.1:0\""),
        ("10.0.0.1:65536", "port \"65536\""),
        ("10.0.0.1:http", "port \"http\""),
        ("10.0.0.1:+80", "port \"+80\""),
        ("10.0.0.1:", "port \"\""),
        ("10.0.0.1-10.0.0.9", "is not a valid IP address"),
        ("10.0.0.256", "is not a valid IP address"),
        ("10.0.0.01", "is not a valid IP address"),
        (" 10.0.0.1", "is not a valid IP address"),
        ("", "is not a valid IP address"),
        ("web1.example.org:80", "names are not resolved"),
        ("2001:db8::1", "masquerade can't reach 2001:db8::1"),
        ("[2001:db8::1]:80", "the other IP version"),
        ("[2001:db8::1]", "or use \"tunnel\""),
        ("[2001:db8::1]80", "is not a valid IP address"),
        ("[2001:db8::1", "is not a valid IP address"),
        ("[10.0.0.1]:80", "is not a valid IP address"),
        ("[2001:db8::1]:0", "port \"0\""),
        ("[2001:db8::1]:", "port \"\""),
        ("::ffff:10.0.0.1", "write it as IPv4"),
        ("fe80::1", "only valid together with a device"),
        ("fe80::1%eth0", "is not a valid IP address"),
        ("::", "unicast"),
        ("[ff02::1]:80", "unicast"),
        ("0.0.0.0", "unicast"),
        ("224.0.0.1:80", "unicast"),
        ("255.255.255.255", "unicast"),
        ("192.0.2.80:81", "is the VIP of the service at line 2"),
        ("10.0.0.9:80", "10.0.0.9:80"),
    ];
    for (address, piece) in cases {
        let text = format!("address = \"{address}\"\nforward = \"masquerade\"");
        let found = faults(&in_server(&text));
        let [(line, column, message)] = found.as_slice() else { panic!("{address}: {found:#?}") };
        // The duplicate is noted at the second of the two.
        let place = if address == "10.0.0.9:80" { (9, 11) } else { (6, 11) };
        assert_eq!((*line, *column), place, "{address}");
        assert!(message.contains(piece), "{address}: {message}");
    }
    let cases: &[(&str, Places)] = &[
        (
            "forward = \"nat\"",
            &[(7, 11, "\"nat\" is unknown; write \"masquerade\", \"direct-route\" or \"tunnel\"")],
        ),
        ("forward = \"masquerade\"\ntunnel = { type = \"gre\" }", &[(8, 1, "or add forward = \"tunnel\"")]),
        ("forward = \"tunnel\"\ntunnel = {}", &[(8, 10, "add type = \"ipip\", \"gre\" or \"gue\"")]),
        ("forward = \"tunnel\"\ntunnel = { type = \"vxlan\" }", &[(8, 19, "\"ipip\", \"gre\" or \"gue\"")]),
        ("forward = \"tunnel\"\ntunnel = { type = \"gue\" }", &[(8, 10, "such as port = 6080")]),
        ("forward = \"tunnel\"\ntunnel = { type = \"gue\", port = 0 }", &[(8, 33, "0 is below 1")]),
        (
            "forward = \"tunnel\"\ntunnel = { type = \"gre\", port = 1 }",
            &[(8, 26, "for a tunnel of type \"gre\"")],
        ),
        (
            "forward = \"tunnel\"\ntunnel = { type = \"gre\", checksum = \"remote\" }",
            &[(8, 37, "write \"none\" or \"full\"")],
        ),
        (
            "forward = \"tunnel\"\ntunnel = { type = \"ipip\", checksum = \"full\" }",
            &[(8, 27, "for a tunnel of type \"ipip\"")],
        ),
    ];
    for (lines, expected) in cases {
        assert_faults(&in_server(&format!("address = \"10.0.0.1\"\n{lines}")), expected);
    }
    for method in ["direct-route", "tunnel"] {
        let text = format!("address = \"10.0.0.1:8080\"\nforward = \"{method}\"");
        let piece = format!("{method} can't change the port: the server's is 8080, the service's 80");
        assert_faults(&in_server(&text), &[(6, 11, &piece)]);
    }
}

#[test]
fn faults_of_the_whole() {
    let server = "[[service.server]]\naddress = \"10.0.0.1\"\nforward = \"masquerade\"\n";
    let cases: Vec<(String, Places)> = vec![
        (String::new(), &[(1, 1, "there is no service")]),
        ("[agent]\n".to_owned(), &[(1, 1, "there is no service")]),
        ("service = []".to_owned(), &[(1, 1, "there is no service")]),
        ("service = 3".to_owned(), &[(1, 11, "a table for each")]),
        ("[service]\naddress = \"192.0.2.80:80\"".to_owned(), &[(1, 1, "double brackets")]),
        ("[[service]]\naddress = \"192.0.2.80:80\"".to_owned(), &[(1, 1, "no servers")]),
        (format!("[[service]]\n{server}"), &[(1, 1, "[[service]] has no \"address\"")]),
        (format!("[[service]]\naddress = \"192.0.2.80:\"\n{server}"), &[(2, 11, "port \"\"")]),
        (format!("[[service]]\naddress = \"[2001:db8::80]:80\"\n{server}"), &[(4, 11, "other IP version")]),
        (
            format!(
                "[[service]]\naddress = \"192.0.2.80:80\"\n{server}[[service]]\naddress = \"192.0.2.80:80\"\n{server}"
            ),
            &[(7, 11, "service tcp 192.0.2.80:80 is already at line 2")],
        ),
        // A service whose protocol is wrong is compared with none.
        (
            format!(
                "[[service]]\naddress = \"192.0.2.80:80\"\n{server}\
                 [[service]]\naddress = \"192.0.2.80:80\"\nprotocol = \"upd\"\n{server}"
            ),
            &[(8, 12, "\"upd\" is unknown")],
        ),
        (
            format!(
                "[[service]]\nname = \"a\"\naddress = \"192.0.2.80:80\"\n{server}\
                 [[service]]\nname = \"a\"\naddress = \"192.0.2.80:81\"\n{server}"
            ),
            &[(8, 8, "the name \"a\" is already used at line 2")],
        ),
        (
            format!(
                "[[service]]\naddress = \"192.0.2.80:80\"\n{server}\
                 [[service]]\naddress = \"10.0.0.1:81\"\n[[service.server]]\naddress = \"10.0.0.2\"\n\
                 forward = \"masquerade\"\n"
            ),
            &[(4, 11, "10.0.0.1 is the VIP of the service at line 7")],
        ),
    ];
    for (text, expected) in &cases {
        assert_faults(text, expected);
    }
}

#[test]
fn faults_of_the_grammar() {
    // Only the first is reported: the others may come from it.
    let cases = [
        ("a = ", 1, 5, "string values must be quoted"),
        ("[agent", 1, 7, "unclosed table"),
        ("a = \"x", 1, 7, "invalid basic string"),
        ("[agent]\non-exit = keep\n", 2, 11, "must be quoted"),
        ("[agent]\nmetrics = \"off\"\nmetrics = \"off\"\n", 3, 1, "duplicate key"),
        ("[agent]\n[agent]\n", 2, 2, "duplicate key"),
        ("a\u{0}", 1, 2, "invalid unquoted key"),
        ("a = 1\n= 2\n= 3\n", 2, 1, "cannot be empty"),
    ];
    for (text, line, column, piece) in cases {
        assert_faults(text, &[(line, column, piece)]);
    }
}

#[test]
fn all_faults_are_reported_together() {
    let text = in_front("[agent]\nmetrics = \"x\"\n[passive]\ntick = 1") + "weight = 70000\nwight = 1\n";
    let found = faults(&text);
    let lines: Vec<_> = found.iter().map(|(line, ..)| *line).collect();
    assert_eq!(lines, [2, 4, 11, 12], "{found:#?}");
}

#[test]
fn many_faults_are_cut_short() {
    let mut text = in_service("");
    for _ in 0..50 {
        text += "[[service.server]]\naddress = \"10.0.0.x\"\n";
    }
    let error = read(&text, Path::new(ORIGIN)).unwrap_err().to_string();
    assert!(error.ends_with("… and 30 more"), "{error}");
}

#[test]
fn a_fault_is_shown_with_its_line() {
    let text = in_server("weight = 70000\naddress = \"10.0.0.1\"\nforward = \"masquerade\"");
    let error = read(&text, Path::new("/etc/lvs.toml")).unwrap_err().to_string();
    let expected = "/etc/lvs.toml:6:10: weight: 70000 is above 65535; write 0 to 65535
    6 | weight = 70000
      |          ^^^^^";
    assert_eq!(error, expected);
}

#[test]
fn files() {
    let directory = std::env::temp_dir().join(format!("lvs-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let kind = |path: &Path| match crate::config::read_file(path, crate::config::Strictness::Lenient)
        .map(|reading| reading.config)
    {
        Err(ConfigError::File(error)) => {
            assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
            error.kind
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(kind(&directory.join("none.toml")), FileErrorKind::Missing));
    assert!(matches!(kind(&directory), FileErrorKind::Directory));
    let file = directory.join("lvs.toml");
    fs::write(&file, b"# \xff\n").unwrap();
    assert!(matches!(kind(&file), FileErrorKind::NotText { offset: 2, .. }));
    fs::write(&file, vec![b'\n'; (16 << 20) + 1]).unwrap();
    assert!(matches!(kind(&file), FileErrorKind::TooLarge { .. }));
    fs::write(&file, in_service("")).unwrap();
    assert_eq!(
        crate::config::read_file(&file, crate::config::Strictness::Lenient).unwrap().config.services.len(),
        1
    );
    fs::remove_dir_all(&directory).unwrap();
}
