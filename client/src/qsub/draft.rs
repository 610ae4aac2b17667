//! What the options say so far. Options are applied weak to strong (directives, then the command line): the later of
//! two wins, and `-l` is merged by resource. Checks what Torque's qsub checks; everything else is the server's to judge.

use crate::command::{Environment, Failure};
use crate::getopt::Item;

use super::additional;
use super::date;
use super::lists::{at_list, exported_variables, resource_requests};
use super::options::{illegal, misuse};

/// A submission in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// Attributes in PBS spelling.
    pub(crate) attributes: Vec<(String, String)>,
    /// `Resource_List`, by name.
    pub(crate) resources: Vec<(String, String)>,
    /// What `-v` exports.
    pub(crate) exports: Vec<(String, String)>,
    /// `-V`.
    pub(crate) exports_all: bool,
    /// `-q`, checked for its form only.
    pub(crate) destination: String,
    /// `-d`, as typed.
    pub(crate) initial_folder: Option<String>,
    /// `-D`.
    pub(crate) root_folder: Option<String>,
    /// `-w`, as typed.
    pub(crate) work_folder: Option<String>,
    /// `-o`, as typed.
    pub(crate) stdout: Option<String>,
    /// `-e`, as typed.
    pub(crate) stderr: Option<String>,
    /// `-b`, as typed.
    pub(crate) retry: Option<String>,
    /// `-z`.
    pub(crate) is_silent: bool,
    /// `-I` or `-W interactive=true`.
    pub(crate) is_interactive: bool,
    /// `-X`.
    pub(crate) forwards_x11: bool,
}

impl Draft {
    /// Sets an attribute; the later value of a name replaces the earlier one in its place.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        set(&mut self.attributes, name, value.into());
    }

    /// The value of an attribute.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Applies options in order. `-C` and `-x` depend on more than their value and are not looked at here.
    ///
    /// # Errors
    /// The first option that cannot be right.
    pub(crate) fn apply(&mut self, items: &[Item], env: &Environment) -> Result<(), Failure> {
        for item in items {
            match item {
                Item::Flag(letter) => self.flag(*letter, env)?,
                Item::Value(letter, value) => self.value(*letter, value, env)?,
                Item::Problem(problem) => {
                    let Failure { status, text } = misuse("exiting");
                    return Err(Failure::new(status, format!("{problem}\n{text}")));
                }
            }
        }
        if self.get("proxy_job").is_some() && self.get("proxy_user").is_none() {
            return Err(misuse(
                "The -J option can only be used in conjunction with -P",
            ));
        }
        Ok(())
    }

    fn flag(&mut self, letter: char, env: &Environment) -> Result<(), Failure> {
        match letter {
            'E' | 'n' => self.set("node_exclusive", "True"),
            'f' => self.set("fault_tolerant", "True"),
            'h' => self.set("Hold_Types", "u"),
            'I' => self.is_interactive = true,
            'V' => self.exports_all = true,
            'X' => match env.get("DISPLAY") {
                Some(_) => self.forwards_x11 = true,
                None => return Err(misuse("qsub: DISPLAY not set")),
            },
            'x' if !self.is_interactive => {
                return Err(misuse("qsub: '-x' invalid on non-interactive job"));
            }
            'z' => self.is_silent = true,
            _ => {}
        }
        Ok(())
    }

    fn value(&mut self, letter: char, value: &str, env: &Environment) -> Result<(), Failure> {
        match letter {
            'a' => {
                let now = jiff::Zoned::now();
                let at = date::execution_time(value, &now).ok_or(illegal('a'))?;
                self.set("Execution_Time", at.to_string());
            }
            'c' => self.set("Checkpoint", checkpoint(value).ok_or(illegal('c'))?),
            'd' => self.initial_folder = Some(folder('d', value)?),
            'D' => self.root_folder = Some(folder('D', value)?),
            'e' => self.stderr = Some(value.to_owned()),
            'i' => self.set("idle_slot_limit", whole(value, 1).ok_or(illegal('i'))?),
            'j' => self.set(
                "Join_Path",
                one_of(value, &["oe", "eo", "n"]).ok_or(illegal('j'))?,
            ),
            'k' => self.set(
                "Keep_Files",
                one_of(value, &["o", "e", "oe", "eo", "n"]).ok_or(illegal('k'))?,
            ),
            'K' => self.set("user_kill_delay", whole(value, 1).ok_or(illegal('K'))?),
            'l' => {
                for (name, value) in resource_requests(value)? {
                    set(&mut self.resources, &name, value);
                }
            }
            'm' => self.set("Mail_Points", mail_points(value).ok_or(illegal('m'))?),
            'M' => self.set(
                "Mail_Users",
                at_list(value).map(|_| value).ok_or(illegal('M'))?,
            ),
            'N' => self.set("Job_Name", job_name(value).ok_or(illegal('N'))?),
            'o' => self.stdout = Some(value.to_owned()),
            'p' => self.set("Priority", priority(value).ok_or(illegal('p'))?.to_string()),
            'P' => self.proxy(value)?,
            'q' => self.destination = destination(value)?,
            'r' => match value {
                "y" => self.set("Rerunable", "True"),
                "n" => self.set("Rerunable", "False"),
                _ => return Err(misuse("qsub: illegal -r value (y/n)")),
            },
            'S' => {
                let shells = at_list(value).filter(|list| list.is_one_per_host && list.is_absolute);
                self.set(
                    "Shell_Path_List",
                    shells.map(|_| value).ok_or(illegal('S'))?,
                );
            }
            'u' => {
                let users = at_list(value).filter(|list| list.is_one_per_host);
                self.set("User_List", users.map(|_| value).ok_or(illegal('u'))?);
            }
            'v' => self.exports = exported_variables(value, env)?,
            'w' => self.work_folder = Some(folder('w', value)?),
            'W' => additional::apply(self, value)?,
            'b' => self.retry = Some(value.to_owned()),
            '-' => return Err(misuse("a single - is not a valid option")),
            _ => self.plain(letter, value),
        }
        Ok(())
    }

    /// Options whose value is an attribute's, whatever it is.
    fn plain(&mut self, letter: char, value: &str) {
        const PLAIN: &[(char, &str)] = &[
            ('A', "Account_Name"),
            ('F', "job_arguments"),
            ('J', "proxy_job"),
            ('L', "L_Request"),
            ('t', "job_array_request"),
            ('T', "jobtype"),
        ];
        if let Some((_, name)) = PLAIN.iter().find(|(option, _)| *option == letter) {
            self.set(name, value);
        }
    }

    fn proxy(&mut self, value: &str) -> Result<(), Failure> {
        let (user, group) = value.split_once(':').unwrap_or((value, ""));
        if user.is_empty() {
            return Err(misuse("qsub: -P requires a user name"));
        }
        self.set("proxy_user", user);
        if !group.is_empty() {
            self.set("group_list", group);
        }
        Ok(())
    }
}

fn set(list: &mut Vec<(String, String)>, name: &str, value: String) {
    match list.iter_mut().find(|(key, _)| key == name) {
        Some(entry) => entry.1 = value,
        None => list.push((name.to_owned(), value)),
    }
}

/// A name for a job: up to 256 printable characters without blanks.
pub(crate) fn job_name(text: &str) -> Option<&str> {
    const CHARACTERS_MAX: usize = 256;
    let is_printable = |c: char| !c.is_whitespace() && !c.is_control();
    let is_name = !text.is_empty()
        && text.chars().all(is_printable)
        && text.chars().count() <= CHARACTERS_MAX;
    is_name.then_some(text)
}

fn one_of<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    words.contains(&text).then_some(text)
}

/// A whole number of at least `min`, as typed.
fn whole(text: &str, min: u32) -> Option<&str> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    let number: u32 = text.parse().ok().filter(|_| is_number)?;
    (number >= min).then_some(text)
}

fn priority(text: &str) -> Option<i32> {
    let text = text.trim_start();
    let priority = text.parse().ok()?;
    (-1024..=1023).contains(&priority).then_some(priority)
}

fn folder(option: char, text: &str) -> Result<String, Failure> {
    match text {
        "" => Err(illegal(option)),
        folder => Ok(folder.to_owned()),
    }
}

fn mail_points(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let is_known = !text.is_empty() && text.bytes().all(|b| b"abef".contains(&b));
    (is_known || text == "n" || text == "p").then_some(text)
}

/// `none`, `shutdown`, `interval=5`, `c=10` … in a list.
fn checkpoint(text: &str) -> Option<&str> {
    const WORDS: &[&str] = &[
        "n", "c", "s", "u", "none", "shutdown", "periodic", "enabled", "interval", "depth", "dir",
    ];
    let text = text.trim_start();
    let is_known = |item: &str| WORDS.contains(&item.split('=').next().unwrap_or("").trim_end());
    (!text.is_empty() && text.split(',').all(is_known)).then_some(text)
}

/// `queue`, `@server`, `queue@server` or nothing.
fn destination(text: &str) -> Result<String, Failure> {
    let name = text.trim_start();
    let (queue, server) = match name.split_once('@') {
        Some((queue, server)) => (queue, Some(server)),
        None => (name, None),
    };
    let is_malformed = queue.contains(char::is_whitespace)
        || server.is_some_and(|server| {
            server.is_empty() || server.contains(|c: char| c.is_whitespace() || c == '@')
        });
    match is_malformed {
        true => Err(Failure::new(
            2,
            format!("qsub: illegally formed destination: {text}"),
        )),
        false => Ok(name.to_owned()),
    }
}
