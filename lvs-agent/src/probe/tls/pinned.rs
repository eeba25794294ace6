//! A certificate that is the very one in a file: it is known already, so that only its dates and its key are read (RFC
//! 5280, 4.1). It may be of any version, such as the first, which has no extensions, and have any extensions.

use rustls::{
    CertificateError, DigitallySignedStruct, Error,
    client::danger::{HandshakeSignatureValid, ServerCertVerified},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime},
};

/// Tags of ASN.1 (X.690, 8).
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which the first one leaves out.
const VERSION: u8 = 0xa0;

/// What is read of the certificate.
pub(super) struct Pinned<'a> {
    not_before: u64,
    not_after: u64,
    /// The key and its algorithm, as a whole.
    key: &'a [u8],
}

impl<'a> Pinned<'a> {
    /// Reads a certificate.
    pub(super) fn read(certificate: &'a CertificateDer<'_>) -> Result<Self, Error> {
        Self::parse(certificate).ok_or_else(|| CertificateError::BadEncoding.into())
    }

    fn parse(certificate: &'a [u8]) -> Option<Self> {
        let mut certificate = Elements(Elements(certificate).next(SEQUENCE)?.content);
        let mut fields = Elements(certificate.next(SEQUENCE)?.content);
        if fields.0.first() == Some(&VERSION) {
            fields.any()?;
        }
        let (_serial, _signature, _issuer) = (fields.any()?, fields.any()?, fields.any()?);
        let mut dates = Elements(fields.next(SEQUENCE)?.content);
        let _subject = fields.any()?;
        let key = fields.next(SEQUENCE)?.whole;
        Some(Self { not_before: time(&dates.any()?)?, not_after: time(&dates.any()?)?, key })
    }

    /// Whether its dates are right.
    pub(super) fn verify_dates(&self, now: UnixTime) -> Result<ServerCertVerified, Error> {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let Self { not_before, not_after, .. } = *self;
        if now.as_secs() < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before: at(not_before) }.into());
        }
        if now.as_secs() > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after: at(not_after) }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    /// Whether a message is signed with its key under TLS 1.2, where a scheme doesn't say which curve it is for: each
    /// algorithm that it may mean is tried (RFC 5246, 7.4.1.4.1).
    pub(super) fn verify_tls12(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (identifier, key) = self.key_parts().ok_or(CertificateError::BadEncoding)?;
        let of_scheme = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        let is_signed = of_scheme.flat_map(|(_, algorithms)| *algorithms).any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == identifier
                && algorithm.verify_signature(key, message, signed.signature()).is_ok()
        });
        if is_signed {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    /// The same under TLS 1.3.
    pub(super) fn verify_tls13(
        &self,
        message: &[u8],
        signed: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(self.key);
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }

    /// The key's algorithm, without the tag around it, and the key itself.
    fn key_parts(&self) -> Option<(&'a [u8], &'a [u8])> {
        let mut parts = Elements(Elements(self.key).next(SEQUENCE)?.content);
        let algorithm = parts.next(SEQUENCE)?.content;
        // The first byte is the number of bits that are not used of the last: none.
        let key = parts.next(BIT_STRING)?.content.strip_prefix(&[0])?;
        Some((algorithm, key))
    }
}

/// An element, with its tag and length and without.
struct Element<'a> {
    tag: u8,
    whole: &'a [u8],
    content: &'a [u8],
}

/// Elements one after the other, in the distinguished encoding (X.690, 10).
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The next one, if it has this tag.
    fn next(&mut self, tag: u8) -> Option<Element<'a>> {
        self.any().filter(|element| element.tag == tag)
    }

    /// The next one.
    fn any(&mut self) -> Option<Element<'a>> {
        let whole = self.0;
        let (&[tag, first], rest) = whole.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            // Of no known length, or of 16 MiB and more.
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, whole: whole.strip_suffix(rest)?, content })
    }
}

/// Seconds since 1970; what was before is 1970. The two forms are RFC 5280, 4.1.2.5.1 and 4.1.2.5.2.
fn time(element: &Element<'_>) -> Option<u64> {
    let digits = element.content.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (year, rest) = match element.tag {
        // 50 to 99 are of the last century.
        UTC_TIME => {
            digits.split_first_chunk::<2>().map(|(two, rest)| (1950 + (number(two) + 50) % 100, rest))?
        }
        GENERALIZED_TIME => digits.split_first_chunk::<4>().map(|(four, rest)| (number(four), rest))?,
        _ => return None,
    };
    // Certificates of old have no seconds.
    let parts: Vec<i64> = rest.chunks(2).map(number).collect();
    let (&[month, day, hour, minute], seconds) = parts.split_first_chunk()?;
    let seconds = match (rest.len(), seconds) {
        (8, []) => 0,
        (10, [seconds]) => *seconds,
        _ => return None,
    };
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    let is_time = hour < 24 && minute < 60 && seconds <= 60;
    let since = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + seconds;
    (is_date && is_time).then(|| u64::try_from(since).unwrap_or(0))
}

/// Days from 1970 to a day of the Gregorian calendar, from the year 0 on. Counted in years that begin with March, so
/// that the day of a leap year comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let before_month = (153 * ((month + 9) % 12) + 2) / 5;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From the first of March of the year 0 to 1970.
    year * 365 + leap_days + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tag: u8, text: &str) -> Option<u64> {
        time(&Element { tag, whole: &[], content: text.as_bytes() })
    }

    #[test]
    fn dates_are_read() {
        let cases = [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000229120000Z", Some(951_825_600)),
            (UTC_TIME, "0002291200Z", Some(951_825_600)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(0)),
            (GENERALIZED_TIME, "20380119031408Z", Some(2_147_483_648)),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "00000101000000Z", Some(0)),
            (UTC_TIME, "700101000000", None),
            (UTC_TIME, "701301000000Z", None),
            (UTC_TIME, "700100000000Z", None),
            (UTC_TIME, "70010100000Z", None),
            (UTC_TIME, "Z", None),
            (GENERALIZED_TIME, "2038-119031408Z", None),
            (SEQUENCE, "700101000000Z", None),
        ];
        for (tag, text, expected) in cases {
            assert_eq!(read(tag, text), expected, "{tag:#x} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some(pinned) = Pinned::parse(&bytes) {
                let _parts = pinned.key_parts();
            }
        }
    }
}
