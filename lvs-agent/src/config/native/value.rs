//! One reader for each kind of value.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    num::NonZeroU32,
    time::Duration,
};

use humantime::parse_duration;
use toml::de::DeValue;

use crate::{
    config::error::ValueFault,
    service::{Scheduler, Weight},
};

/// The shortest duration: timers don't tell shorter ones apart.
const MIN_DURATION: Duration = Duration::from_millis(1);
/// The longest duration: whoever writes more has mistaken a unit.
const MAX_DURATION: Duration = Duration::from_hours(24);
/// The most failures or successes in a row: a confirming burst sends as many probes as failures are asked for.
const MAX_COUNT: u32 = 100;
/// The most bursts a second.
const MAX_RATE: u32 = 1_000_000;
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

/// Text in quotes.
pub(super) fn text<'a>(value: &'a DeValue<'_>, wanted: &'static str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| wrong_type(value, wanted))
}

/// One word of a few, and what it stands for.
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

/// How many times the usual wait.
pub(super) fn factor(value: &DeValue<'_>) -> Result<f64> {
    let number = match value {
        DeValue::Float(float) => float.as_str().parse().unwrap_or(f64::NAN),
        DeValue::Integer(_) => f64::from(positive(value, 1000, "")?.get()),
        other => return Err(wrong_type(other, "a number, such as 8.0")),
    };
    if number.is_nan() {
        return Err(wrong_type(value, "a number, such as 8.0"));
    }
    if !(1.0..=1000.0).contains(&number) {
        let (above, min, max) = (number > 1.0, "1".to_owned(), "1000".to_owned());
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

/// A firewall mark: any value at all, as marks are not supported yet.
pub(super) fn mark(value: &DeValue<'_>) -> Result<()> {
    let what = match value {
        DeValue::Integer(number) => format!("a service by firewall mark ({number})"),
        _ => "a service by firewall mark".to_owned(),
    };
    Err(ValueFault::NotSupported { what, remedy: "write address = \"192.0.2.80:80\" instead" })
}

/// A duration with its unit.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration> {
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
    if (MIN_DURATION..=MAX_DURATION).contains(&duration) {
        return Ok(duration);
    }
    let above = duration > MAX_DURATION;
    let reason = if above { "" } else { ", the shortest that timers can tell" };
    let (value, min, max) = (format!("{text:?}"), "1ms".to_owned(), "24h".to_owned());
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
        _ if name.trim().is_empty() => fault("is empty; write a name, or leave it away"),
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

/// A VIP and port.
pub(super) fn vip(value: &DeValue<'_>) -> Result<SocketAddrV4> {
    let text = text(value, "the VIP and port in quotes, such as \"192.0.2.80:80\"")?;
    match endpoint(text)? {
        (ip, Some(port)) => Ok(SocketAddrV4::new(ip, port)),
        (_, None) => Err(ValueFault::NoPort { text: text.to_owned() }),
    }
}

/// A real server's address, and its port if it is written.
pub(super) fn server(value: &DeValue<'_>) -> Result<(Ipv4Addr, Option<u16>)> {
    endpoint(text(value, "the server's address in quotes, such as \"10.0.0.1:80\" or \"10.0.0.1\"")?)
}

/// An IPv4 unicast address with or without a port.
fn endpoint(text: &str) -> Result<(Ipv4Addr, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv4Addr>().is_ok() => (host, Some(port)),
        _ => (text, None),
    };
    let Ok(ip) = host.parse::<Ipv4Addr>() else {
        return Err(no_ipv4(text));
    };
    let impossible = ip.octets()[0] == 0 || ip.is_multicast() || ip.octets()[0] >= 240;
    if impossible {
        return Err(ValueFault::NotUnicast { address: ip.to_string() });
    }
    let port = match port {
        None => None,
        Some(port) => match port.parse() {
            Ok(number) if number != 0 && !port.starts_with('+') => Some(number),
            _ => return Err(ValueFault::Port { port: port.to_owned(), text: text.to_owned() }),
        },
    };
    Ok((ip, port))
}

/// The fault of text that is no IPv4 address.
fn no_ipv4(text: &str) -> ValueFault {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let is_ipv6 = text.parse::<SocketAddrV6>().is_ok() || bare.parse::<Ipv6Addr>().is_ok();
    if is_ipv6 {
        let remedy = "write an IPv4 address";
        ValueFault::NotSupported { what: format!("the IPv6 address {text:?}"), remedy }
    } else {
        let wanted = "IPv4 address, such as \"10.0.0.1:80\"";
        ValueFault::Address { text: text.to_owned(), wanted }
    }
}
