//! Names of files for names of services, which may be any text. Pure.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// What the names of services' files begin with, so that no service has the name of another file.
pub(super) const OF_SERVICE: &str = "service.";
/// The file for all services.
pub(super) const ALL: &str = "all";

/// The longest part of a name that is kept: a file's name has at most 255 bytes (`NAME_MAX`).
const LONGEST: usize = 200;

/// The file of the service of that name. What isn't a letter, digit, `.`, `_` or `-` of ASCII becomes `%` and two
/// hexadecimal digits for each byte; a name that is too long then is cut, and ends in `~` and a hash. No two names give
/// the same file.
pub(super) fn of_service(name: &str) -> String {
    let mut escaped = String::from(OF_SERVICE);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            escaped.push(byte.into());
        } else {
            // Writing to a string can't fail.
            write!(escaped, "%{byte:02X}").ok();
        }
    }
    if escaped.len() > LONGEST {
        escaped.truncate(LONGEST);
        escaped.push('~');
        for byte in Sha256::digest(name.as_bytes()).iter().take(8) {
            write!(escaped, "{byte:02x}").ok();
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_escaped() {
        let cases = [
            ("web", "service.web"),
            ("tcp 192.0.2.80:80", "service.tcp%20192.0.2.80%3A80"),
            ("../../etc/passwd", "service...%2F..%2Fetc%2Fpasswd"),
            ("50%", "service.50%25"),
            ("", "service."),
            ("ä~", "service.%C3%A4%7E"),
        ];
        for (name, expected) in cases {
            assert_eq!(of_service(name), expected);
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_short_part_of_a_path(name in any::<String>(), other in any::<String>(), times in 1_usize..200) {
            let file = of_service(&name);
            prop_assert!(file.len() <= 255 && !file.contains(['/', '\0']) && file != "." && file != "..");
            prop_assert_eq!(name == other, file == of_service(&other));
            let long = name.repeat(times);
            prop_assert!(of_service(&long).len() <= 255);
            prop_assert_eq!(long.clone() + "a" == long, of_service(&(long.clone() + "a")) == of_service(&long));
        }
    }
}
