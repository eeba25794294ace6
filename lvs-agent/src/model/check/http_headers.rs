//! The headers of an HTTP check's requests.

use std::path::PathBuf;

use super::Secret;

/// The headers of an HTTP check's requests, where they aren't the usual ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HttpHeaders {
    /// Headers of the operator's own, in the order of their names.
    pub own: Vec<HttpHeader>,
    /// What the agent calls itself; `None`: its name and version.
    pub user_agent: Option<String>,
    /// How it proves who it is.
    pub authorization: Option<HttpAuthorization>,
    /// Whether secrets in them may be sent over a connection that isn't encrypted.
    pub unencrypted: bool,
}

/// A header of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpHeader {
    /// Its name, valid by RFC 9110, 5.1.
    pub name: String,
    /// Its value in one line. It may be a secret, such as a token.
    pub value: Secret,
}

/// How an HTTP check proves who it is: by the first line of a file, which is read for each request, so that a new
/// secret needs no reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HttpAuthorization {
    /// User and password, `user:password` (RFC 7617).
    Basic(PathBuf),
    /// A token (RFC 6750, 2.1).
    Bearer(PathBuf),
}

impl HttpAuthorization {
    /// The user and password in the first line of such a file; the problem if there are none.
    pub fn basic(content: &[u8]) -> Result<Secret, &'static str> {
        let line = first_line(content)?;
        match line.split_once(':') {
            Some(("", _)) | None => Err("its first line is not USER:PASSWORD"),
            Some(_) => Ok(Secret::new(line)),
        }
    }

    /// The token in the first line of such a file; the problem if there is none.
    pub fn bearer(content: &[u8]) -> Result<Secret, &'static str> {
        let line = first_line(content)?;
        let is_token = line.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token { Ok(Secret::new(line)) } else { Err("its first line is not a token without spaces") }
    }
}

/// The first line without its end.
fn first_line(content: &[u8]) -> Result<&str, &'static str> {
    let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = str::from_utf8(line).map_err(|_| "its first line is not UTF-8 text")?.trim_end_matches('\r');
    match line {
        "" => Err("its first line is empty"),
        _ if line.chars().any(char::is_control) => Err("its first line has control characters"),
        _ => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_secret() {
        let basic =
            |text: &str| HttpAuthorization::basic(text.as_bytes()).map(|secret| secret.reveal().to_owned());
        for (text, secret) in [("u:p\n", "u:p"), ("u:p:q\r\nmore", "u:p:q"), ("u:", "u:"), ("ü:p q", "ü:p q")]
        {
            assert_eq!(basic(text).as_deref(), Ok(secret), "{text:?}");
        }
        for text in ["", "\nu:p", "u", ":p", "u:a\tb", "u:a\rb"] {
            assert!(basic(text).is_err(), "{text:?}");
        }
        let bearer = |text: &[u8]| HttpAuthorization::bearer(text).map(|secret| secret.reveal().to_owned());
        assert_eq!(bearer(b"abc.def==\n").as_deref(), Ok("abc.def=="));
        for text in [&b""[..], b"a b", b"\xff", "ü".as_bytes(), b"a\rX: y"] {
            assert!(bearer(text).is_err(), "{text:?}");
        }
        let shown = format!("{:?}", HttpAuthorization::bearer(b"hidden").unwrap());
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
