//! Checks schema and databases as the start does, changing nothing, and says which indexes in
//! PostgreSQL would make it faster.

use crate::admin::Outcome;
use crate::admin::join_indexes::{SearchedBy, missing_indexes, read_indexes};
use crate::config::Config;
use crate::pipeline::{DatabaseNames, Inspected, PipelineError, connect_options, inspect};
use crate::preflight::Findings;
use crate::schema::DatabaseEntries;

/// Checks every database of the schema.
///
/// # Errors
/// [`PipelineError`] if a database cannot be asked, or the schema does not fit it.
pub async fn analyze(
    config: &Config,
    databases: &[DatabaseEntries],
) -> Result<Outcome, PipelineError> {
    let mut outcome = Outcome::default();
    for DatabaseEntries { database, entries } in databases {
        let options = connect_options(config, database);
        let names = DatabaseNames::of(&config.name, database);
        let Inspected { control, trees, findings, .. } = inspect(&options, &names, entries).await?;
        let searched = SearchedBy::of(&trees);
        let indexes = read_indexes(&control, &searched).await?;
        let missing = missing_indexes(&searched, &indexes);
        let findings = Findings::new(findings.iter().cloned().chain(missing).collect());
        outcome.failed |= findings.has_errors();
        let line = if findings.is_empty() {
            format!("{database}: everything is right")
        } else {
            format!("{database}:\n{findings}")
        };
        outcome.lines.push(line);
    }
    Ok(outcome)
}
