//! What the source must look like: imports go backwards along the road, files open with what they are
//! for and stay short, lints are not switched off, the top of the repository is what it should be.
//!
//! A scanner of text, no parser: its rules are simple enough to be broken on purpose below.
#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    reason = "a failed step fails the test, and places come from the text itself"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules in the order of the road; those of one rank may know each other.
const ROAD: [&[&str]; 8] = [
    &["postgres", "schema", "config", "backoff", "metrics", "status"],
    &["source"],
    &["plan"],
    &["document"],
    &["sink"],
    &["checkpoint"],
    &["archive", "replica"],
    &[
        "admin",
        "pipeline",
        "reindex",
        "verify",
        "daemon",
        "error",
        "preflight",
        "cli",
        "http",
        "logging",
        "lib",
        "main",
    ],
];

/// Ranks of the stages; below them lies the ground, above them the rim.
const STAGES: std::ops::RangeInclusive<usize> = 1..=6;

/// What a stage offers beside the names it re-exports: trees of files that are its output too.
const OUTPUT_FILES: [&str; 3] = ["plan::load", "plan::holders", "plan::touched"];

/// Lines of a file before its tests.
const LINES: usize = 400;

/// The top of the repository, beside dot-files.
const TOP: [&str; 14] = [
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "config",
    "docker-compose.yml",
    "docs",
    "examples",
    "src",
    "target",
    "tests",
];

/// Dot-files and dot-folders.
const DOT: [&str; 10] = [
    ".ci",
    ".clippy.toml",
    ".config",
    ".dockerignore",
    ".env",
    ".env.example",
    ".git",
    ".github",
    ".gitignore",
    ".rustfmt.toml",
];

// ------------------------------------------------------------------ the scanner

/// The part of a file that is production code: before its first `#[cfg(test)]` with a body.
fn production(text: &str) -> &str {
    let mut end = 0;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let is_test = line.trim() == "#[cfg(test)]";
        let is_body = lines.peek().is_some_and(|next| next.trim_end().ends_with('{'));
        if is_test && is_body {
            break;
        }
        end += line.len();
    }
    &text[..end]
}

/// A line without its comment; strings are not looked into, as none here holds a path and `//`.
fn code_of(line: &str) -> &str {
    line.find("//").map_or(line, |at| &line[..at])
}

/// Every path behind `crate::`, groups spelt out: `crate::a::{b, c::D}` gives `a::b` and `a::c::D`.
fn crate_paths(text: &str) -> Vec<String> {
    let code: String = production(text).lines().map(code_of).collect::<Vec<_>>().join(" ");
    let mut paths = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            expand("", &code[at + word.len()..], &mut paths);
        }
    }
    paths
}

/// Adds the paths that a `use` tree behind `prefix` names; gives what is behind the tree.
fn expand<'a>(prefix: &str, text: &'a str, paths: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    let Some(below) = rest.strip_prefix("::") else {
        paths.push(path);
        return rest;
    };
    let Some(mut group) = below.strip_prefix('{') else { return expand(&path, below, paths) };
    loop {
        group = group.trim_start();
        if let Some(rest) = group.strip_prefix('}') {
            return rest;
        }
        let rest = expand(&path, group, paths);
        // Whatever stands behind a name, such as ` as _`, ends with the comma or the group.
        let end = rest.find([',', '}']).unwrap_or(rest.len());
        group = rest[end..].strip_prefix(',').unwrap_or(&rest[end..]);
        if group.is_empty() {
            return group;
        }
    }
}

/// The module a file belongs to: `plan` for `src/plan/climb.rs`, `daemon` for `src/daemon.rs`.
fn module_of(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner.split(['/', '.']).next().unwrap_or(inner)
}

fn rank_of(module: &str) -> Option<usize> {
    ROAD.iter().position(|modules| modules.contains(&module))
}

/// What is wrong with a path that a file of `module` names; `outputs` by stage.
fn complaint(module: &str, path: &str, outputs: &BTreeMap<String, Vec<String>>) -> Option<String> {
    let target = path.split("::").next().unwrap_or(path);
    // `crate::Type` of the crate's root, or a macro.
    let there = rank_of(target)?;
    let Some(here) = rank_of(module) else {
        return Some(format!("`{module}` has no place on the road"));
    };
    if there > here {
        return Some(format!("`{module}` imports forwards: `{path}`"));
    }
    let is_other_stage = STAGES.contains(&here) && STAGES.contains(&there) && target != module;
    if !is_other_stage || OUTPUT_FILES.iter().any(|file| path.starts_with(file)) {
        return None;
    }
    let name = path.split("::").nth(1).unwrap_or_default();
    let is_output = outputs.get(target).is_some_and(|names| names.iter().any(|n| n == name));
    (!is_output).then(|| format!("`{module}` reaches into `{path}`, which is no output"))
}

/// The names that `pub use` of a stage's `mod.rs` brings out, and the types it defines.
fn outputs_of(text: &str) -> Vec<String> {
    let code: String = production(text).lines().map(code_of).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for (at, word) in code.match_indices("pub use ") {
        expand("", &code[at + word.len()..], &mut names);
    }
    let mut names: Vec<String> =
        names.iter().filter_map(|path| path.rsplit("::").next()).map(str::to_owned).collect();
    for kind in ["struct", "enum", "trait", "fn", "async fn", "const", "type"] {
        for (at, word) in code.match_indices(&format!("\npub {kind} ")) {
            expand("", &code[at + word.len()..], &mut names);
        }
    }
    names
}

// ------------------------------------------------------------------ the repository

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, by its path in the repository.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// Files that hold tests only: by their names, as `#[cfg(test)] mod tests;` stands in another file.
fn is_tests(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("/fixtures.rs")
}

fn check(complaints: &[String]) {
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn imports_go_backwards_along_the_road_and_take_outputs_only() {
    let files = rust_files("src");
    assert!(files.len() > 50, "the scanner found {} files", files.len());
    let outputs: BTreeMap<String, Vec<String>> = files
        .iter()
        .filter_map(|(path, text)| {
            let stage = path.strip_prefix("src/")?.strip_suffix("/mod.rs")?;
            Some((stage.to_owned(), outputs_of(text)))
        })
        .collect();
    let mut complaints = Vec::new();
    let mut paths = 0;
    for (path, text) in files.iter().filter(|(path, _)| !is_tests(path)) {
        for used in crate_paths(text) {
            paths += 1;
            let found = complaint(module_of(path), &used, &outputs);
            complaints.extend(found.map(|what| format!("{path}: {what}")));
        }
    }
    assert!(paths > 200, "the scanner found {paths} paths");
    check(&complaints);
}

#[test]
fn every_module_has_its_place_on_the_road() {
    let unknown: Vec<String> = rust_files("src")
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| rank_of(module_of(path)).is_none())
        .collect();
    check(&unknown);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let files = ["src", "tests", "benches", "examples"].into_iter().flat_map(rust_files);
    let bare: Vec<String> =
        files.filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    check(&bare);
}

#[test]
fn files_are_short() {
    let long: Vec<String> = rust_files("src")
        .into_iter()
        .filter(|(path, _)| !is_tests(path))
        .map(|(path, text)| (production(&text).lines().count(), path))
        .filter(|(lines, _)| *lines > LINES)
        .map(|(lines, path)| format!("{path}: {lines} lines, at most {LINES}"))
        .collect();
    check(&long);
}

#[test]
fn no_lint_is_switched_off() {
    let allowing: Vec<String> = rust_files("src")
        .into_iter()
        .filter(|(_, text)| allows(text))
        .map(|(path, _)| format!("{path}: `allow`, use `expect` with a reason"))
        .collect();
    check(&allowing);
}

fn allows(text: &str) -> bool {
    text.lines().map(code_of).any(|line| line.contains("#[allow") || line.contains("#![allow"))
}

#[test]
fn a_folder_is_a_module_by_its_mod_file() {
    let self_named: Vec<PathBuf> = rust_files("src")
        .into_iter()
        .map(|(path, _)| root().join(path))
        .filter(|path| path.with_extension("").is_dir())
        .collect();
    assert!(self_named.is_empty(), "{self_named:?}");
}

#[test]
fn the_top_of_the_repository_is_what_the_owner_wants() {
    let unexpected: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !TOP.contains(&name.as_str()) && !DOT.contains(&name.as_str()))
        .map(|name| format!("`{name}` does not belong at the top"))
        .collect();
    check(&unexpected);
}

// ------------------------------------------------------------------ the scanner can fail

#[test]
fn groups_are_spelt_out() {
    for (text, expected) in [
        ("use crate::plan::Touched;", &["plan::Touched"][..]),
        ("use crate::a::{b, c::{D, E as F}, self};", &["a::b", "a::c::D", "a::c::E", "a::self"]),
        ("use crate::a::{\n    b,\n    c,\n};\nuse std::fmt;", &["a::b", "a::c"]),
        ("fn f(x: crate::sink::Written) -> pub(crate) u8 {", &["sink::Written"]),
        ("// use crate::sink::X;\nuse std::io; //! crate::sink::Y", &[]),
        ("let x = mycrate::sink::Y;", &[]),
        ("#[cfg(test)]\nmod tests {\n    use crate::sink::X;\n}", &[]),
        ("#[cfg(test)]\nmod fixtures;\nuse crate::a::b;", &["a::b"]),
    ] {
        assert_eq!(crate_paths(text), expected, "{text}");
    }
}

#[test]
fn a_forward_import_or_a_reach_into_a_stage_is_found() {
    let module =
        "//! Plan.\npub mod touched;\npub use touched::{Job, Touched};\n\npub struct Plan;\n";
    let outputs = BTreeMap::from([("plan".to_owned(), outputs_of(module))]);
    let is_bad = |module: &str, path: &str| complaint(module, path, &outputs).is_some();
    for (module, path) in [
        ("postgres", "source::Source"),
        ("schema", "plan::Plan"),
        ("plan", "document::Document"),
        ("checkpoint", "pipeline::run"),
        ("document", "plan::climb"),
        ("document", "plan::climb::Climb"),
        ("document", "plan::Hidden"),
        ("nowhere", "plan::Touched"),
    ] {
        assert!(is_bad(module, path), "{module} may not import {path}");
    }
    for (module, path) in [
        ("document", "plan::Touched"),
        ("document", "plan::Plan"),
        ("document", "plan::load::Load"),
        ("document", "document::merge::Merge"),
        ("schema", "postgres::sql::quote_literal"),
        ("postgres", "schema::tree::Node"),
        ("daemon", "plan::climb::Climb"),
        ("main", "cli::run"),
    ] {
        assert!(!is_bad(module, path), "{module} may import {path}");
    }
}

#[test]
fn tests_do_not_count_as_production_code() {
    assert_eq!(production("a\n#[cfg(test)]\nmod tests {\n}\n").lines().count(), 1);
    assert_eq!(production("a\n#[cfg(test)]\nmod tests;\nb\n").lines().count(), 4);
}

#[test]
fn a_silenced_lint_is_found() {
    assert!(allows("#[allow(dead_code)]\nfn f() {}"));
    assert!(allows("#![allow(dead_code)]"));
    assert!(!allows("// no #[allow] here\n#[expect(dead_code, reason = \"r\")]"));
}

#[test]
fn modules_are_known_by_their_first_folder() {
    for (path, module) in
        [("src/plan/climb.rs", "plan"), ("src/daemon.rs", "daemon"), ("src/a/b/c.rs", "a")]
    {
        assert_eq!(module_of(path), module);
    }
}
