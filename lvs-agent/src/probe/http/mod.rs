//! HTTP: does the service answer as it should?
//!
//! The whole check has one deadline, whatever the server does: it may send its head byte by byte, headers or a body
//! without end, or anything but HTTP. Memory is bounded by [`MAX_HEAD`] and [`body::MAX_SEARCHED`]. What isn't needed
//! of the body is read within reason behind the verdict, lest the server finds its connection reset ([`Rests`]).

mod body;
mod headers;
mod redirect;
mod rest;
#[cfg(test)]
mod tests;

use std::{error::Error, io, net::SocketAddr, time::Duration};

use http_body_util::Empty;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

pub(super) use self::rest::Rests;
use super::{
    FailureReason, LocalFault, Phase,
    context::ProbeContext,
    errno::{self, Call},
    outcome::Answer,
    stream::Stream,
};
use crate::{
    model::{HttpCheck, HttpMethod, HttpPage, HttpVersion, PeerText},
    supervision,
};

/// How many bytes the status line and the headers may have together.
const MAX_HEAD: usize = 64 << 10;
/// How many headers there may be.
const MAX_HEADERS: usize = 100;
/// What the agent calls itself in the servers' logs.
const USER_AGENT: &str = concat!("lvs-agent/", env!("CARGO_PKG_VERSION"));

/// Asks for each page, and judges it.
pub(super) async fn probe(context: &ProbeContext<'_>, check: &HttpCheck) -> Result<Answer, FailureReason> {
    let mut connect = None;
    for page in &check.pages {
        let connected = probe_page(context, check, page).await?;
        connect.get_or_insert(connected);
    }
    Ok(Answer { connect, weight: None })
}

/// Asks for a page, follows its redirects, and judges what comes. Returns when the first connection was made.
async fn probe_page(
    context: &ProbeContext<'_>,
    check: &HttpCheck,
    page: &HttpPage,
) -> Result<Duration, FailureReason> {
    let mut path = page.path.clone();
    let mut connect = None;
    for followed in 0_u8.. {
        let Fetched { mut response, connected, connection } = fetch(context, check, page, &path).await?;
        let connected = *connect.get_or_insert(connected);
        let location = location(&response).filter(|_| check.redirects > 0);
        let verdict = match location {
            Some(_) => Ok(()),
            None => evaluate(context, page, &mut response).await,
        };
        let status = response.status().as_u16();
        // A server that has been too slow already is not waited for.
        if !matches!(verdict, Err(FailureReason::TimedOut { .. })) {
            context.rests.read(response.into_body(), connection).await;
        }
        verdict?;
        let Some(location) = location else { return Ok(connected) };
        let refuse = |problem| FailureReason::Redirect {
            status,
            location: PeerText::beginning(&location, 200),
            problem,
        };
        if followed == check.redirects {
            return Err(refuse("and no more redirects are followed"));
        }
        let host = host(context.target.address, check, page);
        path = redirect::target(&path, &location, &host, context.target.address, check).map_err(refuse)?;
    }
    Err(FailureReason::Protocol("redirects without end".into()))
}

/// A response, the connection that it comes over, and when that was made.
struct Fetched {
    response: Response<Incoming>,
    connected: Duration,
    connection: AbortOnDropHandle<()>,
}

/// Sends one request, and waits for the head of the response.
async fn fetch(
    context: &ProbeContext<'_>,
    check: &HttpCheck,
    page: &HttpPage,
    path: &str,
) -> Result<Fetched, FailureReason> {
    let host = host(context.target.address, check, page);
    let mut request = request(&host, check, page, path)?;
    headers::add(context, &check.headers, request.headers_mut()).await?;
    let mut stream = Stream::open(context).await?;
    let connected = context.deadline.elapsed();
    if let Some(tls) = &check.tls {
        stream = stream.encrypted(context, tls, page.host.as_deref().map(without_port)).await?;
    }
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // Clients are as lenient: folded lines, blanks before the colon, lines without one.
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error, Phase::Reply))?;
    // Ends with this check, however that ends.
    let address = context.target.address;
    let connection = supervision::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%address, %error, "the connection of an HTTP check has ended");
        }
    });
    let response = async { sender.send_request(request).await.map_err(|error| failed(&error, Phase::Reply)) };
    let response = context.deadline.within(Phase::Reply, response).await?;
    Ok(Fetched { response, connected, connection })
}

/// Where a response leads, if it is a redirect.
fn location(response: &Response<Incoming>) -> Option<String> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    is_redirect.then(|| redirect::location(response.headers())).flatten()
}

/// Whether a response is as it should be.
async fn evaluate(
    context: &ProbeContext<'_>,
    page: &HttpPage,
    response: &mut Response<Incoming>,
) -> Result<(), FailureReason> {
    let got = response.status().as_u16();
    if !page.status.contains(got) {
        return Err(FailureReason::WrongStatus { got, wanted: page.status.clone() });
    }
    body::evaluate(context, page, response.body_mut()).await
}

/// The Host header: the configured name; the host of the URL for a proxy; else the server's address.
fn host(address: SocketAddr, check: &HttpCheck, page: &HttpPage) -> String {
    let from_url = || {
        let url: hyper::Uri = page.path.parse().ok().filter(|_| check.proxy)?;
        url.authority().map(ToString::to_string)
    };
    if let Some(host) = page.host.clone().or_else(from_url) {
        return host;
    }
    let usual_port = if check.tls.is_some() { 443 } else { 80 };
    match address {
        SocketAddr::V4(address) if address.port() == usual_port => address.ip().to_string(),
        SocketAddr::V6(address) if address.port() == usual_port => format!("[{}]", address.ip()),
        address => address.to_string(),
    }
}

/// A host without the port behind it.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The request. A fault in it can only be the check's, and says nothing about the server.
fn request(
    host: &str,
    check: &HttpCheck,
    page: &HttpPage,
    path: &str,
) -> Result<Request<Empty<Bytes>>, FailureReason> {
    let method = match page.method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
    };
    let version = match check.version {
        HttpVersion::Http10 => Version::HTTP_10,
        HttpVersion::Http11 => Version::HTTP_11,
    };
    Request::builder()
        .method(method)
        .version(version)
        .uri(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| {
            LocalFault::new("make the request", &io::Error::new(io::ErrorKind::InvalidInput, error)).into()
        })
}

/// What an error of the HTTP library means.
fn failed(error: &hyper::Error, phase: Phase) -> FailureReason {
    let io_error = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if let Some(io_error) = io_error
        && (io_error.raw_os_error().is_some()
            || io_error.kind() == io::ErrorKind::UnexpectedEof
            || io_error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>))
    {
        return errno::of(io_error, (Call::Transfer, "use the connection"), phase);
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return FailureReason::Closed { phase };
    }
    if error.is_parse_too_large() {
        return FailureReason::Protocol(
            format!("more than {MAX_HEAD} bytes or {MAX_HEADERS} headers").into(),
        );
    }
    // The library's own words for what came, with the cause if it knows one.
    match error.source() {
        Some(source) => FailureReason::Protocol(format!("{error}: {source}").into()),
        None => FailureReason::Protocol(error.to_string().into()),
    }
}
