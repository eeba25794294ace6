//! Lines that ldirectord takes though nobody writes them so on purpose, and lines that it refuses though it is clear
//! what they mean.

use fastrand::Rng;

/// Makes lines odd, now and then.
pub(crate) struct OddLines {
    rng: Rng,
}

impl OddLines {
    /// One that does to the same lines the same for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed ^ 0x0dd1_11e5) }
    }

    fn happens(&mut self) -> bool {
        self.rng.u8(..10) < 3
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.rng.usize(..of.len())]
    }

    /// What is behind the address and port, or the mark, of a virtual service.
    pub(crate) fn behind_head(&mut self) -> &'static str {
        if self.happens() { self.one(&["/tcp", "/udp", ",", ";", " x", ":9", " # a comment"]) } else { "" }
    }

    /// What is behind a mark.
    pub(crate) fn behind_mark(&mut self) -> &'static str {
        if self.happens() { self.one(&["/fwm", ",", " x", "x"]) } else { "" }
    }

    /// A real server's line, from its address on, with words in it that have no effect.
    pub(crate) fn real(&mut self, line: &str) -> String {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let is_number = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
        if self.happens() {
            words[0].insert_str(0, self.one(&["=", "http://", "server: ", "\"", "(", "“"]));
        }
        // Something must follow that ldirectord looks for: what is left at the end it refuses.
        if words.len() > 2 && self.happens() {
            words[1] += self.one(&[",", ";", " -w"]);
        }
        if let Some(weight) = words.get(2).filter(|word| is_number(word)).cloned().filter(|_| self.happens())
        {
            words[2] = format!("{} {weight}", self.one(&["-w", "weight", "w =", "x, y"]));
        }
        if let Some(at) = words.iter().position(|word| word.starts_with("u:")).filter(|_| self.happens()) {
            words.insert(at, "and".to_owned());
        }
        words.join(" ")
    }

    /// Another line of a virtual service, with what has no effect around its value.
    pub(crate) fn line(&mut self, line: String) -> String {
        const QUOTABLE: [&str; 10] = [
            "checkcount",
            "checkinterval",
            "checkport",
            "checktimeout",
            "checktype",
            "failurecount",
            "persistent",
            "protocol",
            "scheduler",
            "service",
        ];
        let Some((name, value)) = line.split_once('=').filter(|(name, _)| QUOTABLE.contains(name)) else {
            return line;
        };
        if !self.happens() {
            return line;
        }
        let (first, last) =
            [("\"", "\""), ("'", "'"), ("“", "”"), ("", ","), ("", ";"), ("(", ")")][self.rng.usize(..6)];
        format!("{name}={first}{value}{last}")
    }

    /// A file as it is written by somebody who doesn't know how far lines of virtual services are indented, and whose
    /// editor has its own quotes. ldirectord refuses it; the agent takes it like the file itself.
    pub(crate) fn sloppy(&mut self, text: &str) -> String {
        const PAIRS: [(&str, &str); 5] = [("“", "”"), ("‘", "’"), ("„", "“"), ("«", "»"), ("'", "'")];
        let quotes = PAIRS[self.rng.usize(..PAIRS.len())];
        // All lines at the left, or each of a service as it comes.
        let is_mixed = self.rng.bool();
        let mut lines: Vec<String> = Vec::new();
        let mut is_last = true;
        // Of a service whose lines are mixed the last one is indented: it says where those above it belong.
        for line in text.lines().rev() {
            let rest = line.trim_start();
            let is_indented = rest.len() < line.len() && !rest.starts_with('#');
            let indent = match (is_mixed && is_indented, is_last) {
                (false, _) => "",
                (true, true) => "  ",
                (true, false) => self.one(&["", "", " ", "   ", "\t", "      "]),
            };
            is_last = if is_indented { false } else { is_last || rest.starts_with("virtual") };
            lines.push(format!("{indent}{}", in_foreign_quotes(rest, quotes)));
        }
        lines.reverse();
        lines.join("\n") + "\n"
    }
}

/// A line whose texts are in these quotes.
fn in_foreign_quotes(line: &str, (open, close): (&str, &str)) -> String {
    const QUOTED: [&str; 5] = ["request", "receive", "virtualhost", "checkcommand", "real"];
    if !QUOTED.iter().any(|name| line.starts_with(name)) {
        return line.to_owned();
    }
    let mut parts = line.split('"');
    let mut quoted = parts.next().unwrap_or_default().to_owned();
    let rest: Vec<&str> = parts.collect();
    // A quote that stands alone is something else.
    if rest.len() % 2 == 1 {
        return line.to_owned();
    }
    for pair in rest.chunks(2) {
        quoted += &[open, pair[0], close, pair[1]].concat();
    }
    quoted
}
