//! What each path answers.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{
        ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName,
        HeaderValue, RETRY_AFTER, VARY,
    },
};

use super::{Port, visit::Visit};
use crate::telemetry::{
    metrics::exposition::open_metrics,
    page::{DOCUMENT, EventStream},
};

/// What Prometheus' text format is called (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// And OpenMetrics' (RFC draft-richih-opsawg-openmetrics, 5).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// And what else is answered.
const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// What browsers are told beside the page's policy: nobody else may show it or read it.
const PRIVATE: [(HeaderName, &str); 4] = [
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

pub(super) type Answer = Response<Either<Full<Bytes>, EventStream>>;

/// Only GET and HEAD are answered, and only without a body.
pub(super) async fn answer(request: &Request<Incoming>, port: &Port, visit: &Visit) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    if !request.body().is_end_stream() {
        return plain(StatusCode::BAD_REQUEST, "no body is wanted\n");
    }
    match request.uri().path() {
        "/" => page(),
        "/events" if request.method() == Method::GET => events(port, visit),
        "/events" => whole(StatusCode::OK, EVENTS, Bytes::new()),
        "/metrics" => metrics(request.headers(), port).await,
        "/healthz" | "/health" => plain(StatusCode::OK, "OK\n"),
        "/readyz" if port.ready.load(Ordering::Relaxed) => plain(StatusCode::OK, "OK\n"),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "the agent starts or stops\n"),
        _ => plain(StatusCode::NOT_FOUND, "not found; the status is at /, the metrics are at /metrics\n"),
    }
}

async fn metrics(headers: &HeaderMap, port: &Port) -> Answer {
    let text = port.scrapes.lock().await.text().await;
    let mut answer = if wants_open_metrics(headers) {
        let open = std::str::from_utf8(&text).map(open_metrics).unwrap_or_default();
        whole(StatusCode::OK, OPEN_METRICS, open.into())
    } else {
        whole(StatusCode::OK, TEXT, text)
    };
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

fn page() -> Answer {
    let mut page = whole(StatusCode::OK, HTML, DOCUMENT.html.clone());
    // It is ASCII.
    if let Ok(policy) = HeaderValue::from_str(&DOCUMENT.policy) {
        page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    page
}

/// What happens, as it happens.
fn events(port: &Port, visit: &Visit) -> Answer {
    let Some(stream) = port.feed.open(visit.address, visit.too_slow.clone()) else {
        let mut refusal = plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n");
        refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("30"));
        return refusal;
    };
    visit.is_streaming.set(true);
    with_headers(StatusCode::OK, EVENTS, Either::Right(stream))
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    whole(status, PLAIN, Bytes::from_static(text.as_bytes()))
}

fn whole(status: StatusCode, kind: &'static str, text: Bytes) -> Answer {
    with_headers(status, kind, Either::Left(Full::new(text)))
}

fn with_headers(status: StatusCode, kind: &'static str, body: Either<Full<Bytes>, EventStream>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in PRIVATE {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a client would rather have OpenMetrics than Prometheus' older format (RFC 9110, 12.5.1). Prometheus says so;
/// browsers and scripts take what comes.
pub(super) fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut open, mut older) = (0.0, 0.0);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut is_known) = (1.0_f64, true);
        for part in parts {
            match part.split_once('=') {
                Some(("q", value)) => quality = value.trim().parse().unwrap_or(0.0),
                Some(("version", version)) => {
                    is_known = ["1.0.0", "0.0.4"].contains(&version.trim_matches('"'));
                }
                _ => {}
            }
        }
        let best = match kind.as_str() {
            "application/openmetrics-text" if is_known => &mut open,
            "text/plain" | "text/*" | "*/*" if is_known => &mut older,
            _ => continue,
        };
        *best = quality.max(*best);
    }
    open > 0.0 && open >= older
}
