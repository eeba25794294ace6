//! Commands of exabgp's text API (as its wiki has them): `announce route PREFIX next-hop … [med N]
//! [local-preference N] [community [ … ]] [as-path [ … ]]` and `withdraw route PREFIX next-hop …`, with
//! `neighbor ADDRESS` in front where only one of them is meant.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
    str::FromStr,
};

/// What is said of a route beside its prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    /// `None`: exabgp's own address (`self`).
    pub(super) next_hop: Option<IpAddr>,
    pub(super) med: Option<u32>,
    pub(super) local_preference: Option<u32>,
    pub(super) communities: Vec<Community>,
    /// Numbers that are put in front of the path, mostly the own one several times.
    pub(super) as_path: Vec<u32>,
    /// Whom it is told; none: everybody.
    pub(super) neighbors: Vec<IpAddr>,
}

/// A community: `65000:1`, a large one `65000:1:2`, or a word such as `no-export`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Community(String);

/// What is no community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a community is like 65000:1, a large one like 65000:1:2, or a word such as no-export")]
pub(super) struct NoCommunity;

impl Community {
    fn is_large(&self) -> bool {
        self.0.matches(':').count() == 2
    }
}

impl FromStr for Community {
    type Err = NoCommunity;

    fn from_str(text: &str) -> Result<Self, NoCommunity> {
        // As exabgp 4 has them; others have numbers.
        const WORDS: [&str; 4] = ["no-export", "no-advertise", "no-export-subconfed", "no-peer"];
        let parts: Vec<&str> = text.split(':').collect();
        let is_number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty();
        let fits = match parts[..] {
            [word] => WORDS.contains(&word),
            [_, _] => parts.iter().all(|part| is_number(part) && part.parse::<u16>().is_ok()),
            [_, _, _] => parts.iter().all(|part| is_number(part) && part.parse::<u32>().is_ok()),
            _ => false,
        };
        if fits { Ok(Self(text.to_owned())) } else { Err(NoCommunity) }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The lines that announce a VIP or withdraw it.
pub(super) fn lines(vip: IpAddr, is_announced: bool, attributes: &Attributes) -> String {
    let command = command(vip, is_announced, attributes);
    if attributes.neighbors.is_empty() {
        return command + "\n";
    }
    attributes.neighbors.iter().fold(String::new(), |lines, neighbor| {
        lines + "neighbor " + &neighbor.to_string() + " " + &command + "\n"
    })
}

fn command(vip: IpAddr, is_announced: bool, attributes: &Attributes) -> String {
    let Attributes { next_hop, med, local_preference, communities, as_path, neighbors: _ } = attributes;
    let word = if is_announced { "announce" } else { "withdraw" };
    let length = if vip.is_ipv4() { 32 } else { 128 };
    let next_hop = next_hop.map_or_else(|| "self".to_owned(), |address| address.to_string());
    let mut line = format!("{word} route {vip}/{length} next-hop {next_hop}");
    if !is_announced {
        return line;
    }
    for (key, number) in [("med", med), ("local-preference", local_preference)] {
        if let Some(number) = number {
            // Writing to a string can't fail.
            write!(line, " {key} {number}").ok();
        }
    }
    let (large, plain): (Vec<_>, Vec<_>) = communities.iter().partition(|community| community.is_large());
    let lists = [
        ("community", plain.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ("large-community", large.iter().map(ToString::to_string).collect()),
        ("as-path", as_path.iter().map(ToString::to_string).collect()),
    ];
    for (key, items) in lists.into_iter().filter(|(_, items)| !items.is_empty()) {
        write!(line, " {key} [ {} ]", items.join(" ")).ok();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_announced_and_withdrawn_in_exabgps_words() {
        let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.80".parse().unwrap(), "2001:db8::80".parse().unwrap());
        let plain = Attributes::default();
        assert_eq!(lines(v4, true, &plain), "announce route 192.0.2.80/32 next-hop self\n");
        assert_eq!(lines(v6, false, &plain), "withdraw route 2001:db8::80/128 next-hop self\n");
        let communities = ["65000:1", "no-export", "65000:1:2"].map(|text| text.parse().unwrap());
        let all = Attributes {
            next_hop: Some("10.0.0.254".parse().unwrap()),
            med: Some(100),
            local_preference: Some(200),
            communities: communities.to_vec(),
            as_path: vec![65000, 65000],
            neighbors: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
        };
        let route = "announce route 192.0.2.80/32 next-hop 10.0.0.254 med 100 local-preference 200 \
                     community [ 65000:1 no-export ] large-community [ 65000:1:2 ] as-path [ 65000 65000 ]";
        let expected = format!("neighbor 10.0.0.1 {route}\nneighbor 10.0.0.2 {route}\n");
        assert_eq!(lines(v4, true, &all), expected);
        let withdrawn = lines(v4, false, &all);
        assert!(withdrawn.ends_with("neighbor 10.0.0.2 withdraw route 192.0.2.80/32 next-hop 10.0.0.254\n"));
    }

    #[test]
    fn what_is_no_community_is_refused() {
        for text in [
            "",
            "1",
            "1:",
            ":1",
            "65536:1",
            "1:2:3:4",
            "no-exports",
            "graceful-shutdown",
            "1:2 ]\nwithdraw",
            "+1:2",
            "4294967296:1:1",
        ] {
            assert_eq!(text.parse::<Community>(), Err(NoCommunity), "{text:?}");
        }
    }
}
