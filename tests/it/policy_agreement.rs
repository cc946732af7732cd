//! One verdict, two engines: the apiserver's rules and our function say the same of every contact
//! and every policy, to the letter.

use std::collections::{BTreeMap, BTreeSet};

use cluster::Cluster;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt as _};
use message_contact_operator::api::values::Values;
use message_contact_operator::api::{ContactPolicy, MessageContact, parse};
use message_contact_operator::domain::policy::{Enforcement, Policy, RuleName};
use message_contact_operator::plan::policy::{Opinion, Place, judge};
use serde_json::{Map, Value, json};

use crate::dice::Dice;
use crate::policy_admission::{Answer, send};
use crate::stand::{self, PATIENCE};

/// Rounds of generated policies: in each, every contact meets every policy.
const ROUNDS: usize = 20;
/// The same for `MCO_TEST=full`.
const ROUNDS_FULL: usize = 150;
/// Generated contacts of a round.
const CONTACTS: usize = 40;

/// The namespaces and their labels.
const NAMESPACES: [(&str, &[(&str, &str)]); 5] = [
    ("plain", &[]),
    ("one", &[("tier", "one")]),
    ("two", &[("tier", "two"), ("example.com/team", "red")]),
    ("blank", &[("tier", ""), ("example.com/team", "Red")]),
    ("upper", &[("Tier", "one"), ("example.com/team", "blue")]),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_apiserver_and_our_function_say_the_same_of_every_pair() {
    let seed = std::env::var("MCO_SEED").map_or(1, |seed| seed.parse().unwrap());
    let full = std::env::var("MCO_TEST").is_ok_and(|level| level == "full");
    let ring = Ring::new().await;
    let mut dice = Dice(seed);
    let mut found = Seen::default();
    ring.round("made", &made_policies(), &made_contacts(), &mut found).await;
    let by_hand = found.pairs;
    for round in 0..if full { ROUNDS_FULL } else { ROUNDS } {
        let policies = generated_policies(&mut dice);
        let contacts: Vec<_> = (0..CONTACTS).map(|_| contact(&mut dice)).collect();
        ring.round(&format!("round{round}"), &policies, &contacts, &mut found).await;
    }
    let Seen { pairs, disagreements, matched, violated, complied, answers, waited } = found;
    println!(
        "seed {seed}: {pairs} pairs tried, {by_hand} of them made by hand, {} disagreements; \
         {matched} matched; answers of the apiserver: {answers:?}; violated: {violated:?}",
        disagreements.len()
    );
    assert!(disagreements.is_empty(), "seed {seed}:\n{}", disagreements.join("\n"));

    // What was compared is worth comparing.
    assert!(pairs > 400 && matched > 200 && matched < pairs, "{matched} of {pairs}");
    for rule in RuleName::ALL {
        let text = format!("{rule:?}");
        assert!(violated.get(&text) > Some(&20), "{rule:?} is hardly violated: {violated:?}");
    }
    assert!(complied > 50 && waited > 50, "{complied} complied, {waited} with an unknown address");
    for code in [201, 403] {
        assert!(answers.get(&code) > Some(&50), "{answers:?}");
    }
}

/// What was found so far.
#[derive(Default)]
struct Seen {
    pairs: usize,
    disagreements: Vec<String>,
    /// Pairs in which the policy speaks of the contact.
    matched: usize,
    /// How often each rule was violated.
    violated: BTreeMap<String, usize>,
    /// Matching pairs without a violation.
    complied: usize,
    /// Matching pairs with an address in a Secret of which the policy speaks.
    waited: usize,
    answers: BTreeMap<u16, usize>,
}

/// A cluster of its own: these policies speak of everybody.
struct Ring {
    cluster: Cluster,
    client: Client,
    labels: BTreeMap<String, BTreeMap<String, String>>,
}

impl Ring {
    async fn new() -> Self {
        let cluster = stand::another_cluster().await;
        let client = cluster.client();
        let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&());
        let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let mut all = BTreeMap::new();
        for (name, labels) in NAMESPACES {
            let labels: BTreeMap<_, _> = labels.iter().copied().collect();
            let object = json!({ "apiVersion": "v1", "kind": "Namespace",
                "metadata": { "name": name, "labels": labels } });
            let object = serde_json::from_value(object).unwrap();
            let stored = namespaces.create(&PostParams::default(), &object).await.unwrap();
            // With the label that the apiserver adds.
            all.insert(name.to_owned(), stored.labels().clone());
        }
        Self { cluster, client, labels: all }
    }

    fn policies(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<ContactPolicy>(&()))
    }

    /// Tries every contact against these policies; no other policy is in force.
    async fn round(&self, round: &str, specs: &[Value], contacts: &[Value], seen: &mut Seen) {
        for (index, specs) in specs.chunks(BATCH).enumerate() {
            let batch = format!("{round}-{index}");
            self.batch(&batch, specs, contacts, seen).await;
        }
    }

    async fn batch(&self, batch: &str, specs: &[Value], contacts: &[Value], seen: &mut Seen) {
        let mut policies = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let mut spec = spec.clone();
            // One that refuses, one that only notes, and the others warn: each is heard.
            spec["enforcement"] = match index {
                0 => json!("Deny"),
                1 => json!("Audit"),
                _ => json!("Warn"),
            };
            policies.push(self.create(&format!("{batch}-{index}"), spec).await);
        }
        // The apiserver sees policies in the order in which they are written: with this one in
        // force all the others are, and those of the batch before are not.
        let spec = json!({ "enforcement": "Warn", "match": { "directories": ["sentinel"] },
            "contact": { "titles": { "allowed": ["Other"] } } });
        let sentinel = self.create(&format!("{batch}-sentinel"), spec).await;
        let mut watched = made_contact(json!({ "title": "CEO" }));
        watched["spec"]["directoryRef"] = json!({ "name": "sentinel" });
        watched["spec"]["reconcilePolicy"] = json!(null);
        cluster::wait_for(PATIENCE, &format!("{} is in force", sentinel.name), || async {
            let warned = self.create_dry(&watched).await.warnings.join("\n");
            if warned.contains(&format!("`{}`", sentinel.name)) { Ok(()) } else { Err(warned) }
        })
        .await
        .unwrap();

        for contact in contacts {
            self.pair_all(&policies, contact, seen).await;
        }
        let names = policies.iter().map(|policy| &policy.name).chain([&sentinel.name]);
        for name in names {
            self.policies().delete(name, &DeleteParams::default()).await.unwrap();
        }
    }

    /// Stores a policy, and parses it as the operator does.
    async fn create(&self, name: &str, spec: Value) -> Policy {
        let object = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ContactPolicy", "metadata": { "name": name }, "spec": spec });
        let stored: DynamicObject = serde_json::from_value(object).unwrap();
        let stored = self.policies().create(&PostParams::default(), &stored).await;
        let stored = stored.unwrap_or_else(|error| panic!("{spec}: {error}"));
        let read: ContactPolicy =
            serde_json::from_value(serde_json::to_value(&stored).unwrap()).unwrap();
        parse::policy(name, &read.spec).unwrap()
    }

    async fn create_dry(&self, contact: &Value) -> Answer {
        let namespace = contact["metadata"]["namespace"].as_str().unwrap();
        let uri = format!(
            "/apis/message-contacts.dev/v1alpha1/namespaces/{namespace}/messagecontacts?dryRun=All"
        );
        send(&self.client, "POST", &uri, "application/json", contact).await
    }

    async fn pair_all(&self, policies: &[Policy], contact: &Value, seen: &mut Seen) {
        let ours = self.ours(policies, contact);
        let mark = self.cluster.audit().mark().unwrap();
        let answer = self.create_dry(contact).await;
        *seen.answers.entry(answer.code).or_insert(0) += 1;
        let told: usize = answer.warnings.iter().map(|warning| warning.chars().count()).sum();
        assert!(told < 4_000, "the apiserver cuts warnings that are longer in all: {told}");
        assert!([201, 403].contains(&answer.code), "{}: {contact}", answer.message);
        let audited = self.cluster.audit().since(mark).unwrap();
        let noted: Vec<_> = audited
            .iter()
            .filter(|event| event.resource == "messagecontacts")
            .filter_map(|event| {
                event.annotations.get("audit.contactpolicies.message-contacts.dev/violation")
            })
            .collect();

        for policy in policies {
            seen.pairs += 1;
            let opinion = ours.iter().find(|opinion| opinion.policy == policy.name);
            let expected = opinion.filter(|opinion| !opinion.violations.is_empty());
            let expected = expected.map(Opinion::message);
            let begin = format!("ContactPolicy `{}`: ", policy.name);
            let refused = vec![answer.message.as_str()];
            let warned: Vec<_> = answer.warnings.iter().map(String::as_str).collect();
            let noted: Vec<_> = noted.iter().map(|text| text.as_str()).collect();
            let (texts, others) = match policy.enforcement {
                Enforcement::Deny => (refused, [warned, noted]),
                Enforcement::Warn => (warned, [refused, noted]),
                Enforcement::Audit => (noted, [refused, warned]),
            };
            let told = |text: &&str| text.find(&begin).map(|from| text[from..].to_owned());
            let theirs = texts.iter().find_map(told);
            if others.iter().flatten().any(|text| told(text).is_some()) {
                seen.disagreements.push(format!("{}: told where it is not asked", policy.name));
            }
            if theirs != expected {
                seen.disagreements.push(format!(
                    "{contact}\n   {policy:?}\n   the apiserver: {theirs:?}\n   ours: {expected:?}"
                ));
            }
            if let Some(opinion) = opinion {
                seen.matched += 1;
                seen.waited += usize::from(opinion.waits_for_email);
                seen.complied += usize::from(opinion.violations.is_empty());
                for violation in &opinion.violations {
                    *seen.violated.entry(format!("{:?}", violation.rule)).or_insert(0) += 1;
                }
            }
        }
        let refuses = ours.iter().any(|opinion| {
            opinion.enforcement == Enforcement::Deny && !opinion.violations.is_empty()
        });
        if refuses != (answer.code == 403) {
            seen.disagreements.push(format!("{contact}\n   {}: {}", answer.code, answer.message));
        }
    }

    /// What our function says, of the contact as the operator parses it.
    fn ours(&self, policies: &[Policy], contact: &Value) -> Vec<Opinion> {
        let read: MessageContact = serde_json::from_value(contact.clone()).unwrap();
        let candidate = parse::candidate(&read.spec, &Values::default()).unwrap();
        let place = Place {
            directory: parse::directory_name(&read.spec),
            namespace_labels: &self.labels[&read.namespace().unwrap()],
        };
        judge(policies, &candidate, place)
    }
}

/// So many policies are in force at once: their warnings fit into one answer.
const BATCH: usize = 6;

// --- Made by chance ---------------------------------------------------------------------------

const DIRECTORIES: [&str; 3] = ["default", "main", "a.b-c"];
/// Addresses that the schema accepts, odd ones too.
const ADDRESSES: [&str; 18] = [
    "a@example.com",
    "A@EXAMPLE.COM",
    "a.b+c@Mail.Example.com",
    "a@x.mail.example.com",
    "a@badexample.com",
    "a@example.com.cn",
    "a@example.org",
    "a@com.example",
    "a@EXAMPLE.ORG",
    "a@xn--fiqs8s.xn--fiqs8s",
    "a@mail.XN--FIQS8S",
    "o'b/c=d@1.2",
    "a@-.-",
    "a@--.example.com",
    "a@example.c0m",
    "_{|}~@example.com",
    "a@127.0.0.1",
    "A@a.b.c.d.e.f.g.Example.Org",
];
const DOMAINS: [&str; 18] = [
    "example.com",
    "EXAMPLE.com",
    "*.example.com",
    "*.Example.Com",
    "*.mail.example.com",
    "*.com",
    "*.COM",
    "example.org",
    "*.org",
    "*.cn",
    "xn--fiqs8s.xn--fiqs8s",
    "*.XN--fiqs8s",
    "1.2",
    "*.2",
    "-.-",
    "*.-",
    "127.0.0.1",
    "*.0.0.1",
];
const TITLES: [&str; 6] = [
    "FinanceDirector",
    "TechnicalDirector",
    "MaintenanceDirector",
    "CEO",
    "ProjectDirector",
    "Other",
];
const MESSAGE_TYPES: [&str; 6] = [
    "ServiceMessage",
    "FaultMessage",
    "AccountExpenses",
    "SecurityMessage",
    "ActivityMessage",
    "ProductMessage",
];
const MEMBERS: [&str; 6] =
    ["rd-a1b2c3", "fd-bEaXfC0000", "fd-beaxfc0000", "1234567890123456", "r-a1b2c3", "fd"];

/// One to `most` of these, each once unless repetitions are allowed, in any order.
fn some(dice: &mut Dice, from: &[&str], most: usize, repeated: bool) -> Vec<String> {
    let count = 1 + dice.roll(most);
    let mut chosen = Vec::new();
    for _ in 0..count {
        let one = dice.pick(from).to_owned();
        if repeated || !chosen.contains(&one) {
            chosen.push(one);
        }
    }
    chosen
}

fn contact(dice: &mut Dice) -> Value {
    let names = ["王小明", "值班Desk", "Ab", "𠀀𠀀", "〇一", "Abcdefghijkl"];
    let from = json!({ "secretKeyRef": { "name": "desk", "key": "value" } });
    let mut spec = json!({
        "name": dice.pick(&names),
        "title": dice.pick(&TITLES),
        "messageTypes": some(dice, &MESSAGE_TYPES, 6, false),
    });
    match dice.roll(6) {
        0 => spec["emailAddressFrom"] = from.clone(),
        _ => spec["emailAddress"] = json!(dice.pick(&ADDRESSES)),
    }
    match dice.roll(4) {
        0 => spec["phoneNumberFrom"] = from,
        1 => spec["phoneNumber"] = json!("86-13800138000"),
        _ => {}
    }
    match dice.roll(4) {
        0 => spec["members"] = json!([]),
        1 | 2 => spec["members"] = json!(some(dice, &MEMBERS, 3, false)),
        _ => {}
    }
    if dice.percent(60) {
        spec["directoryRef"] = json!({ "name": dice.pick(&DIRECTORIES) });
    }
    match dice.roll(6) {
        0 => spec["reconcilePolicy"] = json!("ReportOnly"),
        1 => spec["reconcilePolicy"] = json!("Enforce"),
        _ => {}
    }
    if dice.percent(10) {
        spec["suspend"] = json!(true);
    }
    let (namespace, _) = dice.pick(&NAMESPACES);
    json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
        "metadata": { "name": "generated", "namespace": namespace }, "spec": spec })
}

fn generated_policies(dice: &mut Dice) -> Vec<Value> {
    (0..2 * BATCH).map(|_| policy(dice)).collect()
}

fn policy(dice: &mut Dice) -> Value {
    let mut contact = Map::new();
    let mut put = |field: &str, value: Value| contact.insert(field.to_owned(), value);
    if dice.percent(45) {
        let mut domains = Map::new();
        for (word, percent) in [("allowed", 65), ("denied", 65)] {
            if dice.percent(percent) {
                domains.insert(word.to_owned(), json!(some(dice, &DOMAINS, 8, true)));
            }
        }
        if !domains.is_empty() {
            put("emailDomains", Value::Object(domains));
        }
    }
    if dice.percent(40) {
        put("phoneNumber", json!(dice.pick(&["Optional", "Required", "Forbidden"])));
    }
    if dice.percent(30) {
        put("titles", json!({ "allowed": some(dice, &TITLES, 5, true) }));
    }
    if dice.percent(40) {
        let allowed = some(dice, &MESSAGE_TYPES, 6, false);
        let words: Vec<_> = allowed.iter().map(String::as_str).collect();
        let required = some(dice, &words, 2, true);
        put(
            "messageTypes",
            match dice.roll(3) {
                0 => json!({ "allowed": allowed }),
                1 => json!({ "required": required }),
                _ => json!({ "allowed": allowed, "required": required }),
            },
        );
    }
    if dice.percent(35) {
        put("members", json!({ "allowed": some(dice, &MEMBERS, 12, true) }));
    }
    let mut spec = json!({ "coverage": [{ "name": "any", "minContacts": 1 }] });
    if !contact.is_empty() {
        spec["contact"] = Value::Object(contact);
    }
    let mut matching = Map::new();
    if dice.percent(30) {
        matching.insert("directories".to_owned(), json!(some(dice, &DIRECTORIES, 2, false)));
    }
    if dice.percent(50) {
        matching.insert("namespaceSelector".to_owned(), selector(dice));
    }
    if !matching.is_empty() {
        spec["match"] = Value::Object(matching);
    }
    spec
}

const KEYS: [&str; 5] = ["tier", "Tier", "example.com/team", "team", "kubernetes.io/metadata.name"];
const LABELS: [&str; 7] = ["one", "two", "", "red", "Red", "blue", "plain"];

fn selector(dice: &mut Dice) -> Value {
    let mut chosen = Map::new();
    if dice.percent(35) {
        let labels = json!({ dice.pick(&KEYS): dice.pick(&LABELS) });
        chosen.insert("matchLabels".to_owned(), labels);
    }
    if dice.percent(75) {
        let words = (0..=dice.roll(2)).map(|_| {
            let operator = dice.pick(&["In", "NotIn", "Exists", "DoesNotExist"]);
            let mut word = json!({ "key": dice.pick(&KEYS), "operator": operator });
            if operator.ends_with("In") {
                word["values"] = json!(some(dice, &LABELS, 4, true));
            }
            word
        });
        let words = words.collect();
        chosen.insert("matchExpressions".to_owned(), words);
    }
    Value::Object(chosen)
}

// --- Made by hand -----------------------------------------------------------------------------

fn made_contact(fields: Value) -> Value {
    let mut spec = json!({ "name": "王小明", "title": "CEO", "emailAddress": "desk@example.com",
        "messageTypes": ["SecurityMessage", "FaultMessage"] });
    stand::merge(&mut spec, fields);
    json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "MessageContact",
        "metadata": { "name": "made", "namespace": "one" }, "spec": spec })
}

/// Contacts that lie at the edges of rules.
fn made_contacts() -> Vec<Value> {
    let from = json!({ "secretKeyRef": { "name": "desk", "key": "value" } });
    let address = |address: &str| json!({ "emailAddress": address });
    let mut contacts: Vec<_> = [
        json!({}),
        address("Desk@EXAMPLE.COM"),
        address("desk@mail.example.com"),
        address("desk@a.b.example.com"),
        address("desk@badexample.com"),
        address("desk@example.com.cn"),
        address("desk@xn--fiqs8s.xn--fiqs8s"),
        address(&format!("d@{}.com", "x".repeat(248))),
        json!({ "emailAddress": null, "emailAddressFrom": from }),
        json!({ "phoneNumber": "86-13800138000" }),
        json!({ "phoneNumberFrom": from }),
        json!({ "members": [] }),
        json!({ "members": ["fd-a"] }),
        json!({ "members": ["fd-a", "fd-A"] }),
        json!({ "title": "Other", "messageTypes": ["SecurityMessage"] }),
        json!({ "messageTypes": MESSAGE_TYPES }),
        json!({ "directoryRef": { "name": "default" } }),
        json!({ "directoryRef": { "name": "main" } }),
        json!({ "reconcilePolicy": "ReportOnly" }),
        json!({ "reconcilePolicy": "Enforce", "suspend": true, "deletionPolicy": "Retain" }),
    ]
    .into_iter()
    .map(made_contact)
    .collect();
    // The same contact in every namespace.
    contacts.extend(NAMESPACES.iter().map(|(namespace, _)| {
        let mut contact = made_contact(json!({}));
        contact["metadata"]["namespace"] = json!(namespace);
        contact
    }));
    contacts
}

/// Policies that ask at the edges, each word of a rule and each operator of a selector.
fn made_policies() -> Vec<Value> {
    let contact = |field: &str, rule: Value| json!({ "contact": { field: rule } });
    let selecting = |selector: Value| {
        json!({ "match": { "namespaceSelector": selector },
            "contact": { "phoneNumber": "Required" } })
    };
    let word = |key: &str, operator: &str, values: Value| {
        let mut word = json!({ "key": key, "operator": operator });
        stand::merge(&mut word, json!({ "values": values }));
        selecting(json!({ "matchExpressions": [word] }))
    };
    vec![
        json!({ "unmanagedContacts": { "max": 0 } }),
        contact("emailDomains", json!({ "allowed": ["example.com"] })),
        contact("emailDomains", json!({ "allowed": ["EXAMPLE.COM"] })),
        contact("emailDomains", json!({ "allowed": ["*.example.com"] })),
        contact("emailDomains", json!({ "allowed": ["*.EXAMPLE.com", "Example.com"] })),
        contact("emailDomains", json!({ "allowed": ["*.com"], "denied": ["*.example.com"] })),
        contact("emailDomains", json!({ "denied": ["example.com", "*.cn"] })),
        contact("emailDomains", json!({ "allowed": ["xn--fiqs8s.XN--fiqs8s"] })),
        contact(
            "emailDomains",
            json!({ "allowed": (0..7).map(|n| format!("d{n}.cn")).collect::<Vec<_>>() }),
        ),
        contact(
            "emailDomains",
            json!({ "allowed": (0..5).map(|n| format!("d{n}.cn")).collect::<Vec<_>>() }),
        ),
        contact(
            "emailDomains",
            json!({ "denied": ["example.com", "example.com", "a.cn", "b.cn",
            "example.com", "c.cn"] }),
        ),
        contact("phoneNumber", json!("Optional")),
        contact("phoneNumber", json!("Required")),
        contact("phoneNumber", json!("Forbidden")),
        contact("titles", json!({ "allowed": ["CEO"] })),
        contact("titles", json!({ "allowed": ["Other", "FinanceDirector"] })),
        contact("messageTypes", json!({ "allowed": ["SecurityMessage"] })),
        contact("messageTypes", json!({ "allowed": ["FaultMessage", "SecurityMessage"] })),
        contact("messageTypes", json!({ "required": ["SecurityMessage", "FaultMessage"] })),
        contact("messageTypes", json!({ "required": MESSAGE_TYPES })),
        contact("members", json!({ "allowed": ["fd-a"] })),
        contact("members", json!({ "allowed": ["fd-A", "fd-a"] })),
        contact(
            "members",
            json!({ "allowed": (0..500).map(|n| format!("fd-{n}")).collect::<Vec<_>>() }),
        ),
        json!({ "match": { "directories": ["default"] }, "contact": { "phoneNumber": "Required" } }),
        json!({ "match": { "directories": ["main", "other"] },
            "contact": { "phoneNumber": "Required" } }),
        selecting(json!({})),
        selecting(json!({ "matchLabels": { "tier": "one" } })),
        selecting(json!({ "matchLabels": { "tier": "" } })),
        selecting(json!({ "matchLabels": { "example.com/team": "red", "tier": "two" } })),
        selecting(json!({ "matchLabels": { "kubernetes.io/metadata.name": "plain" } })),
        word("tier", "In", json!(["one", "two"])),
        word("tier", "In", json!([""])),
        word("tier", "NotIn", json!(["one"])),
        word("tier", "NotIn", json!([""])),
        word("tier", "Exists", json!(null)),
        word("tier", "DoesNotExist", json!(null)),
        word("example.com/team", "In", json!(["red"])),
        word("example.com/team", "NotIn", json!(["red", "Red"])),
        selecting(json!({ "matchLabels": { "tier": "two" }, "matchExpressions":
            [{ "key": "example.com/team", "operator": "Exists" },
                { "key": "absent", "operator": "NotIn", "values": ["x"] }] })),
    ]
}

#[test]
fn every_operator_and_every_field_is_in_the_corpus() {
    let made: String = made_policies().iter().map(ToString::to_string).collect();
    let words =
        ["\"In\"", "\"NotIn\"", "\"Exists\"", "\"DoesNotExist\"", "matchLabels", "directories"];
    let rules: BTreeSet<_> = RuleName::ALL.iter().map(|rule| rule.as_str()).collect();
    let rules = rules.iter().map(|rule| rule.split('.').nth(1).unwrap());
    for word in rules.chain(words) {
        assert!(made.contains(word), "{word}");
    }
}
