//! `schema`: shows the schema file as it is understood, and the JSON Schema of its format.

use std::collections::BTreeMap;

use crate::config::SchemaSource;
use crate::schema::{self, Origin, SchemaError};

/// The schema file with its variables replaced, as JSON. The catalog is not asked.
///
/// # Errors
/// [`SchemaError`] if the file cannot be read or is wrong in itself.
pub async fn print_schema(
    source: &SchemaSource,
    variables: &BTreeMap<String, String>,
) -> Result<String, SchemaError> {
    let text = schema::fetch(&Origin::from(source)).await?;
    let entries = schema::parse(&text, &|name| variables.get(name).cloned())?;
    Ok(pretty(&serde_json::json!(entries)))
}

/// The JSON Schema of the schema file, for editors.
pub fn print_json_schema() -> String {
    pretty(&serde_json::json!(schema::json_schema()))
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}")
}
