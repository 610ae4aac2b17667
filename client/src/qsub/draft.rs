//! What the options say so far. Options are applied weak to strong (the site's file, directives, the command line, what a
//! filter adds): the later of two wins, and `-l` is merged by resource. Checks what Torque's qsub checks when it reads an
//! option; what can be judged of the whole only is checked in `whole.rs`, everything else is the server's to judge.

use capstan_types::ArrayRequest;

use crate::command::{Environment, Failure};
use crate::dialect::Dialect;
use crate::getopt::Item;
use crate::torque_cfg::SiteFile;

use super::additional;
use super::checks;
use super::date;
use super::lists::{exported_variables, resource_requests};
use super::options::{illegal, misuse};
use super::tasks;

/// PBS Pro's attribute for the range of an array.
const STEPPED_ARRAY: &str = "array_indices_submitted";

/// What options are read with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    /// The caller's variables.
    pub(crate) env: &'a Environment,
    /// The tongue in which contradictory options are understood.
    pub(crate) dialect: Dialect,
}

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
    /// `-q`, as typed.
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
    /// Letters of `o` and `e`: the streams that nobody wants to keep (`-R`).
    pub(crate) removes: String,
    /// `-b`, as typed.
    pub(crate) retry: Option<String>,
    /// `-L`, each as typed.
    pub(crate) tasks: Vec<String>,
    /// `-J` with an id.
    pub(crate) proxy_job: Option<String>,
    /// `-J` with a range, as typed.
    array: Option<String>,
    /// `-z`.
    pub(crate) is_silent: bool,
    /// `-I` or `-W interactive=true`.
    pub(crate) is_interactive: bool,
    /// `-x`.
    pub(crate) runs_script: bool,
    /// `-X`.
    pub(crate) forwards_x11: bool,
    /// `-W block=true`.
    pub(crate) waits: bool,
    /// Something was typed that the dialects understand differently.
    pub(crate) is_ambiguous: bool,
}

impl Draft {
    /// A draft in which only the site has spoken.
    pub(crate) fn of_site(site: &SiteFile) -> Self {
        let mut draft = Self::default();
        if let Some(words) = site.get("DEFAULTCKPT") {
            draft.set("Checkpoint", words);
        }
        if site.is("RERUNNABLEBYDEFAULT", "false") {
            draft.set("Rerunable", "False");
        }
        if ["FAULTTOLERANTBYDEFAULT", "FAULT_TOLERANT_BY_DEFAULT"]
            .iter()
            .any(|key| site.is(key, "true"))
        {
            draft.set("fault_tolerant", "True");
        }
        draft
    }

    /// Sets an attribute; the later value of a name replaces the earlier one in its place.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        set(&mut self.attributes, name, value.into());
    }

    /// The value of an attribute.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it is an array that is submitted.
    pub(crate) fn is_array(&self) -> bool {
        self.get("job_array_request").is_some() || self.get(STEPPED_ARRAY).is_some()
    }

    /// Whether a resource is asked for.
    pub(crate) fn asks(&self, name: &str) -> bool {
        self.resources.iter().any(|(key, _)| key == name)
    }

    /// Applies options in order. `-C` counts before the script is read and is not looked at here.
    ///
    /// # Errors
    /// The first option that cannot be right.
    pub(crate) fn apply(&mut self, items: &[Item], reading: &Reading<'_>) -> Result<(), Failure> {
        for item in items {
            match item {
                Item::Flag(letter) => self.flag(*letter, reading)?,
                Item::Value(letter, value) => self.value(*letter, value, reading)?,
                Item::Problem(problem) => {
                    let Failure { status, text } = misuse("exiting");
                    return Err(Failure::new(status, format!("{problem}\n{text}")));
                }
            }
        }
        match self.get("proxy_user") {
            None if self.proxy_job.is_some() => Err(misuse(
                "The -J option can only be used in conjunction with -P",
            )),
            None => {
                if let Some(array) = self.array.take() {
                    self.set(STEPPED_ARRAY, array);
                }
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    fn flag(&mut self, letter: char, reading: &Reading<'_>) -> Result<(), Failure> {
        match letter {
            'E' | 'n' => self.set("node_exclusive", "True"),
            'f' => {
                self.is_ambiguous = true;
                if reading.dialect == Dialect::Torque {
                    self.set("fault_tolerant", "True");
                }
            }
            'h' => self.set("Hold_Types", "u"),
            'I' => self.is_interactive = true,
            'V' => self.exports_all = true,
            'X' => match reading.env.get("DISPLAY") {
                Some(_) => self.forwards_x11 = true,
                None => return Err(misuse("qsub: DISPLAY not set")),
            },
            'x' if !self.is_interactive => {
                return Err(misuse("qsub: '-x' invalid on non-interactive job"));
            }
            'x' => self.runs_script = true,
            'z' => self.is_silent = true,
            _ => {}
        }
        Ok(())
    }

    fn value(&mut self, letter: char, value: &str, reading: &Reading<'_>) -> Result<(), Failure> {
        match letter {
            'b' => self.retry = Some(value.to_owned()),
            'd' => self.initial_folder = Some(folder('d', value)?),
            'D' => self.root_folder = Some(folder('D', value)?),
            'e' => self.stderr = Some(value.to_owned()),
            'J' => self.array_or_job(value, reading),
            'k' => self.keep(value)?,
            'l' => {
                for (name, value) in resource_requests(value)? {
                    // A clock rate is a whole node's.
                    if name == "cpuclock" {
                        self.set("node_exclusive", "True");
                    }
                    set(&mut self.resources, &name, value);
                }
            }
            'L' => {
                tasks::check(value, self.tasks.is_empty())?;
                self.tasks.push(value.to_owned());
            }
            'o' => self.stdout = Some(value.to_owned()),
            'P' => self.proxy(value, reading)?,
            'q' => self.destination = value.to_owned(),
            'v' => {
                self.is_ambiguous |= value.contains(['"', '\'']);
                self.exports = exported_variables(value, reading)?;
            }
            'w' => self.work_folder = Some(folder('w', value)?),
            'W' => additional::apply(self, value, reading)?,
            '-' if value.starts_with("image=") => additional::apply(self, value, reading)?,
            '-' => return Err(misuse("a single - is not a valid option")),
            letter => self.attribute(letter, value)?,
        }
        Ok(())
    }

    /// Options that set one attribute from one value.
    fn attribute(&mut self, letter: char, value: &str) -> Result<(), Failure> {
        let no = || illegal(letter);
        let (name, value) = match letter {
            'a' => {
                let now = jiff::Zoned::now();
                let at = date::execution_time(value, &now).ok_or_else(no)?;
                self.set("Execution_Time", at.to_string());
                return Ok(());
            }
            'A' => ("Account_Name", value),
            'c' => ("Checkpoint", checks::checkpoint(value).ok_or_else(no)?),
            'F' => ("job_arguments", value),
            'i' => {
                let illegal = || misuse(&format!("qsub: illegal -i value '{value}'"));
                let limit = checks::begins_positive(value).ok_or_else(illegal)?;
                ("idle_slot_limit", limit)
            }
            'j' => {
                let join = checks::one_of(value, &["oe", "eo", "n"]);
                ("Join_Path", join.ok_or_else(no)?)
            }
            'K' => {
                let delay = checks::begins_positive(value);
                ("user_kill_delay", delay.ok_or_else(no)?)
            }
            'm' => ("Mail_Points", checks::mail_points(value).ok_or_else(no)?),
            'M' => ("Mail_Users", checks::users(value).ok_or_else(no)?),
            'N' => ("Job_Name", checks::job_name(value).ok_or_else(no)?),
            'p' => {
                let priority = checks::priority(value).ok_or_else(no)?;
                self.set("Priority", priority.to_string());
                return Ok(());
            }
            'r' => {
                let word = match value {
                    "y" => "True",
                    "n" => "False",
                    _ => return Err(misuse("qsub: illegal -r value (y/n)")),
                };
                ("Rerunable", word)
            }
            'R' => {
                let streams = checks::one_of(value, &["o", "e", "oe", "eo"]);
                streams.ok_or_else(no)?.clone_into(&mut self.removes);
                return Ok(());
            }
            'S' => ("Shell_Path_List", checks::shells(value).ok_or_else(no)?),
            't' => ("job_array_request", value),
            'T' => ("jobtype", value),
            'u' => ("User_List", checks::one_per_host(value).ok_or_else(no)?),
            _ => return Ok(()),
        };
        self.set(name, value);
        Ok(())
    }

    /// `-k`; with the `d` of PBS Pro the files are written where they belong at once, which they are here always.
    fn keep(&mut self, value: &str) -> Result<(), Failure> {
        let keeps = checks::one_of(value, &["o", "e", "oe", "eo", "n"]);
        let writes_directly = checks::one_of(value, &["d", "od", "ed", "oed", "eod"]);
        match (keeps, writes_directly) {
            (Some(letters), _) => self.set("Keep_Files", letters),
            (None, Some(_)) => self.set("Keep_Files", "n"),
            (None, None) => return Err(illegal('k')),
        }
        Ok(())
    }

    fn array_or_job(&mut self, value: &str, reading: &Reading<'_>) {
        match ArrayRequest::parse_stepped(value) {
            Ok(_) => {
                self.is_ambiguous |= self.get("proxy_user").is_some();
                match reading.dialect {
                    Dialect::Pro => self.set(STEPPED_ARRAY, value),
                    Dialect::Torque => self.array = Some(value.to_owned()),
                }
            }
            Err(_) => self.proxy_job = Some(value.to_owned()),
        }
    }

    fn proxy(&mut self, value: &str, reading: &Reading<'_>) -> Result<(), Failure> {
        self.is_ambiguous = true;
        if reading.dialect == Dialect::Pro {
            if self.get("Account_Name").is_none() {
                self.set("Account_Name", value);
            }
            return Ok(());
        }
        let (user, group) = value.split_once(':').unwrap_or((value, ""));
        if value.is_empty() {
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

fn folder(option: char, text: &str) -> Result<String, Failure> {
    match text {
        "" => Err(illegal(option)),
        folder => Ok(folder.to_owned()),
    }
}
