//! Many contacts at once, for the stories of rest and for the bench of counts.

use std::time::Duration;

use cluster::Cluster;
use directory_simulator::{Options, Quotas};
use futures::{StreamExt as _, stream};
use jiff::SignedDuration;
use kube::api::ListParams;
use message_contact_operator::clock::Clock;
use serde_json::json;

use crate::stand::{PATIENCE, Stand, condition_of};

/// A simulator with room for many.
pub fn roomy() -> Options {
    let quotas = Quotas { contacts: 5_000, ..Quotas::default() };
    Options { quotas, ..Options::default() }
}

pub fn operator_client(cluster: &Cluster) -> kube::Client {
    kube::Client::try_from(operator_config(cluster)).unwrap()
}

/// How an operator of this process names itself to the apiserver.
pub fn operator_config(cluster: &Cluster) -> kube::Config {
    let mut config = cluster.config();
    let agent = http::HeaderValue::from_static("message-contact-operator/test");
    config.headers.push((http::header::USER_AGENT, agent));
    config
}

/// A name for each number: letters only.
pub fn name(number: usize) -> String {
    let letter = |digit: usize| char::from(b'a' + u8::try_from(digit % 26).unwrap());
    format!("Rest{}{}{}", letter(number / 676), letter(number / 26), letter(number))
}

/// So many contacts, created by the operator.
pub async fn bring_in(stand: &Stand, count: usize, poll_interval: &str) {
    stand.apply_directory(json!({ "pollInterval": poll_interval })).await;
    stand.directory_becomes("Ready", "Connected").await;
    stream::iter(0..count)
        .for_each_concurrent(20, |number| async move {
            stand.apply(&format!("rest-{number}"), &name(number), json!({})).await;
        })
        .await;
}

/// Waits until all objects are in sync, and the directory has written down how many there are.
pub async fn counted(stand: &Stand, count: usize) {
    let contacts = stand.contacts();
    cluster::wait_for(3 * PATIENCE, "all contacts are in sync", || async {
        let found =
            contacts.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let synced = found.items.iter().filter(|it| condition_of(it, "Synced")["status"] == "True");
        let synced = synced.count();
        // A list of so many is not cheap: not ten times a second.
        tokio::time::sleep(Duration::from_millis(200)).await;
        if synced == count { Ok(()) } else { Err(format!("{synced} of {count}")) }
    })
    .await
    .unwrap();
    let directories = stand.directories();
    cluster::wait_for(PATIENCE, "the directory has counted them", || async {
        let found = directories.get(&stand.directory).await.map_err(|error| error.to_string())?;
        let counts = &found.data["status"]["contacts"];
        if counts["managed"] == json!(count) { Ok(()) } else { Err(counts.to_string()) }
    })
    .await
    .unwrap();
}

/// Walks the clocks of the operator and of the cloud in such steps until the next poll begins, and
/// waits for its pages. A step that comes before the last list was taken in moves nothing.
pub async fn next_poll(stand: &Stand, clock: &Clock, step: Duration, pages: u64) {
    let lists = |stand: &Stand| stand.simulator.counts().of("ListMessageContacts");
    let before = lists(stand);
    cluster::wait_for(PATIENCE, "a poll begins", || {
        let begun = lists(stand) > before;
        if !begun {
            stand.simulator.advance(step);
            clock.advance(SignedDuration::try_from(step).unwrap());
        }
        std::future::ready(if begun { Ok(()) } else { Err("no list yet") })
    })
    .await
    .unwrap();
    stand.cloud("all pages", |_| (lists(stand) >= before + pages).then_some(())).await;
}
