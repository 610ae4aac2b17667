//! Images for jobs that wait: fetched on their users' terms before anything of this node is lent to them, and told of
//! while they come.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::engine::{ContainerEngine, EngineError, ImageId};
use super::keeper::Keeper;
use super::reach::Rights;
use super::refusal::Refused;
use crate::images::{Asker, Progress, PullProblem, registry_of};

/// A pull of which nothing more comes for so long is given up: the registry has gone to sleep over it.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// So long a pull may take that goes on and on: others wait for its place.
const PULL_TIME_MAX: Duration = Duration::from_secs(6 * 3600);

/// Whose accounts at registries may be used for an image.
#[derive(Clone, Debug)]
pub struct Customer {
    /// The user.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// Where `.docker/config.json` may lie.
    pub home: PathBuf,
}

impl Customer {
    pub(super) fn rights(&self) -> Rights {
        Rights {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
        }
    }
}

/// Why an image is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Unprepared {
    /// One sentence.
    pub text: String,
    /// Waiting is no use.
    pub is_lasting: bool,
}

impl From<Refused> for Unprepared {
    fn from(refused: Refused) -> Self {
        let is_lasting = matches!(&refused, Refused::Pull(problem) if problem.is_lasting());
        let text = refused.to_string();
        Self { text, is_lasting }
    }
}

/// How far the images are that are on their way for jobs that wait.
#[derive(Debug, Default)]
pub(super) struct Pulling(Mutex<BTreeMap<(String, u32), Progress>>);

impl Pulling {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u32), Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them; over when dropped.
struct Under<'a> {
    pulling: &'a Pulling,
    key: (String, u32),
}

impl Under<'_> {
    fn is_at(&self, progress: Progress) {
        self.pulling.lock().insert(self.key.clone(), progress);
    }
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.pulling.lock().remove(&self.key);
    }
}

/// What this node has of an image for one user.
pub(super) enum Held {
    /// It is here, and theirs to use.
    Open(ImageId),
    /// It is here, and was got with somebody's own account: the registry is asked whether they may have it too.
    Closed(ImageId),
    /// It is not here.
    Missing,
}

impl<E: ContainerEngine> Keeper<E> {
    /// How far each image is that is on its way for a job that waits: as it was asked for, on whose terms, in words.
    pub fn image_pulls(&self) -> Vec<(String, u32, String)> {
        let pulling = self.pulling.lock();
        let told = pulling
            .iter()
            .map(|((image, uid), progress)| (image.clone(), *uid, progress.to_string()));
        told.collect()
    }

    /// Sees to it that the image that `typed` means is here and open to the customer. One pull serves all who want the
    /// same on the same terms. May be dropped half-way, and may be repeated.
    ///
    /// # Errors
    /// Why it is not, in one sentence.
    pub async fn prepare_image(&self, typed: &str, customer: &Customer) -> Result<(), Unprepared> {
        let name = self.image_meant(typed);
        if !capstan_types::is_image_name(&name) {
            let problem = PullProblem::BadName { image: name };
            return Err(Refused::Pull(problem).into());
        }
        let held = match self.held(&name, customer.uid).await? {
            Held::Open(id) => {
                self.stock.note_use(&id);
                return Ok(());
            }
            Held::Closed(id) => Some(id),
            Held::Missing => None,
        };
        let under = Under {
            pulling: &self.pulling,
            key: (typed.to_owned(), customer.uid),
        };
        under.is_at(Progress::default());
        let asker = self.asker(&name, customer).await;
        if held.is_none() {
            self.make_room().await?;
        }
        let (heard, progress) = watch::channel(Progress::default());
        let told = |progress| {
            under.is_at(progress);
            heard.send_replace(progress);
        };
        let pull = self.stock.pull(&self.engine, &name, &asker, &told);
        tokio::select! {
            pulled = pull => pulled.map_err(Refused::Pull)?,
            said = stalling(progress) => return Err(Refused::Pull(stalled(&name, said)).into()),
        }
        self.has_come(&name, &asker, held.as_ref()).await?;
        Ok(())
    }

    /// What is here of an image.
    pub(super) async fn held(&self, name: &str, uid: u32) -> Result<Held, Refused> {
        match self.engine.image(name).await {
            Ok(id) if self.stock.is_open_to(&id, uid) => Ok(Held::Open(id)),
            Ok(id) => Ok(Held::Closed(id)),
            Err(EngineError::ImageMissing { .. }) => Ok(Held::Missing),
            Err(error) => Err(Refused::Engine(error)),
        }
    }

    /// On whose terms an image is asked for.
    pub(super) async fn asker(&self, name: &str, customer: &Customer) -> Asker {
        let own = self.own_keyring(customer).await;
        self.stock.asker(name, customer.uid, &own)
    }

    /// Lets unused images go when the disk is full.
    pub(super) async fn make_room(&self) -> Result<(), Refused> {
        let facts = self.known_facts().await.map_err(Refused::Engine)?;
        self.stock.make_room(&self.engine, &facts.root).await;
        Ok(())
    }

    /// Remembers whose image it is that has just come, or that somebody showed their right to.
    pub(super) async fn has_come(
        &self,
        name: &str,
        asker: &Asker,
        held: Option<&ImageId>,
    ) -> Result<ImageId, Refused> {
        let id = self.engine.image(name).await.map_err(Refused::Engine)?;
        let was_here = held == Some(&id);
        self.stock
            .came(&id, asker, was_here)
            .map_err(|source| Refused::Agent {
                doing: "remember whose image it is",
                source,
            })?;
        self.stock.note_use(&id);
        Ok(id)
    }
}

/// Returns, with the reason, when a pull that has begun is to be given up: nothing more has come for [`SILENCE_MAX`], or it
/// has gone on for [`PULL_TIME_MAX`]. While it waits behind other pulls nothing is counted.
pub(super) async fn stalling(mut progress: watch::Receiver<Progress>) -> String {
    if progress.changed().await.is_err() {
        // The pull is over, which its own end tells.
        return std::future::pending().await;
    }
    let until = tokio::time::Instant::now() + PULL_TIME_MAX;
    while tokio::time::Instant::now() < until {
        match tokio::time::timeout(SILENCE_MAX, progress.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => {
                return format!(
                    "nothing more came for {} minutes",
                    SILENCE_MAX.as_secs() / 60
                );
            }
        }
    }
    format!(
        "it was not there after {} hours",
        PULL_TIME_MAX.as_secs() / 3600
    )
}

pub(super) fn stalled(image: &str, said: String) -> PullProblem {
    PullProblem::Unreachable {
        image: image.to_owned(),
        registry: registry_of(image),
        said,
    }
}
