//! The paths in a piece of Rust code: what is imported, and what is named in full where it is used.

/// A path, as written or as a `use` tree spells it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Its place in the code.
    pub(super) at: usize,
    pub(super) segments: Vec<String>,
    /// The modules of this file around it, the outermost first.
    pub(super) inside: Vec<String>,
    /// The name that a `use` gives it here.
    pub(super) alias: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Separator,
    Other(char),
}

/// All words of code, with their places.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    tokens(code).into_iter().filter_map(|(at, token)| match token {
        Token::Word(word) => Some((at, word)),
        _ => None,
    })
}

/// The modules that code declares and has in files of their own.
pub(super) fn declared_modules(code: &str) -> impl Iterator<Item = &str> {
    let tokens = tokens(code);
    (0..tokens.len()).filter_map(move |index| match tokens.get(index..index + 3)? {
        [(_, Token::Word("mod")), (_, Token::Word(name)), (_, Token::Other(';'))] => Some(*name),
        _ => None,
    })
}

/// All paths of more than one segment, and all that is imported. Code is without comments and what literals say.
pub(super) fn paths(code: &str) -> Vec<Named> {
    let mut reader =
        Reader { tokens: tokens(code), next: 0, depth: 0, inside: Vec::new(), found: Vec::new() };
    reader.read();
    reader.found
}

fn tokens(code: &str) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(char) = code.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = code.get(at..).unwrap_or_default();
        let length = rest.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(rest.len());
        if length > 0 {
            tokens.push((at, Token::Word(rest.get(..length).unwrap_or_default())));
            at += length;
        } else if rest.starts_with("::") {
            tokens.push((at, Token::Separator));
            at += 2;
        } else {
            if !char.is_whitespace() {
                tokens.push((at, Token::Other(char)));
            }
            at += char.len_utf8();
        }
    }
    tokens
}

struct Reader<'a> {
    tokens: Vec<(usize, Token<'a>)>,
    next: usize,
    /// How many braces are open.
    depth: usize,
    /// The modules that are open, with the depth of each.
    inside: Vec<(String, usize)>,
    found: Vec<Named>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) {
        while let Some(token) = self.token(0) {
            match token {
                Token::Word("use") if self.token(1) != Some(Token::Other('<')) => {
                    self.next += 1;
                    self.tree(&[]);
                }
                Token::Word("mod") => {
                    if let (Some(Token::Word(name)), Some(Token::Other('{'))) = (self.token(1), self.token(2))
                    {
                        self.inside.push((name.to_owned(), self.depth));
                    }
                    self.next += 1;
                }
                Token::Word(_) => self.path(),
                Token::Other('{') => {
                    self.depth += 1;
                    self.next += 1;
                }
                Token::Other('}') => {
                    self.depth = self.depth.saturating_sub(1);
                    self.inside.pop_if(|(_, depth)| *depth == self.depth);
                    self.next += 1;
                }
                Token::Separator | Token::Other(_) => self.next += 1,
            }
        }
    }

    fn token(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.next + ahead).map(|&(_, token)| token)
    }

    fn before(&self, back: usize) -> Option<Token<'a>> {
        self.next.checked_sub(back).and_then(|index| self.tokens.get(index)).map(|&(_, token)| token)
    }

    fn push(&mut self, at: usize, segments: Vec<String>, alias: Option<String>) {
        let inside = self.inside.iter().map(|(name, _)| name.clone()).collect();
        self.found.push(Named { at, segments, inside, alias });
    }

    /// One tree of a `use`, behind `prefix`.
    fn tree(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        let Some(&(at, _)) = self.tokens.get(self.next) else { return };
        while let Some(token) = self.token(0) {
            match token {
                Token::Separator => self.next += 1,
                Token::Other('{') => {
                    self.next += 1;
                    while !matches!(self.token(0), None | Some(Token::Other('}'))) {
                        self.tree(&segments);
                        if self.token(0) == Some(Token::Other(',')) {
                            self.next += 1;
                        }
                    }
                    self.next += 1;
                    return;
                }
                Token::Other('*') => {
                    self.next += 1;
                    return self.push(at, segments, None);
                }
                Token::Word("as") => {
                    let alias = match self.token(1) {
                        Some(Token::Word(name)) => Some(name.to_owned()),
                        _ => None,
                    };
                    self.next += 2;
                    return self.push(at, segments, alias);
                }
                Token::Word(word) => {
                    // `a::{self}` is `a`.
                    if word != "self" || segments.is_empty() {
                        segments.push(word.to_owned());
                    }
                    self.next += 1;
                }
                Token::Other(_) => break,
            }
        }
        if self.token(0).is_none_or(|token| !matches!(token, Token::Other(',' | '}' | ';'))) {
            self.next += 1;
        }
        let alias = segments.last().cloned();
        self.push(at, segments, alias);
    }

    /// A path outside of `use`, if one begins here.
    fn path(&mut self) {
        let is_type_closed =
            self.before(2) == Some(Token::Other('>')) && self.before(3) != Some(Token::Other('-'));
        let continues = self.before(1) == Some(Token::Separator)
            && (is_type_closed || matches!(self.before(2), Some(Token::Word(_))));
        let is_visibility = (self.before(3), self.before(2), self.before(1))
            == (Some(Token::Word("pub")), Some(Token::Other('(')), Some(Token::Word("in")));
        let at = self.tokens.get(self.next).map_or(0, |&(at, _)| at);
        let mut segments = Vec::new();
        while let Some(Token::Word(word)) = self.token(0) {
            segments.push(word.to_owned());
            self.next += 1;
            if self.token(0) != Some(Token::Separator) || !matches!(self.token(1), Some(Token::Word(_))) {
                break;
            }
            self.next += 1;
        }
        if segments.len() > 1 && !continues && !is_visibility {
            self.push(at, segments, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(code: &str) -> Vec<String> {
        paths(code).into_iter().map(|named| named.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_are_spelled_out() {
        let code = "pub(crate) use crate::{a::{self, b as c, d::*}, e};\nuse self::{f, g::{h}};\nuse i;";
        assert_eq!(
            written(code),
            ["crate::a", "crate::a::b", "crate::a::d", "crate::e", "self::f", "self::g::h", "i"]
        );
        let aliases: Vec<_> = paths(code).into_iter().map(|named| named.alias).collect();
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(aliases, [named("a"), named("c"), None, named("e"), named("f"), named("h"), named("i")]);
    }

    #[test]
    fn paths_in_code_are_found_but_not_those_of_visibility() {
        let code = "pub(crate) fn a() -> ::b::C { super::d::<crate::e::F>::g(h.i) + Vec::<u8>::new() }";
        assert_eq!(written(code), ["b::C", "super::d", "crate::e::F"]);
        assert_eq!(written("impl Trait<use<'a>> + crate::b::C"), ["crate::b::C"]);
    }

    #[test]
    fn a_path_knows_the_modules_around_it() {
        let found = paths("mod a { mod b { use super::c; } use d; } use e;");
        let inside: Vec<_> = found.iter().map(|named| named.inside.join("::")).collect();
        assert_eq!(inside, ["a::b", "a", ""]);
    }
}
