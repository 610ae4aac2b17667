//! Tasks: programs that `pbsdsh` runs in an attempt beside its script, on any of its nodes. Each has a small process of
//! its own between the agent and itself, in the attempt's share; all of them end with the attempt.

mod adopt;
pub(super) mod guard;
mod kept;
mod order;
mod places;
pub(super) mod process;
pub(super) mod session;
pub(super) mod shim;

use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{Failure, LaunchSpec, RunTask, TaskRequest, Variable};
use capstan_types::{AttemptId, Pbse};
use tokio::sync::{mpsc, watch};

use self::kept::Wanting;
pub(super) use self::order::{SessionTask, TaskOrder};
pub(super) use self::places::{TaskPlace, TaskTable};
use super::environment::{is_settable, of_task};
use super::figures;
use super::gang::Member;
use super::live::{self, LiveAttempt};
use super::site::Site;
use super::table::Supervisor;
use crate::ports::{AttemptContext, TaskAsked, TaskRefused, TaskStarted, TaskWish, Tasks};

/// Words of a task's command line and variables, and bytes of them together.
const WORDS_MAX: usize = 16 * 1024;
const BYTES_MAX: usize = 512 * 1024;
/// Reports that wait for a slow reader.
const REPORTS_MAX: usize = 8;
/// A task that is to run on another node of its attempt.
#[derive(Debug)]
pub struct TaskWanted {
    /// What is wanted; its number is the link's to give.
    pub request: TaskRequest,
    /// Where what it says goes. Closed when nobody waits for it any more: without a key it is to end then.
    pub reports: mpsc::Sender<Report>,
    /// What whoever wants it says; closed for one without a key.
    pub wish: watch::Receiver<TaskWish>,
}

impl TaskWanted {
    /// One without a key.
    pub(super) fn plain(request: TaskRequest, reports: mpsc::Sender<Report>) -> Self {
        let (_nobody, wish) = watch::channel(TaskWish::default());
        Self {
            request,
            reports,
            wish,
        }
    }
}

impl Supervisor {
    /// Tasks for other nodes go to `out` from now on, until its receiver is dropped.
    pub fn attach_tasks(&self, out: mpsc::Sender<TaskWanted>) {
        self.tasks.attach(out);
    }

    /// Runs a task for an attempt whose script runs on another node. Without a key it ends when the reports are not wanted any
    /// more; what it leaves behind when it exits may go on until then. With one it ends when that is wished.
    #[must_use]
    pub fn run_task(
        &self,
        order: RunTask,
        wish: watch::Receiver<TaskWish>,
    ) -> mpsc::Receiver<Report> {
        if order.figures {
            return figures::answer(&order, self.tasks.visits());
        }
        let (reports, heard) = mpsc::channel(REPORTS_MAX);
        if !order.key.is_empty() {
            let wanting = Wanting {
                attempt: AttemptId(order.spec.as_ref().map_or(0, |spec| spec.attempt)),
                key: order.key.clone(),
                from_byte: order.from_byte,
                reports,
                wish,
            };
            let supervisor = self.clone();
            tokio::spawn(kept::run(self.clone(), wanting, async move || {
                supervisor.receive(order).await
            }));
            return heard;
        }
        let (site, table) = (self.site.clone(), self.tasks.clone());
        let guests = self.guests.clone();
        tokio::spawn(async move {
            let recorded = tokio::task::spawn_blocking({
                let site = site.clone();
                move || visitor(&site, order)
            });
            let order = match recorded.await {
                Ok(order) => order,
                Err(_ending) => return,
            };
            if let Ok(order) = &order
                && order.hooks.is_some_and(|hooks| hooks.is_after)
            {
                // Nothing of the job may be left when the site clears up behind it.
                table.end_attempt(order.entry.attempt()).await;
                guests.end(order.entry.attempt()).await;
            }
            let begun = order.and_then(|order| {
                // What the site runs around jobs is no user's.
                let owner = order.entry.identity.as_ref().map(|user| user.uid);
                let owner = owner.filter(|_| order.hooks.is_none());
                let place = table.admit(order.entry.attempt(), owner);
                place
                    .map(|place| (order, place))
                    .map_err(|refused| refused.to_string())
            });
            match begun {
                Ok((order, place)) => {
                    welcome(&table, &order);
                    process::run(site, order, place, reports).await;
                }
                Err(problem) => drop(reports.send(failed(problem)).await),
            }
        });
        heard
    }

    /// The order for a task of an attempt whose script runs on another node, and its place here.
    async fn receive(&self, order: RunTask) -> Result<(TaskOrder, TaskPlace), Report> {
        let site = self.site.clone();
        let recorded = tokio::task::spawn_blocking(move || visitor(&site, order)).await;
        let recorded = recorded.map_err(|error| failed(error.to_string()))?;
        let order = recorded.map_err(failed)?;
        let attempt = order.entry.attempt();
        let owner = order.entry.identity.as_ref().map(|user| user.uid);
        let place = self.tasks.admit(attempt, owner);
        let place = place.map_err(|refused| failed(refused.to_string()))?;
        guard::note_guest(&self.site.ledger, &order);
        welcome(&self.tasks, &order);
        Ok((order, place))
    }

    fn here(
        &self,
        live: &LiveAttempt,
        asked: TaskAsked,
        (reports, wish): (mpsc::Sender<Report>, watch::Receiver<TaskWish>),
    ) -> Result<u32, TaskRefused> {
        let attempt = live.entry.attempt();
        let owner = live.entry.identity.as_ref().map(|user| user.uid);
        let TaskAsked {
            place: vnode,
            arguments,
            environment,
            key,
            from_byte,
            ..
        } = asked;
        let task = match from_byte {
            Some(_) => 0,
            None => live.next_task(),
        };
        let mut entry = live.entry.clone();
        entry.spec.script.clear();
        let order = TaskOrder {
            node: node_index(&entry.spec, vnode),
            entry,
            vnode,
            task,
            arguments,
            environment,
            folder: String::new(),
            hooks: None,
            session: None,
        };
        if key.is_empty() {
            let place = self.admit_alive(attempt, owner)?;
            tokio::spawn(process::run(self.site.clone(), order, place, reports));
            return Ok(task);
        }
        let wanting = Wanting {
            attempt,
            key,
            from_byte,
            reports,
            wish,
        };
        let supervisor = self.clone();
        tokio::spawn(kept::run(self.clone(), wanting, async move || {
            let place = supervisor.admit_alive(attempt, owner);
            let place = place.map_err(|refused| failed(refused.to_string()))?;
            Ok((order, place))
        }));
        Ok(task)
    }

    /// A place for a task of an attempt of ours.
    fn admit_alive(
        &self,
        attempt: AttemptId,
        owner: Option<u32>,
    ) -> Result<TaskPlace, TaskRefused> {
        let place = self.tasks.admit(attempt, owner)?;
        // Asked for after the place was taken: an attempt that ends meanwhile ends this task, too.
        self.live.get(attempt).ok_or(TaskRefused::Ending)?;
        Ok(place)
    }

    fn elsewhere(
        &self,
        live: &LiveAttempt,
        asked: TaskAsked,
        node: String,
        (reports, wish): (mpsc::Sender<Report>, watch::Receiver<TaskWish>),
    ) -> Result<u32, TaskRefused> {
        let TaskAsked {
            place: vnode,
            arguments,
            mut environment,
            key,
            from_byte,
            ..
        } = asked;
        let number = match from_byte {
            Some(_) => 0,
            None => live.next_task(),
        };
        // The other node would make another one up.
        environment.push(Variable {
            name: COOKIE.to_owned(),
            value: live.entry.cookie.clone(),
        });
        let request = TaskRequest {
            task: 0,
            attempt: live.entry.spec.attempt,
            node,
            vnode,
            task_number: number,
            node_index: node_index(&live.entry.spec, vnode),
            arguments,
            environment,
            folder: String::new(),
            hooks: None,
            figures: false,
            key,
            from_byte,
        };
        let wanted = TaskWanted {
            request,
            reports,
            wish,
        };
        match self.tasks.want(wanted) {
            true => Ok(number),
            false => Err(TaskRefused::NoServer),
        }
    }
}

impl Tasks for Supervisor {
    fn run_task(&self, attempt: AttemptId, asked: TaskAsked) -> Result<TaskStarted, TaskRefused> {
        check(&asked)?;
        let live = self.live.get(attempt).ok_or(TaskRefused::Ending)?;
        let nodes = &live.entry.spec.node_file;
        let node = nodes.get(asked.place as usize);
        let node = node.ok_or(TaskRefused::NoPlace {
            place: asked.place,
            places: nodes.len(),
        })?;
        let member = Member {
            rank: asked.rank,
            node: node.clone(),
        };
        let is_watched = asked.is_gang || live.entry.spec.gang_ends;
        let (reports, mut heard) = mpsc::channel(REPORTS_MAX);
        let (wish, wished) = watch::channel(TaskWish::default());
        let number = match *node == live.entry.node {
            true => self.here(&live, asked, (reports, wished))?,
            false => self.elsewhere(&live, asked, node.clone(), (reports, wished))?,
        };
        if is_watched {
            heard = self.watch_gang(live, member, heard);
        }
        Ok(TaskStarted {
            number,
            reports: heard,
            wish,
        })
    }

    fn adopt(&self, uid: u32, job_id: &str, pid: u32) -> Result<(), crate::ports::AdoptRefused> {
        adopt::adopt(self, uid, job_id, pid)
    }
}

/// Makes known whose processes and cards on this node are those of a task's attempt, whose script runs elsewhere.
pub(super) fn welcome(table: &TaskTable, order: &TaskOrder) {
    table.visits().begin(&order.entry);
    if let Some(context) = guest_context(order) {
        table.receive(order.entry.attempt(), context);
    }
}

/// What the door is told of processes of a task for an attempt whose script runs on another node.
fn guest_context(order: &TaskOrder) -> Option<AttemptContext> {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy();
    live::context(&order.entry, |entry, identity| {
        of_task(entry, identity, &host, order.place())
    })
}

const COOKIE: &str = "PBS_JOBCOOKIE";

/// The order for a task of an attempt that is not in our ledger. Blocks.
fn visitor(site: &Site, order: RunTask) -> Result<TaskOrder, String> {
    let RunTask {
        task: _,
        spec,
        vnode,
        task_number,
        node_index,
        arguments,
        mut environment,
        folder,
        hooks,
        figures: _, // Answered without a task.
        key: _,
        from_byte: _,
    } = order;
    let spec = spec.ok_or("the server did not say as whom the task runs")?;
    let mut entry = site.guest(spec).map_err(|problem| problem.to_string())?;
    let is_cookie = |variable: &Variable| variable.name == COOKIE;
    let cookie = environment.iter().find(|variable| is_cookie(variable));
    if let Some(cookie) = cookie.filter(|cookie| is_key(&cookie.value)) {
        entry.cookie.clone_from(&cookie.value);
    }
    environment.retain(|variable| !is_cookie(variable));
    let asked = TaskAsked {
        place: vnode,
        arguments,
        environment,
        ..TaskAsked::default()
    };
    if hooks.is_none() {
        check(&asked).map_err(|refused| refused.to_string())?;
    }
    let TaskAsked {
        arguments,
        environment,
        ..
    } = asked;
    Ok(TaskOrder {
        entry,
        node: node_index,
        vnode,
        task: task_number,
        arguments,
        environment,
        folder,
        hooks,
        session: None,
    })
}

/// Refuses what no kernel could carry and what nobody needs.
fn check(asked: &TaskAsked) -> Result<(), TaskRefused> {
    let TaskAsked {
        place: _,
        rank: _,
        is_gang: _,
        arguments,
        environment,
        key,
        from_byte: _,
    } = asked;
    if !key.is_empty() && !is_key(key) {
        return Err(TaskRefused::BadKey);
    }
    if arguments.first().is_none_or(String::is_empty) {
        return Err(TaskRefused::NoProgram);
    }
    let bytes: usize = arguments.iter().map(String::len).sum::<usize>()
        + environment
            .iter()
            .map(|variable| variable.name.len() + variable.value.len())
            .sum::<usize>();
    if arguments.len() + environment.len() > WORDS_MAX || bytes > BYTES_MAX {
        return Err(TaskRefused::TooLong { bytes });
    }
    let is_carried = |word: &String| !word.contains('\0');
    if !arguments.iter().all(is_carried) || !environment.iter().all(is_settable) {
        return Err(TaskRefused::Nul);
    }
    Ok(())
}

/// `PBS_NODENUM`: which of the attempt's nodes the slot `vnode` is on.
fn node_index(spec: &LaunchSpec, vnode: u32) -> u32 {
    let Some(node) = spec.node_file.get(vnode as usize) else {
        return 0;
    };
    let mut nodes: Vec<&String> = Vec::new();
    for name in &spec.node_file {
        if name == node {
            break;
        }
        if !nodes.contains(&name) {
            nodes.push(name);
        }
    }
    nodes.len() as u32
}

/// What a task is found by again.
fn is_key(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Whether what went wrong with a task was that it, or the way to it, cannot be reached for now.
pub(crate) fn is_passing(failure: &Failure) -> bool {
    let passing = [
        Pbse::NodeDown,
        Pbse::ServerBusy,
        Pbse::Timeout,
        Pbse::Protocol,
    ];
    let mut errors = passing.iter().map(|error| u32::from(error.number()));
    errors.any(|error| error == failure.pbs_error)
}

fn failed(problem: impl Into<String>) -> Report {
    Report::Failed(Failure {
        pbs_error: Pbse::System.number().into(),
        detail: problem.into(),
    })
}

#[cfg(test)]
mod tests;
