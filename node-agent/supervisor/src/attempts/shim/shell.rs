//! How a login shell is told to run the script, with its profile read first. Pure.

/// The line that the shell reads on its stdin. It runs the script as a command, so a `#!` line counts, and without one the
/// shell reads it; and it says on stderr when the script is killed, and why it exits.
///
/// `commands_folder` goes in front of PATH here and not in the environment, because profiles set PATH anew.
pub(super) fn command_line(
    shell: &str,
    script: &str,
    arguments: &str,
    commands_folder: &str,
) -> String {
    let name = shell.rsplit('/').next().unwrap_or(shell);
    let folder = quoted(commands_folder);
    let path = match (name, commands_folder) {
        (_, "") => String::new(),
        ("csh" | "tcsh", _) => format!("setenv PATH {folder}:\"$PATH\"; "),
        ("fish", _) => format!("set -gx PATH {folder} $PATH; "),
        _ => format!("PATH={folder}:\"$PATH\"; export PATH; "),
    };
    let mut line = format!("{path}{}", quoted(script));
    if !arguments.is_empty() {
        // As typed: the shell splits and expands them, as it did for Torque.
        line.push(' ');
        line.push_str(arguments);
    }
    line.push('\n');
    line
}

/// The name that makes a shell a login shell: `-bash`.
pub(in crate::attempts) fn login_name(shell: &str) -> String {
    format!("-{}", shell.rsplit('/').next().unwrap_or(shell))
}

/// As it is when no shell finds anything in it: messages about the script then show its path as Torque's do.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shell: &str, arguments: &str, folder: &str, expected: &str) {
        let line = command_line(shell, "/s/1-2.x.SC", arguments, folder);
        assert_eq!(line, format!("{expected}\n"));
    }

    #[test]
    fn each_shell_is_told_in_its_own_words() {
        check("/bin/bash", "", "", "/s/1-2.x.SC");
        check(
            "/bin/bash",
            "-a 'b c' $HOME",
            "",
            "/s/1-2.x.SC -a 'b c' $HOME",
        );
        check(
            "/bin/sh",
            "",
            "/opt/it's",
            r#"PATH='/opt/it'\''s':"$PATH"; export PATH; /s/1-2.x.SC"#,
        );
        check(
            "/usr/bin/tcsh",
            "1",
            "/c",
            r#"setenv PATH /c:"$PATH"; /s/1-2.x.SC 1"#,
        );
        check(
            "/usr/bin/fish",
            "",
            "/c",
            "set -gx PATH /c $PATH; /s/1-2.x.SC",
        );
    }

    #[test]
    fn a_path_that_a_shell_would_read_otherwise_is_quoted() {
        assert_eq!(quoted("/a b/[1]"), "'/a b/[1]'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_login_shell_is_known_by_its_dash() {
        assert_eq!(login_name("/bin/bash"), "-bash");
    }
}
