//! What an error of the TLS library means for the server.

use rustls::{AlertDescription, Error, PeerIncompatible, PeerMisbehaved};

use super::FailureReason;

/// What an error of the TLS library means for the server.
pub(super) fn of(error: &Error) -> FailureReason {
    if let Error::InvalidCertificate(_) | Error::NoCertificatesPresented = error {
        return FailureReason::Certificate(error.to_string().into());
    }
    let text = match explanation(error) {
        Some(explanation) => format!("TLS: {error}: {explanation}"),
        None => format!("TLS: {error}"),
    };
    FailureReason::Protocol(text.into())
}

/// What is likely behind an error that says little, and what to do.
fn explanation(error: &Error) -> Option<&'static str> {
    match error {
        // No cipher suite in common (RFC 5246, 7.2.2); some servers mean other things by it.
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity)
        | Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedCipherSuite) => Some(
            "the server may offer only old cipher suites (RSA key exchange, finite-field DHE, CBC); supported are \
             ECDHE with AES-GCM or ChaCha20-Poly1305, and TLS 1.3. Other servers refuse so a name (tls-name), or a \
             client without a certificate",
        ),
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Some("the server speaks only TLS 1.1 or older; supported are TLS 1.2 and 1.3"),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            Some("the server knows no such name; set tls-name, or host, to one that it has")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_little_says_is_explained() {
        let alert = Error::AlertReceived;
        let cases = [
            (alert(AlertDescription::HandshakeFailure), Some("only old cipher suites (RSA key exchange")),
            (alert(AlertDescription::ProtocolVersion), Some("only TLS 1.1 or older")),
            (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), Some("only TLS 1.1 or older")),
            (alert(AlertDescription::UnrecognisedName), Some("set tls-name")),
            (alert(AlertDescription::InternalError), None),
        ];
        for (error, words) in cases {
            let said = of(&error).to_string();
            match words {
                Some(words) => assert!(said.contains(words), "{said}"),
                None => assert_eq!(said, format!("protocol violated: TLS: {error}")),
            }
        }
    }
}
