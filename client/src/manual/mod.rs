//! The manual: a page for each command, made of the tables by which the commands read their options.

mod pages;

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use roff::{Roff, bold, italic, roman};

use crate::capstan::{COMMANDS, Command};
use crate::command::Failure;
use crate::getopt::Opt;
use crate::output::screen::Screen;

pub(crate) use pages::page;

/// Widest line of `--help`.
const HELP_COLUMNS: usize = 79;
/// Widest option with its argument that leaves its help on the same line.
const OPTION_COLUMNS: usize = 20;

/// `-l NAME=VALUE[,...]`; a long option is `--word`.
fn option_name(option: &Opt) -> String {
    match (option.letter, option.argument) {
        ('-', argument) => format!("--{}", argument.unwrap_or_default()),
        (letter, Some(argument)) => format!("-{letter} {argument}"),
        (letter, None) => format!("-{letter}"),
    }
}

/// Prints what `--help` says: what the command does, how it is called, and its options, a line each where they fit.
///
/// # Errors
/// Nobody reads it.
pub(crate) fn help<W: Write>(command: &Command, screen: &mut Screen<W>) -> Result<(), Failure> {
    screen.out().write_all(help_text(command).as_bytes())?;
    Ok(())
}

fn help_text(command: &Command) -> String {
    let mut text = format!("{}: {}\n", command.name, command.summary);
    let operands = page(command.name).map_or("", |page| page.operands);
    let options = if command.options.is_empty() {
        ""
    } else {
        " [OPTION...]"
    };
    put(
        &mut text,
        format_args!("usage: {}{options} {operands}", command.name),
    );
    text.truncate(text.trim_end().len());
    text.push_str("\n\n");
    for option in command.options {
        let name = option_name(option);
        let gap = if name.chars().count() > OPTION_COLUMNS {
            format!("\n{:1$}", "", OPTION_COLUMNS + 4)
        } else {
            format!("{:1$}", "", OPTION_COLUMNS + 2 - name.chars().count())
        };
        put(&mut text, format_args!("  {name}{gap}{}\n", option.help));
    }
    text
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}

/// `capstan man FOLDER`: writes every page as FOLDER/manN/NAME.N.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn write_pages<W: Write>(folder: &Path, screen: &mut Screen<W>) -> Result<(), Failure> {
    for command in COMMANDS {
        let section = page(command.name).map_or(1, |page| page.section);
        let place = folder.join(format!("man{section}"));
        let file = place.join(format!("{}.{section}", command.name));
        let written =
            std::fs::create_dir_all(&place).and_then(|()| std::fs::write(&file, roff(command)));
        written.map_err(|error| {
            Failure::new(1, format!("capstan man: {}: {error}", file.display()))
        })?;
        writeln!(screen.out(), "{}", file.display())?;
    }
    Ok(())
}

/// The page of `command` for man(1).
fn roff(command: &Command) -> String {
    let page = page(command.name);
    let section = page.map_or(1, |page| page.section).to_string();
    let mut roff = Roff::new();
    let title = command.name.to_uppercase();
    let release = concat!("capstan ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", [title.as_str(), &section, "", release, "Capstan"]);
    roff.control("SH", ["NAME"]);
    let summary = format!("{} - {}", command.name, lower_first(command.summary));
    roff.text([roman(summary)]);
    roff.control("SH", ["SYNOPSIS"]);
    let mut synopsis = vec![bold(command.name)];
    if !command.options.is_empty() {
        synopsis.extend([roman(" ["), italic("OPTION"), roman("...]")]);
    }
    let operands = page.map_or("", |page| page.operands);
    synopsis.push(italic(format!(" {operands}").trim_end()));
    roff.text(synopsis);
    roff.control("SH", ["DESCRIPTION"]);
    for (at, paragraph) in page.map_or(&[][..], |page| page.text).iter().enumerate() {
        if at > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*paragraph)]);
    }
    if !command.options.is_empty() {
        roff.control("SH", ["OPTIONS"]);
    }
    for option in command.options {
        roff.control("TP", []);
        roff.text([bold(option_name(option))]);
        roff.text([roman(format!("{}.", option.help))]);
    }
    ending(&mut roff, page.map_or(&[][..], |page| page.see_also));
    roff.to_roff()
}

fn ending(roff: &mut Roff, see_also: &[&str]) {
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman(
        "0 when all was done. 2 (of some commands 1) when the command was misused. When the server refused, the PBS \
         error number modulo 256: 153 unknown job, 159 not allowed, 170 wrong state, 172 unknown queue.",
    )]);
    roff.control("SH", ["ENVIRONMENT"]);
    for (name, text) in [
        (
            "CAPSTAN_SERVER_SOCKET",
            "The server's socket, instead of the one of this host.",
        ),
        (
            "CAPSTAN_DIALECT",
            "torque or pro: whose word counts where PBS Pro and Torque contradict.",
        ),
        (
            "PBS_DEFAULT",
            "Name of the server that is meant when none is named.",
        ),
    ] {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(text)]);
    }
    if see_also.is_empty() {
        return;
    }
    roff.control("SH", ["SEE ALSO"]);
    let named = see_also.iter().map(|name| {
        let section = page(name).map_or(1, |page| page.section);
        format!("{name}({section})")
    });
    let named: Vec<_> = named.collect();
    roff.text([roman(named.join(", "))]);
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_page_a_command() {
        let with_page: Vec<_> = pages::PAGES.iter().map(|page| page.name).collect();
        for command in COMMANDS {
            assert!(
                with_page.contains(&command.name),
                "{} has no page",
                command.name
            );
        }
        for name in with_page {
            assert!(
                COMMANDS.iter().any(|command| command.name == name),
                "{name}"
            );
        }
    }

    #[test]
    fn related_pages_are_there() {
        for name in pages::PAGES.iter().flat_map(|page| page.see_also) {
            assert!(page(name).is_some(), "{name}");
        }
    }

    #[test]
    fn help_fits_a_screen() {
        for command in COMMANDS {
            let text = help_text(command);
            let widest = text
                .lines()
                .map(|line| line.chars().count())
                .max()
                .unwrap_or(0);
            assert!(widest <= HELP_COLUMNS, "{}: {widest}\n{text}", command.name);
            let lines = text.lines().count();
            assert!(lines <= 60, "{}: {lines} lines", command.name);
        }
    }

    #[test]
    fn pages_name_every_option() {
        for command in COMMANDS {
            let page = roff(command);
            assert!(page.contains(".SH NAME"), "{page}");
            for option in command.options {
                let help = option
                    .help
                    .split(['\'', '-', '.'])
                    .next()
                    .unwrap_or_default();
                assert!(
                    page.contains(help.trim()),
                    "{} -{}",
                    command.name,
                    option.letter
                );
            }
        }
    }
}
