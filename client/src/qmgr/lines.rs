//! From lines of input to requests: `\` at the end of a line goes on with the next one, `#` begins a comment, `;` ends a
//! request, and quotes keep all of these. What a request means is the grammar's business.

/// Lines, put together.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    held: String,
}

impl Lines {
    /// Takes one line without its end; gives a whole text when nothing is to follow.
    pub(crate) fn take(&mut self, line: &str) -> Option<String> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if !line.starts_with('#') {
            self.held.push_str(line);
        }
        let text = self.held.trim_start();
        if text.is_empty() || text.starts_with('#') {
            self.held.clear();
            return None;
        }
        if self.held.ends_with('\\') {
            self.held.pop();
            self.held.push(' ');
            return None;
        }
        Some(std::mem::take(&mut self.held))
    }

    /// Whether the line before goes on with the next one.
    pub(crate) fn is_continued(&self) -> bool {
        !self.held.is_empty()
    }

    /// Bytes that wait for the rest.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }
}

/// The requests of a whole text, in order, without comments and without empty ones.
pub(crate) fn requests(text: &str) -> Vec<&str> {
    let mut requests = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = end_of_request(rest);
        let (request, tail) = rest.split_at(end);
        if !request.trim().is_empty() {
            requests.push(request);
        }
        rest = match tail.strip_prefix(';') {
            Some(tail) => tail.trim_start(),
            None => "",
        };
    }
    requests
}

/// Where a `;` or `#` stands that no quotes keep.
fn end_of_request(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ';' | '#') => return at,
            (Some(_) | None, _) => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All requests of an input, each in brackets.
    fn check(input: &str, expected: &str) {
        let mut lines = Lines::default();
        let mut seen = String::new();
        for line in input.lines() {
            let Some(text) = lines.take(line) else {
                continue;
            };
            for request in requests(&text) {
                seen.push_str(&format!("[{request}]"));
            }
        }
        assert_eq!(seen, expected, "{input:?}");
    }

    #[test]
    fn a_backslash_goes_on_with_the_next_line() {
        check(
            "set queue a \\\n enabled = true, \\\n started = true",
            "[set queue a   enabled = true,   started = true]",
        );
        check("list \\", "");
        // An empty line or a comment ends what was to go on, as in Torque.
        check("set queue a \\\n# no\nquit", "[set queue a  ][quit]");
        check("set queue a \\\n\nquit", "[set queue a  ][quit]");
    }

    #[test]
    fn comments_and_empty_lines_are_nothing() {
        check(
            "# one\n\n   \n  # two\nlist server # three\n;;\nquit",
            "[list server ][quit]",
        );
        check("quit\r\n", "[quit]");
    }

    #[test]
    fn semicolons_part_requests_unless_quoted() {
        check("list server; quit ;", "[list server][quit ]");
        check(
            "set server comment = \"a;b # c\"; quit",
            "[set server comment = \"a;b # c\"][quit]",
        );
        check(
            "set server comment = 'it\"s; x'",
            "[set server comment = 'it\"s; x']",
        );
        check(
            "set server comment = \"never ends; quit",
            "[set server comment = \"never ends; quit]",
        );
    }

    proptest! {
        #[test]
        fn any_input_is_cut(input in "([a-z#;\"'\\\\ \n]|\\PC){0,60}") {
            let mut lines = Lines::default();
            for line in input.split('\n') {
                if let Some(text) = lines.take(line) {
                    prop_assert!(requests(&text).iter().all(|request| !request.trim().is_empty()));
                }
            }
        }
    }
}
