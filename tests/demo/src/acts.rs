//! The acts. Each does something, waits for what comes of it, and checks that it really happened.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use directory_simulator::{CallRecord, ContactChange, ContactState, Message, MessageState};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::parts::{self, Parts, TEAM_NAMESPACE};
use crate::stage::{Mark, Stage};

/// What stopped the play.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The title of the act.
    pub act: String,
    /// What was not as it should be.
    pub error: Error,
}

/// Plays all acts in order, up to the first that fails. `by_hand`: a person is there who may click.
pub(crate) async fn play(stage: &mut Stage<'_>, by_hand: bool) -> Option<Failure> {
    let titles = [
        "Five contacts are applied",
        "Somebody confirms a mailbox and a phone",
        "A title is changed",
        "Somebody else is using the directory",
        "Somebody changes a contact in the console",
        "A contact is not valid",
        "A policy refuses a contact",
        "A contact is deleted",
        "Nothing else was done",
    ];
    let numbered = titles.iter().enumerate();
    stage.results = numbered.map(|(at, title)| (format!("{}. {title}", at + 1), None)).collect();
    for at in 0..titles.len() {
        let act = stage.results[at].0.clone();
        let played = match stage.screen.heading(&act) {
            Err(error) => Err(error),
            Ok(()) => match at {
                0 => contacts_are_applied(stage).await,
                1 => somebody_confirms(stage, by_hand).await,
                2 => a_title_is_changed(stage).await,
                3 => somebody_else_uses_the_directory(stage).await,
                4 => somebody_changes_a_contact(stage).await,
                5 => a_contact_is_not_valid(stage).await,
                6 => a_policy_refuses_a_contact(stage).await,
                7 => a_contact_is_deleted(stage).await,
                _ => nothing_else_was_done(stage).await,
            },
        };
        stage.results[at].1 = Some(played.is_ok());
        if let Err(error) = played {
            return Some(Failure { act, error });
        }
    }
    None
}

async fn contacts_are_applied(stage: &mut Stage<'_>) -> Result<()> {
    let mark = stage.mark()?;
    stage.screen.command("message-contact-operator validate -f examples/")?;
    let (code, said) = stage.parts.program.output(&["validate", "-f", "examples/"]).await?;
    stage.screen.output(&said)?;
    stage.check(code == Some(0), "the files are valid; no cluster was needed to know", || said)?;

    let endpoint = stage.parts.simulator.endpoint();
    stage.screen.command("kubectl apply --server-side -f examples/")?;
    stage.screen.note(&format!(
        "(for the demo, `site: China` of directory.yaml is replaced by `endpoint: {endpoint}`, \
         and `pollInterval: 10s` is added)"
    ))?;
    let mut contacts = Vec::new();
    for mut object in parts::examples()? {
        parts::point_to_simulator(&mut object, &endpoint);
        let said = parts::apply(&stage.parts.client, &object).await?;
        stage.screen.output(&said)?;
        if object["kind"] == "MessageContact" {
            contacts.push(object);
        }
    }
    stage
        .until("the directory is connected", async |parts| {
            current(&parts.directories(), "default", "Ready", "Connected").await
        })
        .await?;
    for contact in &contacts {
        let name = contact["metadata"]["name"].as_str().context("a contact without a name")?;
        in_sync(stage, name).await?;
    }
    let cloud = stage.parts.simulator.state().contacts;
    let same = contacts.iter().all(|wanted| cloud.iter().any(|it| holds(it, &wanted["spec"])));
    stage.check(
        same && cloud.len() == contacts.len(),
        "the cloud has the five contacts, field by field as in the files",
        || format!("{} contacts in the cloud", cloud.len()),
    )?;
    let added = written(stage, mark, "AddMessageContact").len();
    let claim = "each was added by one call, one after the other";
    stage.check(added == contacts.len(), claim, || format!("{added} calls"))
}

/// The owner of `security-desk`, whose mailbox and phone the cloud has written to.
async fn somebody_confirms(stage: &mut Stage<'_>, by_hand: bool) -> Result<()> {
    const NAME: &str = "security-desk";
    const TARGETS: [&str; 2] = ["security@example.com", "86-13800138000"];
    /// How long a person may take to find the page before the demo goes on without them.
    const PERSON_TAKES: Duration = Duration::from_secs(90);
    let messages = |parts: &Parts| -> Vec<Message> {
        let mut messages = parts.simulator.outbox();
        messages.retain(|message| TARGETS.contains(&message.target.as_str()));
        messages
    };
    let waiting = |parts: &Parts| {
        let mut messages = messages(parts);
        messages.retain(|message| message.state == MessageState::Live);
        messages
    };
    stage
        .until("a mail and a text message are sent", async |parts| {
            ensure!(messages(parts).len() == TARGETS.len(), "{} messages", messages(parts).len());
            current(&parts.contacts(), NAME, "Ready", "VerificationSent").await
        })
        .await?;
    stage.screen.checked(
        "the cloud has its data, it is not ready: its owner was written to, and has not clicked",
    )?;
    let policy = apply_policy(stage, "security-contact").await?;
    stage
        .until("the policy finds that nobody hears of security", async |parts| {
            current(&parts.policies(), &policy, "Compliant", "CoverageMissing").await
        })
        .await?;
    let said = stage.parts.policies().get(&policy).await?;
    stage.screen.checked(&format!("the policy is not met: {}", message(&said, "Compliant")))?;
    let control = stage.parts.simulator.control();
    stage.screen.note("The mail and the text message are in the outbox of the simulated cloud:")?;
    stage.screen.line("")?;
    stage.screen.line(&format!("    {control}/"))?;
    stage.screen.line("")?;
    if by_hand {
        stage.screen.note(&format!(
            "Open it in a browser and click Verify beside {} and {}. In {} s the demo does it.",
            TARGETS[0],
            TARGETS[1],
            PERSON_TAKES.as_secs()
        ))?;
        let end = Instant::now() + PERSON_TAKES;
        while !waiting(&stage.parts).is_empty() && Instant::now() < end {
            let looked = stage.until("a moment passes", async |_| Ok(())).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            looked?;
        }
    }
    for message in waiting(&stage.parts) {
        let form = format!("message={}", message.id);
        stage.screen.command(&format!("curl -d {form} {control}/confirm"))?;
        let request =
            reqwest::Client::builder().no_proxy().build()?.post(format!("{control}/confirm"));
        let kind = "application/x-www-form-urlencoded";
        let request = request.header(http::header::CONTENT_TYPE, kind).body(form);
        request.send().await?.error_for_status()?;
    }
    stage.screen.command(&format!(
        "kubectl -n {TEAM_NAMESPACE} wait --for=condition=Ready mc/{NAME} --timeout=60s"
    ))?;
    stage
        .until("it is ready", async |parts| {
            current(&parts.contacts(), NAME, "Ready", "InSync").await
        })
        .await?;
    let contact = stage.parts.contacts().get(NAME).await?;
    let sent = messages(&stage.parts).len();
    stage.check(
        sent == TARGETS.len()
            && is_true(&contact, "EmailVerified")
            && is_true(&contact, "PhoneVerified"),
        "it is ready: mailbox and phone are confirmed, and each was written to once",
        || format!("{sent} messages; {}", seen(&contact)),
    )?;
    stage
        .until("the policy is met", async |parts| {
            current(&parts.policies(), &policy, "Compliant", "Compliant").await
        })
        .await?;
    stage.screen.checked("the policy is met: somebody who has clicked hears of security messages")
}

async fn a_title_is_changed(stage: &mut Stage<'_>) -> Result<()> {
    let mark = stage.mark()?;
    patch(stage, "on-call", json!({"spec": {"title": "TechnicalDirector"}})).await?;
    in_sync(stage, "on-call").await?;
    let update = only_update(stage, mark, "Title")?;
    let millis = update.at.duration_since(mark.at).as_millis();
    stage.screen.checked(&format!("the call arrived {millis} ms after the change"))?;
    cloud_title(stage, "OnCall", "TechnicalDirector")
}

async fn somebody_else_uses_the_directory(stage: &mut Stage<'_>) -> Result<()> {
    const REFUSALS: u64 = 4;
    let mark = stage.mark()?;
    stage
        .screen
        .note("Somebody's Terraform is at work: the cloud takes one operation at a time.")?;
    stage.parts.simulator.hold();
    let types = ["AccountExpenses", "ServiceMessage"];
    patch(stage, "accounting", json!({"spec": {"messageTypes": types}})).await?;
    stage
        .until("the operator is refused, and tries again", async |parts| {
            let refused = parts.simulator.counts().ended("ConcurrentCallNotSupported");
            ensure!(refused >= REFUSALS, "{refused} refusals");
            Ok(())
        })
        .await?;
    let released_at = stage.parts.simulator.now();
    stage.parts.simulator.release();
    stage.screen.note("They have finished.")?;
    in_sync(stage, "accounting").await?;
    let update = only_update(stage, mark, "MessageTypes")?;
    let millis = update.at.duration_since(released_at).as_millis();
    let refused = stage.calls_since(mark).iter().filter(|call| call.status == Some(429)).count();
    stage.screen.checked(&format!("{refused} times 429, then done {millis} ms after the release"))
}

async fn somebody_changes_a_contact(stage: &mut Stage<'_>) -> Result<()> {
    let mark = stage.mark()?;
    let updates = |parts: &Parts| parts.simulator.counts().of("UpdateMessageContact");
    let before = updates(&stage.parts);
    let cloud = stage.parts.simulator.state();
    let contact = cloud.named("王芳").context("王芳 is not in the cloud")?;
    let change = ContactChange { title: Some("Other".to_owned()), ..ContactChange::default() };
    stage
        .screen
        .note("In the console somebody sets the title of 王芳 to Other. Nobody here acts.")?;
    ensure!(stage.parts.simulator.change_contact(&contact.id, change), "no such contact");
    stage
        .until("the title is put right", async |parts| {
            ensure!(updates(parts) > before, "no UpdateMessageContact");
            Ok(())
        })
        .await?;
    cloud_title(stage, "王芳", "ProjectDirector")?;
    in_sync(stage, "wang-fang").await?;
    let update = only_update(stage, mark, "Title")?;
    let seconds = update.at.duration_since(mark.at).as_secs_f64();
    stage.screen.checked(&format!(
        "it took {seconds:.1} s until the call arrived: the directory is read every 10 s"
    ))
}

async fn a_contact_is_not_valid(stage: &mut Stage<'_>) -> Result<()> {
    const FILE: &str = "tests/demo/invalid.yaml";
    let mark = stage.mark()?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("invalid.yaml");
    let object = parts::manifests(&file)?.pop().context("invalid.yaml is empty")?;
    stage.screen.note(&format!(
        "{FILE} has `name: {}` and `phoneNumber: {}`.",
        object["spec"]["name"], object["spec"]["phoneNumber"]
    ))?;
    stage.screen.command(&format!("kubectl apply --server-side -f {FILE}"))?;
    let refusal = match parts::apply(&stage.parts.client, &object).await {
        Ok(said) => return Err(anyhow!("the apiserver took it: {said}")),
        Err(error) => error.downcast::<kube::Error>()?,
    };
    let kube::Error::Api(status) = refusal else { return Err(refusal.into()) };
    let causes = status.details.as_ref().map(|details| details.causes.clone()).unwrap_or_default();
    stage.screen.output("The MessageContact \"night-shift\" is invalid:")?;
    for cause in &causes {
        stage.screen.output(&format!("* {}: {}", cause.field, cause.message))?;
    }
    let fields: BTreeSet<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
    stage.check(
        status.code == 422 && fields == ["spec.name", "spec.phoneNumber"].into(),
        "the apiserver refuses it, names both fields and says what to write instead",
        || status.message.clone(),
    )?;
    let number = object["spec"]["phoneNumber"].as_str().context("no phoneNumber")?;
    let claim = "the phone number is not repeated to anybody";
    stage.check(!status.message.contains(number), claim, || "it is in the refusal".to_owned())?;

    stage.screen.command(&format!("message-contact-operator validate -f {FILE}"))?;
    let (code, said) = stage.parts.program.output(&["validate", "-f", FILE]).await?;
    stage.screen.output(&said)?;
    let claim = "the same is said in a pull request, without a cluster, and with the line";
    let same = said.contains("invalid.yaml:8: ") && said.contains("invalid.yaml:11: ");
    stage.check(code == Some(1) && same, claim, || format!("exit code {code:?}"))?;

    let stored = stage.parts.contacts().get_opt("night-shift").await?;
    stage.mark()?;
    let writes = writes(stage.calls_since(mark)).count();
    let claim = "nothing is stored, and the cloud was not asked to write anything";
    stage.check(stored.is_none() && writes == 0, claim, || format!("{writes} writes"))
}

/// Applies a file of `examples/policies`. Returns the policy's name.
async fn apply_policy(stage: &mut Stage<'_>, name: &str) -> Result<String> {
    let path = format!("examples/policies/{name}.yaml");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(&path);
    let object = parts::manifests(&file)?.pop().with_context(|| format!("{path} is empty"))?;
    stage.screen.command(&format!("kubectl apply --server-side -f {path}"))?;
    let said = parts::apply(&stage.parts.client, &object).await?;
    stage.screen.output(&said)?;
    Ok(name.to_owned())
}

async fn a_policy_refuses_a_contact(stage: &mut Stage<'_>) -> Result<()> {
    const FILE: &str = "tests/demo/outside.yaml";
    let mark = stage.mark()?;
    let policy = apply_policy(stage, "allowed-domains").await?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("outside.yaml");
    let object = parts::manifests(&file)?.pop().context("outside.yaml is empty")?;
    stage
        .until("the policy has looked at all contacts", async |parts| {
            current(&parts.policies(), &policy, "Compliant", "Compliant").await
        })
        .await?;
    stage.screen.note(&format!("{FILE} has an address of example.org."))?;
    stage.screen.command(&format!("kubectl apply --server-side -f {FILE}"))?;
    let refusal = match parts::apply(&stage.parts.client, &object).await {
        Ok(said) => return Err(anyhow!("the apiserver took it: {said}")),
        Err(error) => error.downcast::<kube::Error>()?,
    };
    let kube::Error::Api(status) = refusal else { return Err(refusal.into()) };
    stage.screen.output(&status.message)?;
    stage.check(
        status.message.contains("ContactPolicy `allowed-domains`")
            && status.message.contains("example.com, *.example.com"),
        "the apiserver refuses it, names the policy and what would be accepted",
        || status.message.clone(),
    )?;
    let claim = "the address is not repeated to anybody";
    stage
        .check(!status.message.contains("stranger"), claim, || "it is in the refusal".to_owned())?;
    stage.mark()?;
    let writes = writes(stage.calls_since(mark)).count();
    let claim = "the cloud was not asked to write anything";
    stage.check(writes == 0, claim, || format!("{writes} writes"))
}

async fn a_contact_is_deleted(stage: &mut Stage<'_>) -> Result<()> {
    let mark = stage.mark()?;
    let contacts = stage.parts.contacts();
    stage.screen.command(&format!("kubectl -n {TEAM_NAMESPACE} delete mc newsletter"))?;
    contacts.delete("newsletter", &DeleteParams::default()).await?;
    stage
        .until("the object is gone", async |parts| {
            let object = parts.contacts().get_opt("newsletter").await?;
            object.map_or(Ok(()), |object| Err(anyhow!("{}", seen(&object))))
        })
        .await?;
    let left = stage.parts.simulator.state().named("市场活动").map(|it| it.status.clone());
    let claim = "the object is gone, and so is the contact in the cloud";
    stage.check(left.is_none(), claim, || format!("it is still there: {left:?}"))?;
    let deletions = written(stage, mark, "DeleteMessageContact");
    let retained = deletions.first().map(|call| call.parameters["RetainContactInMembers"].clone());
    stage.check(
        deletions.len() == 1 && retained == Some(json!("false")),
        "one DeleteMessageContact went out; the person gets no messages of member accounts either",
        || format!("{deletions:?}"),
    )
}

/// The books are balanced: what was told is all that was written.
async fn nothing_else_was_done(stage: &mut Stage<'_>) -> Result<()> {
    let calls = stage.parts.simulator.calls();
    let of = |action: &str| writes(&calls).filter(|call| call.action == action).count();
    let [added, updated, deleted] =
        ["AddMessageContact", "UpdateMessageContact", "DeleteMessageContact"].map(of);
    // Messages to people are the cloud's to send and theirs to answer.
    let sent = writes(&calls).filter(|call| call.action.starts_with("Send")).count();
    let total = writes(&calls).count();
    stage.check(
        [added, updated, deleted, total - sent] == [5, 3, 1, 9],
        "in all of it the cloud was written to nine times: 5 added, 3 updated, 1 deleted",
        || format!("{total} writes: {added} added, {updated} updated, {deleted} deleted"),
    )?;
    stage.check(
        sent == 7,
        "seven messages were sent: one to each of five mailboxes and two phones",
        || format!("{sent} messages"),
    )?;
    let in_flight = stage.parts.simulator.counts().in_flight_max;
    let claim = "never was more than one call under way";
    stage.check(in_flight == 1, claim, || format!("{in_flight} at once"))?;
    stage.until("the table is current", async |_| Ok(())).await
}

/// Changes an object as `kubectl patch --type merge` does.
async fn patch(stage: &Stage<'_>, name: &str, change: Value) -> Result<()> {
    let command = format!("kubectl -n {TEAM_NAMESPACE} patch mc {name} --type merge -p '{change}'");
    stage.screen.command(&command)?;
    let params = PatchParams { field_manager: Some("kubectl".to_owned()), ..Default::default() };
    stage.parts.contacts().patch(name, &params, &Patch::Merge(&change)).await?;
    Ok(())
}

/// Waits until a contact is as its newest spec says.
async fn in_sync(stage: &mut Stage<'_>, name: &str) -> Result<()> {
    let what = format!("{name} is in sync");
    stage
        .until(&what, async |parts: &Parts| {
            current(&parts.contacts(), name, "Synced", "InSync").await
        })
        .await
}

/// Whether a condition has that reason, and speaks of the newest spec.
async fn current(
    api: &Api<DynamicObject>,
    name: &str,
    condition: &str,
    reason: &str,
) -> Result<()> {
    let object = api.get(name).await?;
    let status = &object.data["status"];
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_it = |it: &Value| it["type"] == condition && it["reason"] == reason;
    let is_newest = status["observedGeneration"] == json!(object.metadata.generation);
    ensure!(is_newest && conditions.iter().any(is_it), "{}", seen(&object));
    Ok(())
}

/// The message of a condition.
fn message(object: &DynamicObject, condition: &str) -> String {
    let conditions = object.data["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|it| it["type"] == condition));
    let text = found.and_then(|it| it["message"].as_str());
    text.unwrap_or_default().to_owned()
}

fn is_true(object: &DynamicObject, condition: &str) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    let is_it = |it: &Value| it["type"] == condition && it["status"] == "True";
    conditions.is_some_and(|conditions| conditions.iter().any(is_it))
}

/// An object's conditions, one a line.
fn seen(object: &DynamicObject) -> String {
    let status = &object.data["status"];
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines = conditions.iter().map(|it| {
        let [kind, status, reason, message] =
            ["type", "status", "reason", "message"].map(|field| text(&it[field]));
        format!("\n    {kind}={status} {reason}: {message}")
    });
    let generation = object.metadata.generation.unwrap_or_default();
    let observed = &status["observedGeneration"];
    let lines: Vec<String> = lines.collect();
    format!(
        "{}, generation {generation}, of which the status speaks: {observed}{}",
        object.name_any(),
        lines.concat()
    )
}

/// Calls that are no mere looks, and were done.
fn writes(calls: &[CallRecord]) -> impl Iterator<Item = &CallRecord> {
    let reads =
        |call: &CallRecord| call.action.starts_with("List") || call.action.starts_with("Get");
    calls.iter().filter(move |call| call.executed && !reads(call))
}

fn written(stage: &Stage<'_>, mark: Mark, action: &str) -> Vec<CallRecord> {
    writes(stage.calls_since(mark)).filter(|call| call.action == action).cloned().collect()
}

/// Checks that one `UpdateMessageContact` was done, and that it carried one field.
fn only_update(stage: &Stage<'_>, mark: Mark, field: &str) -> Result<CallRecord> {
    let updates = written(stage, mark, "UpdateMessageContact");
    let names: BTreeSet<&str> =
        updates.iter().flat_map(|call| call.parameters.keys()).map(|name| field_of(name)).collect();
    stage.check(
        updates.len() == 1 && names == ["ContactId", field].into(),
        &format!("one UpdateMessageContact was done, with ContactId and {field} only"),
        || format!("{} updates, with {names:?}", updates.len()),
    )?;
    updates.into_iter().next().context("no update")
}

/// `MessageTypes.1` is of the field `MessageTypes`.
fn field_of(parameter: &str) -> &str {
    parameter.split('.').next().unwrap_or(parameter)
}

fn cloud_title(stage: &Stage<'_>, name: &str, wanted: &str) -> Result<()> {
    let title = stage.parts.simulator.state().named(name).map(|contact| contact.title.clone());
    let claim = format!("in the cloud the title is {wanted}");
    stage.check(title.as_deref() == Some(wanted), &claim, || format!("{title:?}"))
}

/// Whether a contact of the cloud is what a spec says.
fn holds(contact: &ContactState, spec: &Value) -> bool {
    let value = |channel: &directory_simulator::Channel| {
        let pending = channel.pending.as_ref().map(|pending| pending.value.clone());
        pending.or(channel.effective.clone())
    };
    let text = |field: &str| spec[field].as_str().map(str::to_owned);
    let types: BTreeSet<&str> = contact.message_types.iter().map(String::as_str).collect();
    let wanted = spec["messageTypes"].as_array().map(Vec::as_slice).unwrap_or_default();
    Some(&contact.name) == text("name").as_ref()
        && Some(&contact.title) == text("title").as_ref()
        && value(&contact.email) == text("emailAddress")
        && value(&contact.phone) == text("phoneNumber")
        && types == wanted.iter().filter_map(Value::as_str).collect()
}
