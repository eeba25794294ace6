//! A virtual service as far as it is known before its checks are read.

use super::{
    kind::Kind,
    names::Names,
    settings::{Draft, Globals},
};
use crate::model::ServiceKey;

/// What the checks of a service need to know of it.
pub(super) struct ServiceContext<'d> {
    pub(super) draft: &'d Draft,
    pub(super) globals: &'d Globals,
    pub(super) key: ServiceKey,
    pub(super) kind: Kind,
    pub(super) names: &'d dyn Names,
}

impl ServiceContext<'_> {
    /// Whether servers that are out have weight 0.
    pub(super) fn is_quiescent(&self) -> bool {
        self.draft.shared.quiescent.or(self.globals.shared.quiescent).unwrap_or(false)
    }
}
