//! Stub.
use crate::schema::tree::SchemaTree;
use serde_json::{Map, Value};
#[derive(Debug)]
pub struct Transforms;
impl Transforms {
    pub fn compile(_: &SchemaTree) -> Option<Self> {
        None
    }
    pub fn apply(&self, _: &mut Map<String, Value>) {}
}
