//! What a value must be like in any format.

/// Whether `text` can be a mail address or the name of a local user, and nothing that a mail server would take for
/// more.
pub(super) fn is_mail_address(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 254
        && !text.starts_with('-')
        && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\\\"".contains(c))
}
