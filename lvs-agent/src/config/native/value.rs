//! One reader for each kind of value.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use humantime::parse_duration;
use toml::de::DeValue;

use crate::{
    config::diagnostics::ValueFault,
    model::{AddressFamily, Netmask, Scheduler, ScriptUser, TcxOrder, VipMarks, Weight},
};

/// The shortest duration: timers have no finer resolution.
const MIN_DURATION: Duration = Duration::from_millis(1);
/// The longest duration: whoever writes more has mistaken a unit.
const MAX_DURATION: Duration = Duration::from_hours(24);
/// The longest persistence (`MAX_TIMEOUT` in ipvsadm.c).
const MAX_PERSISTENCE: Duration = Duration::from_hours(31 * 24);
/// The most failures or successes in a row: a confirming burst sends as many probes as failures are needed.
const MAX_COUNT: u32 = 100;
/// The highest quorum: more than any servers that a service has come to together.
const MAX_QUORUM: u32 = 1_000_000_000;
/// The most connections between two checks.
const MAX_CONNECTS: u32 = 10_000;
/// The most bursts a second.
const MAX_RATE: u32 = 1_000_000;
/// The highest value of `conn_reuse_mode`: two bits (`Documentation/networking/ipvs-sysctl.rst`).
const MAX_REUSE_MODE: i64 = 3;
/// The word for a sysctl that stays as it is.
const KEEP: &str = "keep";
/// The longest service name.
const MAX_NAME: usize = 100;
/// The longest name of a network device (`IFNAMSIZ` in `linux/if.h`, less the final zero).
const MAX_DEVICE: usize = 15;

type Result<T> = std::result::Result<T, ValueFault>;

/// The fault of a value that has the wrong type.
pub(super) fn wrong_type(value: &DeValue<'_>, wanted: &'static str) -> ValueFault {
    let got = match value {
        DeValue::String(text) => format!("text ({text:?})"),
        DeValue::Integer(number) => format!("the whole number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => format!("the date or time {time}"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    ValueFault::Type { wanted, got }
}

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool> {
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false, without quotes"))
}

/// `true` or `false`; `"keep"` is neither: what is found stays.
pub(super) fn switch(value: &DeValue<'_>) -> Result<Option<bool>> {
    match value {
        DeValue::String(_) => word(value, &[(KEEP, None)]),
        _ => value.as_bool().map(Some).ok_or_else(|| wrong_type(value, "true, false or \"keep\"")),
    }
}

/// A value of `conn_reuse_mode`, or `"keep"`.
pub(super) fn reuse_mode(value: &DeValue<'_>) -> Result<Option<u8>> {
    if value.as_str().is_some() {
        return word(value, &[(KEEP, None)]);
    }
    let mode = whole(value, 0, MAX_REUSE_MODE, "")?;
    Ok(u8::try_from(mode).ok())
}

/// Text in quotes.
pub(super) fn text<'a>(value: &'a DeValue<'_>, wanted: &'static str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| wrong_type(value, wanted))
}

/// One of some words, as the value that it names.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, known: &[(&'static str, T)]) -> Result<T> {
    let word = text(value, "a word in quotes")?;
    known.iter().find(|(name, _)| *name == word).map(|(_, meaning)| *meaning).ok_or_else(|| {
        ValueFault::Word { word: word.to_owned(), known: known.iter().map(|(name, _)| *name).collect() }
    })
}

/// A whole number from `min` to `max`.
pub(super) fn whole(value: &DeValue<'_>, min: i64, max: i64, reason: &'static str) -> Result<i64> {
    let Some(integer) = value.as_integer() else {
        return Err(wrong_type(value, "a whole number, without quotes"));
    };
    // What doesn't even fit into 128 bits is beyond every bound.
    let number = i128::from_str_radix(integer.as_str(), integer.radix());
    let above = match number {
        Ok(number) => match i64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => return Ok(number),
            _ => number > i128::from(max),
        },
        Err(_) => !integer.as_str().starts_with('-'),
    };
    let value = integer.to_string();
    Err(ValueFault::Range { value, above, min: min.to_string(), max: max.to_string(), reason })
}

/// A whole number from 1 to `max`.
fn positive(value: &DeValue<'_>, max: u32, reason: &'static str) -> Result<NonZeroU32> {
    let number = whole(value, 1, max.into(), reason)?;
    Ok(u32::try_from(number).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN))
}

/// Failures or successes in a row.
pub(super) fn count(value: &DeValue<'_>) -> Result<NonZeroU32> {
    positive(value, MAX_COUNT, "")
}

/// The sum of weights that a service needs.
pub(super) fn quorum(value: &DeValue<'_>) -> Result<NonZeroU32> {
    positive(value, MAX_QUORUM, "")
}

/// How far a sum of weights must go beyond the quorum.
pub(super) fn hysteresis(value: &DeValue<'_>) -> Result<u32> {
    number_from_zero(value, MAX_QUORUM)
}

/// How many connections come between two checks.
pub(super) fn connects(value: &DeValue<'_>) -> Result<u32> {
    number_from_zero(value, MAX_CONNECTS)
}

/// A number of connections.
pub(super) fn threshold(value: &DeValue<'_>) -> Result<u32> {
    number_from_zero(value, u32::MAX)
}

/// A whole number from 0 to `max`.
fn number_from_zero(value: &DeValue<'_>, max: u32) -> Result<u32> {
    let number = whole(value, 0, max.into(), "")?;
    Ok(u32::try_from(number).unwrap_or(max))
}

/// Bursts a second.
pub(super) fn rate(value: &DeValue<'_>) -> Result<NonZeroU32> {
    positive(value, MAX_RATE, "")
}

/// How many client networks must be waiting. The kernel side notes them in 64 bits, of which two networks may share
/// one; beyond half of them the count says little.
pub(super) fn clients(value: &DeValue<'_>) -> Result<u32> {
    positive(value, 32, ", the most that can be told apart").map(NonZeroU32::get)
}

/// How many refusals in a row.
pub(super) fn refusals(value: &DeValue<'_>) -> Result<u32> {
    count(value).map(NonZeroU32::get)
}

/// A number within bounds.
pub(super) fn number(value: &DeValue<'_>, bounds: &RangeInclusive<f64>) -> Result<f64> {
    let number = match value {
        DeValue::Float(float) => float.as_str().parse().unwrap_or(f64::NAN),
        DeValue::Integer(integer) => integer.to_string().parse().unwrap_or(f64::NAN),
        _ => f64::NAN,
    };
    if number.is_nan() {
        return Err(wrong_type(value, "a number, such as 8.0"));
    }
    if !bounds.contains(&number) {
        let (above, min, max) =
            (number > *bounds.end(), bounds.start().to_string(), bounds.end().to_string());
        return Err(ValueFault::Range { value: number.to_string(), above, min, max, reason: "" });
    }
    Ok(number)
}

/// A weight.
pub(super) fn weight(value: &DeValue<'_>) -> Result<Weight> {
    let number = whole(value, 0, u16::MAX.into(), "");
    number.map(|number| Weight(u16::try_from(number).unwrap_or(u16::MAX)))
}

/// A port.
pub(super) fn port(value: &DeValue<'_>) -> Result<u16> {
    let number = whole(value, 1, u16::MAX.into(), "")?;
    Ok(u16::try_from(number).unwrap_or(u16::MAX))
}

/// The priority of a tc filter.
pub(super) fn clsact_priority(value: &DeValue<'_>) -> Result<NonZeroU16> {
    let priority = whole(value, 1, u16::MAX.into(), ", which stands for one that the kernel chooses")?;
    Ok(u16::try_from(priority).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MAX))
}

/// A place among the programs of others.
pub(super) fn tcx_order(value: &DeValue<'_>) -> Result<TcxOrder> {
    /// `BPF_OBJ_NAME_LEN`, less the final zero (`linux/bpf.h`).
    const MAX_PROGRAM: usize = 15;
    let text = text(value, "\"first\", \"last\", \"before NAME\" or \"after NAME\"")?;
    let fault = |problem| Err(ValueFault::Text { text: text.to_owned(), problem });
    let named: fn(String) -> TcxOrder = match text.split_once(' ') {
        None if text == "first" => return Ok(TcxOrder::First),
        None if text == "last" => return Ok(TcxOrder::Last),
        Some(("before", _)) => TcxOrder::Before,
        Some(("after", _)) => TcxOrder::After,
        _ => return fault("is no place; write \"first\", \"last\", \"before NAME\" or \"after NAME\""),
    };
    let name = text.split_once(' ').map_or("", |(_, name)| name.trim());
    match name {
        "" => fault("names no program; `bpftool net` shows those that are attached"),
        _ if name.len() > MAX_PROGRAM => fault("names a program longer than 15 bytes, as none is called"),
        _ if name.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            fault("names more than one program; write one name")
        }
        _ => Ok(named(name.to_owned())),
    }
}

/// A firewall mark.
pub(super) fn mark(value: &DeValue<'_>) -> Result<u32> {
    let number = whole(value, 1, u32::MAX.into(), ", which stands for no mark at all")?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The first of the marks of probes to VIPs.
pub(super) fn vip_marks(value: &DeValue<'_>) -> Result<VipMarks> {
    let first = mark(value)?;
    VipMarks::new(first).ok_or(ValueFault::VipMarks { first })
}

/// Whom the commands of checks run as.
pub(super) fn script_user(value: &DeValue<'_>) -> Result<ScriptUser> {
    let text = text(value, "a user, such as \"nobody\", or with a group \"nobody:nogroup\"")?;
    let problem = "is not a user; write a name or number, and its group after a colon if it is to be another";
    ScriptUser::parse(text).ok_or_else(|| ValueFault::Text { text: text.to_owned(), problem })
}

/// The group that may use the control socket; `None` for `"off"`.
pub(super) fn operators(value: &DeValue<'_>) -> Result<Option<String>> {
    let name = text(value, "a group, such as \"lvs-agent\", or \"off\"")?;
    let problem = "is not a group; write a name or number";
    match name {
        "off" => Ok(None),
        _ if ScriptUser::parse(name).is_some_and(|user| user.group.is_none()) => Ok(Some(name.to_owned())),
        _ => Err(ValueFault::Text { text: name.to_owned(), problem }),
    }
}

/// A duration of whole seconds, up to what ipvsadm takes.
pub(super) fn whole_seconds(value: &DeValue<'_>) -> Result<Duration> {
    let duration = duration_up_to(value, MAX_PERSISTENCE, "31days")?;
    if duration.subsec_nanos() == 0 {
        return Ok(duration);
    }
    let text = value.as_str().unwrap_or_default().to_owned();
    Err(ValueFault::Text {
        text,
        problem: "is not whole seconds, and the kernel knows no others; write \"1s\" or more",
    })
}

/// How much of a client's address counts, for clients of this IP version.
pub(super) fn netmask(value: &DeValue<'_>, family: AddressFamily) -> Result<Netmask> {
    const WANTED_V4: &str = "a netmask or the length of a prefix, such as \"255.255.255.0\" or 24";
    const WANTED_V6: &str = "the length of a prefix, such as 64";
    let length = |most: u32| Ok(u32::try_from(whole(value, 1, most.into(), "")?).unwrap_or(most));
    match (family, value) {
        (AddressFamily::V6, DeValue::Integer(_)) => Ok(Netmask::V6(length(128)?)),
        (AddressFamily::V6, other) => Err(wrong_type(other, WANTED_V6)),
        (AddressFamily::V4, DeValue::Integer(_)) => {
            Ok(Netmask::V4(Ipv4Addr::from_bits(u32::MAX << (32 - length(32)?))))
        }
        (AddressFamily::V4, DeValue::String(text)) => match text.parse::<Ipv4Addr>() {
            Ok(mask)
                if mask.to_bits() != 0 && mask.to_bits().leading_ones() == mask.to_bits().count_ones() =>
            {
                Ok(Netmask::V4(mask))
            }
            _ => {
                let problem = "is not a netmask; write one such as \"255.255.255.0\", or the length of a prefix such as 24";
                Err(ValueFault::Text { text: text.to_string(), problem })
            }
        },
        (AddressFamily::V4, other) => Err(wrong_type(other, WANTED_V4)),
    }
}

/// A duration with its unit.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration> {
    duration_up_to(value, MAX_DURATION, "24h")
}

/// The same up to `max`, which is written like `max_text`.
fn duration_up_to(value: &DeValue<'_>, max: Duration, max_text: &str) -> Result<Duration> {
    let text = match value {
        DeValue::String(text) => text,
        DeValue::Integer(number) => return Err(ValueFault::BareNumber { number: number.to_string() }),
        DeValue::Float(number) => return Err(ValueFault::BareNumber { number: number.to_string() }),
        other => return Err(wrong_type(other, "a duration, such as \"250ms\" or \"1s\"")),
    };
    let is_number = |text: &str| text.trim().parse::<f64>().is_ok_and(|number| number != 0.0);
    let duration = match parse_duration(text) {
        Ok(duration) => duration,
        Err(_) if is_number(text) => {
            return Err(ValueFault::BareNumber { number: text.trim().to_owned() });
        }
        Err(_) => return Err(ValueFault::Duration { text: text.to_string() }),
    };
    if (MIN_DURATION..=max).contains(&duration) {
        return Ok(duration);
    }
    let above = duration > max;
    let reason = if above { "" } else { ", the shortest that timers can tell" };
    let (value, min, max) = (format!("{text:?}"), "1ms".to_owned(), max_text.to_owned());
    Err(ValueFault::Range { value, above, min, max, reason })
}

/// A scheduler's name.
pub(super) fn scheduler(value: &DeValue<'_>) -> Result<Scheduler> {
    let name = text(value, "a scheduler in quotes, such as \"wlc\"")?;
    name.parse().map_err(|_| ValueFault::Word { word: name.to_owned(), known: Scheduler::NAMES.to_vec() })
}

/// A service's name.
pub(super) fn name(value: &DeValue<'_>) -> Result<String> {
    let name = text(value, "a name in quotes")?;
    let fault = |problem| Err(ValueFault::Text { text: name.to_owned(), problem });
    match name {
        _ if name.trim().is_empty() => fault("is empty; write a name, or leave it out"),
        _ if name.chars().any(char::is_control) => fault("has control characters; remove them"),
        _ if name.chars().count() > MAX_NAME => fault("is longer than 100 characters; shorten it"),
        _ => Ok(name.to_owned()),
    }
}

/// A network device's name, after `dev_valid_name` in the kernel's `net/core/dev.c`.
pub(super) fn device(value: &DeValue<'_>) -> Result<String> {
    let name = text(value, "the name of a network device in quotes, such as \"eth1\"")?;
    let fault = |problem| Err(ValueFault::Text { text: name.to_owned(), problem });
    match name {
        "" | "." | ".." => fault("can't be the name of a network device; write one, such as \"eth1\""),
        _ if name.len() > MAX_DEVICE => fault("is longer than 15 bytes, which no network device's name is"),
        _ if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) => {
            fault("has characters that no network device's name has; names are like \"eth1\"")
        }
        _ => Ok(name.to_owned()),
    }
}

/// Where the control socket is; `None` for `"off"`.
pub(super) fn socket(value: &DeValue<'_>) -> Result<Option<PathBuf>> {
    /// The longest path of a socket (`sun_path` in `linux/un.h`, less the final zero).
    const MAX_PATH: usize = 107;
    let text = text(value, "a path in quotes, such as \"/run/lvs-agent/control\", or \"off\"")?;
    let fault = |problem| Err(ValueFault::Text { text: text.to_owned(), problem });
    match text {
        "off" => Ok(None),
        _ if !text.starts_with('/') => {
            fault("is not an absolute path; let it begin with a slash, or write \"off\"")
        }
        _ if text.contains('\0') => fault("has a zero byte; remove it"),
        _ if text.len() > MAX_PATH => {
            fault("is longer than 107 bytes, which no socket's path is; shorten it")
        }
        _ => Ok(Some(text.into())),
    }
}

/// A file to write; `None` for `"off"`.
pub(super) fn file(value: &DeValue<'_>) -> Result<Option<PathBuf>> {
    path_or_off(value, "a path in quotes, such as \"/var/tmp/lvs.trace\", or \"off\"")
}

/// Where intended weights are kept; `None` for `"off"`.
pub(super) fn state(value: &DeValue<'_>) -> Result<Option<PathBuf>> {
    path_or_off(value, "a path in quotes, such as \"/run/lvs-agent/state.json\", or \"off\"")
}

/// A folder; `None` for `"off"`.
pub(super) fn folder(value: &DeValue<'_>) -> Result<Option<PathBuf>> {
    path_or_off(value, "a path in quotes, such as \"/etc/lvs/maintenance\", or \"off\"")
}

fn path_or_off(value: &DeValue<'_>, wanted: &'static str) -> Result<Option<PathBuf>> {
    let text = text(value, wanted)?;
    let fault = |problem| Err(ValueFault::Text { text: text.to_owned(), problem });
    match text {
        "off" => Ok(None),
        _ if !text.starts_with('/') => {
            fault("is not an absolute path; let it begin with a slash, or write \"off\"")
        }
        _ if text.contains('\0') => fault("has a zero byte; remove it"),
        _ => Ok(Some(text.into())),
    }
}

/// Where metrics are served; `None` for `"off"`.
pub(super) fn listener(value: &DeValue<'_>) -> Result<Option<SocketAddr>> {
    const WANTED: &str = "address and port, such as \"127.0.0.1:9747\", nor \"off\"";
    let text = text(value, "an address and port, such as \"127.0.0.1:9747\", or \"off\"")?;
    if text == "off" {
        return Ok(None);
    }
    let fault = match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => return Ok(Some(address)),
        Ok(address) => ValueFault::Port { port: address.port().to_string(), text: text.to_owned() },
        Err(_) if text.parse::<IpAddr>().is_ok() => ValueFault::NoPort { text: text.to_owned() },
        Err(_) => ValueFault::Address { text: text.to_owned(), wanted: WANTED },
    };
    Err(fault)
}

/// A VIP, and its port if it is written; 0 is as good as none.
pub(super) fn vip(value: &DeValue<'_>) -> Result<(IpAddr, Option<u16>)> {
    let text = text(value, "the VIP and port in quotes, such as \"192.0.2.80:80\"")?;
    let (ip, port) = split(text)?;
    Ok((ip, if port == Some("0") { None } else { port_of(port, text)? }))
}

/// A real server's address, and its port if it is written.
pub(super) fn server(value: &DeValue<'_>) -> Result<(IpAddr, Option<u16>)> {
    address_and_port(value, "the server's address in quotes, such as \"10.0.0.1:80\" or \"10.0.0.1\"")
}

/// An address, and its port if it is written.
pub(super) fn address_and_port(value: &DeValue<'_>, wanted: &'static str) -> Result<(IpAddr, Option<u16>)> {
    let text = text(value, wanted)?;
    let (ip, port) = split(text)?;
    Ok((ip, port_of(port, text)?))
}

/// A unicast address, and what is written after it where a port should be.
fn split(text: &str) -> Result<(IpAddr, Option<&str>)> {
    let no_address = || {
        let wanted = "IP address, such as \"10.0.0.1:80\" or \"[2001:db8::1]:80\"";
        ValueFault::Address { text: text.to_owned(), wanted }
    };
    let (host, port) = match (text.strip_prefix('['), text.rsplit_once(':')) {
        (Some(rest), _) => match rest.split_once(']') {
            Some((host, "")) if host.parse::<Ipv6Addr>().is_ok() => (host, None),
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && port.starts_with(':') => {
                (host, Some(&port[1..]))
            }
            _ => return Err(no_address()),
        },
        (None, Some((host, port))) if host.parse::<Ipv4Addr>().is_ok() => (host, Some(port)),
        (None, _) => (text, None),
    };
    let ip = host.parse().map_err(|_| no_address())?;
    unicast(ip)?;
    Ok((ip, port))
}

/// Refuses what can't be the address of one host, or isn't the usual way to write it.
pub(super) fn unicast(ip: IpAddr) -> Result<()> {
    let fault = |problem| Err(ValueFault::Text { text: ip.to_string(), problem });
    let impossible = match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_multicast() || ip.octets()[0] >= 240,
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    };
    match ip {
        _ if impossible => Err(ValueFault::NotUnicast { address: ip.to_string() }),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            fault("is an IPv4 address in IPv6 notation; write it as IPv4")
        }
        IpAddr::V6(ip) if ip.is_unicast_link_local() => fault(
            "is only valid together with a device, which IPVS does not support; write a global or local (fd00::/8) address",
        ),
        _ => Ok(()),
    }
}

/// The port that is written in `text`.
fn port_of(port: Option<&str>, text: &str) -> Result<Option<u16>> {
    let Some(port) = port else { return Ok(None) };
    match port.parse() {
        Ok(number) if number != 0 && !port.starts_with('+') => Ok(Some(number)),
        _ => Err(ValueFault::Port { port: port.to_owned(), text: text.to_owned() }),
    }
}
