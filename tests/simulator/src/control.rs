//! The control port: a test tool's view of the cloud, as JSON over HTTP, and a page with the
//! outbox for people. The instance metadata service answers here too.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on, patch, post, put};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::faults::{Fault, FaultKind};
use crate::handle::Handle;
use crate::keys::Key;
use crate::model::{Click, ContactChange, MessageState, NewContact};
use crate::traffic::Hold;
use crate::wire;

/// All routes of the control port.
pub(crate) fn router(handle: Handle) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/state", get(async |State(it): State<Handle>| json_ok(it.state())))
        .route("/confirm", post(confirm))
        .route("/expire", post(expire))
        .route("/outbox", get(async |State(it): State<Handle>| json_ok(it.outbox())))
        .route("/counts", get(async |State(it): State<Handle>| json_ok(it.counts())))
        .route("/counts/reset", act(MethodFilter::POST, Handle::reset_counts))
        .route("/calls", get(calls))
        .route(
            "/faults",
            get(async |State(it): State<Handle>| json_ok(it.faults()))
                .post(add_faults)
                .merge(act(MethodFilter::DELETE, Handle::clear_faults)),
        )
        .route("/faults/release", act(MethodFilter::POST, Handle::release_hanging))
        .route("/settings", get(async |State(it): State<Handle>| json_ok(it.settings())))
        .route("/switches", put_json(|it, new| it.switches(|old| *old = new)))
        .route("/quotas", put_json(|it, new| it.quotas(|old| *old = new)))
        .route("/deletion", put_json(Handle::deletion))
        .route("/throttle", put_json(Handle::throttle))
        .route("/tree", put_json(|it, new| it.tree(|old| *old = new)))
        .route("/roles", put_json(Handle::roles))
        .route("/latency", put_json(|it, new: Millis| it.latency(new.duration())))
        .route("/clock", put_json(|it, new: Millis| it.advance(new.duration())))
        .route("/hold", post(hold).merge(act(MethodFilter::DELETE, Handle::release)))
        .route("/keys", put_json(keys))
        .route("/reset", act(MethodFilter::POST, Handle::reset))
        .route("/contacts", post(insert_contact))
        .route("/contacts/{id}", patch(change_contact).delete(remove_contact))
        .route("/credentials", get(credentials))
        .route("/latest/api/token", put(metadata_token))
        .route("/latest/meta-data/ram/security-credentials/", get(metadata_role))
        .route("/latest/meta-data/ram/security-credentials/{role}", get(metadata_credentials))
        .with_state(handle)
}

type Answer = Result<Response, (StatusCode, String)>;

fn json_ok(value: impl Serialize) -> Response {
    json_answer(StatusCode::OK, &value)
}

/// The answer to something that was done.
fn done() -> Response {
    json_ok(json!({}))
}

fn json_answer(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, (StatusCode, String)> {
    serde_json::from_slice(body).map_err(|error| refused(&error))
}

fn refused(why: &impl Display) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, format!("{why}\n"))
}

fn not_found() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, "not found\n".to_owned())
}

/// A route whose method needs no body.
fn act(
    method: MethodFilter,
    act: impl Fn(&Handle) + Clone + Send + Sync + 'static,
) -> MethodRouter<Handle> {
    on(method, async move |State(it): State<Handle>| {
        act(&it);
        done()
    })
}

/// A route whose PUT reads JSON and sets something.
fn put_json<T: DeserializeOwned + Send + 'static>(
    act: impl Fn(&Handle, T) + Clone + Send + Sync + 'static,
) -> MethodRouter<Handle> {
    put(async move |State(it): State<Handle>, body: Bytes| -> Answer {
        act(&it, parse(&body)?);
        Ok(done())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Millis {
    ms: u64,
}

impl Millis {
    fn duration(&self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    target: String,
}

/// `{"target": ADDRESS}` from tools; the form field `message` from the page, which is shown again.
async fn confirm(State(it): State<Handle>, headers: HeaderMap, body: Bytes) -> Answer {
    let form = headers.get(header::CONTENT_TYPE);
    if form.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded")) {
        let pairs = wire::pairs(&String::from_utf8_lossy(&body));
        let message = pairs.iter().find(|(name, _)| name == "message");
        let message = message.and_then(|(_, value)| value.parse().ok());
        // The page is shown again whatever came of it, and tells.
        let _ = it.click(message.ok_or_else(|| refused(&"no message is named"))?);
        return Ok(Redirect::to("/").into_response());
    }
    let click = it.confirm(&parse::<Target>(&body)?.target);
    let status = match click {
        Click::Confirmed => StatusCode::OK,
        Click::NoMessage => StatusCode::NOT_FOUND,
        Click::DeadLink => StatusCode::GONE,
    };
    Ok(json_answer(status, &json!({"result": click})))
}

async fn expire(State(it): State<Handle>, body: Bytes) -> Answer {
    Ok(json_ok(json!({"expired": it.expire(&parse::<Target>(&body)?.target)})))
}

/// `?since=N`: those after number N.
async fn calls(State(it): State<Handle>, RawQuery(query): RawQuery) -> Answer {
    let pairs = wire::pairs(&query.unwrap_or_default());
    let since = pairs.iter().find(|(name, _)| name == "since").map(|(_, value)| value.parse());
    let since = since.unwrap_or(Ok(0)).map_err(|error| refused(&error))?;
    Ok(json_ok(it.calls_since(since)))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

async fn add_faults(State(it): State<Handle>, body: Bytes) -> Answer {
    match parse(&body)? {
        OneOrMany::One(fault) => it.fault(fault),
        OneOrMany::Many(faults) => faults.into_iter().for_each(|fault: Fault| it.fault(fault)),
    }
    Ok(done())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Share {
    hold_ms: Option<u64>,
    free_ms: u64,
}

/// Nothing or `{}`: until released. `{"hold_ms": .., "free_ms": ..}`: a share of the time.
async fn hold(State(it): State<Handle>, body: Bytes) -> Answer {
    let share = if body.is_empty() { Share::default() } else { parse(&body)? };
    it.set_hold(match share {
        Share { hold_ms: Some(hold_ms), free_ms } => Hold::Cycle { hold_ms, free_ms },
        Share { hold_ms: None, .. } => Hold::Held,
    });
    Ok(done())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct KeyChanges {
    add: Vec<Key>,
    disable: Vec<String>,
    remove: Vec<String>,
}

fn keys(it: &Handle, KeyChanges { add, disable, remove }: KeyChanges) {
    for key in add {
        it.add_key(key);
    }
    for id in &disable {
        it.disable_key(id);
    }
    for id in &remove {
        it.remove_key(id);
    }
}

async fn insert_contact(State(it): State<Handle>, body: Bytes) -> Answer {
    let id = it.insert_contact(parse::<NewContact>(&body)?);
    Ok(json_ok(json!({"id": id})))
}

async fn change_contact(State(it): State<Handle>, Path(id): Path<String>, body: Bytes) -> Answer {
    let found = it.change_contact(&id, parse::<ContactChange>(&body)?);
    if found { Ok(done()) } else { Err(not_found()) }
}

async fn remove_contact(State(it): State<Handle>, Path(id): Path<String>) -> Answer {
    if it.remove_contact(&id) { Ok(done()) } else { Err(not_found()) }
}

/// A credentials URI: fresh keys for whoever asks.
async fn credentials(State(it): State<Handle>) -> Answer {
    let credentials = it.with(|world, now| {
        let role = world.tokens.instance_role()?.to_owned();
        world.tokens.instance_credentials(&role, &mut world.keys, now)
    });
    credentials.map(json_ok).ok_or_else(not_found)
}

/// Counts a request to the metadata service, and lets go wrong what is to.
async fn metadata_request(
    it: &Handle,
    kind: &str,
    fault: &str,
    headers: &HeaderMap,
) -> Result<(), Response> {
    let bare = kind != "token" && !headers.contains_key(METADATA_TOKEN);
    let fault = it.with(|world, _| {
        for kind in std::iter::once(kind).chain(bare.then_some("without a token")) {
            *world.counts.metadata.entry(kind.to_owned()).or_default() += 1;
        }
        world.faults.take_named(fault)
    });
    match fault {
        Some(FaultKind::Error { status, code, .. }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            Err((status, code).into_response())
        }
        Some(FaultKind::Raw { status, body, repeat, .. }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            Err((status, body.repeat(repeat as usize)).into_response())
        }
        Some(FaultKind::Hang { .. }) => {
            it.shared.released().await;
            Ok(())
        }
        Some(FaultKind::Delay { before_ms, after_ms }) => {
            tokio::time::sleep(Duration::from_millis(before_ms + after_ms)).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

const METADATA_TOKEN: &str = "x-aliyun-ecs-metadata-token";

async fn metadata_token(State(it): State<Handle>, headers: HeaderMap) -> Answer {
    if let Err(answer) = metadata_request(&it, "token", "MetadataToken", &headers).await {
        return Ok(answer);
    }
    if headers.contains_key("x-forwarded-for") {
        return Err((StatusCode::FORBIDDEN, "forwarded requests get no token\n".to_owned()));
    }
    let seconds = headers.get("x-aliyun-ecs-metadata-token-ttl-seconds");
    let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
    let token = seconds
        .and_then(|it_lives| it.with(|world, now| world.tokens.metadata_token(it_lives, now)));
    let token = token.ok_or_else(|| refused(&"a token lives 1 to 21600 seconds"))?;
    Ok(token.into_response())
}

fn check_metadata_token(it: &Handle, headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
    let token = headers.get(METADATA_TOKEN).and_then(|value| value.to_str().ok());
    if it.with(|world, now| world.tokens.metadata_readable(token, now)) {
        Ok(())
    } else {
        Err((StatusCode::FORBIDDEN, "bring a token\n".to_owned()))
    }
}

async fn metadata_role(State(it): State<Handle>, headers: HeaderMap) -> Answer {
    if let Err(answer) = metadata_request(&it, "role", "MetadataRole", &headers).await {
        return Ok(answer);
    }
    check_metadata_token(&it, &headers)?;
    let role = it.with(|world, _| world.tokens.instance_role().map(str::to_owned));
    role.map(String::into_response).ok_or_else(not_found)
}

async fn metadata_credentials(
    State(it): State<Handle>,
    Path(role): Path<String>,
    headers: HeaderMap,
) -> Answer {
    if let Err(answer) = metadata_request(&it, "credentials", "MetadataCredentials", &headers).await
    {
        return Ok(answer);
    }
    check_metadata_token(&it, &headers)?;
    let credentials =
        it.with(|world, now| world.tokens.instance_credentials(&role, &mut world.keys, now));
    credentials.map(json_ok).ok_or_else(not_found)
}

/// The outbox as a person sees a mailbox, newest first.
async fn page(State(it): State<Handle>) -> Html<String> {
    let mut rows = String::new();
    for message in it.outbox().iter().rev() {
        let action = match message.state {
            MessageState::Live => format!(
                "<form method=post action=/confirm><button name=message value={}>Verify</button>\
                 </form>",
                message.id
            ),
            MessageState::Confirmed => "confirmed".to_owned(),
            MessageState::Expired => "expired".to_owned(),
            MessageState::Superseded => "superseded".to_owned(),
        };
        let (target, contact) = (escaped(&message.target), escaped(&message.contact_id));
        let sent_at = message.sent_at.strftime("%F %T UTC");
        let _ = writeln!(rows, "<tr><td>{sent_at}<td>{target}<td>{contact}<td>{action}");
    }
    if rows.is_empty() {
        rows.push_str("<tr><td colspan=4>no verification message was sent yet\n");
    }
    Html(PAGE.replace("{rows}", &rows))
}

const PAGE: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width">
<title>Outbox of the directory simulator</title>
<style>
body { font: 16px system-ui, sans-serif; margin: 2rem auto; max-width: 56rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .8rem; border-bottom: 1px solid #ccc }
form { margin: 0 }
button { white-space: nowrap }
@media (max-width: 40rem) {
  th, td { padding: .4rem .2rem }
  td:nth-child(2) { overflow-wrap: anywhere }
  td:nth-child(3), th:nth-child(3) { display: none }
}
</style></head><body>
<h1>Verification messages</h1>
<p>What the cloud has sent to people. <b>Verify</b> does what a click in the mail does.</p>
<table><tr><th>Sent<th>To<th>Contact<th>
{rows}</table>
</body></html>
"#;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
