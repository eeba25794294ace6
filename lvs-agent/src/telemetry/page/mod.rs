//! The status page: for people who have a browser and no shell on the director. Read-only.
//!
//! One document with its style and its script inside, and a stream of messages that keeps it up to date. It asks nobody
//! else for anything, and its policy says so to browsers.

mod feed;
mod stream;
mod view;

use std::{fmt::Write as _, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub(crate) use self::{feed::Feed, stream::EventStream};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The document, and what browsers may do with it.
pub(crate) struct Document {
    pub(crate) html: Bytes,
    /// `Content-Security-Policy`: this style, this script, and messages from here; nothing else.
    pub(crate) policy: String,
}

/// Put together when somebody first asks.
pub(crate) static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    let html = FRAME.replace("/* style */", STYLE).replace("/* script */", SCRIPT);
    let mut policy = String::from(
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; \
                                   form-action 'none'; frame-ancestors 'none'",
    );
    for (what, text) in [("style-src", STYLE), ("script-src", SCRIPT)] {
        // Writing into a string can't fail.
        write!(policy, "; {what} 'sha256-{}'", STANDARD.encode(Sha256::digest(text))).ok();
    }
    Document { html: html.into(), policy }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_whole_and_asks_nobody_else() {
        let html = std::str::from_utf8(&DOCUMENT.html).unwrap();
        assert!(
            html.contains(&format!("<style>{STYLE}</style>"))
                && html.contains(&format!("<script>{SCRIPT}</script>"))
        );
        for foreign in ["http://", "https://", "@import", "url(", "src=", "innerHTML", "style=", "onclick"] {
            assert!(!html.replace("http://www.w3.org/2000/svg", "").contains(foreign), "{foreign}");
        }
        assert!(DOCUMENT.policy.matches("'sha256-").count() == 2, "{}", DOCUMENT.policy);
        assert!(html.len() < 64 << 10, "{} bytes", html.len());
    }
}
