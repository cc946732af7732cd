//! What can be seen of the cluster with the rights that this program has.

use jiff::SignedDuration;
use k8s_openapi::Resource;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Check, Findings, Options, directory};
use crate::api::{self, CustomResourceDefinition, ResourceDirectory};
use crate::cli::cloud::{self, Progress};
use crate::cli::office::{CLUSTER_LEASE, LEASE};
use crate::cli::run;
use crate::clock::Clock;
use crate::controller::kind_of;

/// The versions of Kubernetes that the operator is made for, as minor versions of 1.
const MINORS: std::ops::RangeInclusive<u32> = 33..=37;

/// What is told of an area of the cluster that this identity may not read.
const MAY_NOT_READ: &str = "this identity may not read it; run doctor as an administrator to have it \
                            compared";

/// All checks of the cluster, and a client if there is one.
pub(super) async fn look(
    options: &Options,
    lookup: impl Fn(&str) -> Option<String>,
    progress: &dyn Progress,
) -> (Findings, Option<Client>) {
    let mut findings = Findings::of("cluster");
    progress.says("looking at the cluster");
    let is_meant = lookup("KUBECONFIG").is_some() || lookup("KUBERNETES_SERVICE_HOST").is_some();
    // Fails only when it was done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = match run::cluster_config().await {
        Ok(config) => Client::try_from(config)
            .map_err(|_| anyhow::anyhow!("the kubeconfig has no usable way to log in")),
        Err(error) => Err(error),
    };
    let client = match client {
        Ok(client) => client,
        Err(error) if is_meant => {
            let advice = "correct it, or leave the cluster out with --no-cluster";
            findings.failed("connection", error.to_string(), advice);
            return (findings, None);
        }
        Err(error) => {
            findings.skipped("connection", error.to_string());
            return (findings, None);
        }
    };
    if !version(&client, &mut findings).await {
        return (findings, None);
    }
    identity(&client, &mut findings).await;
    definitions(&client, &mut findings).await;
    admission(&client, &mut findings).await;
    rights(&client, options, &mut findings).await;
    lease(&client, &options.namespace, &mut findings).await;
    (findings, Some(client))
}

/// Whether the apiserver answers.
async fn version(client: &Client, findings: &mut Findings) -> bool {
    let info = match client.apiserver_version().await {
        Ok(info) => info,
        Err(error) => {
            let advice =
                "check KUBECONFIG and the network, or leave the cluster out with --no-cluster";
            findings.failed("connection", kind_of(&error), advice);
            return false;
        }
    };
    let digits: String = info.minor.chars().take_while(char::is_ascii_digit).collect();
    let seen = format!("Kubernetes {}.{digits}", info.major);
    if info.major == "1" && digits.parse().is_ok_and(|minor| MINORS.contains(&minor)) {
        findings.ok("version", seen);
    } else {
        let (oldest, newest) = (MINORS.start(), MINORS.end());
        let advice = format!("the operator is made for, and tested with, 1.{oldest} to 1.{newest}");
        findings.warning("version", seen, advice);
    }
    true
}

async fn identity(client: &Client, findings: &mut Findings) {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    match reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Ok(review) => {
            let user = review.status.and_then(|status| status.user_info?.username);
            findings.ok(
                "identity",
                format!("{}; rights below are this one's", user.unwrap_or_default()),
            );
        }
        Err(error) => findings.skipped("identity", kind_of(&error)),
    }
}

/// What the API says of one object.
enum Told<K> {
    Found(Box<K>),
    Absent,
    /// Not allowed to look.
    Forbidden,
    Unanswered(String),
}

async fn get<K>(client: &Client, name: &str) -> Told<K>
where
    K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
    <K as kube::Resource>::DynamicType: Default,
{
    match Api::<K>::all(client.clone()).get_opt(name).await {
        Ok(Some(object)) => Told::Found(Box::new(object)),
        Ok(None) => Told::Absent,
        Err(kube::Error::Api(refusal)) if refusal.code == 403 => Told::Forbidden,
        Err(error) => Told::Unanswered(kind_of(&error)),
    }
}

/// Whether the definitions are there and are those of this program.
async fn definitions(client: &Client, findings: &mut Findings) {
    const APPLY: &str = "message-contact-operator crds | kubectl apply --server-side -f -";
    for ours in api::crds() {
        let name = ours.name_any();
        let kind = ours.spec.names.kind.clone();
        match get::<CustomResourceDefinition>(client, &name).await {
            Told::Found(theirs) => match difference(&spec_of(&ours), &spec_of(&theirs)) {
                None => findings.ok("definitions", format!("{kind} is that of this program")),
                Some(place) => {
                    let seen = format!("{kind} is another version's: it differs at {place}");
                    findings.failed("definitions", seen, APPLY);
                }
            },
            Told::Forbidden if serves(client, &ours.spec.names.plural).await => {
                findings.skipped("definitions", format!("{kind} is there; {MAY_NOT_READ}"));
            }
            Told::Absent | Told::Forbidden => {
                findings.failed("definitions", format!("there is no kind {kind}"), APPLY);
            }
            Told::Unanswered(what) => {
                findings.failed("definitions", format!("{kind}: {what}"), "run this again");
            }
        }
    }
}

/// Whether the apiserver serves a resource of ours; everybody who is logged in may ask that.
async fn serves(client: &Client, plural: &str) -> bool {
    let list = client.list_api_group_resources(&format!("{}/v1alpha1", api::GROUP)).await;
    list.is_ok_and(|list| list.resources.iter().any(|resource| resource.name == plural))
}

fn spec_of(definition: &CustomResourceDefinition) -> Value {
    json!({ "spec": definition.spec })
}

/// Where theirs lacks something of ours, or has another value. What the apiserver adds by itself does
/// not count, except within a schema, where it adds nothing.
fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    different(ours, theirs, "", false)
}

fn different(ours: &Value, theirs: &Value, path: &str, exact: bool) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let unknown = theirs.keys().find(|key| exact && !ours.contains_key(*key));
            if let Some(key) = unknown {
                return Some(format!("{path}.{key}"));
            }
            ours.iter().find_map(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let exact = exact || key == "openAPIV3Schema";
                different(value, theirs.get(key).unwrap_or(&Value::Null), &path, exact)
            })
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            ours.iter().zip(theirs).enumerate().find_map(|(index, (ours, theirs))| {
                different(ours, theirs, &format!("{path}[{index}]"), exact)
            })
        }
        (Value::Number(ours), Value::Number(theirs)) if ours.as_f64() == theirs.as_f64() => None,
        (ours, theirs) if ours == theirs => None,
        _ => Some(path.to_owned()),
    }
}

/// Whether the rules of policies are there and are those of this program.
async fn admission(client: &Client, findings: &mut Findings) {
    for (policy, binding) in api::admission::rules() {
        admission_object::<ValidatingAdmissionPolicy>(client, &policy, findings).await;
        admission_object::<ValidatingAdmissionPolicyBinding>(client, &binding, findings).await;
    }
}

async fn admission_object<K>(client: &Client, ours: &K, findings: &mut Findings)
where
    K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope>
        + Resource
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
    <K as kube::Resource>::DynamicType: Default,
{
    const APPLY: &str =
        "message-contact-operator crds --admission | kubectl apply --server-side -f -";
    let name = ours.name_any();
    let what = format!("{} {name}", K::KIND);
    let spec = |object: &K| json!({ "spec": json!(object)["spec"] });
    match get::<K>(client, &name).await {
        Told::Found(theirs) => match difference(&spec(ours), &spec(&theirs)) {
            None => findings.ok("admission", format!("{what} is that of this program")),
            Some(place) => {
                let seen = format!("{what} is another version's: it differs at {place}");
                findings.warning("admission", seen, APPLY);
            }
        },
        Told::Absent => {
            let seen = format!("there is no {what}: the apiserver judges by no ContactPolicy");
            findings.warning("admission", seen, APPLY);
        }
        Told::Forbidden => findings.skipped("admission", format!("{what}: {MAY_NOT_READ}")),
        Told::Unanswered(why) => {
            findings.warning("admission", format!("{what}: {why}"), "run this again");
        }
    }
}

/// A right that the operator needs.
#[derive(Clone, Copy)]
struct Right {
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    verbs: &'static [&'static str],
    place: Where,
    /// Only on the object of that name.
    name: &'static str,
    /// Not needed where one process is all there is.
    to_lead: bool,
}

/// Where a right is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In the whole cluster.
    Everywhere,
    /// In the namespaces that are followed: everywhere, unless some are named.
    Followed,
    /// In the operator's own namespace.
    Own,
    /// In that one.
    In(&'static str),
    /// On the namespaces that are followed, each by its name: on all, unless some are named.
    OnFollowed,
}

/// The rights that the operator needs; README has the same list in words. That a Secret with access
/// keys can be read shows where a directory is looked at.
const RIGHTS: &[Right] = &[
    Right {
        place: Where::Followed,
        ..ours("messagecontacts", "", &["list", "watch", "get", "patch"])
    },
    Right { place: Where::Followed, ..ours("messagecontacts", "status", &["patch"]) },
    ours("resourcedirectories", "", &["list", "watch", "get", "patch"]),
    ours("resourcedirectories", "status", &["patch"]),
    ours("contactpolicies", "", &["list", "watch"]),
    ours("contactpolicies", "status", &["patch"]),
    Right { group: "", place: Where::OnFollowed, ..ours("namespaces", "", &["list", "watch"]) },
    Right { group: "events.k8s.io", place: Where::Followed, ..ours("events", "", &["create"]) },
    definition("messagecontacts.message-contacts.dev"),
    definition("resourcedirectories.message-contacts.dev"),
    Right { name: run::HASH_KEY_SECRET, ..secrets(&["get"]) },
    secrets(&["create"]),
    leases(Where::Own, "", &["create"]),
    leases(Where::Own, LEASE, &["get", "update", "watch"]),
    leases(Where::In(CLUSTER_LEASE.0), "", &["create"]),
    leases(Where::In(CLUSTER_LEASE.0), CLUSTER_LEASE.1, &["get", "update", "watch"]),
];

const fn ours(
    resource: &'static str,
    subresource: &'static str,
    verbs: &'static [&'static str],
) -> Right {
    let (group, place) = (api::GROUP, Where::Everywhere);
    Right { group, resource, subresource, verbs, place, name: "", to_lead: false }
}

const fn definition(name: &'static str) -> Right {
    Right { group: "apiextensions.k8s.io", name, ..ours("customresourcedefinitions", "", &["get"]) }
}

const fn secrets(verbs: &'static [&'static str]) -> Right {
    Right { group: "", place: Where::Own, ..ours("secrets", "", verbs) }
}

const fn leases(place: Where, name: &'static str, verbs: &'static [&'static str]) -> Right {
    Right { group: "coordination.k8s.io", place, name, to_lead: true, ..ours("leases", "", verbs) }
}

/// One right in one place, as it is asked for.
struct Asked {
    right: Right,
    verb: &'static str,
    namespace: Option<String>,
    /// Only on the object of that name.
    name: Option<String>,
}

/// Every right, verb by verb and namespace by namespace.
fn asked(options: &Options) -> Vec<Asked> {
    let followed: Vec<_> = options.watch_namespace.iter().filter(|name| !name.is_empty()).collect();
    let mut all = Vec::new();
    for right in RIGHTS {
        let name = (!right.name.is_empty()).then(|| right.name.to_owned());
        let each = followed.iter().map(|it| Some((*it).clone()));
        // The namespace, and the name of the object.
        let places: Vec<(Option<String>, Option<String>)> = match right.place {
            Where::Own => vec![(Some(options.namespace.clone()), name)],
            Where::In(namespace) => vec![(Some(namespace.to_owned()), name)],
            Where::Followed if !followed.is_empty() => {
                each.map(|namespace| (namespace, name.clone())).collect()
            }
            Where::OnFollowed if !followed.is_empty() => each.map(|name| (None, name)).collect(),
            Where::Everywhere | Where::Followed | Where::OnFollowed => vec![(None, name)],
        };
        for (namespace, name) in &places {
            let (namespace, name) = (namespace.clone(), name.clone());
            all.extend(right.verbs.iter().map(|verb| Asked {
                right: *right,
                verb,
                namespace: namespace.clone(),
                name: name.clone(),
            }));
        }
    }
    all
}

/// Whether this identity has each right that the operator needs.
async fn rights(client: &Client, options: &Options, findings: &mut Findings) {
    const CHECK: &str = "rights";
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut granted = 0;
    for asked in asked(options) {
        match reviews.create(&PostParams::default(), &review(&asked)).await {
            Ok(review) if review.status.as_ref().is_some_and(|status| status.allowed) => {
                granted += 1;
            }
            Ok(_) => {
                let what = told(&asked);
                let (seen, advice) = (format!("may not {what}"), format!("grant {what}"));
                if asked.right.to_lead {
                    let advice = format!("{advice}, unless it runs with --leader-election false");
                    findings.warning(CHECK, seen, advice);
                } else {
                    findings.failed(CHECK, seen, advice);
                }
            }
            Err(error) => {
                findings.failed(CHECK, kind_of(&error), "run this again");
                return;
            }
        }
    }
    findings.ok(CHECK, format!("{granted} rights that the operator needs are there"));
}

fn review(Asked { right, verb, namespace, name }: &Asked) -> SelfSubjectAccessReview {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let attributes = ResourceAttributes {
        group: Some(right.group.to_owned()),
        resource: text(right.resource),
        subresource: text(right.subresource),
        verb: text(verb),
        name: name.clone(),
        namespace: namespace.clone(),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() }
}

/// A right in words, such as `patch` on messagecontacts/status.
fn told(Asked { right, verb, namespace, name }: &Asked) -> String {
    let Right { group, resource, subresource, .. } = right;
    let subresource =
        if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    let group = if group.is_empty() { String::new() } else { format!(" of {group}") };
    let name = name.as_ref().map_or(String::new(), |it| format!(" named {it}"));
    let place = namespace.as_ref().map_or(String::new(), |it| format!(" in the namespace {it}"));
    format!("`{verb}` on {resource}{subresource}{group}{name}{place}")
}

/// Whether a process of this installation leads.
async fn lease(client: &Client, namespace: &str, findings: &mut Findings) {
    const CHECK: &str = "lease";
    const ADVICE: &str =
        "check that the operator runs, unless it runs with --leader-election false";
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = match leases.get_opt(LEASE).await {
        Ok(Some(lease)) => lease.spec.unwrap_or_default(),
        Ok(None) => {
            let seen = format!("there is no Lease `{LEASE}` in the namespace `{namespace}`");
            return findings.warning(CHECK, seen, ADVICE);
        }
        Err(error) => return findings.skipped(CHECK, kind_of(&error)),
    };
    let lasts = SignedDuration::from_secs(lease.lease_duration_seconds.unwrap_or(0).into());
    let ends = lease.renew_time.and_then(|renewed| renewed.0.checked_add(lasts).ok());
    let holder = lease.holder_identity.filter(|holder| !holder.is_empty());
    match holder {
        Some(holder) if ends.is_some_and(|ends| Clock::system().now() <= ends) => {
            findings.ok(CHECK, format!("{holder} leads"));
        }
        _ => findings.warning(CHECK, "no process of the operator leads now", ADVICE),
    }
}

/// All checks of each ResourceDirectory of the cluster: its status, and what its keys reach.
pub(super) async fn directories(
    client: &Client,
    options: &Options,
    lookup: impl Fn(&str) -> Option<String> + Copy,
    progress: &dyn Progress,
) -> Vec<Check> {
    let mut findings = Findings::of("cluster");
    let all: Api<ResourceDirectory> = Api::all(client.clone());
    let mut found = match all.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(error) => {
            findings.failed(
                "directories",
                kind_of(&error),
                "apply the definitions, and grant `list`",
            );
            return findings.checks;
        }
    };
    found.retain(|object| {
        options.cloud.directory.as_ref().is_none_or(|it| *it == object.name_any())
    });
    if found.is_empty() {
        let advice = "apply a ResourceDirectory, or name what to look at with -f or --site";
        findings.warning("directories", "there is no ResourceDirectory to look at", advice);
    }
    let mut checks = findings.checks;
    for object in found {
        checks.extend(one_directory(client, &object, options, lookup, progress).await);
    }
    checks
}

async fn one_directory(
    client: &Client,
    object: &ResourceDirectory,
    options: &Options,
    lookup: impl Fn(&str) -> Option<String> + Copy,
    progress: &dyn Progress,
) -> Vec<Check> {
    let name = object.name_any();
    let area = format!("directory {name}");
    let mut findings = Findings::of(&*area);
    let works = status(object, &mut findings);
    if object.spec.suspend == Some(true) {
        return findings.checks;
    }
    let mut objects = vec![json!(object)];
    match secret(client, object, &options.namespace).await {
        Ok(secret) => objects.extend(secret),
        Err((seen, advice)) => {
            findings.failed("credentials", seen, advice);
            return findings.checks;
        }
    }
    let cloud = cloud::Options {
        directory: Some(name),
        allow_endpoint: options.cloud.allow_endpoint.clone(),
        assume_role: options.cloud.assume_role.clone(),
        ..cloud::Options::default()
    };
    match cloud.target(&objects, lookup) {
        // The keys may stand in the environment of the operator alone.
        Err(problem) if works => {
            let seen =
                format!("the operator reaches it; from here it cannot be tried: {problem:#}");
            findings.skipped("connection", seen);
            findings.checks
        }
        target => {
            let looked = directory::look(&area, target, progress).await;
            findings.checks.into_iter().chain(looked).collect()
        }
    }
}

/// What the operator says of a directory; whether it works.
fn status(object: &ResourceDirectory, findings: &mut Findings) -> bool {
    const CHECK: &str = "status";
    let status = object.status.as_ref();
    let ready = status.and_then(|status| status.conditions.iter().find(|it| it.type_ == "Ready"));
    let observed = status.and_then(|status| status.observed_generation);
    match ready {
        Some(ready) if observed.is_some() && observed == object.metadata.generation => {
            let seen = format!("Ready is {} ({}): {}", ready.status, ready.reason, ready.message);
            if ready.status == "True" {
                findings.ok(CHECK, seen);
            } else if ready.reason == "Suspended" {
                findings.warning(CHECK, seen, "take `suspend` out to have it worked on");
            } else {
                findings.failed(CHECK, seen, "docs/conditions.md says what to do for each reason");
            }
            ready.status == "True"
        }
        _ => {
            let advice =
                "check that the operator runs (`message-contact-operator run`), and its log";
            findings.failed(
                CHECK,
                "the operator has not looked at it, or not since it changed",
                advice,
            );
            false
        }
    }
}

/// The Secret that a directory names, as an object; or what is wrong, and what to do.
async fn secret(
    client: &Client,
    object: &ResourceDirectory,
    namespace: &str,
) -> Result<Option<Value>, (String, String)> {
    let credentials = object.spec.credentials.as_ref();
    let Some(reference) = credentials.and_then(|it| it.secret_ref.as_ref()) else {
        return Ok(None);
    };
    let name = &reference.name;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match secrets.get_opt(name).await {
        Ok(Some(secret)) => Ok(Some(json!(secret))),
        Ok(None) => Err((
            format!("there is no Secret `{name}` in the namespace `{namespace}`"),
            "create it there, or give --namespace".to_owned(),
        )),
        Err(error) => Err((
            format!("the Secret `{name}` in the namespace `{namespace}`: {}", kind_of(&error)),
            format!("grant `get` on secrets in the namespace {namespace}"),
        )),
    }
}
