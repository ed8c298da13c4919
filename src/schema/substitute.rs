//! `$NAME` and `${NAME}` in the string values of the schema file, replaced from the environment. Pure:
//! the environment is a closure.

use serde_json::Value as Json;

use super::problem::{Problems, element, member, shown};

/// Where names are looked up; `None` for an unknown one.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the names in every string below `value`, keys excepted. An unknown name is a problem.
///
/// The recursion is as deep as the JSON, which the parser limits to 128 levels.
pub(crate) fn substitute_in(
    value: &mut Json,
    path: &str,
    lookup: Lookup<'_>,
    problems: &mut Problems,
) {
    match value {
        Json::String(text) => {
            if text.contains('$') {
                *text = substitute(text, path, lookup, problems);
            }
        }
        Json::Array(elements) => {
            for (position, inner) in elements.iter_mut().enumerate() {
                substitute_in(inner, &element(path, position), lookup, problems);
            }
        }
        Json::Object(map) => {
            for (key, inner) in map.iter_mut() {
                substitute_in(inner, &member(path, key), lookup, problems);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// Replaces the names in one string. A `$` without a name behind it stays.
fn substitute(text: &str, path: &str, lookup: Lookup<'_>, problems: &mut Problems) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let Some((name, behind)) = leading_name(after) else {
            out.push('$');
            rest = after;
            continue;
        };
        if let Some(value) = lookup(name) {
            out.push_str(&value);
        } else {
            // It stays as written, so that it is not told again as an empty name.
            out.push('$');
            out.push_str(after.strip_suffix(behind).unwrap_or_default());
            problems.add_with_hint(
                path,
                format!("the environment has no variable `{}`", shown(name)),
                format!("set `{}`, or write the value in its place", shown(name)),
            );
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// The name that the text behind a `$` begins with, bare or in braces, and what follows it.
fn leading_name(text: &str) -> Option<(&str, &str)> {
    if let Some(inner) = text.strip_prefix('{') {
        let (name, behind) = inner.split_once('}')?;
        return is_name(name).then_some((name, behind));
    }
    let end = text.find(|c: char| !is_name_letter(c)).unwrap_or(text.len());
    let (name, behind) = text.split_at_checked(end)?;
    is_name(name).then_some((name, behind))
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(is_name_letter)
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "DB" => Some("books".to_owned()),
            "_X1" => Some("$DB".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn names_are_replaced_and_other_dollars_stay() {
        for (text, expected) in [
            ("$DB", "books"),
            ("${DB}_test", "books_test"),
            ("$DB-x$DB", "books-xbooks"),
            ("a$_X1", "a$DB"),
            ("[$EMPTY]", "[]"),
            ("costs $5 or $", "costs $5 or $"),
            ("$$DB", "$books"),
            ("${DB", "${DB"),
            ("${}", "${}"),
            ("${1}", "${1}"),
            ("$é", "$é"),
            ("é$DBé", "ébooksé"),
        ] {
            let mut problems = Problems::default();
            assert_eq!(substitute(text, "$", &environment, &mut problems), expected, "{text}");
            assert!(problems.is_empty(), "{text}: {problems}");
        }
    }

    #[test]
    fn every_unknown_name_is_a_problem_at_its_place() {
        let mut value = json!([{"database": "$NOPE", "$DB": ["$DB", "${ALSO}"], "meta": true}]);
        let mut problems = Problems::default();
        substitute_in(&mut value, "$", &environment, &mut problems);
        let places: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(places, ["$[0].database", "$[0][\"$DB\"][1]"]);
        assert!(problems.to_string().contains("`NOPE`"), "{problems}");
        assert_eq!(value[0]["$DB"][0], "books");
    }
}
