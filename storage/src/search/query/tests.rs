//! What the language means, and that no text does harm.

use bytes::Bytes;

use super::*;
use crate::limits::{QUERY_CLAUSES_MAX, QUERY_DEPTH_MAX};

fn record(body: &str, attributes: &[(&str, &str)], timestamp: i64) -> Record {
    Record {
        offset: 0,
        timestamp,
        attributes: attributes
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn matches(query: &str, body: &str) -> bool {
    let attributes = [("level", "ERROR"), ("user", "Jo Doe"), ("path", "/api/v1")];
    Query::parse(query)
        .unwrap()
        .matches(&record(body, &attributes, 5))
}

fn error(query: &str) -> (usize, String) {
    match Query::parse(query) {
        Err(QueryError::Syntax { position, what }) => (position, what),
        other => panic!("{query}: {other:?}"),
    }
}

fn bound(query: &str) -> &'static str {
    match Query::parse(query) {
        Err(QueryError::Limit { bound, .. }) => bound,
        other => panic!("{other:?}"),
    }
}

#[test]
fn terms_and_phrases_match_tokens_not_substrings() {
    let body = "Disk FULL on 10.251.73.220: dfs.DataNode$PacketResponder";
    for query in [
        "disk",
        "\"disk full\"",
        "10.251.73.220",
        "dfs.DataNode",
        "DATANODE",
        "full disk",
    ] {
        assert!(matches(query, body), "{query}");
    }
    for query in [
        "dis",
        "\"full disk\"",
        "10.251.73.22",
        "251.10",
        "datan",
        "\"disk on\"",
    ] {
        assert!(!matches(query, body), "{query}");
    }
}

#[test]
fn a_phrase_is_found_behind_a_false_start() {
    assert!(matches("\"a a b\"", "a a a b"));
    assert!(matches("\"a b a b c\"", "a b a b a b c"));
    assert!(!matches("\"a a b\"", "a b a b"));
}

#[test]
fn operators_bind_as_usual_in_both_cases() {
    for query in [
        "x OR a b",
        "x or a and b",
        "a NOT x",
        "-x",
        "not x",
        "a -(x OR y)",
        "NOT NOT a",
    ] {
        assert!(matches(query, "a b"), "{query}");
    }
    for query in [
        "a x",
        "(x OR a) AND y",
        "-a",
        "NOT (a b)",
        "x || y",
        "a && x",
        "NOT *",
    ] {
        assert!(!matches(query, "a b"), "{query}");
    }
}

#[test]
fn attributes_compare_values_without_case() {
    for query in [
        "level:error",
        "level:Error -level:warn",
        "user:\"jo doe\"",
        "path:/api/v1",
    ] {
        assert!(matches(query, ""), "{query}");
    }
    for query in [
        "level:err",
        "Level:error",
        "user:jo",
        "user:\"jo\" doe",
        "nokey:error",
    ] {
        assert!(!matches(query, ""), "{query}");
    }
}

#[test]
fn a_colon_that_names_no_field_is_text() {
    let body = "error: GET http://host:80/x at 12:30:45 by std::io in C:\\tmp from fe:80:00:1b";
    for query in [
        "12:30:45",
        "http://host",
        "std::io",
        "error: get",
        "C:\\tmp",
        "fe:80:00:1b",
        ":",
    ] {
        assert!(matches(&format!("{query} get"), body), "{query}");
    }
    assert!(!matches("12:45", body));
}

#[test]
fn nothing_and_a_star_match_all() {
    for query in ["", "  ", "*", "(*)", "* AND *"] {
        assert!(matches(query, ""), "{query}");
    }
}

#[test]
fn words_without_letters_are_ignored_beside_others() {
    assert!(matches("a = b -- - +", "a b"));
    assert!(matches("--a", "a"), "two dashes are no negation");
    assert!(!matches("-a", "a"));
    assert!(error("= !").1.contains("no letter or digit"));
}

#[test]
fn times_are_days_instants_and_ranges() {
    let day = 1_767_225_600_000_000_000; // 2026-01-01T00:00:00Z
    let at = |query: &str, timestamp: i64| {
        Query::parse(query)
            .unwrap()
            .matches(&record("", &[], timestamp))
    };
    let next = day + 86_400_000_000_000;
    for (query, first, last) in [
        ("timestamp:2026-01-01", day, next - 1),
        ("timestamp:[2026-01-01 TO 2026-01-01]", day, next - 1),
        ("timestamp:[2026-01-01 to 2026-01-02}", day, next - 1),
        (
            "timestamp:{2025-12-31 TO 2026-01-02T00:00:00Z}",
            day,
            next - 1,
        ),
        (
            "timestamp:[2026-01-01T01:00:00.000000001+01:00 TO 2026-01-02}",
            day + 1,
            next - 1,
        ),
        (
            "timestamp:[1767225600000000000 TO 1767225600000000007}",
            day,
            day + 6,
        ),
        (
            "timestamp:2026-01-01T00:00:01",
            day + 1_000_000_000,
            day + 1_000_000_000,
        ),
    ] {
        for (timestamp, inside) in [
            (first - 1, false),
            (first, true),
            (last, true),
            (last + 1, false),
        ] {
            assert_eq!(at(query, timestamp), inside, "{query} {timestamp}");
        }
    }
    for (query, timestamp) in [
        ("timestamp:[* TO *]", i64::MIN),
        ("timestamp:[1 TO *}", i64::MAX),
        ("timestamp:[* TO 9999-01-01]", i64::MAX),
        ("-timestamp:[2 TO 1]", 1),
        ("-timestamp:{9223372036854775807 TO *]", i64::MAX),
    ] {
        assert!(at(query, timestamp), "{query}");
    }
    assert_eq!(error("a timestamp:[2026-13-01 TO *]").0, 12);
    assert_eq!(error("timestamp:[2026-01-01").0, 10);
    assert_eq!(error("timestamp:yesterday").0, 10);
    assert!(error("timestamp:[1 2]").1.contains("range like"));
}

#[test]
fn syntax_errors_say_where_and_what() {
    for (query, position, what) in [
        ("a \"b", 2, "closing"),
        ("(a", 2, "`)` for the `(` at byte 0"),
        ("a)", 1, "found `)`"),
        ("a AND", 5, "found the end"),
        ("a AND OR b", 6, "found OR"),
        ("OR a", 0, "found OR"),
        ("a ()", 3, "found `)`"),
        ("not", 3, "found the end"),
        ("x timeo*", 7, "`*` within a word"),
        ("host:web-*", 9, "`*` within a word"),
        ("ms:>100", 3, "comparisons"),
        ("é \"", 3, "quote"),
    ] {
        let (found_position, found) = error(query);
        assert_eq!(found_position, position, "{query}: {found}");
        assert!(found.contains(what), "{query}: {found}");
    }
}

#[test]
fn hostile_queries_are_refused_at_once() {
    for query in [
        "(",
        ")",
        "NOT ",
        "-(",
        "a OR ",
        "\"",
        "a:",
        "((a) ",
        "timestamp:[",
        "\\",
    ] {
        assert_eq!(bound(&query.repeat(100_000)), "query_size_max");
        let fitting = query.repeat(QUERY_SIZE_MAX / query.len());
        assert!(Query::parse(&fitting).is_err(), "{query}");
    }
    let depth = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Query::parse(&depth(QUERY_DEPTH_MAX)).is_ok());
    assert_eq!(bound(&depth(QUERY_DEPTH_MAX + 1)), "query_depth_max");
    assert!(Query::parse(&"a ".repeat(QUERY_CLAUSES_MAX)).is_ok());
    assert_eq!(
        bound(&"a ".repeat(QUERY_CLAUSES_MAX + 1)),
        "query_clauses_max"
    );
    assert_eq!(
        bound(&format!("\"{}\"", "a ".repeat(QUERY_CLAUSES_MAX + 1))),
        "query_clauses_max"
    );
    assert!(matches(&format!("{}a", "NOT ".repeat(1_000)), "a"));
    assert!(
        Query::parse(&"x".repeat(QUERY_SIZE_MAX)).is_ok(),
        "one huge token"
    );
}

#[test]
fn a_phrase_of_repeats_in_a_body_of_repeats_takes_linear_time() {
    let phrase = format!("\"{} b\"", "a ".repeat(QUERY_CLAUSES_MAX - 1));
    assert!(!matches(&phrase, &"a ".repeat(500_000)));
}

#[test]
fn highlights_are_ordered_and_apart() {
    let marked = |query: &str, body: &'static str| -> Vec<&'static str> {
        let query = Query::parse(query).unwrap();
        query
            .highlights(body)
            .into_iter()
            .map(|range| &body[range])
            .collect()
    };
    assert_eq!(
        marked("full OR \"disk full\"", "The Disk, full. Full"),
        ["Disk, full", "Full"]
    );
    assert_eq!(marked("\"a b a\"", "a b a b a; a"), ["a b a b a"]);
    assert_eq!(marked("\"b c\" \"a b\" c", "a b c d c"), ["a b c", "c"]);
    assert_eq!(marked("a -b -(c OR NOT d)", "a b c d"), ["a", "d"]);
    assert!(marked("level:error *", "level error").is_empty());
    assert_eq!(marked("straße", "Die STRASSE, die Straße"), ["Straße"]);
}

proptest::proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        if let Err(QueryError::Syntax { position, .. }) = Query::parse(&text) {
            assert!(position <= text.len() && text.is_char_boundary(position));
        }
    }

    #[test]
    fn any_text_of_the_language_is_answered(text in "([ab\"()*:{}\\-\\[\\]\\\\é]|AND|OR|NOT|timestamp:| ){0,100}") {
        if let Ok(query) = Query::parse(&text) {
            query.matches(&record("a b", &[("a", "b")], 0));
            for range in query.highlights("a, é b") {
                assert!("a, é b".get(range).is_some());
            }
        }
    }
}
