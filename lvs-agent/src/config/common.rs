//! What a value must be like in any format.

/// Whether syslog has this facility.
pub(super) fn is_facility(word: &str) -> bool {
    const WORDS: [&str; 11] =
        ["auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user"];
    let local = word.strip_prefix("local").is_some_and(|number| matches!(number.as_bytes(), [b'0'..=b'7']));
    local || WORDS.contains(&word)
}

/// Whether `text` can be a mail address or the name of a local user, and nothing that a mail server would take for
/// more.
pub(super) fn is_mail_address(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 254
        && !text.starts_with('-')
        && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\\\"".contains(c))
}
