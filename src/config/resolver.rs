//! Reads single settings out of [`Raw`] and collects what is wrong with them, so that every
//! problem is reported at once.

use super::notice::Notice;
use super::problem::Problem;
use super::raw::{Given, Origin, Raw};
use super::setting::Setting;
use super::value::Expected;

/// Collects problems and notices while the parts of the configuration are resolved.
#[derive(Debug)]
pub(super) struct Resolver<'r> {
    raw: &'r Raw,
    /// Stays empty when the configuration can be used.
    pub(super) problems: Vec<Problem>,
    /// What the user should know.
    pub(super) notices: Vec<Notice>,
}

impl<'r> Resolver<'r> {
    /// Nothing is wrong yet.
    pub(super) fn new(raw: &'r Raw) -> Self {
        Self { raw, problems: Vec::new(), notices: Vec::new() }
    }

    /// What was given for a setting; `None` leaves its default.
    pub(super) fn given(&self, setting: &Setting) -> Option<&'r Given> {
        self.raw.get(setting)
    }

    /// Where it was given; `None` if nowhere, which is the lowest rank.
    pub(super) fn origin(&self, setting: &Setting) -> Option<Origin> {
        self.raw.origin(setting)
    }

    /// The text that was given; `None` leaves the default.
    pub(super) fn text(&self, setting: &Setting) -> Option<String> {
        self.given(setting).map(|given| given.text.clone())
    }

    /// The text that was given, or the default of the table.
    pub(super) fn text_or_default(&self, setting: &Setting) -> String {
        self.text(setting).or_else(|| setting.default.map(str::to_owned)).unwrap_or_default()
    }

    /// The value of a setting without default; `None` if it was not given or is wrong.
    pub(super) fn optional<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, Expected>,
    ) -> Option<T> {
        let given = self.given(setting)?;
        match parse(&given.text) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.problems.push(Problem::value(given, setting.secret, expected));
                None
            }
        }
    }

    /// The value given, or the default of the table. Where the value given is wrong, the problem
    /// is noted and the result is of no consequence: the configuration is never handed out.
    pub(super) fn value<T: Default>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, Expected>,
    ) -> T {
        let default = || setting.default.and_then(|text| parse(text).ok()).unwrap_or_default();
        if self.given(setting).is_none() {
            return default();
        }
        self.optional(setting, &parse).unwrap_or_else(default)
    }

    /// Notes that the value given for `setting` is not what it takes.
    pub(super) fn refuse(&mut self, setting: &Setting, expected: impl Into<String>) {
        if let Some(given) = self.given(setting) {
            self.problems.push(Problem::value(given, setting.secret, expected.into()));
        }
    }

    /// Notes that two settings are given of which only one can hold.
    pub(super) fn conflict(&mut self, first: &Setting, second: &Setting, hint: &'static str) {
        let name = |setting| self.given(setting).map_or(setting.name(), |given| &given.name);
        let (first, second) = (name(first).to_owned(), name(second).to_owned());
        self.problems.push(Problem::Conflict { first, second, hint });
    }

    /// Notes which of two values is in use.
    pub(super) fn overruled(&mut self, setting: &Setting, by: &Setting) {
        if let Some(given) = self.given(setting) {
            let by = self.given(by).map_or(by.name(), |given| &given.name).to_owned();
            self.notices.push(Notice::Overruled { name: given.name.clone(), by });
        }
    }
}
