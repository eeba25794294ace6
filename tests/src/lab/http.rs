//! As much HTTP/1.1 as the lab's servers and clients speak.

use anyhow::{Result, bail};

/// The header with the name of the server that answered.
const NAME_HEADER: &str = "Server-Name";
/// Headers that a message of the lab may have.
const MAX_HEADERS: usize = 16;
/// No message of the lab is longer.
pub const MAX_MESSAGE: usize = 4096;

/// A GET request, as sent by the lab's clients.
#[must_use]
pub fn request(close: bool) -> String {
    let connection = if close { "close" } else { "keep-alive" };
    format!("GET / HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n\r\n")
}

/// What a server needs to know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes of the request: what follows belongs to the next one.
    pub length: usize,
    /// Whether the connection ends after the answer.
    pub close: bool,
}

/// Reads a request without a body; `None`: more bytes are needed.
pub fn parse_request(bytes: &[u8]) -> Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes)? else {
        return incomplete(bytes);
    };
    let old = request.version == Some(0);
    let asked = header(request.headers, "Connection").map(|value| value.eq_ignore_ascii_case(b"close"));
    Ok(Some(Request { length, close: asked.unwrap_or(old) }))
}

/// A server's answer.
#[must_use]
pub fn answer(name: &str, status: u16, close: bool) -> String {
    let body = format!("{name}\n");
    let connection = if close { "close" } else { "keep-alive" };
    let reason = if status == 200 { "OK" } else { "Internal Server Error" };
    format!(
        "HTTP/1.1 {status} {reason}\r\n{NAME_HEADER}: {name}\r\nContent-Length: {}\r\n\
         Connection: {connection}\r\n\r\n{body}",
        body.len()
    )
}

/// What a client needs to know of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The server that answered.
    pub server: String,
}

/// Reads an answer; `None`: more bytes are needed.
pub fn parse_answer(bytes: &[u8]) -> Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = answer.parse(bytes)? else {
        return incomplete(bytes);
    };
    let text = |name| header(answer.headers, name).and_then(|value| std::str::from_utf8(value).ok());
    let (Some(status), Some(server), Some(body)) = (
        answer.code,
        text(NAME_HEADER),
        text("Content-Length").and_then(|value| value.parse::<usize>().ok()),
    ) else {
        bail!("an answer without status, {NAME_HEADER} or Content-Length");
    };
    let complete = bytes.len() - length >= body;
    Ok(complete.then(|| Answer { status, server: server.to_owned() }))
}

fn header<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn incomplete<T>(bytes: &[u8]) -> Result<Option<T>> {
    if bytes.len() >= MAX_MESSAGE {
        bail!("a message of more than {MAX_MESSAGE} bytes");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_whether_the_connection_goes_on() {
        for (text, close) in [
            (request(true), true),
            (request(false), false),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), false),
            ("GET / HTTP/1.0\r\n\r\n".to_owned(), true),
        ] {
            let length = text.len();
            assert_eq!(parse_request(text.as_bytes()).unwrap(), Some(Request { length, close }), "{text}");
        }
    }

    #[test]
    fn an_answer_comes_back_as_it_was_given_and_never_too_early() {
        for status in [200, 500] {
            let text = answer("rs1", status, true);
            let bytes = text.as_bytes();
            for end in 0..bytes.len() {
                assert_eq!(parse_answer(&bytes[..end]).unwrap(), None, "after {end} bytes");
            }
            assert_eq!(parse_answer(bytes).unwrap(), Some(Answer { status, server: "rs1".to_owned() }));
        }
    }

    #[test]
    fn what_is_no_http_is_an_error() {
        assert!(parse_request(b"\0\0\0\0").is_err());
        assert!(parse_answer(b"SSH-2.0-x\r\n").is_err());
        assert!(parse_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_request("GET / HTTP/1.1\r\nHost: ".repeat(400).as_bytes()).is_err());
        assert!(parse_request(&[b'a'; MAX_MESSAGE]).is_err());
    }
}
