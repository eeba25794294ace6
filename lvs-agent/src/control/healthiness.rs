//! The answer to whether services are healthy.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Whether the services are healthy that were asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthiness {
    /// The worst of them.
    pub verdict: HealthVerdict,
    /// Why, in one line for people.
    pub text: String,
}

/// Whether services are healthy, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthVerdict {
    /// All of them are.
    Healthy,
    /// At least one isn't known yet, and none is unhealthy.
    Unknown,
    /// At least one isn't.
    Unhealthy,
    /// The agent is there, and its part that decides gives no answer.
    Stuck,
}

/// The health of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressHealth {
    /// The address of services.
    pub address: IpAddr,
    /// The worst of them.
    pub verdict: HealthVerdict,
    /// Whether this director is told to be standby: then the address is not announced, however healthy it is.
    #[serde(default)]
    pub is_withheld: bool,
}
