//! Several stored reports side by side. (stub)
use super::Report;
pub(crate) struct Comparison;
impl Comparison {
    pub(crate) fn of(_: &[(String, Report)]) -> Self {
        Self
    }
    pub(crate) fn text(&self) -> String {
        String::new()
    }
    pub(crate) fn page(&self, _: &[(String, Report)]) -> String {
        String::new()
    }
}
