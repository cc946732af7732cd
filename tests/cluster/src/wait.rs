//! Waiting for a condition instead of sleeping.

use std::{fmt::Display, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// Looks until there is something to see, and says what was seen last if there never is.
///
/// `look` answers `Ok` with what was waited for, or `Err` with what it saw instead: "phase is
/// Pending", an error of the client, the half-finished object.
///
/// ```no_run
/// # use std::time::Duration;
/// # use k8s_openapi::api::core::v1::Secret;
/// # async fn example(secrets: kube::Api<Secret>) -> anyhow::Result<()> {
/// cluster::wait_for(Duration::from_secs(10), "the secret is gone", || async {
///     match secrets.get_opt("key").await? {
///         None => Ok(()),
///         Some(secret) => anyhow::bail!("still there: {:?}", secret.metadata),
///     }
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If `look` did not answer `Ok` within `deadline`. A look that hangs is cut off there, too.
pub async fn wait_for<T, E: Display, F: Future<Output = Result<T, E>>>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    const PAUSE_MAX: Duration = Duration::from_millis(100);
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(5);
    let mut last_seen = "nothing: the first look did not come back".to_owned();
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => last_seen = format!("{seen:#}"),
            Err(_) => {}
        }
        if Instant::now() + pause >= end {
            bail!("waited {deadline:?} in vain: {what}; last seen: {last_seen}");
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_seen_last_is_told() {
        let mut looks = 0;
        let look = || {
            looks += 1;
            std::future::ready(Err::<(), _>(format!("look {looks}")))
        };
        let error = wait_for(Duration::from_millis(30), "a miracle", look).await.err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("in vain: a miracle; last seen: look "), "{text}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_ends_at_the_deadline() {
        let look = std::future::pending::<Result<(), String>>;
        let error = wait_for(Duration::from_millis(30), "an answer", look).await.err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("the first look did not come back"), "{text}");
    }
}
