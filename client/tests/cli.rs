//! What `ink` says about itself and about mistakes, as snapshots: `tests/cmd`.

#[test]
fn help_and_usage_errors_are_as_recorded() {
    trycmd::TestCases::new()
        .case("tests/cmd/*.trycmd")
        .env("NO_COLOR", "1")
        .run();
}
