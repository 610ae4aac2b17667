//! What the options of `qalter` ask for. Other than `qsub` it goes on behind a mistake and names them all.

use capstan_proto::wire::{Attribute, Variable};

use crate::command::Environment;
use crate::dialect;
use crate::getopt::Item;
use crate::qsub::{
    Origin, Place, Reading, checks, execution_time, exported_variables, is_dependency_list,
    output_path,
};

/// The changes to a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// Attributes in PBS spelling, in order.
    pub(crate) attributes: Vec<Attribute>,
    /// `-v`: the whole new list.
    pub(crate) variables: Option<Vec<Variable>>,
    /// `-t`.
    pub(crate) range: Option<String>,
}

/// What is wrong with an option, to be printed.
type Wrong = String;

impl Changes {
    /// Takes the options in; what is wrong with them, in order.
    pub(crate) fn apply(&mut self, items: &[Item], place: &Place, env: &Environment) -> Vec<Wrong> {
        let taken = items.iter().map(|item| match item {
            // `-q` is the only flag: no job here waits for its node to hear of a change.
            Item::Flag(_) => Ok(()),
            Item::Value(letter, value) => self.value(*letter, value, place, env),
            Item::Problem(problem) => Err(problem.clone()),
        });
        taken.filter_map(Result::err).collect()
    }

    fn value(
        &mut self,
        letter: char,
        value: &str,
        place: &Place,
        env: &Environment,
    ) -> Result<(), Wrong> {
        let no = || format!("qalter: illegal -{letter} value");
        match letter {
            'e' | 'o' => {
                let origin = Origin {
                    host: &place.host,
                    folder: &place.folder,
                    home: env.get("HOME"),
                };
                let name = if letter == 'e' {
                    "Error_Path"
                } else {
                    "Output_Path"
                };
                let path = output_path(value, &origin).ok_or_else(no)?;
                self.set(name, path);
            }
            'l' => self.resources(value).ok_or_else(no)?,
            'L' => {
                return Err("qalter: The -L attribute cannot be modified after submission".into());
            }
            't' => self.range = Some(value.to_owned()).filter(|range| !range.is_empty()),
            'v' => {
                let dialect = dialect::from_environment(env).unwrap_or_default();
                let reading = Reading { env, dialect };
                let exports = exported_variables(value, &reading);
                let exports = exports.map_err(|failure| failure.text)?.into_iter();
                let variables = exports.map(|(name, value)| Variable { name, value });
                self.variables = Some(variables.collect());
            }
            'W' => self.additional(value).ok_or_else(no)?,
            letter => self.plain(letter, value).ok_or_else(no)?,
        }
        Ok(())
    }

    /// Options that set one attribute; `None` for a value that is refused.
    fn plain(&mut self, letter: char, value: &str) -> Option<()> {
        let (name, value) = match letter {
            'a' => {
                let at = execution_time(value, &jiff::Zoned::now())?;
                self.set("Execution_Time", at.to_string());
                return Some(());
            }
            'A' => ("Account_Name", value),
            'c' => ("Checkpoint", checks::checkpoint(value)?),
            'h' => ("Hold_Types", holds(value)?),
            'j' => ("Join_Path", checks::one_of(value, &["oe", "eo", "n"])?),
            'k' => {
                let letters = checks::one_of(value, &["o", "e", "oe", "eo", "n"])?;
                ("Keep_Files", letters)
            }
            'm' => ("Mail_Points", checks::mail_points(value)?),
            'M' => ("Mail_Users", checks::users(value)?),
            'n' => ("node_exclusive", yes_or_no(value)?),
            'N' => {
                let name = checks::job_name(value)?;
                let is_letter = |name: &&str| name.starts_with(char::is_alphabetic);
                ("Job_Name", Some(name).filter(is_letter)?)
            }
            'p' => {
                self.set("Priority", checks::priority(value)?.to_string());
                return Some(());
            }
            'r' => ("Rerunable", yes_or_no(value)?),
            'S' => ("Shell_Path_List", checks::shells(value)?),
            'u' => ("User_List", checks::one_per_host(value)?),
            'x' => ("exec_host", value),
            _ => return None,
        };
        self.set(name, value.to_owned());
        Some(())
    }

    /// `-l`: `name=value` or a name alone, which unsets; blanks in a value are refused here, unlike in `qsub`.
    fn resources(&mut self, text: &str) -> Option<()> {
        let parts = text.split(',').map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim_start());
            let is_right = !name.is_empty() && !value.contains(char::is_whitespace);
            is_right.then(|| Attribute {
                name: "Resource_List".to_owned(),
                resource: name.to_owned(),
                value: value.to_owned(),
            })
        });
        let parts: Option<Vec<Attribute>> = parts.collect();
        self.attributes.extend(parts?);
        Some(())
    }

    /// `-W`: `name=value[,name=value…]`; a value goes on to the last comma in front of the next `=`.
    fn additional(&mut self, text: &str) -> Option<()> {
        for (name, value) in pairs(text.trim_start())? {
            let value = value.as_str();
            let value = match name.as_str() {
                "depend" => Some(value).filter(|list| is_dependency_list(list))?,
                "stagein" | "stageout" => checks::stage_list(value)?,
                "group_list" => checks::one_per_host(value)?,
                _ => value,
            };
            self.set(&name, value.to_owned());
        }
        Some(())
    }

    fn set(&mut self, name: &str, value: String) {
        self.attributes.push(Attribute {
            name: name.to_owned(),
            resource: String::new(),
            value,
        });
    }
}

/// Letters of `u`, `o` and `s`, or `n` alone.
fn holds(text: &str) -> Option<&str> {
    let letters = text.trim_start();
    let is_known = !letters.is_empty() && letters.bytes().all(|b| b"uosn".contains(&b));
    let has_none = letters.contains('n');
    let is_one_kind = !has_none || letters.bytes().all(|b| b == b'n');
    (is_known && is_one_kind).then_some(if has_none { "n" } else { letters })
}

fn yes_or_no(text: &str) -> Option<&'static str> {
    match text {
        "y" => Some("True"),
        "n" => Some("False"),
        _ => None,
    }
}

/// `name=value` pairs; `None` when one has no name or no value, or there is none.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let text = unquoted_as_a_whole(text);
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=')?;
        let end = match behind.find('=') {
            Some(next) => behind[..next].rfind(',').unwrap_or(behind.len()),
            None => behind.len(),
        };
        let (name, value) = (name.trim(), unquoted_as_a_whole(behind[..end].trim()));
        if name.is_empty() || name.contains(char::is_whitespace) || value.is_empty() {
            return None;
        }
        pairs.push((name.to_owned(), value.to_owned()));
        rest = behind[end..].strip_prefix(',').unwrap_or("");
    }
    (!pairs.is_empty()).then_some(pairs)
}

fn unquoted_as_a_whole(text: &str) -> &str {
    let inside = |quote| {
        text.strip_prefix(quote)
            .and_then(|rest: &str| rest.strip_suffix(quote))
    };
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;
    use crate::qalter::OPTIONS;
    use proptest::prelude::*;

    fn read(args: &[&str]) -> (Changes, Vec<Wrong>) {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let place = Place {
            host: "hn1".to_owned(),
            folder: "/home/alice".to_owned(),
        };
        let env = Environment(vec![("A".to_owned(), "a".to_owned())]);
        let mut changes = Changes::default();
        let parsed = getopt::parse("qalter", OPTIONS, &args);
        let wrong = changes.apply(&parsed.items, &place, &env);
        (changes, wrong)
    }

    fn check(args: &[&str], expected: &str) {
        let (changes, wrong) = read(args);
        let shown = changes
            .attributes
            .iter()
            .map(|a| match a.resource.as_str() {
                "" => format!("{}={}", a.name, a.value),
                resource => format!("{}.{resource}={}", a.name, a.value),
            });
        let shown: Vec<String> = shown.chain(wrong).collect();
        assert_eq!(shown.join(" "), expected, "{args:?}");
    }

    #[test]
    fn options_become_attributes_in_pbs_spelling() {
        check(&["-N", "new"], "Job_Name=new");
        check(&["-A", "acct", "-p", "+7"], "Account_Name=acct Priority=7");
        check(
            &["-l", "walltime=60,mem=1gb", "-l", "nodes"],
            "Resource_List.walltime=60 Resource_List.mem=1gb Resource_List.nodes=",
        );
        check(&["-h", "n"], "Hold_Types=n");
        check(&["-h", "uos"], "Hold_Types=uos");
        check(&["-o", "x"], "Output_Path=hn1:/home/alice/x");
        check(&["-e", "other:y"], "Error_Path=other:y");
        check(
            &["-r", "n", "-n", "y"],
            "Rerunable=False node_exclusive=True",
        );
        check(&["-x", "gpu01/0"], "exec_host=gpu01/0");
        check(
            &["-W", "depend=afterok:1.hn1:2,afterany:3,umask=022"],
            "depend=afterok:1.hn1:2,afterany:3 umask=022",
        );
        check(&["-q"], "");
        let (changes, _) = read(&["-v", "A,B=2"]);
        let shown: Vec<String> = changes
            .variables
            .unwrap()
            .iter()
            .map(|v| format!("{}={}", v.name, v.value))
            .collect();
        assert_eq!(shown, ["A=a", "B=2"]);
    }

    #[test]
    fn every_mistake_is_named() {
        for (option, value) in [
            ("-a", "9999"),
            ("-c", "x"),
            ("-h", "x"),
            ("-h", "un"),
            ("-h", ""),
            ("-j", "x"),
            ("-k", "x"),
            ("-l", ""),
            ("-l", "mem=1 gb"),
            ("-l", "mem=1gb,"),
            ("-m", "x"),
            ("-M", "@"),
            ("-n", "x"),
            ("-N", "9start"),
            ("-N", "a b"),
            ("-o", ""),
            ("-p", "2000"),
            ("-r", "x"),
            ("-S", "sh"),
            ("-u", "a,b"),
            ("-W", "depend="),
            ("-W", "foo"),
            ("-W", "depend=bogus:1"),
            ("-W", "stagein=x"),
        ] {
            check(&[option, value], &format!("qalter: illegal {option} value"));
        }
        check(
            &["-p", "x", "-r", "x", "-Z"],
            "qalter: illegal -p value qalter: illegal -r value qalter: invalid option -- 'Z'",
        );
        check(
            &["-L", "tasks=1"],
            "qalter: The -L attribute cannot be modified after submission",
        );
    }

    proptest! {
        #[test]
        fn any_arguments_are_read(args in proptest::collection::vec("(-[a-zA-Z]{0,2})?[\\PC]{0,12}", 0..6)) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            read(&args);
        }
    }
}
