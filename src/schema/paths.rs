//! JSON path columns: `doc->a->0`, `doc#>{a,b}`, `doc->>a`, `doc#>>{a,b}`. Pure.

use super::problem::shown;
use super::tree::{JsonPath, JsonStep, OutputColumn};

/// The operators, the longer of two that begin alike first.
const OPERATORS: [Operator; 4] = [
    Operator { text: "->>", hash: false, as_text: true },
    Operator { text: "->", hash: false, as_text: false },
    Operator { text: "#>>", hash: true, as_text: true },
    Operator { text: "#>", hash: true, as_text: false },
];

#[derive(Clone, Copy)]
struct Operator {
    text: &'static str,
    hash: bool,
    as_text: bool,
}

/// Why the text of a column is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing stands before the first operator.
    #[error("`{0}` names no column before its first operator")]
    NoColumn(String),
    /// An operator without its key.
    #[error("an operator of `{0}` has no key behind it")]
    NoKey(String),
    /// `#>` wants a list.
    #[error("`#>` and `#>>` of `{0}` want their keys in braces, as in `#>{{a,b}}`")]
    NoBraces(String),
    /// Keys are written without quotes.
    #[error("`{0}` has a quoted key: keys are written without quotes, as in `doc->a->0`")]
    Quoted(String),
    /// `->>` and `#>>` give text, which has no keys.
    #[error("`{0}` goes on behind `->>` or `#>>`, whose result is text")]
    BehindText(String),
}

/// Reads an entry of `columns`: a column name, or a path into a JSON column.
///
/// # Errors
/// [`PathError`] if there is an operator and the rest is not a path.
pub fn parse_column(text: &str) -> Result<OutputColumn, PathError> {
    let Some((column, first, mut rest)) = split_at_operator(text) else {
        return Ok(plain_column(text));
    };
    let whole = || shown(text);
    let column = column.trim();
    if column.is_empty() {
        return Err(PathError::NoColumn(whole()));
    }
    let mut field = column.to_owned();
    let mut steps = Vec::new();
    let mut next = Some(first);
    while let Some(operator) = next {
        let (token, following) = match split_at_operator(rest) {
            Some((token, following, behind)) => {
                rest = behind;
                (token, Some(following))
            }
            None => (rest, None),
        };
        if operator.as_text && following.is_some() {
            return Err(PathError::BehindText(whole()));
        }
        let (step, name) = step_of(operator, token.trim(), text)?;
        field.push('_');
        field.push_str(name);
        steps.push(step);
        next = following;
    }
    Ok(OutputColumn { column: column.to_owned(), path: Some(JsonPath(steps)), field })
}

/// The column itself, whatever its name looks like.
pub(crate) fn plain_column(name: &str) -> OutputColumn {
    OutputColumn { column: name.to_owned(), path: None, field: name.to_owned() }
}

/// The step of one operator, and the token's part of the field name: the token without braces.
///
/// # Errors
/// [`PathError`] if the token is none of that operator.
fn step_of<'a>(
    operator: Operator,
    token: &'a str,
    whole: &str,
) -> Result<(JsonStep, &'a str), PathError> {
    let step = |keys| JsonStep { keys, as_text: operator.as_text, hash: operator.hash };
    if token.is_empty() {
        return Err(PathError::NoKey(shown(whole)));
    }
    if token.contains(['\'', '"']) {
        return Err(PathError::Quoted(shown(whole)));
    }
    if !operator.hash {
        return Ok((step(vec![token.to_owned()]), token));
    }
    let inner = token
        .strip_prefix('{')
        .and_then(|token| token.strip_suffix('}'))
        .ok_or_else(|| PathError::NoBraces(shown(whole)))?;
    let keys: Vec<String> = inner.split(',').map(|key| key.trim().to_owned()).collect();
    if keys.iter().any(String::is_empty) {
        return Err(PathError::NoKey(shown(whole)));
    }
    Ok((step(keys), inner))
}

/// Splits at the first operator: what is before it, the operator, what is behind it.
fn split_at_operator(text: &str) -> Option<(&str, Operator, &str)> {
    text.char_indices().find_map(|(position, _)| {
        let (before, from_here) = text.split_at_checked(position)?;
        OPERATORS.iter().find_map(|operator| {
            from_here.strip_prefix(operator.text).map(|behind| (before, *operator, behind))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(keys: &[&str], hash: bool, as_text: bool) -> JsonStep {
        JsonStep { keys: keys.iter().map(|key| (*key).to_owned()).collect(), as_text, hash }
    }

    #[test]
    fn a_column_without_operator_is_itself() {
        for name in ["id", "größe", "a-b", "a>b", "a#b", "with space"] {
            assert_eq!(parse_column(name), Ok(plain_column(name)));
        }
    }

    #[test]
    fn paths_are_split_into_steps_and_named_by_their_tokens() {
        for (text, column, field, steps) in [
            ("jb->>a", "jb", "jb_a", vec![step(&["a"], false, true)]),
            ("jb#>>{a,0}", "jb", "jb_a,0", vec![step(&["a", "0"], true, true)]),
            ("doc#>{a,b,c}", "doc", "doc_a,b,c", vec![step(&["a", "b", "c"], true, false)]),
            (
                "doc#>{a,b,c}->4",
                "doc",
                "doc_a,b,c_4",
                vec![step(&["a", "b", "c"], true, false), step(&["4"], false, false)],
            ),
            (
                "doc->x->0->y",
                "doc",
                "doc_x_0_y",
                vec![
                    step(&["x"], false, false),
                    step(&["0"], false, false),
                    step(&["y"], false, false),
                ],
            ),
            ("doc -> größe", "doc", "doc_größe", vec![step(&["größe"], false, false)]),
        ] {
            let parsed = parse_column(text).unwrap();
            assert_eq!(parsed.column, column, "{text}");
            assert_eq!(parsed.field, field, "{text}");
            assert_eq!(parsed.path, Some(JsonPath(steps)), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let refused = |text: &str| parse_column(text).unwrap_err();
        assert!(matches!(refused("->a"), PathError::NoColumn(_)));
        for text in ["doc->", "doc->->a", "doc#>{}", "doc#>{a,}", "doc#>"] {
            assert!(matches!(refused(text), PathError::NoKey(_)), "{text}");
        }
        for text in ["doc#>a", "doc#>{a", "doc#>>a}"] {
            assert!(matches!(refused(text), PathError::NoBraces(_)), "{text}");
        }
        assert!(matches!(refused("doc->'a'"), PathError::Quoted(_)));
        assert!(matches!(refused("doc->>a->b"), PathError::BehindText(_)));
    }
}
