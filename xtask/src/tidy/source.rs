//! A Rust file taken apart: code, comments and literals, each where it stands, and the code without its tests.

/// What tests stand behind.
const TEST_ATTRIBUTE: &str = "#[cfg(test)]";

/// A file's text by kind. What is of another kind is blank, so that places and lines are the same in all of them.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Neither comments nor what literals say; a string's quotes stay.
    pub(super) code: String,
    /// As `code`, without what is compiled for tests only.
    pub(super) production: String,
    pub(super) comments: String,
    pub(super) literals: Vec<Literal>,
}

/// A string literal's content, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    /// Where the content begins.
    pub(super) at: usize,
    pub(super) text: String,
}

impl Source {
    pub(super) fn parse(text: &str) -> Self {
        let mut scanner =
            Scanner { text, at: 0, code: blank(text), comments: blank(text), literals: Vec::new() };
        scanner.scan();
        let Scanner { code, comments, literals, .. } = scanner;
        let [code, comments] = [code, comments].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Self { production: without_tests(&code), code, comments, literals }
    }

    /// Whether a place is compiled for tests only.
    pub(super) fn is_test(&self, at: usize) -> bool {
        // A literal's opening quote is code.
        let quote = at.saturating_sub(1);
        self.code.as_bytes().get(quote) != self.production.as_bytes().get(quote)
    }

    /// Whether a place is what a string says.
    pub(super) fn is_literal(&self, at: usize) -> bool {
        self.literals.iter().any(|literal| (literal.at..literal.at + literal.text.len()).contains(&at))
    }

    /// The modules in files of their own that are compiled for tests only.
    pub(super) fn test_modules(&self) -> Vec<&str> {
        let after = self.code.match_indices(TEST_ATTRIBUTE).map(|(at, _)| item(&self.code, at).0);
        after
            .filter_map(|at| {
                let (head, _) = self.code.get(at..)?.split_once(';')?;
                let mut words = head.split_whitespace().skip_while(|word| word.starts_with("pub"));
                (words.next() == Some("mod"))
                    .then(|| words.next())
                    .flatten()
                    .filter(|_| words.next().is_none())
            })
            .collect()
    }
}

/// The line of a place, counted from 1.
pub(super) fn line(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1
}

fn blank(text: &str) -> Vec<u8> {
    text.bytes().map(|byte| if byte == b'\n' { b'\n' } else { b' ' }).collect()
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    code: Vec<u8>,
    comments: Vec<u8>,
    literals: Vec<Literal>,
}

impl Scanner<'_> {
    fn scan(&mut self) {
        while let Some(byte) = self.byte(self.at) {
            let rest = self.rest(self.at);
            if rest.starts_with("//") {
                let end = rest.find('\n').map_or(self.text.len(), |length| self.at + length);
                self.comment(end);
            } else if rest.starts_with("/*") {
                let end = self.at + block_comment(rest);
                self.comment(end);
            } else if byte == b'"' {
                self.string();
            } else if byte == b'\'' {
                self.quote();
            } else if byte.is_ascii_alphabetic() || byte == b'_' {
                self.word();
            } else {
                self.keep(self.at + 1);
            }
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn rest(&self, at: usize) -> &str {
        self.text.get(at..).unwrap_or_default()
    }

    /// What follows up to `end` is code.
    fn keep(&mut self, end: usize) {
        copy(self.text, self.at, end, &mut self.code);
        self.at = end;
    }

    fn comment(&mut self, end: usize) {
        copy(self.text, self.at, end, &mut self.comments);
        self.at = end;
    }

    /// An identifier or number, or a raw string with its prefix.
    fn word(&mut self) {
        let rest = self.rest(self.at);
        let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let word = rest.get(..length).unwrap_or_default();
        let hashes = self.rest(self.at + length).bytes().take_while(|&byte| byte == b'#').count();
        let is_raw = matches!(word, "r" | "br" | "cr") && self.byte(self.at + length + hashes) == Some(b'"');
        self.keep(self.at + length);
        if is_raw {
            self.keep(self.at + hashes);
            self.until(&format!("\"{}", "#".repeat(hashes)));
        }
    }

    /// A literal that begins with a quote here and ends with `close`, without escapes.
    fn until(&mut self, close: &str) {
        self.keep(self.at + 1);
        let length = self.rest(self.at).find(close).unwrap_or(self.text.len() - self.at);
        self.literal(length, close.len());
    }

    fn string(&mut self) {
        self.keep(self.at + 1);
        let mut bytes = self.rest(self.at).bytes().enumerate();
        let mut length = self.text.len() - self.at;
        while let Some((index, byte)) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'"' => {
                    length = index;
                    break;
                }
                _ => {}
            }
        }
        self.literal(length, 1);
    }

    fn literal(&mut self, length: usize, close: usize) {
        let text = self.rest(self.at).get(..length).unwrap_or_default().to_owned();
        self.literals.push(Literal { at: self.at, text });
        self.at += length;
        self.keep((self.at + close).min(self.text.len()));
    }

    /// A character's literal, or a lifetime.
    fn quote(&mut self) {
        let mut chars = self.rest(self.at + 1).char_indices();
        let end = match chars.next() {
            Some((_, '\\')) => {
                chars.next();
                chars.find(|&(_, char)| char == '\'').map(|(index, _)| index)
            }
            _ => chars.next().filter(|&(_, char)| char == '\'').map(|(index, _)| index),
        };
        self.keep(self.at + 1);
        if let Some(end) = end {
            self.at += end;
            self.keep(self.at + 1);
        }
    }
}

fn copy(text: &str, from: usize, to: usize, into: &mut [u8]) {
    if let (Some(into), Some(from)) = (into.get_mut(from..to), text.as_bytes().get(from..to)) {
        into.copy_from_slice(from);
    }
}

/// The length of a comment between `/*` and `*/`, which may have others inside.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Code in which what stands behind `#[cfg(test)]` is blank.
fn without_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    for (at, _) in code.match_indices(TEST_ATTRIBUTE) {
        let (_, end) = item(code, at);
        for byte in bytes.get_mut(at..end).unwrap_or_default() {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where an item begins whose attributes begin at `at`, and where it ends: at its semicolon, or behind its braces.
fn item(code: &str, at: usize) -> (usize, usize) {
    let mut begin = at;
    while code.get(begin..).is_some_and(|rest| rest.starts_with("#[")) {
        begin = closed(code, begin + 1);
        begin += code.get(begin..).unwrap_or_default().find(|char: char| !char.is_whitespace()).unwrap_or(0);
    }
    let mut end = begin;
    while let Some(byte) = code.as_bytes().get(end) {
        match byte {
            b';' => return (begin, end + 1),
            b'{' => return (begin, closed(code, end)),
            b'(' | b'[' => end = closed(code, end),
            _ => end += 1,
        }
    }
    (begin, end)
}

/// The place behind the bracket that closes the one at `at`.
fn closed(code: &str, at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "let a = \"// \\\" unsafe\"; // 'a\nlet b = r#\"x \" y\"#; /* é /* */ unsafe */ 'c: loop {}\n\
                    let c = ['\"', '\\'', '\\u{e9}', 'é', b'\"'];";
        let source = Source::parse(text);
        assert!(!source.code.contains("unsafe"));
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.code.split_whitespace().collect::<Vec<_>>().join(" "), {
            "let a = \" \"; let b = r#\" \"#; 'c: loop {} let c = [' ', ' ', ' ', ' ', b' '];"
        });
        assert_eq!(source.comments.split_whitespace().collect::<Vec<_>>().join(" "), {
            "// 'a /* é /* */ unsafe */"
        });
        let literals: Vec<_> = source.literals.iter().map(|literal| literal.text.as_str()).collect();
        assert_eq!(literals, ["// \\\" unsafe", "x \" y"]);
    }

    #[test]
    fn tests_are_no_production_code() {
        let text = "fn a() {}\n#[cfg(test)]\n#[path = \"x\"]\npub(crate) mod arbitrary;\n#[cfg(test)]\nfn b(c: [u8; 2]) \
                    -> u8 { \"}\"; d() }\nfn e() {}\n#[cfg(test)]\nmod tests { fn f() { \"g\" } }\nfn h() {}";
        let source = Source::parse(text);
        let words: Vec<_> = source.production.split_whitespace().collect();
        assert_eq!(words, ["fn", "a()", "{}", "fn", "e()", "{}", "fn", "h()", "{}"]);
        assert_eq!(source.test_modules(), ["arbitrary"]);
        assert!(source.literals.iter().all(|literal| source.is_test(literal.at)));
    }

    #[test]
    fn lines_are_counted_from_one() {
        assert_eq!([0, 1, 2, 3].map(|at| line("a\nb\n", at)), [1, 1, 2, 2]);
    }
}
