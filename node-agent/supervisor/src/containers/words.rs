//! Splits a line as a POSIX shell splits it, and says whether a shell is needed at all to run it.
//! Nothing is expanded: `$HOME` in the line is the five characters.

/// A line, split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// The words, quotes removed.
    pub(super) words: Vec<String>,
    /// Something outside of single quotes means more to a shell than itself (`$`, `|`, `*`, a newline …).
    pub(super) needs_shell: bool,
}

/// A quote is opened and never closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the quote {quote} at character {at} is not closed")]
pub(super) struct OpenQuote {
    /// `'` or `"`.
    pub(super) quote: char,
    /// Number of the character, from 1.
    pub(super) at: usize,
}

const SHELL_MEANS_MORE: &str = "|&;<>()$`\\*?[]{}~#!\n";
const SHELL_MEANS_MORE_IN_QUOTES: &str = "$`\\";

/// Splits `line`.
///
/// # Errors
/// An unmatched quote.
pub(super) fn split(line: &str) -> Result<Words, OpenQuote> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut needs_shell = false;
    let mut rest = line.chars().enumerate();
    while let Some((at, c)) = rest.next() {
        match c {
            ' ' | '\t' | '\n' => {
                needs_shell |= c == '\n';
                words.extend(word.take());
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some((_, '\'')) => break,
                        Some((_, c)) => word.push(c),
                        None => {
                            return Err(OpenQuote {
                                quote: c,
                                at: at + 1,
                            });
                        }
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some((_, '"')) => break,
                        Some((_, '\\')) => match rest.next() {
                            Some((_, escaped @ ('"' | '\\' | '$' | '`'))) => word.push(escaped),
                            Some((_, '\n')) => {}
                            Some((_, other)) => word.extend(['\\', other]),
                            None => {
                                return Err(OpenQuote {
                                    quote: c,
                                    at: at + 1,
                                });
                            }
                        },
                        Some((_, c)) => {
                            needs_shell |= SHELL_MEANS_MORE_IN_QUOTES.contains(c);
                            word.push(c);
                        }
                        None => {
                            return Err(OpenQuote {
                                quote: c,
                                at: at + 1,
                            });
                        }
                    }
                }
            }
            '\\' => match rest.next() {
                Some((_, '\n')) => {}
                Some((_, escaped)) => word.get_or_insert_default().push(escaped),
                None => word.get_or_insert_default().push('\\'),
            },
            c => {
                needs_shell |= SHELL_MEANS_MORE.contains(c);
                word.get_or_insert_default().push(c);
            }
        }
    }
    words.extend(word);
    // In front of the program `A=b` sets a variable; behind it, it is an argument like any other.
    needs_shell |= words.first().is_some_and(|first| first.contains('='));
    Ok(Words { words, needs_shell })
}

#[cfg(test)]
mod tests {
    use super::split;

    fn check(line: &str, expected: &[&str], needs_shell: bool) {
        let seen = split(line).expect(line);
        assert_eq!(seen.words, expected, "{line}");
        assert_eq!(seen.needs_shell, needs_shell, "{line}");
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        check("", &[], false);
        check("  a\tb  ", &["a", "b"], false);
        check(
            "python -c 'import numpy'",
            &["python", "-c", "import numpy"],
            false,
        );
        check(r#"a"b c"d ''"#, &["ab cd", ""], false);
        check(r#""a\"b\\c\d""#, &[r#"a"b\c\d"#], false);
        check(r"a\ b \'", &["a b", "'"], false);
        check("echo $HOME", &["echo", "$HOME"], true);
        check("echo '$HOME'", &["echo", "$HOME"], false);
        check("echo \"$HOME\"", &["echo", "$HOME"], true);
        check("a && b", &["a", "&&", "b"], true);
        check("ls *", &["ls", "*"], true);
        check("A=1 b", &["A=1", "b"], true);
        check("dd if=/dev/zero", &["dd", "if=/dev/zero"], false);
        check("a\nb", &["a", "b"], true);
        check("a\\", &["a\\"], false);
    }

    #[test]
    fn an_open_quote_is_pointed_at() {
        let error = split("echo 'a b").expect_err("open");
        assert_eq!((error.quote, error.at), ('\'', 6));
        assert_eq!(split("\"").expect_err("open").at, 1);
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_split_or_refused(line in ".{0,200}") {
            drop(split(&line));
        }

        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("[^']{0,12}", 0..6)) {
            let line: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
            proptest::prop_assert_eq!(split(&line.join(" ")).map(|split| split.words), Ok(words));
        }
    }
}
