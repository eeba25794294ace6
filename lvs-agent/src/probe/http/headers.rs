//! The headers that are the operator's own, and those that prove who asks.

#[cfg(test)]
mod tests;

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue},
};

use crate::{
    file_work,
    model::{HttpAuthorization, HttpHeaders},
    probe::{FailureReason, LocalFault, Phase, context::ProbeContext},
};

/// The most of a file with a secret that is read: its first line is enough.
const MAX_FILE: u64 = 16 << 10;

/// Adds them to those of a request.
pub(super) async fn add(
    context: &ProbeContext<'_>,
    own: &HttpHeaders,
    headers: &mut HeaderMap,
) -> Result<(), FailureReason> {
    let invalid = |error: &dyn std::fmt::Display| {
        let error = io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
        LocalFault::new("make the headers", &error)
    };
    let value = |text: &str| -> Result<HeaderValue, LocalFault> {
        text.parse().map_err(|error: InvalidHeaderValue| invalid(&error))
    };
    if let Some(user_agent) = &own.user_agent {
        headers.insert(header::USER_AGENT, value(user_agent)?);
    }
    for header in &own.own {
        let name: HeaderName = header.name.parse().map_err(|error: InvalidHeaderName| invalid(&error))?;
        headers.insert(name, sensitive(value(header.value.reveal())?));
    }
    if let Some(authorization) = &own.authorization {
        let reading = async { read(authorization).await.map_err(FailureReason::from) };
        let proof = context.deadline.until_end(Phase::Reply, reading).await?;
        headers.insert(header::AUTHORIZATION, sensitive(value(&proof)?));
    }
    Ok(())
}

/// The library shows such a value nowhere.
fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// What stands in the Authorization header. The file is read each time: a new secret is sent from the next request on.
async fn read(authorization: &HttpAuthorization) -> Result<String, LocalFault> {
    let (HttpAuthorization::Basic(path) | HttpAuthorization::Bearer(path)) = authorization;
    let fault = |kind, problem: &dyn std::fmt::Display| {
        let error = io::Error::new(kind, format!("{}: {problem}", path.display()));
        LocalFault::new("read the secret of the check", &error)
    };
    let content = file_work::read(path, MAX_FILE).await.map_err(|error| fault(error.kind(), &error))?;
    let proof = match authorization {
        HttpAuthorization::Basic(_) => HttpAuthorization::basic(&content)
            .map(|secret| format!("Basic {}", STANDARD.encode(secret.reveal()))),
        HttpAuthorization::Bearer(_) => {
            HttpAuthorization::bearer(&content).map(|secret| format!("Bearer {}", secret.reveal()))
        }
    };
    proof.map_err(|problem| fault(io::ErrorKind::InvalidData, &problem))
}
