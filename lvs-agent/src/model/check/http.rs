//! Checks over HTTP.

use std::{fmt, ops::RangeInclusive};

use super::{HttpHeaders, Pattern, Tls};

/// What an HTTP check requests and what it expects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// The pages that are requested, one after the other, at least one. All must be as they should.
    pub pages: Vec<HttpPage>,
    /// The version that is spoken.
    pub version: HttpVersion,
    /// Whether and how the connection is encrypted.
    pub tls: Option<Tls>,
    /// Whether the server is a proxy: each page's path is then a whole URL.
    pub proxy: bool,
    /// How many redirects to the same server are followed for each page.
    pub redirects: u8,
    /// The headers of the requests.
    pub headers: HttpHeaders,
}

impl HttpCheck {
    /// A plain GET of `path` over HTTP/1.1 that wants a status from 200 to 399.
    #[must_use]
    pub fn get(path: &str) -> Self {
        let page = HttpPage { path: path.to_owned(), ..HttpPage::default() };
        let (version, headers) = (HttpVersion::Http11, HttpHeaders::default());
        Self { pages: vec![page], version, tls: None, proxy: false, redirects: 0, headers }
    }
}

/// One page and how it should be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpPage {
    /// Path and query, starting with `/`; for a proxy a whole URL.
    pub path: String,
    /// The method of the request.
    pub method: HttpMethod,
    /// The Host header; `None`: the real server's address.
    pub host: Option<String>,
    /// The status codes that count as well.
    pub status: StatusCodes,
    /// Text that the body must contain.
    pub text: Option<String>,
    /// An expression that the body must match.
    pub pattern: Option<Pattern>,
    /// An expression that the body must not match.
    pub unwanted: Option<Pattern>,
    /// The digest that the whole body must have.
    pub digest: Option<BodyDigest>,
}

impl Default for HttpPage {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            method: HttpMethod::Get,
            host: None,
            status: StatusCodes::default(),
            text: None,
            pattern: None,
            unwanted: None,
            digest: None,
        }
    }
}

/// The method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpMethod {
    /// With its body.
    #[default]
    Get,
    /// Without it.
    Head,
}

/// The version of HTTP that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// Status codes that count as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusCodes(Vec<RangeInclusive<u16>>);

impl StatusCodes {
    /// The codes in any of the ranges.
    #[must_use]
    pub fn new(ranges: Vec<RangeInclusive<u16>>) -> Self {
        Self(ranges)
    }

    /// Whether `code` counts as well.
    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

impl Default for StatusCodes {
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl From<RangeInclusive<u16>> for StatusCodes {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self(vec![range])
    }
}

impl fmt::Display for StatusCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().enumerate() {
            let separator = if number > 0 { "," } else { "" };
            let (low, high) = range.clone().into_inner();
            if low == high { write!(f, "{separator}{low}")? } else { write!(f, "{separator}{low}-{high}")? }
        }
        Ok(())
    }
}

/// The digest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyDigest {
    /// MD5, as keepalived's `genhash` prints it.
    Md5([u8; 16]),
    /// SHA-256.
    Sha256([u8; 32]),
}
