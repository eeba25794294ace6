//! What may be done to the kernel's table.

use super::*;
use crate::model::{Foreign, Mode};

#[test]
fn what_may_be_done_to_the_table() {
    let agent = |lines: &str| good(&(format!("[agent]\n{lines}\n") + &in_service(""))).agent;
    for (word, mode) in [("manage", Mode::Manage), ("adopt", Mode::Adopt), ("observe", Mode::Observe)] {
        assert_eq!(agent(&format!("mode = \"{word}\"")).mode, mode);
        assert_eq!(mode.to_string(), word);
    }
    assert_eq!(agent("foreign = \"remove\"").foreign, Foreign::Remove);
    assert_eq!(agent("state = \"off\"").state, None);
    assert_eq!(agent("state = \"/tmp/state\"").state, Some("/tmp/state".into()));
}

#[test]
fn services_need_no_servers_where_those_are_the_tables() {
    for mode in ["adopt", "observe"] {
        let none = good(&format!("[agent]\nmode = \"{mode}\"\n"));
        assert!(none.services.is_empty() && none.adopts());
        let text = format!("[agent]\nmode = \"{mode}\"\n[[service]]\naddress = \"192.0.2.1:80\"\n");
        let without = good(&text);
        assert!(without.adopts());
        assert_eq!(read(&to_toml(&without), "again".as_ref()).unwrap(), without);
        assert!(without.in_mode(Mode::Manage).is_err());
        let with = good(&(format!("[agent]\nmode = \"{mode}\"\n") + &in_service("")));
        assert_eq!(with.adopts(), mode == "adopt");
        assert_eq!(with.in_mode(Mode::Manage).unwrap().agent.mode, Mode::Manage);
    }
    assert!(good(&in_service("")).in_mode(Mode::Adopt).unwrap().adopts());
    assert!(Config::of_table(Mode::Observe).adopts());
}

#[test]
fn a_file_is_validated_for_the_mode_that_it_is_read_for() {
    let read = |text: &str, mode| read_in_mode(text, "test.toml".as_ref(), Some(mode));
    let without = "[[service]]\naddress = \"192.0.2.1:80\"\n";
    for text in ["", without] {
        for mode in [Mode::Adopt, Mode::Observe] {
            let config = read(text, mode).unwrap().config;
            assert!(config.adopts() && config.agent.mode == mode, "{text}");
        }
        let backup = in_service("[[service.backup]]\naddress = \"10.0.0.9\"\n");
        let warnings = |mode| read(&backup, mode).unwrap().warnings.len();
        assert_eq!([Mode::Manage, Mode::Adopt].map(warnings), [0, 1], "backups are the configuration's");
        assert!(read(&format!("[agent]\nmode = \"adopt\"\n{text}"), Mode::Manage).is_err(), "{text}");
    }
}
