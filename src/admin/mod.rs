//! Rim: what an operator asks for beside a running service. Each returns lines to print; nothing here
//! is done by the service itself.

pub mod analyze;
pub mod join_indexes;
pub mod teardown;

pub use analyze::analyze;
pub use teardown::teardown;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// To be printed.
    pub lines: Vec<String>,
    /// Whether the answer is no, or something could not be done.
    pub failed: bool,
}
