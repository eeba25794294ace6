//! Facilities of syslog.

use std::fmt;

/// The names of the facilities from 0 on (RFC 3164, 4.1.1; `authpriv` and `ftp` as in syslog(3)).
const NAMES: [&str; 12] =
    ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];
/// The code of `local0`; seven others follow.
const LOCAL: u8 = 16;

/// Which kind of program writes to syslog. Displayed by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    /// The one of this name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let local = |digit: &str| match digit.as_bytes() {
            [digit @ b'0'..=b'7'] => Some(LOCAL + digit - b'0'),
            _ => None,
        };
        let usual = || NAMES.iter().zip(0..).find(|(known, _)| **known == name).map(|(_, code)| code);
        name.strip_prefix("local").map_or_else(usual, local).map(Self)
    }

    /// Its code.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "local{}", self.0.saturating_sub(LOCAL)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_facility_has_its_code_and_its_name_back() {
        let codes = [("kern", 0), ("uucp", 8), ("cron", 9), ("ftp", 11), ("local0", 16), ("local7", 23)];
        for (name, code) in codes {
            let facility = Facility::named(name).expect(name);
            assert_eq!((facility.code(), facility.to_string()), (code, name.to_owned()));
        }
        for name in ["", "local", "local8", "local00", "local+1", "LOCAL0", "ntp"] {
            assert_eq!(Facility::named(name), None, "{name:?}");
        }
    }
}
