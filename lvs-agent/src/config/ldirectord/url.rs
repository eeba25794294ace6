//! URLs in the requests of real servers: the host of one is asked instead of the real server.

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A path of the real server.
    Path,
    /// A URL.
    Url(Url),
    /// A path, in which ldirectord sees a URL, because this is in it.
    Within(&'static str),
}

/// A URL that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// A name, or an address; that of IPv6 in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, from the slash on.
    pub(super) path: String,
}

/// What `request` asks for; ldirectord looks for `scheme` anywhere in it, such as `http://`.
pub(super) fn asked(request: &str, scheme: &'static str) -> Asked {
    let bare = request.strip_prefix('/').unwrap_or(request);
    if !bare.contains(scheme) {
        return Asked::Path;
    }
    let url =
        bare.strip_prefix(scheme).and_then(|rest| url(rest, if scheme == "https://" { 443 } else { 80 }));
    url.map_or(Asked::Within(scheme), Asked::Url)
}

/// What is behind the scheme, by RFC 3986, 3.
fn url(rest: &str, usual_port: u16) -> Option<Url> {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = path.split('#').next().unwrap_or_default();
    let is_in_host = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.find(']')) {
        Some(end) => authority.split_at(end + 2),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_host = host.starts_with('[') || (!host.is_empty() && host.chars().all(is_in_host));
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => usual_port,
        Some("") => usual_port,
        Some(number) => number.parse().ok().filter(|port| *port > 0)?,
        None => return None,
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    is_host.then(|| Url { host: host.to_owned(), port, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_asked_for_where_it_leads() {
        let url = |host: &str, port, path: &str| {
            Asked::Url(Url { host: host.to_owned(), port, path: path.to_owned() })
        };
        for (request, scheme, expected) in [
            ("http://www.example.org:8080/x", "http://", url("www.example.org", 8080, "/x")),
            ("/http://www.example.org/x?a=b#c", "http://", url("www.example.org", 80, "/x?a=b")),
            ("http://10.0.0.1", "http://", url("10.0.0.1", 80, "/")),
            ("http://10.0.0.1?a", "http://", url("10.0.0.1", 80, "/?a")),
            ("https://[2001:db8::1]:8443/", "https://", url("[2001:db8::1]", 8443, "/")),
            ("https://a.example/", "https://", url("a.example", 443, "/")),
            ("https://a.example/", "http://", Asked::Path),
            ("HTTP://a.example/", "http://", Asked::Path),
            ("/x", "http://", Asked::Path),
            ("/to?u=http://a.example/", "http://", Asked::Within("http://")),
            ("http:///x", "http://", Asked::Within("http://")),
            ("http://a.example:0/", "http://", Asked::Within("http://")),
            ("http://a.example:x/", "http://", Asked::Within("http://")),
            ("http://joe@a.example/", "http://", Asked::Within("http://")),
        ] {
            assert_eq!(asked(request, scheme), expected, "{request}");
        }
    }
}
