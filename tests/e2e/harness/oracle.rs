//! The rebuild: the same schema, loaded afresh under another name into indexes of its own. Once the
//! database is quiet, documents that were kept up live must equal it.

use std::sync::atomic::{AtomicU32, Ordering};

use super::site::all_documents;
use super::{Documents, ServiceBuilder, Site};

impl Site {
    /// Waits until each of these indexes equals a rebuild.
    pub(crate) fn expect_rebuild(&self, service: &ServiceBuilder, indexes: &[&str]) {
        for (index, rebuilt) in indexes.iter().zip(self.rebuild(service, indexes)) {
            self.expect(index, &rebuilt);
        }
    }

    /// The documents of each of these indexes, built afresh.
    pub(crate) fn rebuild(&self, service: &ServiceBuilder, indexes: &[&str]) -> Vec<Documents> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("oracle{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("{}{name}-", self.prefix);
        let file = format!("{name}.json");
        let schema = self.schema_text().replace(&self.prefix, &prefix);
        self.write(&file, &schema);
        service.clone().set("SCHEMA", file).set("PGSYNCD_NAME", &name).once();
        self.drop_slots(&name);
        indexes.iter().map(|index| all_documents(&format!("{prefix}{index}"))).collect()
    }
}
