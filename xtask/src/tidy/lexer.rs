//! A lexer that splits Rust source into code and comments, line by line.
//!
//! Handles strings (including raw, byte and C strings), characters and nested block comments, so that rules are not
//! misled by their contents. Of the grammar it knows only matching brackets after `#[cfg(test)]`.

/// A line of a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// The code, without the contents of strings and characters.
    pub(crate) code: String,
    /// The comment, including its slashes.
    pub(crate) comment: String,
    /// True if the line is compiled for tests only.
    pub(crate) test: bool,
}

/// Splits `text` into lines.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    let mut lexer = Lexer { rest: text, lines: vec![Line::default()], last: ' ' };
    while lexer.token() {}
    let mut lines = lexer.lines;
    if text.ends_with('\n') {
        lines.pop();
    }
    mark_tests(&mut lines);
    lines
}

struct Lexer<'a> {
    rest: &'a str,
    lines: Vec<Line>,
    /// The last character of code, to distinguish `r"` from `for"`.
    last: char,
}

impl Lexer<'_> {
    /// Consumes one token. Returns false at the end.
    fn token(&mut self) -> bool {
        let Some(next) = self.rest.chars().next() else { return false };
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.comment(end);
        } else if self.rest.starts_with("/*") {
            self.comment(block_comment_bytes(self.rest));
        } else if let Some((open, hashes)) = self.raw_string() {
            let close = format!("\"{}", "#".repeat(hashes));
            let end = self.rest[open..].find(&close).map_or(self.rest.len(), |at| open + at + close.len());
            self.literal(end);
        } else if next == '"' {
            self.literal(quoted_bytes(self.rest, '"'));
        } else if next == '\'' && is_character(self.rest) {
            self.literal(quoted_bytes(self.rest, '\''));
        } else {
            self.code(next);
            self.rest = &self.rest[next.len_utf8()..];
        }
        true
    }

    fn code(&mut self, next: char) {
        if next == '\n' {
            self.lines.push(Line::default());
        } else {
            self.lines.last_mut().expect("never empty").code.push(next);
        }
        self.last = next;
    }

    fn comment(&mut self, bytes: usize) {
        let (comment, rest) = self.rest.split_at(bytes);
        for (number, part) in comment.split('\n').enumerate() {
            if number > 0 {
                self.lines.push(Line::default());
            }
            self.lines.last_mut().expect("never empty").comment.push_str(part);
        }
        self.rest = rest;
    }

    /// Consumes a string or character: keeps the quotes and line breaks, drops the content.
    fn literal(&mut self, bytes: usize) {
        let (literal, rest) = self.rest.split_at(bytes);
        self.code('"');
        for _ in literal.matches('\n') {
            self.code('\n');
        }
        self.code('"');
        self.rest = rest;
    }

    /// Returns the start of a raw string's content, and the number of closing hashes.
    fn raw_string(&self) -> Option<(usize, usize)> {
        if self.last.is_alphanumeric() || self.last == '_' {
            return None;
        }
        let prefix = ["r", "br", "cr"].into_iter().find(|p| {
            let after = self.rest.strip_prefix(p).map(|rest| rest.trim_start_matches('#'));
            after.is_some_and(|rest| rest.starts_with('"'))
        })?;
        let hashes = self.rest[prefix.len()..].bytes().take_while(|&b| b == b'#').count();
        Some((prefix.len() + hashes + 1, hashes))
    }
}

fn block_comment_bytes(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn quoted_bytes(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns whether a quote starts a character and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => true,
        (Some(_), Some(after)) => after == '\'',
        _ => false,
    }
}

/// Marks the items under `#[cfg(test)]` or `#[cfg(all(test, ...))]`, or the whole file under `#![cfg(test)]`.
fn mark_tests(lines: &mut [Line]) {
    let mut at = 0;
    while at < lines.len() {
        let code = lines[at].code.trim_start();
        if code.starts_with("#![cfg(test)]") {
            mark(lines);
            return;
        }
        if code.starts_with("#[cfg(test)]") || code.starts_with("#[cfg(all(test") {
            let end = item_end(lines, at);
            mark(&mut lines[at..=end]);
            at = end;
        }
        at += 1;
    }
}

/// Marks all lines as compiled for tests only.
pub(crate) fn mark(lines: &mut [Line]) {
    for line in lines {
        line.test = true;
    }
}

/// Returns the last line of the item whose first attribute is on line `from`.
fn item_end(lines: &[Line], from: usize) -> usize {
    let (mut braces, mut others) = (0_i32, 0_i32);
    for (number, line) in lines.iter().enumerate().skip(from) {
        for char in line.code.chars() {
            match char {
                '{' => braces += 1,
                '}' => {
                    braces -= 1;
                    if braces == 0 && others == 0 {
                        return number;
                    }
                }
                '(' | '[' => others += 1,
                ')' | ']' => others -= 1,
                ';' if braces == 0 && others == 0 => return number,
                _ => {}
            }
        }
    }
    lines.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        lines(text).into_iter().map(|line| line.code).collect()
    }

    #[test]
    fn strings_and_comments_are_not_code() {
        let cases = [
            (r#"let a = "todo!()"; // todo!()"#, r#"let a = ""; "#),
            ("let a = r#\"x \" y\"#;", "let a = \"\";"),
            ("let a = br\"\\\"; b()", "let a = \"\"; b()"),
            ("let c = '\"'; let s: &'a str = \"x\";", "let c = \"\"; let s: &'a str = \"\";"),
            ("let c = '\\''; d()", "let c = \"\"; d()"),
            ("a /* x /* y */ z */ b", "a  b"),
            ("let q = \"a\\\"b\"; c()", "let q = \"\"; c()"),
        ];
        for (text, expected) in cases {
            assert_eq!(code(text), [expected], "{text}");
        }
    }

    #[test]
    fn line_numbers_survive_long_tokens() {
        assert_eq!(code("a \"x\ny\" b\n/* c\nd */ e\n"), ["a \"", "\" b", "", " e"]);
        assert_eq!(lines("x // y\n")[0].comment, "// y");
    }

    #[test]
    fn test_items_end_at_their_closing_brace() {
        let text =
            "a();\n#[cfg(test)]\nmod tests {\n  fn b() { \"}\" }\n}\nc();\n#[cfg(test)]\nmod d;\ne();\n";
        let marked: Vec<bool> = lines(text).iter().map(|line| line.test).collect();
        assert_eq!(marked, [false, true, true, true, true, false, true, true, false]);
        assert!(lines("//! x\n#![cfg(test)]\nfn a() {}\n").iter().all(|line| line.test));
    }
}
