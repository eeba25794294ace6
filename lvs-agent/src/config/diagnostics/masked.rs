//! A line of a configuration of either format with its secrets masked, character by character, so that the columns
//! stay as they are.

/// The keys and directives whose value is a secret.
const SECRETS: [&str; 3] = ["password", "passwd", "secret"];
/// The key with a table of values that may be.
const HEADERS: &str = "headers";
/// What is shown instead.
const MASK: char = '*';

/// The line with each secret masked. One that is in a file is no text of the line's, so that the path is shown.
pub(super) fn masked(line: &str) -> String {
    let mut chars: Vec<char> = line.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let end = at + chars[at..].iter().take_while(|c| is_of_word(**c)).count();
        if end == at {
            at += 1;
            continue;
        }
        let word = chars[at..end].iter().collect::<String>().to_lowercase();
        at = end;
        let is_table = word == HEADERS;
        if let Some(value) = value_after(&chars, end).filter(|_| is_table || SECRETS.contains(&&*word)) {
            at = match chars[value] {
                '{' if is_table => mask_texts(&mut chars, value),
                '{' => value,
                '"' | '\'' => {
                    let end = mask_text(&mut chars, value);
                    if is_over(&chars, end) { end } else { mask_rest(&mut chars, end) }
                }
                _ => mask_rest(&mut chars, value),
            };
        }
    }
    chars.into_iter().collect()
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}

/// Where the value begins of a key that ends there; `None`: it is no key, or has none.
fn value_after(chars: &[char], end: usize) -> Option<usize> {
    let skip = |from: usize, skipped: fn(char) -> bool| {
        from + chars[from..].iter().take_while(|c| skipped(**c)).count()
    };
    let equals = skip(end, |c| c.is_whitespace() || c == '"' || c == '\'');
    let is_key = chars.get(equals) == Some(&'=');
    let value = skip(equals + usize::from(is_key), char::is_whitespace);
    (is_key && value < chars.len()).then_some(value)
}

/// Masks what is in the quotes that begin there, or all to the end if they don't end; returns where they end.
fn mask_text(chars: &mut [char], begin: usize) -> usize {
    let quote = chars[begin];
    let mut at = begin + 1;
    while at < chars.len() && chars[at] != quote {
        let is_escape = chars[at] == '\\' && quote == '"' && at + 1 < chars.len();
        chars[at] = MASK;
        if is_escape {
            at += 1;
            chars[at] = MASK;
        }
        at += 1;
    }
    at + 1
}

/// Whether a value ends there, as far as the grammar goes.
fn is_over(chars: &[char], end: usize) -> bool {
    let next = chars.iter().skip(end).find(|c| !c.is_whitespace());
    next.is_none_or(|next| matches!(next, ',' | '}' | '#'))
}

/// Masks all to the end, which it returns.
fn mask_rest(chars: &mut [char], from: usize) -> usize {
    if let Some(rest) = chars.get_mut(from..) {
        rest.fill(MASK);
    }
    chars.len()
}

/// Masks what is in quotes in the table that begins there; returns where it ends.
fn mask_texts(chars: &mut [char], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < chars.len() && chars[at] != '}' {
        at = if matches!(chars[at], '"' | '\'') { mask_text(chars, at) } else { at + 1 };
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        for (line, shown) in [
            (
                r#"check = { user = "u", password = "hid\"den", port = 1 }"#,
                r#"check = { user = "u", password = "********", port = 1 }"#,
            ),
            ("password='hidden'", "password='******'"),
            ("\"password\" = \"hidden\"", "\"password\" = \"******\""),
            ("secret = \"hidden", "secret = \"******"),
            ("password = hidden # x", "password = **********"),
            ("password = \"hidden\" hidden, a = 1", "password = \"******\"**************"),
            ("passwd=\"hidden\" # x", "passwd=\"******\" # x"),
            ("    passwd = \"hidden\"", "    passwd = \"******\""),
            ("\tPasswd=hidden", "\tPasswd=******"),
            ("password = { file = \"/etc/p\" }", "password = { file = \"/etc/p\" }"),
            ("password-file = \"/etc/p\"", "password-file = \"/etc/p\""),
            ("password-unencrypted = true", "password-unencrypted = true"),
            (
                "headers = { Authorization = \"Token h\", x-key = 'h' }, path = \"/a\"",
                "headers = { Authorization = \"*******\", x-key = '*' }, path = \"/a\"",
            ),
            ("tls-key = \"/k\", text = \"password\"", "tls-key = \"/k\", text = \"password\""),
            ("password", "password"),
            ("password =", "password ="),
            ("secret = \"\"", "secret = \"\""),
            ("", ""),
        ] {
            assert_eq!(masked(line), shown);
        }
    }

    proptest! {
        #[test]
        fn columns_stay_and_no_quoted_secret_is_left(before in "\\PC{0,20}", secret in "[a-z]{8}", after in "\\PC{0,20}") {
            let line = format!("{before}\n password = \"{secret}\"{after}").replace('\n', ",");
            let shown = masked(&line);
            prop_assert_eq!(shown.chars().count(), line.chars().count());
        }

        #[test]
        fn a_secret_behind_anything_without_quotes_is_masked(before in "[a-z0-9 ,={}-]{0,30}", secret in "[A-Z]{8}") {
            let line = format!("{{ {before}, password = \"{secret}\" }}");
            prop_assert!(!masked(&line).contains(&secret), "{}", masked(&line));
        }
    }
}
