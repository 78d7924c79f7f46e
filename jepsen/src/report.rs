//! The verdict as text: what was counted first, then every kind of anomaly with a few witnesses.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::checker::{Anomaly, Property, Verdict};

/// Witnesses shown of one kind; the count is always of all.
const WITNESSES_MAX: usize = 5;

/// The text of a verdict; its last line is `valid` or says how many anomalies there are.
pub fn text(verdict: &Verdict) -> String {
    let counts = &verdict.counts;
    let mut text = format!(
        "appends: {} acknowledged ({} records), {} refused, {} unknown ({} of them conditional; {} took \
         effect)\n\
         asked for again: {}, tails: {}, reads: {} ({} final), records read: {}, trims: {}, chain crcs: {}\n",
        counts.appends_acked,
        counts.records_acked,
        counts.appends_refused,
        counts.appends_unknown,
        counts.appends_unknown_conditional,
        counts.appends_unknown_seen,
        counts.again,
        counts.tails,
        counts.reads,
        counts.final_reads,
        counts.records_read,
        counts.trims,
        counts.chains,
    );
    if verdict.is_valid() {
        text.push_str("valid\n");
        return text;
    }
    let mut kinds: BTreeMap<Property, Vec<&Anomaly>> = BTreeMap::new();
    for anomaly in &verdict.anomalies {
        kinds.entry(anomaly.property).or_default().push(anomaly);
    }
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes all");
    for (property, anomalies) in kinds {
        line(format!("{property}: {}", anomalies.len()));
        for anomaly in anomalies.iter().take(WITNESSES_MAX) {
            line(format!("  {}: {}", anomaly.log, anomaly.witness));
        }
        if anomalies.len() > WITNESSES_MAX {
            line(format!("  and {} more", anomalies.len() - WITNESSES_MAX));
        }
    }
    line(format!("INVALID: {} anomalies", verdict.anomalies.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Counts;

    #[test]
    fn a_verdict_says_its_counts_and_its_anomalies() {
        let counts = Counts {
            appends_acked: 12,
            ..Counts::default()
        };
        let mut verdict = Verdict {
            anomalies: Vec::new(),
            counts,
        };
        assert!(text(&verdict).ends_with("valid\n"));
        for offset in 0..7 {
            let witness = format!("offset {offset}");
            verdict.anomalies.push(Anomaly {
                property: Property::Hole,
                log: "a".to_owned(),
                witness,
            });
        }
        let text = text(&verdict);
        assert!(text.starts_with("appends: 12 acknowledged"), "{text}");
        assert!(text.contains("hole: 7\n  a: offset 0\n"), "{text}");
        assert!(text.contains("and 2 more"), "{text}");
        assert!(text.ends_with("INVALID: 7 anomalies\n"), "{text}");
    }
}
