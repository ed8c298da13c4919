//! The four rules on one object.

use serde_json::{Map, Value};

use super::compile::{Moves, Replace};
use crate::schema::tree::Concat;

/// Replaces substrings in the named fields: in strings, and in strings inside arrays.
pub(super) fn replace(object: &mut Map<String, Value>, rule: &Replace) {
    for (field, pairs) in rule {
        if let Some(value) = object.get_mut(field) {
            replace_in(value, pairs);
        }
    }
}

/// Each pair sees what the pairs before it made.
fn replace_in(value: &mut Value, pairs: &[(String, String)]) {
    match value {
        Value::String(text) => {
            for (search, replacement) in pairs {
                if text.contains(search.as_str()) {
                    *text = text.replace(search.as_str(), replacement);
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                replace_in(value, pairs);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
}

/// Renames fields all at once, so that swaps work; an object as rule renames inside the field's value.
///
/// When two fields end with one name, the later in the document wins.
pub(super) fn rename(object: &mut Map<String, Value>, rule: &Map<String, Value>) {
    if !object.keys().any(|field| rule.contains_key(field)) {
        return;
    }
    let fields = std::mem::take(object);
    for (field, mut value) in fields {
        match rule.get(&field) {
            Some(Value::String(new)) => object.insert(new.clone(), value),
            Some(Value::Object(inside)) => {
                rename_inside(&mut value, inside);
                object.insert(field, value)
            }
            Some(_) | None => object.insert(field, value),
        };
    }
}

fn rename_inside(value: &mut Value, rule: &Map<String, Value>) {
    match value {
        Value::Object(object) => rename(object, rule),
        Value::Array(values) => {
            for object in values.iter_mut().filter_map(Value::as_object_mut) {
                rename(object, rule);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The keys of a dotted path, from the outside in.
pub(super) fn keys(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// Moves values all at once, so that swaps work. A path leads through objects, never into an array.
///
/// A value whose destination lies inside something that is no object goes back to where it was.
pub(super) fn move_fields(object: &mut Map<String, Value>, rule: &Moves) {
    let taken: Vec<_> =
        rule.iter().filter_map(|(from, to)| Some((from, to, take(object, from)?))).collect();
    for (from, to, value) in taken {
        if let Some(value) = put(object, to, value) {
            // Its own place is free and was reached before.
            drop(put(object, from, value));
        }
    }
}

fn take(object: &mut Map<String, Value>, path: &[String]) -> Option<Value> {
    let (field, rest) = path.split_first()?;
    if rest.is_empty() {
        return object.shift_remove(field);
    }
    take(object.get_mut(field)?.as_object_mut()?, rest)
}

/// Sets the value at `path`, making the objects on the way to it where there is none or null; gives the
/// value back if something else stands there.
fn put(object: &mut Map<String, Value>, path: &[String], value: Value) -> Option<Value> {
    let Some((field, rest)) = path.split_first() else { return Some(value) };
    if rest.is_empty() {
        object.insert(field.clone(), value);
        return None;
    }
    let inner = object.entry(field.clone()).or_insert(Value::Null);
    if inner.is_null() {
        *inner = Value::Object(Map::new());
    }
    match inner.as_object_mut() {
        Some(inner) => put(inner, rest, value),
        None => Some(value),
    }
}

/// Writes each destination in turn, so that later entries see earlier ones.
pub(super) fn concat(object: &mut Map<String, Value>, rule: &[Concat]) {
    for Concat { columns, destination, delimiter } in rule {
        let texts: Vec<String> = columns
            .iter()
            .map(|name| object.get(name).map_or_else(|| name.clone(), text_of))
            .filter(|text| !text.is_empty())
            .collect();
        object.insert(destination.clone(), Value::String(texts.join(delimiter)));
    }
}

/// A value as text, empty for what is left out: null, zero, false and nothing.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(false) => String::new(),
        Value::Bool(true) => "True".to_owned(),
        Value::Number(number) => {
            let digits = number.to_string();
            if is_zero(&digits) { String::new() } else { digits }
        }
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => String::new(),
        Value::Object(fields) if fields.is_empty() => String::new(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Whether a JSON number is zero, whatever its sign, scale and exponent.
fn is_zero(digits: &str) -> bool {
    let mantissa = digits.split(['e', 'E']).next().unwrap_or(digits);
    !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
}
