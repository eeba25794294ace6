//! Where a redirect leads: only to the server that has sent it.

use std::{fmt::Write as _, net::SocketAddr};

use hyper::{HeaderMap, Uri, header};

use super::HttpCheck;

/// Why a redirect is not followed, as in "leads to …, which …".
pub(super) const OTHER_SERVER: &str = "which is not this server";
const NO_URL: &str = "which is no valid URL";

/// The Location header as a client takes it: what can't stand in a URL is percent-encoded. `None`: there is none.
pub(super) fn location(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::LOCATION)?.as_bytes().trim_ascii();
    let mut location = String::with_capacity(value.len());
    for byte in value {
        if byte.is_ascii_graphic() && !b"\"<>`".contains(byte) {
            location.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            write!(location, "%{byte:02X}").unwrap_or_default();
        }
    }
    Some(location)
}

/// The path on the same server that `location` means in the answer to `path`; an error: why it is not followed.
/// `host` is the server's name in the request, `address` where it was sent.
pub(super) fn target(
    path: &str,
    location: &str,
    host: &str,
    address: SocketAddr,
    check: &HttpCheck,
) -> Result<String, &'static str> {
    let location = location.split('#').next().unwrap_or_default();
    let target = if check.proxy {
        // The proxy itself is the server that is checked; what it fetches may be elsewhere.
        has_scheme(location).then(|| location.to_owned()).ok_or(OTHER_SERVER)?
    } else {
        let scheme = if check.tls.is_some() { "https" } else { "http" };
        match location.strip_prefix("//") {
            Some(rest) => same_server(&format!("{scheme}://{rest}"), scheme, host, address)?,
            None if has_scheme(location) => same_server(location, scheme, host, address)?,
            None => relative(path, location),
        }
    };
    // What can't be requested is the server's fault, not the check's.
    target.parse::<Uri>().map(|_| target).map_err(|_| NO_URL)
}

/// Whether it begins with a scheme (RFC 3986, 3.1), and isn't relative.
fn has_scheme(location: &str) -> bool {
    let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// The path and query of a URL on this server.
fn same_server(url: &str, scheme: &str, host: &str, address: SocketAddr) -> Result<String, &'static str> {
    let url: Uri = url.parse().map_err(|_| NO_URL)?;
    let authority = url.authority().ok_or(OTHER_SERVER)?.as_str();
    // Servers put their own port behind the name in the request.
    let name = super::without_port(host);
    let known = [host.to_owned(), format!("{name}:{}", address.port()), address.to_string()];
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let bare = |text: &str| text.strip_suffix(usual).unwrap_or(text).to_ascii_lowercase();
    let same = url.scheme_str() == Some(scheme) && known.iter().any(|name| bare(name) == bare(authority));
    let path = || url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    same.then(path).ok_or(OTHER_SERVER)
}

/// The path that `location`, which names no host, means in the answer to `path`.
fn relative(path: &str, location: &str) -> String {
    let base = path.split('?').next().unwrap_or_default();
    match location.bytes().next() {
        None => path.to_owned(),
        Some(b'/') => location.to_owned(),
        Some(b'?') => format!("{base}{location}"),
        Some(_) => {
            let directory = base.rsplit_once('/').map_or("", |(directory, _)| directory);
            without_dots(&format!("{directory}/{location}"))
        }
    }
}

/// A path without its segments `.` and `..` (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let is_last = rest.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
        if is_last && matches!(segment, "." | "..") {
            segments.push("");
        }
    }
    let path = format!("/{}", segments.join("/"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_encoded_as_clients_do() {
        let cases: [(&[u8], &str); 4] = [
            (b"/b?x=%20", "/b?x=%20"),
            (b" /a b ", "/a%20b"),
            (b"/caf\xe9", "/caf%E9"),
            (b"/\"<>`\t", "/%22%3C%3E%60"),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            assert_eq!(location(&headers), None);
            headers.insert(header::LOCATION, header::HeaderValue::from_bytes(value).unwrap());
            assert_eq!(location(&headers).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_redirect_leads_only_to_the_same_server() {
        let address = "10.0.0.1:8000".parse().unwrap();
        let cases = [
            ("/b", Ok("/b")),
            ("b?x=1#y", Ok("/dir/b?x=1")),
            ("../b", Ok("/b")),
            ("./b/../c/..?x/../y", Ok("/dir/?x/../y")),
            ("../../../b", Ok("/b")),
            ("?x", Ok("/dir/page?x")),
            ("", Ok("/dir/page?old")),
            ("/login?next=http://other.example/", Ok("/login?next=http://other.example/")),
            ("login?next=http://other.example/", Ok("/dir/login?next=http://other.example/")),
            ("http://www.example.org/b", Ok("/b")),
            ("http://WWW.example.org:80", Ok("/")),
            ("//www.example.org/b", Ok("/b")),
            ("http://www.example.org:8000/b", Ok("/b")),
            ("http://10.0.0.1:8000/b", Ok("/b")),
            ("http://10.0.0.1/b", Err(OTHER_SERVER)),
            ("http://10.0.0.2/b", Err(OTHER_SERVER)),
            ("https://www.example.org/b", Err(OTHER_SERVER)),
            ("http://www.example.org:8080/b", Err(OTHER_SERVER)),
            ("ftp://www.example.org/b", Err(OTHER_SERVER)),
            ("http://", Err(NO_URL)),
            ("http://[::1/b", Err(NO_URL)),
            ("http://www.example.org:port/b", Err(OTHER_SERVER)),
            ("//", Err(NO_URL)),
            ("/^\\", Ok("/^\\")),
        ];
        let check = HttpCheck::get("/dir/page?old");
        for (location, expected) in cases {
            let path = target("/dir/page?old", location, "www.example.org", address, &check);
            assert_eq!(path, expected.map(str::to_owned), "{location}");
        }
    }
}
