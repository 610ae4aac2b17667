//! One pull for all who wait for the same image on the same terms. Who asks first does the work; when they go away in the
//! middle, the next who waits goes on with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::credentials::Credentials;
use super::problem::PullProblem;
use super::progress::Progress;
use super::store::ImageStore;

/// Pulls at the same time; the others wait. dockerd itself gets three layers of each at a time.
const PULLS_MAX: usize = 4;
/// Of them for one user: whoever has a registry that drips holds up nobody else.
const PULLS_PER_USER_MAX: usize = 2;

/// On whose terms an image is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The user for whose job it is.
    pub by: u32,
    /// The user whose own account is used; none on the site's terms or on anybody's.
    pub uid: Option<u32>,
    /// For the registry.
    pub credentials: Option<Credentials>,
}

/// The pulls that are under way.
#[derive(Debug)]
pub struct Pulls {
    /// Two users with accounts of their own never share a pull: the registry may refuse one of them.
    under_way: Mutex<BTreeMap<Key, watch::Receiver<State>>>,
    places: Semaphore,
    /// Each user's part of them, while somebody waits for it or has it.
    parts: Mutex<BTreeMap<u32, Arc<Semaphore>>>,
}

type Key = (String, Option<u32>);

#[derive(Clone, Debug)]
enum State {
    /// For a place.
    Waiting,
    Going(Progress),
    Done(Result<(), PullProblem>),
}

enum Role<'a> {
    Lead(Lead<'a>),
    Follow(watch::Receiver<State>),
}

/// The one who pulls. Dropped when they go away.
struct Lead<'a> {
    pulls: &'a Pulls,
    key: Key,
    state: watch::Sender<State>,
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            places: Semaphore::new(PULLS_MAX),
            parts: Mutex::default(),
        }
    }
}

impl Pulls {
    /// Gets `image` (a resolved name) from its registry, or waits for the pull that is under way. `told` hears how far it
    /// is. May be dropped half-way.
    ///
    /// # Errors
    /// The one cause, the same for all who waited for the same pull.
    pub async fn ensure<S: ImageStore>(
        &self,
        store: &S,
        image: &str,
        asker: &Asker,
        told: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), PullProblem> {
        let key = (capstan_types::image_name(image), asker.uid);
        loop {
            match self.enter(&key) {
                Role::Lead(lead) => {
                    let tell = |progress| {
                        lead.state.send_replace(State::Going(progress));
                        told(progress);
                    };
                    // Never closed; and a pull without a place would only be slower for all.
                    let part = self.part(asker.by);
                    let _part = part.acquire().await;
                    let _place = self.places.acquire().await;
                    // Now it begins, for those who wait only so long for more.
                    tell(Progress::default());
                    let credentials = asker.credentials.as_ref();
                    let pulled = store.pull_image(&key.0, credentials, &tell).await;
                    lead.state.send_replace(State::Done(pulled.clone()));
                    return pulled;
                }
                Role::Follow(mut state) => {
                    if let Some(pulled) = follow(&mut state, told).await {
                        return pulled;
                    }
                }
            }
        }
    }

    /// How many pulls are under way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn enter(&self, key: &Key) -> Role<'_> {
        let mut under_way = self.lock();
        if let Some(state) = under_way.get(key) {
            return Role::Follow(state.clone());
        }
        let (state, seen) = watch::channel(State::Waiting);
        under_way.insert(key.clone(), seen);
        Role::Lead(Lead {
            pulls: self,
            key: key.clone(),
            state,
        })
    }

    /// What `uid` has of the places.
    fn part(&self, uid: u32) -> Arc<Semaphore> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|_, part| Arc::strong_count(part) > 1);
        let part = parts.entry(uid);
        part.or_insert_with(|| Arc::new(Semaphore::new(PULLS_PER_USER_MAX)))
            .clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, watch::Receiver<State>>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.pulls.lock().remove(&self.key);
    }
}

/// The end of somebody else's pull; none when they went away before it.
async fn follow(
    state: &mut watch::Receiver<State>,
    told: &(dyn Fn(Progress) + Send + Sync),
) -> Option<Result<(), PullProblem>> {
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            State::Done(pulled) => return Some(pulled),
            State::Going(progress) => told(progress),
            State::Waiting => {}
        }
        state.changed().await.ok()?;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::super::store::StoredImage;
    use super::*;
    use crate::containers::EngineError;

    /// A registry that answers when it is let.
    struct Slow {
        pulls: AtomicU32,
        gate: Semaphore,
        answer: Result<(), PullProblem>,
    }

    impl Slow {
        fn with(answer: Result<(), PullProblem>) -> Self {
            Self {
                pulls: AtomicU32::new(0),
                gate: Semaphore::new(0),
                answer,
            }
        }
    }

    impl ImageStore for Slow {
        async fn pull_image(
            &self,
            _: &str,
            _: Option<&Credentials>,
            told: &(dyn Fn(Progress) + Send + Sync),
        ) -> Result<(), PullProblem> {
            self.pulls.fetch_add(1, Ordering::Relaxed);
            told(Progress {
                layers: 7,
                ..Progress::default()
            });
            drop(self.gate.acquire().await);
            self.answer.clone()
        }

        async fn stored_images(&self) -> Result<Vec<StoredImage>, EngineError> {
            Ok(Vec::new())
        }

        async fn remove_image(&self, _: &str) -> Result<(), EngineError> {
            Ok(())
        }
    }

    fn of(uid: Option<u32>) -> Asker {
        Asker {
            by: uid.unwrap_or_default(),
            uid,
            ..Asker::default()
        }
    }

    fn by(uid: u32) -> Asker {
        Asker {
            by: uid,
            ..Asker::default()
        }
    }

    /// Polls `waiting` until it waits.
    async fn begin<F: Future + Unpin>(waiting: &mut F) {
        let begun = futures_util::future::poll_immediate(waiting).await;
        assert!(begun.is_none(), "it waits for the registry");
    }

    #[tokio::test]
    async fn many_who_ask_share_one_pull_and_its_progress_and_its_end() {
        for answer in [Ok(()), Err(PullProblem::EngineAway)] {
            let (store, pulls, heard) = (
                Slow::with(answer.clone()),
                Pulls::default(),
                AtomicU32::new(0),
            );
            let told = |progress: Progress| {
                if progress.layers == 7 {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            };
            let asker = of(None);
            let mut all = Box::pin(join_all((0..50).map(|nth| {
                // The tag that is meant by none.
                let name = ["bit:5000/a", "bit:5000/a:latest"][nth % 2];
                pulls.ensure(&store, name, &asker, &told)
            })));
            begin(&mut all).await;
            assert_eq!((store.pulls.load(Ordering::Relaxed), pulls.count()), (1, 1));
            store.gate.add_permits(1);
            assert!(all.await.iter().all(|end| *end == answer));
            assert_eq!(heard.load(Ordering::Relaxed), 50);
            assert_eq!(pulls.count(), 0, "the next one pulls anew");
        }
    }

    #[tokio::test]
    async fn accounts_of_two_users_share_no_pull() {
        let (store, pulls) = (Slow::with(Ok(())), Pulls::default());
        let (alice, bob, site) = (of(Some(1001)), of(Some(1002)), of(None));
        let ask = |asker| pulls.ensure(&store, "a", asker, &|_| {});
        let mut all = Box::pin(join_all([ask(&alice), ask(&bob), ask(&site)]));
        begin(&mut all).await;
        assert_eq!(store.pulls.load(Ordering::Relaxed), 3);
        store.gate.add_permits(3);
        assert!(all.await.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn who_waits_for_a_place_hears_nothing_before_he_has_it() {
        let (store, pulls, heard) = (Slow::with(Ok(())), Pulls::default(), AtomicU32::new(0));
        let asker = of(None);
        let others: Vec<Asker> = (1..=PULLS_MAX as u32).map(by).collect();
        let names: Vec<String> = (0..PULLS_MAX).map(|nth| format!("slow{nth}")).collect();
        let slow = names
            .iter()
            .zip(&others)
            .map(|(name, asker)| pulls.ensure(&store, name, asker, &|_| {}));
        let mut slow = Box::pin(join_all(slow));
        begin(&mut slow).await;
        let told = |_| {
            heard.fetch_add(1, Ordering::Relaxed);
        };
        let waiting = || Box::pin(pulls.ensure(&store, "a", &asker, &told));
        let (mut lead, mut follower) = (waiting(), waiting());
        begin(&mut lead).await;
        begin(&mut follower).await;
        assert_eq!(heard.load(Ordering::Relaxed), 0);
        store.gate.add_permits(PULLS_MAX);
        assert!(slow.await.iter().all(Result::is_ok));
        assert_eq!((lead.await, follower.await), (Ok(()), Ok(())));
        assert!(
            heard.load(Ordering::Relaxed) >= 2,
            "that it begins, and how far it is"
        );
    }

    #[tokio::test]
    async fn one_users_pulls_leave_places_to_others() {
        let (store, pulls) = (Slow::with(Ok(())), Pulls::default());
        let (greedy, other) = (by(1001), by(1002));
        let names: Vec<String> = (0..9).map(|nth| format!("slow{nth}")).collect();
        let many = names
            .iter()
            .map(|name| pulls.ensure(&store, name, &greedy, &|_| {}));
        let mut many = Box::pin(join_all(many));
        begin(&mut many).await;
        let begun = || store.pulls.load(Ordering::Relaxed) as usize;
        assert_eq!(begun(), PULLS_PER_USER_MAX);
        let mut one = Box::pin(pulls.ensure(&store, "a", &other, &|_| {}));
        begin(&mut one).await;
        assert_eq!(begun(), PULLS_PER_USER_MAX + 1);
        store.gate.add_permits(100);
        assert_eq!(one.await, Ok(()));
        assert!(many.await.iter().all(Result::is_ok));
        drop(pulls.part(7));
        assert_eq!(
            pulls.parts.lock().unwrap().len(),
            1,
            "who has gone is forgotten"
        );
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_pull_to_the_next() {
        let (store, pulls) = (Slow::with(Ok(())), Pulls::default());
        let asker = of(None);
        let mut first = Box::pin(pulls.ensure(&store, "a", &asker, &|_| {}));
        let mut second = Box::pin(pulls.ensure(&store, "a", &asker, &|_| {}));
        begin(&mut first).await;
        begin(&mut second).await;
        assert_eq!(store.pulls.load(Ordering::Relaxed), 1);
        drop(first);
        begin(&mut second).await;
        assert_eq!(
            store.pulls.load(Ordering::Relaxed),
            2,
            "it is the second's now"
        );
        store.gate.add_permits(1);
        assert_eq!(second.await, Ok(()));
    }
}
