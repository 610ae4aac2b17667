//! The image of a container: what its name means on this site, whose account gets it, and what the client hears while it
//! comes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capstan_proto::wire::container_output::Output as Said;
use capstan_types::AttemptId;
use tokio::sync::watch;

use super::engine::{ContainerEngine, EngineFacts, ImageId};
use super::keeper::Keeper;
use super::preparing::{Customer, Held, stalled, stalling};
use super::reach::{Kind, reach};
use super::refusal::Refused;
use super::session::Talk;
use crate::images::{Asker, Keyring, Progress};
use crate::ports::AttemptContext;

/// The client hears at least so often that its image still comes …
const TELL_EVERY: Duration = Duration::from_secs(30);
/// … and whenever so much more of it has come.
const TELL_PERCENT: u32 = 10;
/// How a job has its image before it has its cards.
const HINT: &str = "with `#PBS -W image=` it comes before the job starts";

/// What attempts wait for just now, in words.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<BTreeMap<AttemptId, String>>);

impl Waits {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wait of one attempt; over when dropped.
struct Wait<'a> {
    waits: &'a Waits,
    attempt: AttemptId,
    image: &'a str,
}

impl Wait<'_> {
    fn is_at(&self, progress: Progress) {
        let text = format!("getting image {}: {progress}", self.image);
        self.waits.lock().insert(self.attempt, text);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waits.lock().remove(&self.attempt);
    }
}

impl<E: ContainerEngine> Keeper<E> {
    /// What each attempt that waits for an image waits for, in words.
    pub fn image_waits(&self) -> Vec<(AttemptId, String)> {
        let waits = self.waits.lock();
        waits.iter().map(|(id, text)| (*id, text.clone())).collect()
    }

    /// The site's short names of images, and what each stands for.
    pub fn image_names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.images.aliases.iter()
    }

    /// Which of the engine's images came by users' own accounts, by name, and whose they are.
    pub fn private_images(&self, facts: &EngineFacts) -> Vec<(String, Vec<u32>)> {
        let images = facts.images.iter();
        let private = images.filter_map(|(name, id)| Some((name.clone(), self.stock.owners(id)?)));
        private.collect()
    }

    /// What the site means by a name of an image.
    pub(super) fn image_meant(&self, typed: &str) -> String {
        self.stock.resolve(typed)
    }

    /// The image `name` (resolved), got from its registry if need be: the client hears how far that is. One pull serves
    /// all who wait for the same. May be dropped half-way.
    pub(super) async fn ensure_image(
        &self,
        name: &str,
        context: &AttemptContext,
        talk: &Talk,
    ) -> Result<ImageId, Refused> {
        let held = match self.held(name, context.uid).await? {
            Held::Open(id) => {
                self.stock.note_use(&id);
                return Ok(id);
            }
            Held::Closed(id) => Some(id),
            Held::Missing => None,
        };
        let customer = Customer {
            uid: context.uid,
            gid: context.gid,
            groups: context.groups.clone(),
            home: context.home.clone(),
        };
        let asker = self.asker(name, &customer).await;
        if held.is_none() {
            let said = format!(
                "image {name} is not on this node: getting it from its registry, while the job holds what it has ({HINT})"
            );
            talk.say(Said::Notice(said)).await;
            self.make_room().await?;
        }
        self.get_image(name, (context.attempt, &asker), talk)
            .await?;
        self.has_come(name, &asker, held.as_ref()).await
    }

    async fn get_image(
        &self,
        image: &str,
        (attempt, asker): (AttemptId, &Asker),
        talk: &Talk,
    ) -> Result<(), Refused> {
        let wait = Wait {
            waits: &self.waits,
            attempt,
            image,
        };
        wait.is_at(Progress::default());
        let (heard, progress) = watch::channel(Progress::default());
        let told = |progress| {
            heard.send_replace(progress);
        };
        let pull = self.stock.pull(&self.engine, image, asker, &told);
        tokio::select! {
            pulled = pull => pulled.map_err(Refused::Pull),
            () = tell(progress.clone(), &wait, talk) => Ok(()),
            said = stalling(progress) => Err(Refused::Pull(stalled(image, said))),
        }
    }

    /// The user's own accounts at registries, read with the user's rights. Without such a file, or with one that is no
    /// use, the site's accounts have to do.
    pub(super) async fn own_keyring(&self, customer: &Customer) -> Keyring {
        let rights = customer.rights();
        let file = customer.home.join(".docker/config.json");
        let text = self.look(rights, move || read_own(&file)).await;
        let Ok(Some(text)) = text else {
            return Keyring::default();
        };
        Keyring::parse(&text).unwrap_or_else(|problem| {
            tracing::info!(uid = customer.uid, %problem, "~/.docker/config.json is no use");
            Keyring::default()
        })
    }
}

/// Never a pipe or a device, which would hold the thread or have no end.
fn read_own(file: &Path) -> Option<String> {
    let reached = reach(file).ok()?;
    if reached.facts.kind != Kind::File {
        return None;
    }
    let bytes = reached.read(Keyring::BYTES_MAX).ok()?;
    String::from_utf8(bytes).ok()
}

/// Tells the client and the node how far a pull is, for as long as it lasts.
async fn tell(mut progress: watch::Receiver<Progress>, wait: &Wait<'_>, talk: &Talk) {
    let (mut percent, mut since) = (0, Instant::now());
    loop {
        if progress.changed().await.is_err() {
            // The pull is over, which its own end tells.
            return std::future::pending().await;
        }
        let now = *progress.borrow_and_update();
        wait.is_at(now);
        if now.percent() >= percent + TELL_PERCENT || since.elapsed() >= TELL_EVERY {
            (percent, since) = (now.percent(), Instant::now());
            let said = format!("getting image {}: {now}", wait.image);
            talk.say(Said::Notice(said)).await;
        }
    }
}
