//! `helm --wait`, Flux and Argo CD judge each state of our objects rightly: nothing is green before
//! the operator has looked, who waits for a person is told apart, and what waiting does not help
//! fails at once with our message.

use std::collections::BTreeSet;

use directory_simulator::switches::Tolerance;
use directory_simulator::{Fault, FaultKind, Options};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use message_contact_operator::api::{ContactPolicy, MessageContact, ResourceDirectory};
use message_contact_operator::clock::Clock;
use serde_json::{Value, json};

use crate::judges::{self, Verdict};
use crate::many::operator_client;
use crate::stand::{self, Own, Stand, message_of};
use crate::walk::defaults;

/// A state of an object, and what has to be said of it.
#[derive(Debug, Clone, Copy)]
struct State {
    name: &'static str,
    /// Also what `helm --wait` goes by.
    kstatus: &'static str,
    argocd: &'static str,
    /// The expressions have no word for an object that is being deleted: it is not there yet.
    flux: &'static str,
}

const fn state(
    name: &'static str,
    kstatus: &'static str,
    argocd: &'static str,
    flux: &'static str,
) -> State {
    State { name, kstatus, argocd, flux }
}

/// kstatus takes an object without a status for finished, and an expression of Flux cannot be
/// evaluated on it: so the definitions put one on each object, which
/// [`no_object_of_ours_is_ever_without_a_status`] proves.
const WITHOUT_STATUS: State = state("no status", "Current", "Progressing", "Error");
const UNSEEN: State = state("not seen yet", "InProgress", "Progressing", "InProgress");
const STALE: State = state("changed since", "InProgress", "Progressing", "InProgress");
const PERSON: State = state("waits for a person", "InProgress", "Suspended", "InProgress");
const STALLED: State = state("stalled", "Failed", "Degraded", "Failed");
const UNKNOWN: State = state("not known yet", "InProgress", "Progressing", "InProgress");
const SUSPENDED: State = state("suspended", "Current", "Suspended", "Current");
const READY: State = state("ready", "Current", "Healthy", "Current");
const DELETED: State = state("being deleted", "Terminating", "Progressing", "InProgress");

const STATES: [State; 9] =
    [WITHOUT_STATUS, UNSEEN, STALE, PERSON, STALLED, UNKNOWN, SUSPENDED, READY, DELETED];

/// States beside the nine.
const AT_WORK: State = state("at work", "InProgress", "Progressing", "InProgress");
/// `Ready` says `False` as long as nothing may go to the directory, so nobody goes on behind it.
const CLOSED: State = state("suspended, not ready", "InProgress", "Suspended", "InProgress");

/// The objects of a story, each with the state that it is in.
#[derive(Default)]
struct Table {
    rows: Vec<(State, &'static str, Value)>,
}

impl Table {
    fn add(&mut self, state: State, what: &'static str, object: &DynamicObject) {
        self.rows.push((state, what, serde_json::to_value(object).unwrap()));
    }

    /// Prints what each says of each, and fails if one of them disagrees. Returns the verdicts.
    async fn agree(self, kind: &str) -> Vec<Verdict> {
        let objects = self.rows.iter().map(|(_, _, object)| object.clone()).collect();
        let verdicts = judges::judge(objects).await;
        println!(
            "{kind:18}{:22}{:24}{:12}{:12}Flux's expressions",
            "state", "", "kstatus", "Argo CD"
        );
        let mut disagreements = 0;
        for ((state, what, object), verdict) in self.rows.iter().zip(&verdicts) {
            let Verdict { kstatus, flux, argocd, actions: _ } = verdict;
            let said = [&*kstatus.status, &*argocd.status, &*flux.status];
            let wrong = usize::from(said != [state.kstatus, state.argocd, state.flux]);
            let mark = if wrong == 0 { "" } else { "  WRONG" };
            println!(
                "{:18}{:22}{what:24}{:12}{:12}{}{mark}",
                "", state.name, said[0], said[1], said[2]
            );
            if wrong > 0 {
                println!("{object:#}\n{verdict:#?}\nwanted: {state:?}");
            }
            disagreements += wrong;
        }
        println!("{kind}: {} objects, {disagreements} disagreements", self.rows.len());
        assert_eq!(disagreements, 0);
        verdicts
    }

    fn states(&self) -> BTreeSet<&'static str> {
        self.rows.iter().map(|(state, _, _)| state.name).collect()
    }
}

/// As a tool would see it whose object had no status.
fn without_status(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    object.data.as_object_mut().unwrap().remove("status");
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_of_a_contact_is_judged_rightly_by_all() {
    let stand = Stand::new().await;
    let mut table = Table::default();

    let first = stand.apply("desk", "Zhugong", defaults(json!({}))).await;
    table.add(WITHOUT_STATUS, "", &without_status(&first));
    table.add(UNSEEN, "as it is first stored", &first);
    let waiting = stand.becomes("desk", "EmailVerified", "VerificationSent").await;
    table.add(PERSON, "asked by mail", &waiting);

    let ready = stand.apply("other", "Fanli", json!({})).await;
    let ready_later = stand.becomes("other", "Ready", "InSync").await;
    table.add(READY, "", &ready_later);
    let mut unknown = ready_later.clone();
    // Not one that the operator leaves: nobody gets to see it for longer than a moment.
    unknown.data["status"] = ready.data["status"].clone();
    unknown.data["status"]["observedGeneration"] = json!(unknown.metadata.generation);
    table.add(UNKNOWN, "(status by hand)", &unknown);

    stand.simulator.hold();
    table.add(STALE, "", &stand.apply("other", "Fanli", json!({ "title": "CEO" })).await);
    table.add(AT_WORK, "held up", &stand.becomes("other", "Synced", "CloudBusy").await);
    stand.simulator.release();
    stand.becomes("other", "Ready", "InSync").await;
    stand.apply("other", "Fanli", json!({ "title": "CEO", "suspend": true })).await;
    let suspended = stand.becomes("other", "Synced", "Suspended").await;
    table.add(SUSPENDED, "was ready before", &suspended);
    stand.apply("asleep", "Xishi", json!({ "suspend": true })).await;
    let asleep = stand.becomes("asleep", "Synced", "Suspended").await;
    table.add(CLOSED, "from the beginning", &asleep);

    stand.stranger("Wenzhong");
    stand.ask_directory().await;
    stand.apply("taken", "Wenzhong", json!({ "adoptionPolicy": "Never" })).await;
    table.add(STALLED, "NameTaken", &stand.becomes("taken", "Synced", "NameTaken").await);

    stand.apply("going", "Goujian", json!({})).await;
    stand.becomes("going", "Ready", "InSync").await;
    stand.simulator.hold();
    stand.delete("going").await;
    let is_going = |found: &DynamicObject| found.metadata.deletion_timestamp.is_some();
    table.add(DELETED, "held up", &stand.sees("going", "it goes", is_going).await);

    assert_eq!(table.states().len(), STATES.len() + 2);
    let rows: Vec<_> = table.rows.iter().map(|(state, ..)| state.name).collect();
    let verdicts = table.agree("MessageContact").await;
    let of = |state: State| &verdicts[rows.iter().position(|name| *name == state.name).unwrap()];
    // The message that people read in all of them is ours.
    let taken = stand.object("taken").await;
    for said in [&of(STALLED).kstatus, &of(STALLED).argocd] {
        assert_eq!(said.message, message_of(&taken, "Stalled"));
    }
    assert_eq!(of(PERSON).argocd.message, message_of(&waiting, "EmailVerified"));
    stand.simulator.release();
    stand.is_gone("going").await;
}

/// The ways in which a contact waits for a person, and the near misses.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_person_is_suspended_in_argo_and_who_waits_for_us_is_not() {
    let stand = Stand::new().await;
    let mut table = Table::default();
    stand.simulator.switches(|switches| switches.bind_while_verifying = Tolerance::Reject);
    let members = json!(["fd-sim0000001"]);

    // Bindings that wait for the owner, whether `Ready` waits for the owner as well or not.
    for (object, name, ready_when) in
        [("bound", "Zichan", "Synced"), ("both", "Shuxiang", "Verified")]
    {
        let fields = json!({ "members": members, "readyWhen": ready_when,
            "verification": { "send": "Automatic" } });
        stand.apply(object, name, fields).await;
        stand.becomes(object, "EmailVerified", "VerificationSent").await;
        let waiting = stand.becomes(object, "Bound", "VerificationPending").await;
        assert_eq!(stand::condition_of(&waiting, "Ready")["reason"], "Updating");
        table.add(PERSON, "binding", &waiting);
    }
    // The console has to send the message.
    stand.apply("unsent", "Yanshu", json!({ "readyWhen": "Verified" })).await;
    table.add(PERSON, "send: Never", &stand.becomes("unsent", "Ready", "NotSent").await);
    // A person decides what to do about a difference.
    let reported = json!({ "reconcilePolicy": "ReportOnly" });
    stand.apply("reported", "Guanyu", reported).await;
    table.add(PERSON, "ReportOnly", &stand.becomes("reported", "Ready", "Drifted").await);

    // The message could not be sent, and is tried again: that is for us to do.
    let send = "SendEmailVerificationForMessageContact";
    let refused = Fault::on(send, FaultKind::error(403, "NoPermission"));
    stand.simulator.fault(refused.times(u32::MAX));
    stand.apply("mute", "Machao", defaults(json!({}))).await;
    let mute = stand.becomes("mute", "Ready", "VerificationPending").await;
    table.add(AT_WORK, "not yet asked", &mute);
    table.agree("MessageContact").await;
}

/// No reason of a directory stalls, and none waits for a person.
#[tokio::test(flavor = "multi_thread")]
async fn each_state_of_a_directory_is_judged_rightly_by_all() {
    let stand = Stand::unconnected(Options::default()).await;
    let mut table = Table::default();
    let busy = Fault::on("GetResourceDirectory", FaultKind::error(400, "Throttling.User"));
    stand.simulator.fault(busy.times(u32::MAX));
    let first = stand.apply_directory(json!({})).await;
    table.add(WITHOUT_STATUS, "", &without_status(&first));
    table.add(UNSEEN, "as it is first stored", &first);
    stand::request(&stand.directories(), &stand.directory, "whoever asks is told").await;
    table.add(UNKNOWN, "", &stand.directory_becomes("Ready", "Pending").await);
    stand.simulator.clear_faults();
    table.add(READY, "", &stand.directory_becomes("Ready", "Connected").await);

    let elsewhere = json!({ "endpoint": "https://not-allowed.example.com" });
    table.add(STALE, "", &stand.apply_directory(elsewhere).await);
    table.add(AT_WORK, "", &stand.directory_becomes("Ready", "EndpointNotAllowed").await);
    stand.apply_directory(json!({ "suspend": true })).await;
    table.add(CLOSED, "", &stand.directory_becomes("Ready", "Suspended").await);
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;

    stand.apply("desk", "Lubuwei", json!({})).await;
    stand.becomes("desk", "Ready", "InSync").await;
    stand.delete_directory().await;
    let is_going = |found: &DynamicObject| found.metadata.deletion_timestamp.is_some();
    table.add(DELETED, "waits for a contact", &stand.directory_sees("it goes", is_going).await);
    table.agree("ResourceDirectory").await;
    stand.delete("desk").await;
    stand.directory_is_gone().await;
}

/// None of it waits for a person, and it cannot be suspended.
#[tokio::test(flavor = "multi_thread")]
async fn each_state_of_a_policy_is_judged_rightly_by_all() {
    let stand = Stand::new().await;
    let mut table = Table::default();
    stand.apply("desk", "Hanxin", json!({})).await;
    stand.becomes("desk", "Ready", "InSync").await;
    let domains =
        |allowed: &str| json!({ "contact": { "emailDomains": { "allowed": [allowed] } } });
    let first = stand.apply_policy("domains", domains("example.com")).await;
    table.add(WITHOUT_STATUS, "", &without_status(&first));
    table.add(UNSEEN, "as it is first stored", &first);
    let policies = stand.policies();
    let name = stand.policy("domains");
    table.add(READY, "and met", &stand::becomes(&policies, &name, "Compliant", "Compliant").await);
    table.add(STALE, "", &stand.apply_policy("domains", domains("example.org")).await);
    let violated = stand::becomes(&policies, &name, "Compliant", "PolicyViolation").await;
    table.add(READY, "and violated", &violated);

    let held = json!({ "metadata": { "finalizers": ["example.com/somebody"] } });
    policies.patch(&name, &PatchParams::default(), &Patch::Merge(&held)).await.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
    table.add(DELETED, "somebody's finalizer", &policies.get(&name).await.unwrap());
    let freed = json!({ "metadata": { "finalizers": null } });
    policies.patch(&name, &PatchParams::default(), &Patch::Merge(&freed)).await.unwrap();

    let rows: Vec<_> = table.rows.iter().map(|(_, what, _)| *what).collect();
    let verdicts = table.agree("ContactPolicy").await;
    let said = &verdicts[rows.iter().position(|what| *what == "and violated").unwrap()].argocd;
    assert_eq!(said.message, message_of(&violated, "Compliant"));
}

/// Its spec is of another version of the schema.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_followed_fails_at_once() {
    let own = Own::new(stand::another_cluster().await);
    let cluster = own.cluster();
    stand::take_any_enforcement(cluster).await;
    let operator = tokio::spawn(stand::run_operator(operator_client(cluster), Clock::system()));
    let stand = Stand::on(cluster, Options::default()).await;
    let object = json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "ContactPolicy",
        "metadata": { "name": "later" },
        "spec": { "enforcement": "Punish", "contact": { "phoneNumber": "Required" } } });
    let accepted = || async {
        stand::apply(&stand.policies(), &object).await.map_err(|error| error.to_string())
    };
    cluster::wait_for(stand::PATIENCE, "the schema is taken in", accepted).await.unwrap();
    let stalled = stand::becomes(&stand.policies(), "later", "Ready", "InvalidPolicy").await;
    let mut table = Table::default();
    table.add(STALLED, "of another schema", &stalled);
    let said = table.agree("ContactPolicy").await.remove(0);
    assert_eq!(said.argocd.message, message_of(&stalled, "Stalled"));
    operator.abort();
}

/// What a tool without a status would take for finished cannot be stored.
#[tokio::test(flavor = "multi_thread")]
async fn no_object_of_ours_is_ever_without_a_status() {
    // Without an operator that would write one.
    let cluster = stand::another_cluster().await;
    let namespace = cluster.namespace("alone").await.unwrap();
    let contact = json!({ "name": "Zhangliang", "title": "Other", "messageTypes": ["FaultMessage"],
        "emailAddress": "lonely@example.com" });
    let policy = json!({ "contact": { "phoneNumber": "Required" } });
    let client = cluster.client();
    let objects = [
        (ApiResource::erase::<MessageContact>(&()), contact),
        (ApiResource::erase::<ResourceDirectory>(&()), json!({})),
        (ApiResource::erase::<ContactPolicy>(&()), policy),
    ];
    for (kind, spec) in objects {
        let api: Api<DynamicObject> = if kind.kind == "MessageContact" {
            Api::namespaced_with(client.clone(), &namespace, &kind)
        } else {
            Api::all_with(client.clone(), &kind)
        };
        let object = json!({ "apiVersion": kind.api_version, "kind": kind.kind,
            "metadata": { "name": "lonely" }, "spec": spec });
        let params = PatchParams::default();
        let none = Patch::Merge(json!({ "status": null }));
        let stored = [
            stand::apply(&api, &object).await.unwrap(),
            api.patch("lonely", &params, &none).await.unwrap(),
            api.patch_status("lonely", &params, &none).await.unwrap(),
        ];
        for object in stored {
            let verdict = judges::judge_one(&object).await;
            let said = [&verdict.kstatus, &verdict.argocd, &verdict.flux];
            let said = said.map(|it| &*it.status);
            assert_eq!(said, ["InProgress", "Progressing", "InProgress"], "{object:?}");
        }
    }
}

/// The samples that stand beside the scripts, as Argo CD's own tests run them.
#[tokio::test(flavor = "multi_thread")]
async fn the_samples_beside_the_scripts_are_judged_as_they_say() {
    let said = judges::samples().await.unwrap_or_else(|said| panic!("{said}"));
    println!("{said}");
    assert!(said.lines().count() >= 15, "{said}");
}
