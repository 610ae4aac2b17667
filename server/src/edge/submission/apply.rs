//! One attribute of a submission, by its name. What Torque knows and this server does not serve is refused plainly
//! and not silently dropped.

use capstan_core::{Holds, MembersWait, Tie};
use capstan_proto::{Refusal, wire};
use capstan_types::{
    ArrayRequest, Dependency, ErrorClass, JobPart, JobReference, JoinPath, MailPoints, ParseError,
    Pbse, StagedFile, Timestamp, WarningSignal, check_job_name, is_image_wish,
};

use super::{Draft, VALUE_BYTES_MAX, check_group};
use crate::view::paths::split_host;

/// Kept and shown, deciding nothing.
const SHOWN: &[&str] = &[
    "Account_Name",
    "Mail_Users",
    "job_radix",
    "request_version",
    "submit_args",
    "x",
    "checkpoint_dir",
    "checkpoint_name",
    "checkpoint_restart_status",
    "copy_on_rerun",
    "reservation_id",
    "login_node_id",
    "login_property",
    "login_node_key",
    "external_nodes",
    "multi_req_alps",
    "inter_cmd",
];
/// Kept and shown as `True` or `False`.
const SHOWN_BOOLEANS: &[&str] = &["fault_tolerant", "node_exclusive"];
/// What the server says and nobody else.
const READ_ONLY: &[&str] = &[
    "Job_Owner",
    "resources_used",
    "job_state",
    "queue",
    "server",
    "ctime",
    "mtime",
    "qtime",
    "etime",
    "exec_host",
    "exec_port",
    "exec_gpus",
    "exec_mics",
    "session_id",
    "queue_type",
    "comment",
    "exit_status",
    "job_array_id",
    "start_time",
    "start_count",
    "comp_time",
    "total_runtime",
    "euser",
    "egroup",
    "substate",
    "hashname",
    "hop_count",
    "security",
    "cookie",
    "forward_x11",
    "alt_id",
    "reported",
    "queue_rank",
    "sched_hint",
    "sister_list",
    "pagg_id",
    "gpu_flags",
    "job_id",
    "system_start_time",
    "nppcu",
    "checkpoint_time",
    "restart_name",
    "gpus_reserved",
];
/// What Torque takes and this server does not serve.
const NOT_SERVED: &[&str] = &["req_information", "L_Request"];
pub(super) type Applied = Result<(), Refusal>;

impl Draft<'_> {
    /// Takes one attribute in.
    pub(super) fn apply(&mut self, attribute: &wire::Attribute) -> Applied {
        let wire::Attribute {
            name,
            resource,
            value,
        } = attribute;
        let is_multiline = ["submit_args", "job_arguments"].contains(&name.as_str());
        let is_clean = is_multiline || !value.chars().any(char::is_control);
        if value.len() > VALUE_BYTES_MAX || !is_clean || value.contains('\0') {
            return Err(bad(name));
        }
        match name.as_str() {
            "Resource_List" => self.resource(resource, value),
            "Job_Name" => {
                check_job_name(value).map_err(|_| bad(name))?;
                set(&mut self.spec.name, value)
            }
            "Output_Path" => {
                let path = on_host(value, &self.spec.owner.host);
                set(&mut self.spec.stdout_path, path)
            }
            "Error_Path" => {
                let path = on_host(value, &self.spec.owner.host);
                set(&mut self.spec.stderr_path, path)
            }
            "Join_Path" => {
                self.spec.join = JoinPath::parse(value).map_err(|_| bad(name))?;
                Ok(())
            }
            "Keep_Files" => self.keep(value),
            "Priority" => self.priority(value),
            "Rerunable" => {
                self.spec.is_rerunnable = boolean(name, value)?;
                Ok(())
            }
            "Hold_Types" => self.hold(value),
            "Execution_Time" => {
                let secs: u64 = value.parse().map_err(|_| bad(name))?;
                self.not_before = Some(Timestamp::default().plus_secs(secs));
                Ok(())
            }
            "depend" => self.depend(value),
            "job_array_request" => self.array(ArrayRequest::parse(value)),
            "array_indices_submitted" => self.array(ArrayRequest::parse_stepped(value)),
            "stagein" => {
                self.spec.stagein = StagedFile::parse_list(value).map_err(|_| bad(name))?;
                Ok(())
            }
            "stageout" => {
                self.spec.stageout = StagedFile::parse_list(value).map_err(|_| bad(name))?;
                Ok(())
            }
            "Shell_Path_List" => set(&mut self.spec.shell, value),
            "job_arguments" => set(&mut self.spec.script_arguments, value),
            "init_work_dir" if value.starts_with('/') => set(&mut self.spec.work_folder, value),
            "umask" => {
                self.spec.umask = Some(umask(value).ok_or_else(|| bad(name))?);
                Ok(())
            }
            "user_kill_delay" => {
                self.spec.kill_delay_secs = Some(value.parse().map_err(|_| bad(name))?);
                Ok(())
            }
            name => self.apply_rare(name, value),
        }
    }

    fn apply_rare(&mut self, name: &str, value: &str) -> Applied {
        match name {
            "Mail_Points" => {
                let points = MailPoints::parse(value).map_err(|_| bad(name))?;
                self.show(name, &points.to_string())
            }
            "group_list" => self.group(value),
            "User_List" => self.run_as(value),
            // Who the job is for was settled before anything else.
            "proxy_user" => Ok(()),
            "interactive" => self.interactive(value),
            "Checkpoint" => match is_checkpoint(value) {
                true => self.show(name, value),
                false => Err(bad(name)),
            },
            "jobtype" => {
                if !is_job_type(value) {
                    return Err(bad(name));
                }
                self.spec.job_type = value.into();
                self.show(name, value)
            }
            "signal" => {
                let warning = WarningSignal::parse(value).map_err(|error| {
                    let detail = format!("signal: {error}; write signal=USR1@300");
                    Refusal::new(Pbse::Badatval, detail)
                })?;
                self.show(name, &warning.to_string())
            }
            "gang" if matches!(value, "end" | "keep") => self.show(name, value),
            "gang" => {
                let detail = format!("gang: '{value}' is neither end nor keep");
                Err(Refusal::new(Pbse::Badatval, detail))
            }
            "image" if is_image_wish(value) => self.show(name, value),
            "image" => {
                let detail = format!("image: '{value}' is no image name; write NAME:TAG");
                Err(Refusal::new(Pbse::Badatval, detail))
            }
            "idle_slot_limit" => {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                self.idle_limit = Some(limit.ok_or_else(|| bad(name))?);
                self.show(name, value)
            }
            // The host of the call is known from the call.
            "submit_host" => Ok(()),
            "submit_args" => {
                let line = value.replace(char::is_control, " ");
                self.show(name, &line)
            }
            _ if SHOWN.contains(&name) => self.show(name, value),
            _ if SHOWN_BOOLEANS.contains(&name) => {
                let word = crate::view::words::boolean(boolean(name, value)?);
                self.show(name, word)
            }
            _ if READ_ONLY.contains(&name) => Err(Refusal::new(Pbse::Attrro, name)),
            _ if NOT_SERVED.contains(&name) => Err(not_served(name)),
            "init_work_dir" => Err(bad(name)),
            _ => {
                let detail = "detected presence of an unknown attribute";
                Err(Refusal::new(Pbse::Noattr, detail))
            }
        }
    }

    fn show(&mut self, name: &str, value: &str) -> Applied {
        let shown = &mut self.spec.shown;
        match shown.iter_mut().find(|(known, _)| **known == *name) {
            Some(entry) => entry.1 = value.into(),
            None => shown.push((name.into(), value.into())),
        }
        Ok(())
    }

    fn interactive(&mut self, value: &str) -> Applied {
        // A number is the port on which the client waits.
        let is_port = value.parse::<u32>().is_ok_and(|port| port > 1);
        match is_port || boolean("interactive", value)? {
            true => self.show("interactive", "True"),
            false => Ok(()),
        }
    }

    fn keep(&mut self, value: &str) -> Applied {
        let letters = if value == "n" { "" } else { value };
        match letters.chars().all(|letter| "oe".contains(letter)) {
            true => set(&mut self.spec.keep, letters),
            false => Err(bad("Keep_Files")),
        }
    }

    fn priority(&mut self, value: &str) -> Applied {
        let number = value.parse().ok();
        let number = number.filter(|number| (-1024..=1023).contains(number));
        self.priority = number.ok_or_else(|| bad("Priority"))?;
        Ok(())
    }

    fn hold(&mut self, value: &str) -> Applied {
        let holds = Holds::parse(value);
        let holds = holds.map_err(|_| bad("Hold_Types"))?;
        let needs_operator = holds.contains(Holds::OPERATOR) && !self.rules.is_operator;
        let needs_manager = holds.contains(Holds::SYSTEM) && !self.rules.is_manager;
        if needs_operator || needs_manager {
            return Err(Refusal::new(Pbse::Perm, ""));
        }
        self.holds = holds;
        Ok(())
    }

    fn depend(&mut self, value: &str) -> Applied {
        let list = Dependency::parse_list(value);
        let list = list.map_err(|error| match error.class {
            ErrorClass::InvalidDependency => Refusal::new(Pbse::Baddepend, ""),
            ErrorClass::IllegalValue
            | ErrorClass::InvalidSyntax
            | ErrorClass::ProhibitedGpuMode
            | ErrorClass::TooLarge => bad_value("depend", &error),
        })?;
        self.depends.clear();
        self.ties.clear();
        for dependency in list {
            self.depends_on(&dependency)?;
        }
        Ok(())
    }

    fn depends_on(&mut self, dependency: &Dependency) -> Applied {
        let array = |reference: &JobReference| match reference.id.part {
            JobPart::Array => Ok(reference.id),
            JobPart::Whole | JobPart::Member(_) => Err(Refusal::new(Pbse::Baddepend, "")),
        };
        let tie = match dependency {
            Dependency::After { condition, job } => {
                self.depends.push((*condition, job.id));
                return Ok(());
            }
            Dependency::AfterArray {
                condition,
                array: reference,
                members,
            } => Tie::Members(MembersWait {
                condition: *condition,
                array: array(reference)?,
                count: *members,
            }),
            Dependency::Before { condition, job } => Tie::Before(*condition, job.id),
            Dependency::BeforeArray {
                condition,
                array: reference,
                members: _, // The array waits as a whole.
            } => Tie::Before(*condition, array(reference)?),
            Dependency::On(count) => Tie::On(*count),
            Dependency::SyncCount(count) => Tie::SyncCount(*count),
            Dependency::SyncWith(job) => Tie::SyncWith(job.id),
        };
        self.ties.push(tie);
        Ok(())
    }

    fn array(&mut self, request: Result<ArrayRequest, ParseError>) -> Applied {
        let request = request.map_err(|_| Refusal::new(Pbse::BadArrayReq, ""))?;
        self.spec.array = Some(request);
        Ok(())
    }

    /// The first group without a host, or for this one.
    fn group(&mut self, value: &str) -> Applied {
        let user = &self.caller.user;
        let Some(group) = for_host(value, &self.caller.host) else {
            return Ok(());
        };
        check_group(self.rules, user, group)?;
        self.spec.owner.group = group.into();
        self.show("group_list", value)
    }

    /// `-u`: only oneself, as long as no host vouches for others.
    fn run_as(&mut self, value: &str) -> Applied {
        let (own, host) = (&*self.caller.user, &*self.caller.host);
        match for_host(value, host) {
            Some(user) if user != own => {
                let detail = format!("ruserok failed validating {own}/{user} from {host}");
                Err(Refusal::new(Pbse::Baduser, detail))
            }
            Some(_) | None => self.show("User_List", value),
        }
    }
}

/// `none`, `shutdown`, `periodic`, `enabled`, `interval=N`, `depth=N`, `dir=PATH`, and the letters of old.
fn is_checkpoint(value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    value.split(',').all(|word| match word.split_once('=') {
        None => [
            "n", "s", "c", "u", "none", "shutdown", "periodic", "enabled",
        ]
        .contains(&word),
        Some(("c" | "interval" | "depth", number)) => is_number(number),
        Some(("dir", path)) => !path.is_empty(),
        Some(_) => false,
    })
}

/// A part of a file's name: it chooses `prologue.NAME`.
fn is_job_type(value: &str) -> bool {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=64).contains(&value.len()) && value.bytes().all(is_fit) && !value.starts_with('.')
}

fn set(place: &mut Box<str>, value: &str) -> Applied {
    *place = value.into();
    Ok(())
}

pub(super) fn bad(name: &str) -> Refusal {
    Refusal::new(Pbse::Badatval, name)
}

pub(super) fn not_served(what: &str) -> Refusal {
    Refusal::new(Pbse::NotImplemented, what)
}

/// A bad value of the attribute `full`, by the class of its error.
pub(super) fn bad_value(full: &str, error: &ParseError) -> Refusal {
    match error.class {
        ErrorClass::IllegalValue => bad(full),
        ErrorClass::InvalidSyntax => Refusal::new(Pbse::InvalidSyntax, "Invalid Syntax"),
        ErrorClass::ProhibitedGpuMode => Refusal::new(Pbse::GpuProhibitedMode, ""),
        ErrorClass::InvalidDependency => Refusal::new(Pbse::Baddepend, ""),
        ErrorClass::TooLarge => Refusal::new(error.class.pbse(), error.to_string()),
    }
}

/// `[host:]path`, without the host when it is the one of submission: a path on that is what a path alone means. A slash
/// before the colon makes it part of the path.
fn on_host<'a>(value: &'a str, own: &str) -> &'a str {
    match (split_host(value), value.split_once(':')) {
        (Some((host, path)), _) if host.eq_ignore_ascii_case(own) => path,
        (Some(_), _) => value,
        // Of no host there is nothing to copy to.
        (None, Some((host, path))) if !host.contains(['/', '$']) => path,
        (None, Some(_) | None) => value,
    }
}

/// Of `name[@host],…`: the name for `host`, else the one for any.
fn for_host<'a>(list: &'a str, host: &str) -> Option<&'a str> {
    let short = |name: &str| name.split('.').next().map(str::to_owned);
    let entries = || {
        list.split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
    };
    let named = entries().filter_map(|entry| entry.split_once('@'));
    let mut named = named.filter(|(_, at)| *at == host || short(at) == short(host));
    let any = || entries().find(|entry| !entry.contains('@'));
    named.next().map(|(name, _)| name).or_else(any)
}

fn boolean(name: &str, value: &str) -> Result<bool, Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "0" => Ok(false),
        _ => Err(bad(name)),
    }
}

/// A decimal number, or octal with a leading zero; permission bits only.
fn umask(value: &str) -> Option<u32> {
    let bits = match value.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok()?,
        Some(_) | None => value.parse().ok()?,
    };
    (bits <= 0o777).then_some(bits)
}
