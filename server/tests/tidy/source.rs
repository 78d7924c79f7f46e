//! Rust source as the rules of `tidy.rs` see it: tokens without comments and literals, and the paths they spell.
//!
//! Promises: line numbers are those of the file. Must not know: any rule. It is no parser: what it reads are names, and
//! where macros build names out of pieces it sees the pieces.

/// A name, `::`, or a single other character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A path as it is spelled, a `use` group taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// Whether it stands in a `use` or an `extern crate`.
    pub(crate) imported: bool,
    /// How many `mod x { … }` it stands in.
    pub(crate) inline_depth: usize,
}

/// Words that stand before a path and are no part of it.
const KEYWORDS: [&str; 34] = [
    "as", "async", "await", "break", "const", "continue", "dyn", "else", "enum", "extern", "fn",
    "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref",
    "return", "static", "struct", "trait", "type", "union", "unsafe", "use", "where", "while",
    "yield",
];

/// The source with comments gone and literals empty, line for line.
pub(crate) fn strip(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let at = |place: usize| chars.get(place).copied().unwrap_or('\0');
    let mut out = String::with_capacity(source.len());
    let mut place = 0;
    while place < chars.len() {
        let begins_word = place == 0 || !is_word(at(place - 1));
        let end = match (at(place), at(place + 1)) {
            ('/', '/') => line_comment_end(&chars, place),
            ('/', '*') => block_comment_end(&chars, place),
            ('"', _) => string_end(&chars, place),
            ('\'', '\\') => char_end(&chars, place + 2),
            ('\'', _) if at(place + 2) == '\'' => place + 3,
            ('r' | 'b' | 'c', _) if begins_word => raw_string_end(&chars, place).unwrap_or(place),
            _ => place,
        };
        if end == place {
            out.push(at(place));
            place += 1;
            continue;
        }
        let is_literal = at(place) != '/';
        out.push_str(if is_literal { "\"\"" } else { " " });
        out.extend(
            chars[place..end.min(chars.len())]
                .iter()
                .filter(|&&char| char == '\n'),
        );
        place = end;
    }
    out
}

fn line_comment_end(chars: &[char], start: usize) -> usize {
    let length = chars[start..].iter().position(|&char| char == '\n');
    length.map_or(chars.len(), |length| start + length)
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut place) = (0, start);
    while place + 1 < chars.len() {
        match (chars[place], chars[place + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                place += 1;
                continue;
            }
        }
        place += 2;
        if depth == 0 {
            return place;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut place = start + 1;
    while place < chars.len() {
        match chars[place] {
            '\\' => place += 2,
            '"' => return place + 1,
            _ => place += 1,
        }
    }
    chars.len()
}

/// Behind the closing quote; `place` is the character that a backslash escapes.
fn char_end(chars: &[char], place: usize) -> usize {
    let length = chars.iter().skip(place + 1).position(|&char| char == '\'');
    length.map_or(chars.len(), |length| place + 1 + length + 1)
}

fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let prefix = if chars[start] == 'r' { 1 } else { 2 };
    if chars.get(start + prefix - 1) != Some(&'r') {
        return None;
    }
    let hashes = chars[start + prefix..]
        .iter()
        .take_while(|&&char| char == '#')
        .count();
    let open = start + prefix + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let mut place = open + 1;
    while place < chars.len() {
        let close = &chars[place + 1..chars.len().min(place + 1 + hashes)];
        if chars[place] == '"' && close.len() == hashes && close.iter().all(|&char| char == '#') {
            return Some(place + 1 + hashes);
        }
        place += 1;
    }
    Some(chars.len())
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The tokens of stripped source.
pub(crate) fn tokens(stripped: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in stripped.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let size = if is_word(first) {
                rest.find(|char| !is_word(char)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, behind) = rest.split_at(size);
            tokens.push(Token {
                text: text.to_owned(),
                line: number + 1,
            });
            rest = behind.trim_start();
        }
    }
    tokens
}

/// The paths that the tokens spell. A name alone is a path too.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Path> {
    let text = |place: usize| tokens.get(place).map_or("", |token| token.text.as_str());
    let before = |place: usize, back: usize| place.checked_sub(back).map_or("", text);
    let mut paths = Vec::new();
    let mut braces = 0_usize;
    let mut modules = Vec::new();
    let mut use_open = false;
    let mut place = 0;
    while place < tokens.len() {
        match text(place) {
            "{" => {
                if before(place, 2) == "mod" {
                    modules.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces = braces.saturating_sub(1);
                if modules.last() == Some(&braces) {
                    modules.pop();
                }
            }
            "use" => use_open = true,
            ";" => use_open = false,
            _ => {}
        }
        let goes_on =
            before(place, 1) == "::" && (is_name(before(place, 2)) || before(place, 2) == ">");
        if !is_name(text(place)) || goes_on || before(place, 1) == "." {
            place += 1;
            continue;
        }
        let imported = use_open || before(place, 1) == "crate";
        let mut found = Vec::new();
        let end = expand(tokens, place, &[], &mut found);
        paths.extend(found.into_iter().map(|(segments, line)| Path {
            segments,
            line,
            imported,
            inline_depth: modules.len(),
        }));
        place = end.max(place + 1);
    }
    paths
}

fn is_name(text: &str) -> bool {
    let begins = |char: char| char.is_alphabetic() || char == '_';
    text.starts_with(begins) && !KEYWORDS.contains(&text)
}

/// Reads one path at `place`, behind `prefix`, and gives back the place behind it.
fn expand(
    tokens: &[Token],
    mut place: usize,
    prefix: &[String],
    found: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let text = |place: usize| tokens.get(place).map_or("", |token| token.text.as_str());
    let mut segments = prefix.to_vec();
    let line = tokens.get(place).map_or(0, |token| token.line);
    loop {
        match text(place) {
            "{" if !segments.is_empty() => {
                place += 1;
                while !matches!(text(place), "}" | "") {
                    place = expand(tokens, place, &segments, found).max(place + 1);
                    while text(place) == "," {
                        place += 1;
                    }
                }
                return place + 1;
            }
            name if is_name(name) || name == "*" => segments.push(name.to_owned()),
            _ => break,
        }
        place += 1;
        if text(place) == "as" && !prefix.is_empty() {
            place += 2;
            break;
        }
        if text(place) != "::" {
            break;
        }
        place += 1;
    }
    found.push((segments, line));
    place
}

/// The line of the first `#[cfg(test)] mod x {`: what stands before it is the file's code.
pub(crate) fn tests_begin(tokens: &[Token]) -> Option<usize> {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let spells = |window: &[Token]| window.iter().map(|token| token.text.as_str()).eq(CFG_TEST);
    let start = tokens
        .windows(CFG_TEST.len())
        .enumerate()
        .position(|(place, window)| {
            let behind = |offset: usize| {
                tokens
                    .get(place + CFG_TEST.len() + offset)
                    .map_or("", |token| token.text.as_str())
            };
            spells(window) && behind(0) == "mod" && behind(2) == "{"
        })?;
    Some(tokens[start].line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(source: &str) -> Vec<String> {
        paths(&tokens(&strip(source)))
            .into_iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn comments_and_literals_are_gone_and_lines_stay() {
        let source = concat!(
            "let a = \"x::y // \\\" no\"; // later()\n",
            "/* one /* two */ still\n comment */ let b = r#\"raw \" \n text\"#;\n",
            "let c = ('\"', '\\'', b'x', br\"q\", b\"w\"); fn f<'a>(x: &'a r#type) {}\n",
            "last",
        );
        let stripped = strip(source);
        for gone in [
            "x::y", "later", "one", "two", "still", "comment", "raw", "text\"", "q", "w\"",
        ] {
            assert!(!stripped.contains(gone), "{gone} in {stripped}");
        }
        for kept in ["let a", "let b", "let c", "fn f<'a>(x: &'a r#type)"] {
            assert!(stripped.contains(kept), "{kept} not in {stripped}");
        }
        assert_eq!(tokens(&stripped).last().map(|token| token.line), Some(6));
    }

    #[test]
    fn groups_are_taken_apart() {
        assert_eq!(
            spelled("use a::{b::{self, C as D}, e::*, f}; use {g::h, ::i::j};"),
            ["a::b::self", "a::b::C", "a::e::*", "a::f", "g::h", "i::j"],
        );
    }

    #[test]
    fn paths_in_code_attributes_and_macros_are_seen() {
        assert_eq!(
            spelled(
                "#[tokio::test] fn f() { ::a::b(x.c::<D>()); e::select! { _ = <F as G>::h() => {} } }"
            ),
            [
                "tokio::test",
                "f",
                "a::b",
                "x",
                "D",
                "e::select",
                "_",
                "F",
                "G"
            ],
        );
    }

    #[test]
    fn inline_modules_are_counted() {
        let depths: Vec<_> = paths(&tokens("a!{} mod b { mod c { d } e } f"))
            .into_iter()
            .map(|path| (path.segments.concat(), path.inline_depth))
            .collect();
        let expected = [("a", 0), ("b", 0), ("c", 1), ("d", 2), ("e", 1), ("f", 0)];
        assert_eq!(
            depths,
            expected.map(|(name, depth)| (name.to_owned(), depth))
        );
    }

    #[test]
    fn tests_begin_at_the_inline_test_module_alone() {
        let lines =
            "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse x;\n\n#[cfg(test)]\nmod more {\n}\n";
        assert_eq!(tests_begin(&tokens(lines)), Some(6));
        assert_eq!(tests_begin(&tokens("#[cfg(test)]\nmod tests;\n")), None);
    }
}
