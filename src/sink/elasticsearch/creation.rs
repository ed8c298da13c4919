//! The body of an index creation: the user's settings and mapping, ours, and what a load needs. Pure.

use std::time::SystemTime;

use serde_json::{Value as Json, json};

use super::mapping::{FieldMapping, count_fields, mappings};
use crate::schema::tree::SchemaTree;

/// The server's limit on the fields of an index, if nothing else is set.
const DEFAULT_FIELD_LIMIT: usize = 1000;
/// Room below the limit that is left for fields of JSON columns.
const FIELD_HEADROOM: usize = 500;
/// How long a shard remembers deleted versions; a help only, it forgets them when it moves.
const GC_DELETES: &str = "1h";

/// How an index is made.
#[derive(Clone, Debug)]
pub struct Creation {
    /// Kept in the index, see [`super::Indexes::read_generation`].
    pub generation: u64,
    /// Where unmapped fields get their mapping.
    pub fields: FieldMapping,
    /// The time in its name.
    pub at: SystemTime,
}

/// The body of an index creation: `setting`, the mapping, and what a load needs.
pub fn creation_body(tree: &SchemaTree, creation: &Creation) -> Json {
    let stamp = json!({
        "generation": creation.generation,
        "schema": tree.digest,
        "shape": tree.shape,
    });
    let mappings = mappings(tree, creation.fields, stamp);
    let mut index = tree.setting.as_ref().and_then(Json::as_object).cloned().unwrap_or_default();
    let fields = count_fields(&mappings) + FIELD_HEADROOM;
    let limited = index.contains_key("mapping") || index.contains_key("mapping.total_fields.limit");
    if fields > DEFAULT_FIELD_LIMIT && !limited {
        index.insert("mapping.total_fields.limit".into(), fields.into());
    }
    index.entry("gc_deletes").or_insert(GC_DELETES.into());
    index.insert("refresh_interval".into(), "-1".into());
    index.insert("number_of_replicas".into(), 0.into());
    json!({ "settings": { "index": index }, "mappings": mappings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixtures::{node, table, tree};

    fn body(tree: &SchemaTree) -> Json {
        let creation = Creation {
            generation: 3,
            fields: FieldMapping::FromColumns,
            at: SystemTime::UNIX_EPOCH,
        };
        creation_body(tree, &creation)
    }

    #[test]
    fn the_users_settings_stand_beside_those_of_the_load() {
        let mut tree = tree(node(table("book", &[("id", "bigint")])), Vec::new());
        tree.setting =
            Some(json!({"number_of_shards": 3, "number_of_replicas": 2, "gc_deletes": "2h"}));
        let index = &body(&tree)["settings"]["index"];
        assert_eq!(index["number_of_shards"], 3);
        assert_eq!(index["number_of_replicas"], 0);
        assert_eq!(index["refresh_interval"], "-1");
        assert_eq!(index["gc_deletes"], "2h");
        assert_eq!(body(&tree)["mappings"]["_meta"]["pgsyncd"]["generation"], 3);
    }

    #[test]
    fn the_limit_on_fields_grows_with_the_schema() {
        let names: Vec<String> = (0..400).map(|number| format!("c{number}")).collect();
        let columns: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "text")).collect();
        let mut tree = tree(node(table("wide", &columns)), Vec::new());
        let limit = |tree: &SchemaTree| {
            body(tree)["settings"]["index"]["mapping.total_fields.limit"].as_u64()
        };
        assert_eq!(limit(&tree), Some(400 * 2 + 3 + 500));
        tree.setting = Some(json!({"mapping": {"total_fields": {"limit": 5000}}}));
        assert_eq!(limit(&tree), None);
    }
}
