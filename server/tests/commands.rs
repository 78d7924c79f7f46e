//! What the commands of `inkstone` print and the codes with which they end, as a shell sees them: the sessions in
//! `commands/`. Nothing here starts a node.

#[test]
fn the_commands_say_what_the_sessions_show() {
    trycmd::TestCases::new()
        .case("tests/commands/*.trycmd")
        .run();
}
