//! What one setting is: its names in the environment, on the command line and in the settings
//! file, its default and its unit. The table of all of them is `settings.rs`.

/// One setting. The first of `names` is the one that documentation and messages use.
#[derive(Debug)]
pub struct Setting {
    /// Names in the environment; where one source gives several, the first of this list wins.
    pub names: &'static [&'static str],
    /// The long flag with its dashes; `None` if the command line cannot set it.
    pub flag: Option<&'static str>,
    /// `section.key` in the settings file.
    pub toml: &'static str,
    /// The value in use when nobody gives one; `None` if there is none.
    pub default: Option<&'static str>,
    /// What a value is: `seconds`, `bytes`, `rows`, or the words it may be.
    pub unit: &'static str,
    /// One or two sentences for the reader of the documentation.
    pub doc: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
}

impl Setting {
    /// The name that documentation and messages use.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or(self.toml)
    }

    /// Section and key in the settings file.
    pub fn section_and_key(&self) -> (&'static str, &'static str) {
        self.toml.split_once('.').unwrap_or(("", self.toml))
    }
}

/// The candidate closest to what was written; `None` if none is close enough to be a slip.
pub(super) fn nearest<'a>(
    written: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // One slip for every four characters, and one more: beyond that a guess misleads.
    let limit = written.chars().count() / 4 + 1;
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(written, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let names = ["PGSYNCD_HTTP_ADDR", "PGSYNCD_HTTP_TOKEN", "PGSYNCD_NAME"];
        assert_eq!(nearest("PGSYNCD_HTPP_ADDR", names.into_iter()), Some("PGSYNCD_HTTP_ADDR"));
        assert_eq!(nearest("elephant", names.into_iter()), None);
    }
}
