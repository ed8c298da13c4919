//! A row image as the WAL carries it.

use bytes::Bytes;

/// One value of a [`Tuple`], a slice of the message it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// SQL null.
    Null,
    /// A value stored out of line (TOAST) that the update did not touch and the WAL does not carry.
    UnchangedToast,
    /// The type's text output.
    Text(Bytes),
    /// The type's binary send format.
    Binary(Bytes),
}

/// The values of a row in the order of its relation's columns.
///
/// In the old tuple of an UPDATE or DELETE that carries the key only, columns outside the replica
/// identity are [`Value::Null`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuple(pub Vec<Value>);

impl Tuple {
    /// The value at `position` of the relation's columns; `None` past the end.
    pub fn get(&self, position: usize) -> Option<&Value> {
        self.0.get(position)
    }
}
