//! How long the engine is waited for: an engine that hangs keeps its socket, takes requests and never answers, and is as
//! good as one that is gone. What lasts as long as a container does, its streams and the wait for its end, has no limit
//! once the engine has said that it begins.

use std::future::Future;
use std::io;
use std::time::Duration;

use bollard::errors::Error;

use crate::attach::NoStream;

/// The times that requests have, answer and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the first word of an engine that has not been heard of, or was found away: such a one is given up soon.
    pub hello: Duration,
    /// For a question, and for a stream to begin.
    pub answer: Duration,
    /// For what makes the engine work: creating, starting and removing a container, reading a file of an image.
    pub work: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            work: Duration::from_secs(120),
        }
    }
}

impl Limits {
    pub(crate) async fn hello<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        within(self.hello, call).await
    }

    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        within(self.answer, call).await
    }

    pub(crate) async fn work<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        within(self.work, call).await
    }

    /// Of our own streams: until the engine has said that one begins.
    pub(crate) async fn stream<T>(
        &self,
        call: impl Future<Output = Result<T, NoStream>>,
    ) -> Result<T, NoStream> {
        let begun = tokio::time::timeout(self.answer, call).await;
        begun.unwrap_or_else(|_| Err(NoStream::Io(silent(self.answer))))
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answered = tokio::time::timeout(limit, call).await;
    answered.unwrap_or_else(|_| Err(Error::IOError { err: silent(limit) }))
}

fn silent(limit: Duration) -> io::Error {
    let text = format!("it hangs: no answer within {} s", limit.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}
