//! The order of a footer's small sections, which searches go by.
//!
//! Promises: a footer that passes is searched in bounded time, and no search leaves it. Must not know: crcs; they were
//! checked before.

use super::rows::REFUSED_ROW_SIZE;
use super::{Footer, LogSummary, Section};
use crate::format::fields::{FormatError, u32_at};

impl Footer {
    /// Searches go by the order of logs, terms and refused batches, and by the rows that a log says it has: a footer whose
    /// crcs are right and that breaks this was never written by us, and is not searched without end.
    pub(super) fn check_order(&self, file: &[u8]) -> Result<(), FormatError> {
        let bad = |section: &Section, what: &str| FormatError::Bad {
            position: section.position,
            what: format!("footer, {what}"),
        };
        let in_section = |log: &LogSummary| {
            let end = log.first_row.checked_add(log.rows);
            end.is_some_and(|end| end <= self.rows.rows) && log.first_offset <= log.end_offset
        };
        let logs_rise = self.logs(file).is_sorted_by(|one, two| one.log < two.log);
        if !logs_rise || !self.logs(file).all(|log| in_section(&log)) {
            return Err(bad(
                &self.logs,
                "logs: out of order, or with rows of nowhere",
            ));
        }
        let here = self.base..=self.last;
        let terms_rise = self
            .terms(file)
            .is_sorted_by(|one, two| one.index < two.index);
        if !terms_rise || !self.terms(file).all(|term| here.contains(&term.index)) {
            return Err(bad(&self.terms, "terms: out of order, or of other entries"));
        }
        let refused = self
            .refused
            .bytes(file)
            .chunks_exact(REFUSED_ROW_SIZE)
            .map(|row| (u32_at(row, 0), u32_at(row, 4)));
        if !refused.is_sorted_by(|one, two| one < two) {
            return Err(bad(&self.refused, "refused batches: out of order"));
        }
        Ok(())
    }
}
