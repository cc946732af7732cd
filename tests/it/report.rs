//! A person asks who hears of what, in three forms, and gets the same answer in each.

use std::collections::BTreeMap;

use directory_simulator::{Key, NewContact, Options, Simulator};
use serde_json::{Value, json};

use crate::export::{manifests, run};
use crate::stand;

/// Addresses that must be shown nowhere.
const ADDRESSES: [&str; 4] =
    ["desk@example.com", "second@example.com", "waits@example.org", "86-13800138000"];

/// Two verified people, one of them in two contacts, and one who has not confirmed.
async fn simulator() -> Simulator {
    let simulator = stand::simulator(Options::default()).await;
    let of = |name: &str, email: &str, types: &[&str], members: &[&str]| NewContact {
        message_types: types.iter().map(|word| (*word).to_owned()).collect(),
        members: members.iter().map(|id| (*id).to_owned()).collect(),
        ..NewContact::new(name, email)
    };
    let directory = simulator.settings()["tree"]["directory_id"].as_str().unwrap().to_owned();
    let security = ["SecurityMessage"];
    let desk = of("SecurityDesk", "desk@example.com", &security, &[&directory]);
    simulator.insert_contact(NewContact { phone: Some("86-13800138000".to_owned()), ..desk });
    // The same person once more, in other letters.
    simulator.insert_contact(of("Twice", "Desk@example.com", &security, &["fd-sim0000001"]));
    let hostile = of("<b>&\"x\"</b>", "second@example.com", &["FaultMessage"], &["fd-sim0000003"]);
    simulator.insert_contact(hostile);
    simulator.insert_contact(NewContact {
        confirmed: false,
        ..of("Waits", "waits@example.org", &["ProductMessage"], &[&directory])
    });
    simulator
}

fn policy(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "ContactPolicy",
        "metadata": { "name": name }, "spec": spec })
}

fn coverage(rule: Value) -> Value {
    json!({ "coverage": [rule] })
}

/// The report as a program reads it.
async fn report(simulator: &Simulator, objects: &[Value]) -> Value {
    let (path, endpoint) = (manifests(objects), simulator.endpoint());
    let arguments = ["report", "-f", &path, "--endpoint", &endpoint, "--output", "json"];
    let ended = run(simulator, &arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    serde_json::from_str(&ended.out).unwrap()
}

/// Of each row and message type: how well it is covered, and by how many verified people.
fn cells(report: &Value) -> BTreeMap<(String, String), (String, u64)> {
    let rows = report["coverage"].as_array().unwrap();
    let cell = |row: &Value, cell: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let place = (text(&row["label"]), text(&cell["messageType"]));
        (place, (text(&cell["level"]), cell["verified"].as_u64().unwrap()))
    };
    rows.iter()
        .flat_map(|row| row["cells"].as_array().unwrap().iter().map(|it| cell(row, it)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_matrix_tells_of_each_account_who_hears_of_what() {
    let simulator = simulator().await;
    let report = report(&simulator, &[json!({ "kind": "Other" })]).await;
    let cells = cells(&report);
    let of = |label: &str, message_type: &str| {
        let (level, verified) = &cells[&(label.to_owned(), message_type.to_owned())];
        (level.as_str(), *verified)
    };
    let everybody = "any contact, whatever it is bound to";
    assert_eq!(of(everybody, "SecurityMessage"), ("covered", 1), "one person in two contacts");
    assert_eq!(of(everybody, "ProductMessage"), ("unverified", 0));
    assert_eq!(of(everybody, "AccountExpenses"), ("nobody", 0));
    // Below the folder of the third contact.
    assert_eq!(of("account 2000000000000003", "FaultMessage"), ("covered", 1));
    // Two accounts of one folder, and two that only the directory covers.
    let rows = report["coverage"].as_array().unwrap();
    let groups: Vec<_> = rows
        .iter()
        .filter(|row| row["label"] == "2 accounts")
        .map(|row| (row["ids"].clone(), row["cells"][1]["level"].clone()))
        .collect();
    let expected = [
        (json!(["2000000000000001", "2000000000000002"]), json!("nobody")),
        (json!(["2000000000000004", "2000000000000005"]), json!("nobody")),
    ];
    assert_eq!(groups, expected);
    // Three groups of accounts and six types: what a verified person hears of is no gap.
    assert_eq!(report["summary"]["gaps"], 3 * 6 - 3 - 1);
    assert_eq!(report["summary"]["contacts"], 4);
    assert_eq!(report["summary"]["verified"], 3);
    assert_eq!(report["summary"]["people"], 2);
    let waits = &report["contacts"].as_array().unwrap()[3];
    assert_eq!((&waits["name"], &waits["waiting"]), (&json!("Waits"), &json!(["email"])));
    assert_eq!(waits["emailAddress"], "w***@example.org");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_judged_on_what_is_in_the_cloud() {
    let simulator = simulator().await;
    let security = |least: u64, distinct: bool| {
        coverage(json!({ "name": "security", "messageTypes": ["SecurityMessage"],
            "minVerified": least, "distinctMailboxes": distinct }))
    };
    let below = coverage(json!({ "name": "payments", "messageTypes": ["FaultMessage"],
        "members": ["2000000000000003"], "minVerified": 1 }));
    let domains = json!({ "contact": { "emailDomains": { "allowed": ["example.com"] } } });
    let elsewhere = json!({ "match": { "directories": ["other"] },
        "contact": { "phoneNumber": "Required" } });
    let policies = [
        policy("a-two-contacts", security(2, false)),
        policy("b-two-people", security(2, true)),
        policy("c-payments", below),
        policy("d-domains", domains),
        policy("e-elsewhere", elsewhere),
        policy("f-unmanaged", json!({ "unmanagedContacts": { "max": 0 } })),
    ];
    let report = report(&simulator, &policies).await;
    let judged: Vec<_> = report["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].as_str().unwrap(), it["compliant"].as_str().unwrap()))
        .collect();
    let expected = [
        ("a-two-contacts", "True"),
        ("b-two-people", "False"),
        ("c-payments", "True"),
        ("d-domains", "False"),
        ("f-unmanaged", "Unknown"),
    ];
    assert_eq!(judged, expected);
    assert_eq!(report["policies"][3]["violations"][0]["contact"], "Waits");

    // With a manifest it is known what is managed, and only that counts.
    let mut objects = policies.to_vec();
    objects.push(json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "MessageContact", "metadata": { "name": "desk", "namespace": "any" },
        "spec": { "name": "SecurityDesk", "title": "Other", "emailAddress": "desk@example.com",
            "messageTypes": ["SecurityMessage"] } }));
    let report = self::report(&simulator, &objects).await;
    assert_eq!(report["summary"]["unmanaged"], 3);
    let compliant = |index: usize| report["policies"][index]["compliant"].clone();
    assert_eq!((compliant(0), compliant(4)), (json!("False"), json!("False")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_nothing_beside_it_and_holds_nothing_that_acts() {
    let simulator = simulator().await;
    let objects = [policy("people", coverage(json!({ "name": "two", "minVerified": 2 })))];
    let (path, endpoint) = (manifests(&objects), simulator.endpoint());
    let render = async |form: &str| {
        let arguments = ["report", "-f", &path, "--endpoint", &endpoint, "--output", form];
        run(&simulator, &arguments).await.out
    };
    let page = render("html").await;
    assert_balanced(&page);
    for foreign in ["http:", "https:", "src=", "href=", "<script", "<link", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(!page.contains("<b>") && page.contains("&lt;b&gt;&amp;&quot;x&quot;&lt;/b&gt;"));
    for part in [
        "✗ nobody",
        "✓ 1 verified",
        "0 of 1 verified",
        "<caption>",
        "scope=\"row\"",
        "@media print",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let table = render("table").await;
    assert!(table.contains("✗ nobody") && !table.contains('\u{1b}'), "{table}");
    for text in [page, table, render("json").await] {
        for address in ADDRESSES {
            assert!(!text.to_lowercase().contains(address), "{address} is shown");
        }
    }
}

/// Every element that is opened is closed, in order.
fn assert_balanced(page: &str) {
    let mut open: Vec<String> = Vec::new();
    for part in page.split('<').skip(1) {
        let tag = part.split(['>', ' ', '\n']).next().unwrap();
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop().as_deref(), Some(closed), "{part}"),
            None if ["!doctype", "meta", "br", "wbr"].contains(&tag) => {}
            None => open.push(tag.to_owned()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_list_accounts_it_says_so_and_goes_on() {
    let simulator = simulator().await;
    let reads = ["GetResourceDirectory", "ListMessageContacts", "ListMessageContactVerifications"];
    simulator.add_key(Key::new("FewRights", "FewRightsSecret").only(&reads));
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "few" },
        "stringData": { "accessKeyId": "FewRights", "accessKeySecret": "FewRightsSecret" } });
    let directory = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "ResourceDirectory", "metadata": { "name": "main" },
        "spec": { "endpoint": simulator.endpoint(),
            "credentials": { "source": "Secret", "secretRef": { "name": "few" } } } });
    let named = coverage(json!({ "name": "payments", "members": ["2000000000000003"],
        "minVerified": 1 }));
    let report = report(&simulator, &[secret, directory, policy("named", named)]).await;
    let notes = report["notes"].to_string();
    assert!(notes.contains("grant resourcemanager:ListAccounts"), "{notes}");
    assert_eq!(report["policies"][0]["compliant"], "Unknown");
    assert_eq!(report["policies"][0]["reason"], "Forbidden");
    let labels: Vec<_> =
        report["coverage"].as_array().unwrap().iter().map(|it| &it["label"]).collect();
    assert!(labels.contains(&&json!("bound to fd-sim0000001")), "{labels:?}");
}

/// What clears the screen, writes over a line, and turns the direction of what follows.
const HOSTILE: &str = "odd\u{1b}[2J\r\u{9b}1A\u{202e}\nend";

/// Nothing but what this program writes moves the cursor of whoever reads its output, beside tables
/// as well.
#[track_caller]
fn moves_no_cursor(command: &str, text: &str) {
    let is_odd = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
    let odd: Vec<_> = text.chars().filter(is_odd).collect();
    assert!(odd.is_empty(), "{command}: {text:?}");
    // Nor does it begin a line of its own.
    assert!(!text.lines().any(|line| line.starts_with("end")), "{command}: {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_moves_no_cursor() {
    let simulator = simulator().await;
    simulator.insert_contact(NewContact::new(HOSTILE, "odd@example.com"));
    let endpoint = simulator.endpoint();
    let demands = json!({ "contact": { "phoneNumber": "Required" },
        "match": { "namespaceSelector": { "matchLabels": { "a": "b" } } } });
    let everywhere = json!({ "contact": { "phoneNumber": "Required" },
        "coverage": [{ "name": "odd", "messageTypes": ["AccountExpenses"], "minContacts": 99 }] });
    let contact = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "MessageContact", "metadata": { "name": HOSTILE, "namespace": HOSTILE },
        "spec": { "name": HOSTILE, "title": "Other", "emailAddress": "odd@example.com",
            "messageTypes": ["AccountExpenses"] } });
    let policies = [policy(HOSTILE, demands), policy(&format!("2{HOSTILE}"), everywhere)];
    // `plan` reads only names that an apiserver would take; those in the cloud are as they are.
    let plain = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
        "kind": "MessageContact", "metadata": { "name": "plain", "namespace": "plain" },
        "spec": { "name": "Plain", "title": "Other", "emailAddress": "plain@example.com",
            "messageTypes": ["AccountExpenses"] } });
    let plain = manifests(&[plain]);
    let contact = manifests(&[&policies[..], &[contact]].concat());
    let policies = manifests(&policies);
    for (command, file, form, shown) in [
        ("report", &policies, "table", "Policies"),
        ("report", &contact, "table", "note: "),
        ("plan", &plain, "table", "Plan: "),
        ("plan", &plain, "markdown", "Plan: "),
    ] {
        let arguments = [command, "-f", file, "--endpoint", &endpoint, "--output", form];
        let ended = run(&simulator, &arguments).await;
        assert!(ended.out.contains(shown), "{command}: {} {}", ended.out, ended.errors);
        assert!(ended.out.contains("odd"), "{command}: {}", ended.out);
        moves_no_cursor(command, &(ended.out + &ended.errors));
    }
    for arguments in [
        &["export", "--endpoint", &endpoint][..],
        &["doctor", "--no-cluster", "--endpoint", &endpoint],
        &["report", "--endpoint", &endpoint],
        &["validate", "-f", &contact],
        &["report", "-f", "there-is-no-\u{1b}[2J"],
    ] {
        let ended = run(&simulator, arguments).await;
        moves_no_cursor(arguments[0], &(ended.out + &ended.errors));
    }
}
