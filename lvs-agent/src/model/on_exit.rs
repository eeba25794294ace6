//! What a clean stop leaves.

/// What becomes of the configured services at a clean stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExit {
    /// They stay as they are: traffic outlives the agent.
    #[default]
    Keep,
    /// They are removed from the kernel's table.
    Remove,
}
