//! What an error of the TLS library means for the server.

use super::FailureReason;

/// What an error of the TLS library means for the server.
pub(super) fn of(error: &rustls::Error) -> FailureReason {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            FailureReason::Certificate(error.to_string())
        }
        _ => FailureReason::Protocol(format!("TLS: {error}")),
    }
}
