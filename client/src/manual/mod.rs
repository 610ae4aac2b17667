//! The manual: a page for each command, made of the tables by which the commands read their options.

mod administrators;
mod pages;
mod qsub;
mod reservations;
mod users;

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use roff::{Roff, bold, italic, roman};

use crate::capstan::{COMMANDS, Command};
use crate::command::Failure;
use crate::getopt::Opt;
use crate::output::screen::Screen;

use pages::Part;
pub(crate) use pages::page;

/// Widest line of `--help`.
const HELP_COLUMNS: usize = 79;
/// How far the second line of a usage is indented.
const USAGE_INDENT: usize = 4;
/// The part of a page that explains options.
const OPTIONS: &str = "OPTIONS";
/// Widest option with its argument that leaves its help on the same line.
const OPTION_COLUMNS: usize = 20;

/// `-l NAME=VALUE[,...]`; a long option is `--word`.
fn option_name(option: &Opt) -> String {
    match (option.letter, option.argument) {
        ('-', argument) => format!("--{}", argument.unwrap_or_default().replace('|', ", --")),
        (letter, Some(argument)) => format!("-{letter} {argument}"),
        (letter, None) => format!("-{letter}"),
    }
}

/// The command as it is called: what has no link of its own is called by `capstan`.
fn called(name: &str) -> &str {
    match name {
        "migrate" => "capstan migrate",
        "sim" => "capstan sim",
        "doctor" => "capstan doctor",
        "replay" => "capstan replay",
        name => name,
    }
}

/// Prints what `--help` says: what the command does, how it is called, and its options, folded to the width of a screen.
///
/// # Errors
/// Nobody reads it.
pub(crate) fn help<W: Write>(command: &Command, screen: &mut Screen<W>) -> Result<(), Failure> {
    screen.out().write_all(help_text(command).as_bytes())?;
    Ok(())
}

fn help_text(command: &Command) -> String {
    let page = page(command.name);
    let mut usage = format!("usage: {}", called(command.name));
    let operands = page.map_or("", |page| page.operands);
    let has_options = if command.options.is_empty() {
        ""
    } else {
        "[OPTION...]"
    };
    for words in [has_options, operands]
        .into_iter()
        .filter(|it| !it.is_empty())
    {
        usage.extend([" ", words]);
    }
    let usage = folded(&usage, HELP_COLUMNS - USAGE_INDENT);
    let usage = usage.join(&format!("\n{:USAGE_INDENT$}", ""));
    let mut text = format!("{}: {}\n{usage}\n\n", command.name, command.summary);
    for option in command.options {
        put_option(&mut text, &option_name(option), option.help);
    }
    // A command that reads its options itself tells of them in its page.
    let parts = page.map_or(&[][..], |page| page.parts).iter();
    for (name, help) in parts
        .filter(|part| part.title == OPTIONS)
        .flat_map(|part| part.terms)
    {
        put_option(&mut text, name, help.trim_end_matches('.'));
    }
    text
}

fn put_option(text: &mut String, name: &str, help: &str) {
    let indent = OPTION_COLUMNS + 4;
    put(text, format_args!("  {name}"));
    let mut at = indent.saturating_sub(2 + name.chars().count());
    if name.chars().count() > OPTION_COLUMNS {
        text.push('\n');
        at = indent;
    }
    for line in folded(help, HELP_COLUMNS - indent) {
        put(text, format_args!("{:at$}{line}\n", ""));
        at = indent;
    }
}

/// The words in lines of at most so many columns; a longer word gets a line of its own.
fn folded(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
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
        let name = called(command.name).replace(' ', "-");
        let file = place.join(format!("{name}.{section}"));
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
    let name = called(command.name);
    let title = name.replace(' ', "-").to_uppercase();
    let release = concat!("capstan ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", [title.as_str(), &section, "", release, "Capstan"]);
    roff.control("SH", ["NAME"]);
    let summary = format!(
        "{} - {}",
        name.replace(' ', "-"),
        lower_first(command.summary)
    );
    roff.text([roman(summary)]);
    roff.control("SH", ["SYNOPSIS"]);
    let mut synopsis = vec![bold(name)];
    if !command.options.is_empty() {
        synopsis.extend([roman(" ["), italic("OPTION"), roman("...]")]);
    }
    let operands = page.map_or("", |page| page.operands);
    synopsis.push(italic(format!(" {operands}").trim_end()));
    roff.text(synopsis);
    roff.control("SH", ["DESCRIPTION"]);
    paragraphs(&mut roff, page.map_or(&[][..], |page| page.text));
    if !command.options.is_empty() {
        roff.control("SH", [OPTIONS]);
    }
    for option in command.options {
        roff.control("TP", []);
        roff.text([bold(option_name(option))]);
        roff.text([roman(format!("{}.", option.help))]);
    }
    if let Some(page) = page {
        page.parts.iter().for_each(|each| part(&mut roff, each));
        ending(&mut roff, page);
    }
    roff.to_roff()
}

fn paragraphs(roff: &mut Roff, text: &[&str]) {
    for (at, paragraph) in text.iter().enumerate() {
        if at > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*paragraph)]);
    }
}

fn part(roff: &mut Roff, part: &Part) {
    roff.control("SH", [part.title]);
    paragraphs(roff, part.text);
    terms(roff, part.terms.iter().copied());
}

fn terms<'a>(roff: &mut Roff, terms: impl Iterator<Item = (&'a str, &'a str)>) {
    for (term, meaning) in terms {
        roff.control("TP", []);
        roff.text([bold(term)]);
        roff.text([roman(meaning)]);
    }
}

fn ending(roff: &mut Roff, page: &pages::Page) {
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman(page.exit)]);
    let environment = page.reach.variables().iter().chain(page.environment);
    let mut environment = environment.copied().peekable();
    if environment.peek().is_some() {
        roff.control("SH", ["ENVIRONMENT"]);
        terms(roff, environment);
    }
    if page.see_also.is_empty() {
        return;
    }
    roff.control("SH", ["SEE ALSO"]);
    let named = page.see_also.iter().map(|name| {
        let section = pages::page(name).map_or(1, |page| page.section);
        format!("{}({section})", called(name).replace(' ', "-"))
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
        let with_page: Vec<_> = pages::pages().map(|page| page.name).collect();
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
        for name in pages::pages().flat_map(|page| page.see_also) {
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
    fn help_is_folded_between_words() {
        let check = |text: &str, columns: usize, expected: &[&str]| {
            assert_eq!(folded(text, columns), expected, "{text} in {columns}");
        };
        check("one two three", 80, &["one two three"]);
        check("one two three", 7, &["one two", "three"]);
        check("one unbreakable", 5, &["one", "unbreakable"]);
        check("", 5, &[""]);
    }

    #[test]
    fn pages_name_every_option() {
        for command in COMMANDS {
            let page = roff(command);
            assert!(page.contains(".SH NAME"), "{page}");
            assert!(page.is_ascii(), "not every man shows this: {page}");
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
