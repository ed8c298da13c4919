//! One thing that is not right, and the list of them as it is printed.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is started.
    Error,
    /// It works, but slower or with a risk that the reason names.
    Warning,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The server is a primary.
    Primary,
    /// `wal_level` is `logical`.
    WalLevel,
    /// A replication slot is free.
    Slots,
    /// A WAL sender is free.
    Senders,
    /// The role may replicate.
    Replication,
    /// The relations of the schema are there.
    Existence,
    /// The role may use the schemas.
    Usage,
    /// The role may read the tables.
    Select,
    /// No policy hides rows from the role.
    RowSecurity,
    /// PostgreSQL understands the condition of each entry.
    Condition,
    /// Changes of the tables are in the WAL, under the tables' names.
    Logged,
    /// The root's key names one row.
    RootKey,
    /// UPDATE and DELETE go on working once the table is published.
    Identity,
    /// Old rows carry the columns that lead to their documents.
    Coverage,
    /// The publication carries everything.
    Publication,
    /// Transform scripts can be run.
    Scripts,
    /// The columns that rows are searched by have an index.
    JoinIndex,
}

/// One thing that is not right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub check: Check,
    /// What is the case.
    pub situation: String,
    /// Why it matters.
    pub reason: String,
    /// The SQL that fixes it, a statement per line; `None` where SQL cannot.
    pub sql: Option<String>,
}

/// All of them, errors first, in the order of [`Check`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Findings(Vec<Finding>);

impl Finding {
    /// A finding that keeps us from starting.
    pub(crate) fn error(check: Check, situation: String, reason: impl Into<String>) -> Self {
        Self { severity: Severity::Error, check, situation, reason: reason.into(), sql: None }
    }

    /// A finding that does not.
    pub(crate) fn warning(check: Check, situation: String, reason: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(check, situation, reason) }
    }

    /// With the SQL that fixes it.
    pub(crate) fn fixed_by(self, sql: impl Into<String>) -> Self {
        Self { sql: Some(sql.into()), ..self }
    }
}

impl Findings {
    /// In order.
    pub(crate) fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| (finding.severity, finding.check));
        Self(findings)
    }

    /// Whether nothing may be started.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// Whether everything is right.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}: {}\n   {}", self.situation, self.reason)?;
        for line in self.sql.iter().flat_map(|sql| sql.lines()) {
            write!(f, "\n       {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, finding) in (1..).zip(&self.0) {
            if number > 1 {
                f.write_str("\n")?;
            }
            write!(f, "{number}. {finding}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_numbered_errors_first_with_their_sql() {
        let warning = Finding::warning(Check::Coverage, "slow.".into(), "Because.");
        let error = Finding::error(Check::Select, "no right.".into(), "It is read.")
            .fixed_by("GRANT a;\nGRANT b;");
        let findings = Findings::new(vec![warning, error]);
        assert_eq!(
            findings.to_string(),
            "1. error: no right.\n   It is read.\n       GRANT a;\n       GRANT b;\n\
             2. warning: slow.\n   Because."
        );
        assert!(findings.has_errors());
    }
}
