//! Mail addresses as people write them: several of them, with commas, semicolons or blanks between, and with names.

use crate::config::common::is_mail_address;

/// The addresses of a text, each once, and the words of it that belong to none.
///
/// A name before an address in angle brackets is the address's; so is a comment in parentheses (RFC 5322, 3.4). A word
/// without an `@` is a local user, unless an address stands beside it.
pub(super) fn addresses(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut addresses, mut left_out) = (Vec::new(), Vec::new());
    for part in parts(text) {
        let bracketed = part.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let words: Vec<&str> = match bracketed {
            Some((address, _)) if is_mail_address(address.trim()) => vec![address.trim()],
            Some(_) => {
                left_out.push(part.trim().to_owned());
                continue;
            }
            None => part.split_whitespace().collect(),
        };
        let has_host = words.iter().any(|word| word.contains('@'));
        for word in words {
            if !is_mail_address(word) || (has_host && !word.contains('@')) {
                left_out.push(word.to_owned());
            } else if !addresses.iter().any(|known| known == word) {
                addresses.push(word.to_owned());
            }
        }
    }
    (addresses, left_out)
}

/// What is between commas, semicolons and the ends of addresses in brackets; without quotes and comments.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut quoted, mut depth) = (false, 0_usize);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => part.push(c),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            ',' | ';' => parts.push(std::mem::take(&mut part)),
            '>' => {
                part.push(c);
                parts.push(std::mem::take(&mut part));
            }
            _ => part.push(c),
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_are_found_however_they_are_written() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("a@x.org", &["a@x.org"], &[]),
            ("root", &["root"], &[]),
            ("a@x.org, b@x.org", &["a@x.org", "b@x.org"], &[]),
            ("a@x.org b@x.org", &["a@x.org", "b@x.org"], &[]),
            ("a@x.org;b@x.org; a@x.org", &["a@x.org", "b@x.org"], &[]),
            ("Ops <ops@x.org>", &["ops@x.org"], &[]),
            ("\"Ops, all of them\" <ops@x.org>, b@x.org", &["ops@x.org", "b@x.org"], &[]),
            ("Ops <ops@x.org> Admins <b@x.org>", &["ops@x.org", "b@x.org"], &[]),
            ("ops@x.org (the, ops)", &["ops@x.org"], &[]),
            ("<ops@x.org>", &["ops@x.org"], &[]),
            ("Ops <>", &[], &["Ops <>"]),
            ("Ops ops@x.org", &["ops@x.org"], &["Ops"]),
            ("a@x.org, [b]", &["a@x.org"], &["[b]"]),
        ];
        for (text, addresses, left_out) in cases {
            let (found, others) = super::addresses(text);
            assert_eq!((found, others), (owned(addresses), owned(left_out)), "{text}");
        }
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }
}
