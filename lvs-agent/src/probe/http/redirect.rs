//! Where a redirect leads: only to the server that has sent it.

use std::net::SocketAddr;

use hyper::Uri;

use super::HttpCheck;

/// The path on the same server that `location` means in the answer to `path`; `None` if it means another server.
/// `host` is the server's name in the request, `address` where it was sent.
pub(super) fn target(
    path: &str,
    location: &str,
    host: &str,
    address: SocketAddr,
    check: &HttpCheck,
) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    if check.proxy {
        // The proxy itself is the server that is checked; what it fetches may be elsewhere.
        return location.contains("://").then(|| location.to_owned());
    }
    let scheme = if check.tls.is_some() { "https" } else { "http" };
    let absolute = match location.strip_prefix("//") {
        Some(rest) => Some(format!("{scheme}://{rest}")),
        None => location.contains("://").then(|| location.to_owned()),
    };
    let Some(absolute) = absolute else { return Some(relative(path, location)) };
    let url: Uri = absolute.parse().ok()?;
    let authority = url.authority()?.as_str();
    // Servers put their own port behind the name in the request.
    let name = super::without_port(host);
    let known = [host.to_owned(), format!("{name}:{}", address.port()), address.to_string()];
    let usual = if check.tls.is_some() { ":443" } else { ":80" };
    let bare = |text: &str| text.strip_suffix(usual).unwrap_or(text).to_ascii_lowercase();
    let same = url.scheme_str() == Some(scheme) && known.iter().any(|name| bare(name) == bare(authority));
    same.then(|| url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string))
}

/// The path that `location`, which names no host, means in the answer to `path`.
fn relative(path: &str, location: &str) -> String {
    let base = path.split('?').next().unwrap_or_default();
    match location.bytes().next() {
        None => path.to_owned(),
        Some(b'/') => location.to_owned(),
        Some(b'?') => format!("{base}{location}"),
        Some(_) => format!("{}/{location}", base.rsplit_once('/').map_or("", |(directory, _)| directory)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_only_to_the_same_server() {
        let address = "10.0.0.1:8000".parse().unwrap();
        let cases = [
            ("/b", Some("/b")),
            ("b?x=1#y", Some("/dir/b?x=1")),
            ("?x", Some("/dir/page?x")),
            ("", Some("/dir/page?old")),
            ("http://www.example.org/b", Some("/b")),
            ("http://WWW.example.org:80", Some("/")),
            ("//www.example.org/b", Some("/b")),
            ("http://www.example.org:8000/b", Some("/b")),
            ("http://10.0.0.1:8000/b", Some("/b")),
            ("http://10.0.0.1/b", None),
            ("http://10.0.0.2/b", None),
            ("https://www.example.org/b", None),
            ("http://www.example.org:8080/b", None),
            ("ftp://www.example.org/b", None),
            ("http://", None),
        ];
        let check = HttpCheck::get("/dir/page?old");
        for (location, expected) in cases {
            let path = target("/dir/page?old", location, "www.example.org", address, &check);
            assert_eq!(path.as_deref(), expected, "{location}");
        }
    }
}
