//! Whether a body is as it should be.

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use md5::{Digest, Md5};
use memchr::memmem;
use sha2::Sha256;

use super::{FailureReason, Phase, ProbeContext, failed};
use crate::model::{BodyDigest, HttpPage};

/// How many bytes of a body are searched.
pub(super) const MAX_SEARCHED: usize = 256 << 10;
/// How many bytes go into a digest; they are not kept.
const MAX_DIGESTED: usize = 16 << 20;

/// Judges a body.
pub(super) async fn evaluate(
    context: &ProbeContext<'_>,
    page: &HttpPage,
    body: &mut Incoming,
) -> Result<(), FailureReason> {
    let HttpPage { text, pattern, unwanted, digest, .. } = page;
    let mut reader = Reader { context, body };
    match (text, pattern, unwanted, digest) {
        (None, None, None, None) => Ok(()),
        (Some(text), None, None, None) => search(&mut reader, text.as_bytes()).await,
        _ => evaluate_whole(&mut reader, page).await,
    }
}

/// Reads a body piece by piece.
struct Reader<'a> {
    context: &'a ProbeContext<'a>,
    body: &'a mut Incoming,
}

impl Reader<'_> {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, FailureReason> {
        let Self { context, body } = self;
        loop {
            let frame = async { Ok(body.frame().await) };
            let Some(frame) = context.deadline.within(Phase::Body, frame).await? else { return Ok(None) };
            // What is no data are trailers.
            if let Ok(data) = frame.map_err(|error| failed(&error, Phase::Body))?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// Whether `text` is in the first [`MAX_SEARCHED`] bytes of the body.
async fn search(reader: &mut Reader<'_>, text: &[u8]) -> Result<(), FailureReason> {
    let finder = memmem::Finder::new(text);
    let mut read: Vec<u8> = Vec::new();
    while let Some(data) = reader.next().await? {
        // Where the text could begin that this piece completes.
        let from = read.len().saturating_sub(text.len().saturating_sub(1));
        read.extend_from_slice(&data[..data.len().min(MAX_SEARCHED - read.len())]);
        if finder.find(&read[from..]).is_some() {
            return Ok(());
        }
        if read.len() == MAX_SEARCHED {
            return Err(FailureReason::TextNotFound { searched: MAX_SEARCHED, cut: true });
        }
    }
    Err(FailureReason::TextNotFound { searched: read.len(), cut: false })
}

/// Reads as much as the conditions need, and then evaluates them.
async fn evaluate_whole(reader: &mut Reader<'_>, page: &HttpPage) -> Result<(), FailureReason> {
    let mut read: Vec<u8> = Vec::new();
    let mut hash = page.digest.as_ref().map(Hash::new);
    let mut length = 0;
    let mut cut = false;
    while let Some(data) = reader.next().await? {
        length += data.len();
        read.extend_from_slice(&data[..data.len().min(MAX_SEARCHED - read.len())]);
        cut = length > MAX_SEARCHED;
        match &mut hash {
            Some(_) if length > MAX_DIGESTED => {
                return Err(FailureReason::Protocol(
                    format!("a body of more than {MAX_DIGESTED} bytes").into(),
                ));
            }
            Some(hash) => hash.update(&data),
            None if cut => break,
            None => {}
        }
    }
    let searched = read.len();
    let has_text = page.text.as_ref().is_none_or(|text| memmem::find(&read, text.as_bytes()).is_some());
    if !has_text || page.pattern.as_ref().is_some_and(|pattern| !pattern.is_in(&read)) {
        return Err(FailureReason::TextNotFound { searched, cut });
    }
    if page.unwanted.as_ref().is_some_and(|pattern| pattern.is_in(&read)) {
        return Err(FailureReason::UnwantedText { searched });
    }
    hash.map_or(Ok(()), Hash::compare)
}

/// A digest in the making, and the one that is wanted.
enum Hash {
    Md5(Md5, [u8; 16]),
    Sha256(Sha256, [u8; 32]),
}

impl Hash {
    fn new(wanted: &BodyDigest) -> Self {
        match wanted {
            BodyDigest::Md5(wanted) => Self::Md5(Md5::new(), *wanted),
            BodyDigest::Sha256(wanted) => Self::Sha256(Sha256::new(), *wanted),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Md5(hash, _) => hash.update(data),
            Self::Sha256(hash, _) => hash.update(data),
        }
    }

    fn compare(self) -> Result<(), FailureReason> {
        let (got, wanted) = match self {
            Self::Md5(hash, wanted) => (hash.finalize().to_vec(), wanted.to_vec()),
            Self::Sha256(hash, wanted) => (hash.finalize().to_vec(), wanted.to_vec()),
        };
        if got == wanted {
            return Ok(());
        }
        Err(FailureReason::WrongDigest { got: hexadecimal(&got), wanted: hexadecimal(&wanted) })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
