//! What the user should know about an accepted configuration. Kept until logging has started.

/// One log line at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A variable or flag of PGSync without a meaning for us.
    WithoutMeaning {
        /// Its name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// `PG_*_RO` is set: PGSync reads documents from a replica, we do not.
    ReadReplica {
        /// All such variables.
        names: Vec<String>,
    },
    /// A variable that Kubernetes or Docker made for a service was not taken for a setting.
    ServiceLink {
        /// Its name.
        name: String,
    },
    /// A value is overruled by another of the same rank.
    Overruled {
        /// The one without effect.
        name: String,
        /// The one in use.
        by: String,
    },
}

impl Notice {
    /// Writes the line.
    pub fn log(&self) {
        match self {
            Self::WithoutMeaning { name, reason } => {
                tracing::info!(name, reason, "setting of pgsync has no effect");
            }
            Self::ReadReplica { names } => tracing::warn!(
                names = names.join(", "),
                "read replica is not used: documents are read from the primary, because the \
                 snapshot of a standby does not list running transactions"
            ),
            Self::ServiceLink { name } => {
                tracing::debug!(name, "variable of a service link is not taken for a setting");
            }
            Self::Overruled { name, by } => tracing::warn!(name, by, "setting is overruled"),
        }
    }
}
