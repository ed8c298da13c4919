//! What is wrong with a schema file, place by place. Problems are collected, so that one run names
//! all of them. Pure.

use std::fmt;

/// Problems that are kept; the rest is counted. A file of ten megabytes could hold millions.
const MOST_KEPT: usize = 500;

/// Names longer than this are cut in messages, and no near name is looked for.
const LONGEST_SHOWN: usize = 80;

/// One thing that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a JSON path in the file, such as `$[0].nodes.children[1].relationship.type`.
    pub path: String,
    /// What is wrong there and what was expected.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a file, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    omitted: usize,
}

impl Problems {
    /// Adds one.
    pub fn add(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.push(Problem { path: path.into(), what: what.into(), hint: None });
    }

    /// Adds one with the remedy.
    pub fn add_with_hint(
        &mut self,
        path: impl Into<String>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Problem { path: path.into(), what: what.into(), hint: Some(hint.into()) });
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        if self.list.len() < MOST_KEPT {
            self.list.push(problem);
        } else {
            self.omitted += 1;
        }
    }

    /// The problems that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many there are, those that are only counted included.
    pub fn len(&self) -> usize {
        self.list.len() + self.omitted
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.list.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "  {problem}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n  and {} more", self.omitted)?;
        }
        Ok(())
    }
}

/// The JSON path of a key of the object at `path`.
pub(crate) fn member(path: &str, key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    if plain && key.len() <= LONGEST_SHOWN {
        format!("{path}.{key}")
    } else {
        format!("{path}[{:?}]", shown(key))
    }
}

/// The JSON path of an element of the array at `path`.
pub(crate) fn element(path: &str, position: usize) -> String {
    format!("{path}[{position}]")
}

/// A name or value as messages show it: long ones are cut.
pub(crate) fn shown(text: &str) -> String {
    if text.chars().nth(LONGEST_SHOWN).is_none() {
        return text.to_owned();
    }
    text.chars().take(LONGEST_SHOWN).chain(['…']).collect()
}

/// The candidate that `name` was probably meant to be.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = name.chars().count();
    if length > LONGEST_SHOWN {
        return None;
    }
    // A third of the letters may differ: `colums` and `relation_ship` are found, `id` is not `no`.
    let furthest = (length / 3).max(1);
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, _)| *distance <= furthest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The candidates in backticks, for messages: the first few of them.
pub(crate) fn listed<'a>(candidates: impl IntoIterator<Item = &'a str>) -> String {
    const MOST_LISTED: usize = 20;
    let mut names: Vec<String> =
        candidates.into_iter().map(|name| format!("`{}`", shown(name))).collect();
    if names.len() > MOST_LISTED {
        let more = names.len() - MOST_LISTED;
        names.truncate(MOST_LISTED);
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_forgives_case_and_a_third_of_the_letters() {
        let known = ["columns", "children", "relationship", "label"];
        for (name, near) in [
            ("colums", Some("columns")),
            ("Children", Some("children")),
            ("relation_ship", Some("relationship")),
            ("lable", Some("label")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), near, "{name}");
        }
        assert_eq!(nearest(&"c".repeat(100_000), known), None);
    }

    #[test]
    fn paths_quote_keys_that_are_no_plain_names() {
        assert_eq!(member("$[0]", "nodes"), "$[0].nodes");
        assert_eq!(member("$", "größe"), "$.größe");
        assert_eq!(member("$", "a b"), "$[\"a b\"]");
        assert_eq!(member("$", ""), "$[\"\"]");
        assert_eq!(element("$", 3), "$[3]");
    }

    #[test]
    fn long_values_are_cut_at_a_letter() {
        assert_eq!(shown(&"é".repeat(200)).chars().count(), 81);
        assert_eq!(shown("é"), "é");
    }

    #[test]
    fn problems_beyond_the_limit_are_counted() {
        let mut problems = Problems::default();
        for _ in 0..MOST_KEPT + 3 {
            problems.add("$", "wrong");
        }
        assert_eq!(problems.len(), MOST_KEPT + 3);
        assert!(problems.to_string().ends_with("and 3 more"));
    }
}
