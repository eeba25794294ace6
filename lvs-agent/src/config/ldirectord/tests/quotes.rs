//! Quotes of every kind, where they belong and where not.

use super::{CheckKind, PathBuf, assert_fault, good, reading, service, warnings};

/// Pairs of quotes that ldirectord doesn't know.
const FOREIGN: &[(&str, &str)] = &[
    ("'", "'"),
    ("“", "”"),
    ("‘", "’"),
    ("„", "“"),
    ("«", "»"),
    ("`", "`"),
    ("\"", "”"),
    ("＂", "＂"),
    ("「", "」"),
];

fn path_and_body(lines: &str) -> (String, Option<String>) {
    match service(lines).check.kind {
        CheckKind::Http(http) => {
            let page = &http.pages[0];
            (page.path.clone(), page.pattern.as_ref().map(|pattern| pattern.source().to_owned()))
        }
        other => panic!("{other:?}"),
    }
}

fn one_server(line: &str) -> String {
    format!("virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    {line}\n")
}

#[test]
fn foreign_quotes_are_no_part_of_a_text_and_are_named() {
    for (first, last) in FOREIGN {
        let text = one_server(&format!("request={first}index.html{last}\n    receive={first}ok{last}"));
        let [(3, _, request), (4, _, receive)] = &warnings(&text)[..] else {
            panic!("{:?}", warnings(&text))
        };
        for what in [request, receive] {
            assert!(what.contains(first) && what.contains(last), "{what}");
        }
        let lines = format!("request={first}index.html{last}\nreceive={first}ok{last}");
        assert_eq!(path_and_body(&lines), ("/index.html".to_owned(), Some("(?-u)ok".to_owned())));
    }
}

#[test]
fn they_are_no_part_of_other_values_either() {
    for (first, last) in FOREIGN {
        let quoted = |value: &str| format!("{first}{value}{last}");
        let text = format!(
            "virtual=1.1.1.1:80\n    real=10.0.0.1 masq\n    checktype=external\n    checkcommand={}\n    \
             monitorfile={}\n    virtualhost={}\n    emailalert={}\n    service={}\n    scheduler={}\n    persistent={}\n    \
             login={}\n    quiescent={}\n",
            quoted("/bin/true"),
            quoted("/var/m"),
            quoted("www.example.org"),
            quoted("a@example.org"),
            quoted("http"),
            quoted("rr"),
            quoted("60"),
            quoted("joe"),
            quoted("yes"),
        );
        let service = good(&text).services.remove(0);
        let CheckKind::Command(command) = &service.check.kind else { panic!("{:?}", service.check.kind) };
        assert_eq!(command.argv, ["/bin/true"]);
        assert_eq!(service.notify.monitor_file, Some(PathBuf::from("/var/m")));
        assert_eq!(service.notify.mail.as_ref().unwrap().to, ["a@example.org"]);
        assert_eq!(service.scheduler.name(), "rr");
        assert_eq!(service.persistence.unwrap().timeout().as_secs(), 60);
        let lines: Vec<_> = warnings(&text).iter().map(|(line, ..)| *line).collect();
        assert!((4..=12).all(|line| lines.contains(&line)), "{first} {last}: {:?}", warnings(&text));
    }
}

#[test]
fn texts_of_a_real_server_may_be_in_foreign_quotes() {
    for (first, last) in FOREIGN {
        let line = format!("real=10.0.0.2:80 masq 3 {first}/x{last}, {first}it’s ok{last} l:1 u:2");
        let text = format!("virtual=1.1.1.1:80\n    {line}\n");
        let service = good(&text).services.remove(0);
        let CheckKind::Http(http) = &service.check.kind else { panic!("{:?}", service.check.kind) };
        assert_eq!(http.pages[0].path, "/x", "{line}");
        assert_eq!(http.pages[0].pattern.as_ref().unwrap().source(), "it’s ok", "{line}");
        assert_eq!(service.servers[0].weight.0, 3);
        assert!(
            warnings(&text).iter().any(|(at, _, what)| *at == 2 && what.contains("characters")),
            "{line}"
        );
    }
    // Within ldirectord's own quotes they are text.
    let text = "virtual=1.1.1.1:80\n    real=10.0.0.2:80 masq 3 \"/x\", \"say ‘ok’\"\n";
    let service = good(text).services.remove(0);
    assert!(format!("{:?}", service.check.kind).contains("say ‘ok’"));
    assert_eq!(warnings(text), []);
}

#[test]
fn a_quote_at_one_end_is_refused() {
    for (line, words) in [
        ("request=“index.html", "has the quote “ at one end only"),
        ("request=index.html'", "has the quote ' at one end only"),
        ("request=\"index.html", "has one quote only"),
        ("checkcommand=‘/bin/true", "has the quote ‘ at one end only"),
        ("virtualhost=www.example.org’\n    fallbackcommand=’x", "has the quote ’, which no shell knows"),
    ] {
        let error = reading(&one_server(line)).expect_err(line);
        assert!(error.contains(words), "{line}: {error}");
    }
    assert_fault(&one_server("receive='ok"), 3, "has the quote ' at one end only");
}

#[test]
fn quotes_where_none_belong_are_to_be_left_away() {
    // Directive, value, and whether ldirectord takes it as well.
    for (line, taken) in [
        ("service=\"http\"", true),
        ("persistent=\"600\"", true),
        ("scheduler=\"rr\"", true),
        ("checktype=\"negotiate\"", true),
        ("checktimeout=\"3\"", true),
        ("httpmethod=\"HEAD\"", true),
        ("protocol=\"tcp\"", true),
        ("quiescent=\"yes\"", false),
        ("cleanstop='no'", false),
        ("fallback=\"127.0.0.1:80 gate\"", false),
        ("smtp=\"mail.example.org\"", false),
        ("real=\"10.0.0.3:80 masq\"", false),
        ("emailalertstatus=\"none\"", false),
        ("emailalertfreq=\"60\"", false),
    ] {
        let text = one_server(line);
        let [(3, _, what)] = &warnings(&text)[..] else { panic!("{line}: {:?}", warnings(&text)) };
        assert!(what.contains("leave the quotes away"), "{what}");
        assert_eq!(what.contains("refuses"), !taken, "{what}");
    }
    let text = format!("maintenancedir=\"/\"\n{}", one_server("service=http"));
    assert_eq!(good(&text).agent.maintenance, Some(PathBuf::from("/")));
    let [(1, _, what)] = &warnings(&text)[..] else { panic!("{:?}", warnings(&text)) };
    assert!(what.contains("uses that"), "{what}");
}

#[test]
fn foreign_quotes_within_quotes_are_text_and_that_is_said() {
    let text = one_server("request=\"“index.html”\"");
    let [(3, _, what)] = &warnings(&text)[..] else { panic!("{:?}", warnings(&text)) };
    assert!(what.contains("“ ”") && what.contains("part of the text"), "{what}");
}
