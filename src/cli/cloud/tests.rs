use directory_simulator::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, Fault, FaultKind, NewContact, Simulator,
};
use serde_json::json;

use super::*;

async fn simulator() -> Simulator {
    Simulator::start(directory_simulator::Options::default()).await.unwrap()
}

fn keys(name: &str) -> Option<String> {
    match name {
        "ALIBABA_CLOUD_ACCESS_KEY_ID" => Some(ACCESS_KEY_ID.to_owned()),
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET" => Some(ACCESS_KEY_SECRET.to_owned()),
        _ => None,
    }
}

fn nothing(_: &str) -> Option<String> {
    None
}

fn options(simulator: &Simulator) -> Options {
    let endpoint = simulator.endpoint();
    Options {
        endpoint: Some(endpoint.clone()),
        allow_endpoint: vec![endpoint],
        ..Options::default()
    }
}

fn directory(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "message-contacts.dev/v1alpha1", "kind": "ResourceDirectory",
        "metadata": { "name": name }, "spec": spec })
}

fn secret(name: &str, fields: Value) -> Value {
    let mut secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } });
    for (field, value) in fields.as_object().unwrap() {
        secret[field] = value.clone();
    }
    secret
}

/// A look that asks for everything.
async fn look_at(target: &Target) -> Result<Listing, Failure> {
    let wanted = Wanted { pending: &|_| true, accounts: true };
    look(target, wanted, Clock::system(), &Silent).await
}

#[tokio::test]
async fn one_look_brings_every_page_what_waits_and_where_accounts_stand() {
    let it = simulator().await;
    it.quotas(|quotas| quotas.contacts = 300);
    for number in 0..230_u8 {
        let letters = [number / 26, number % 26].map(|index| char::from(b'a' + index));
        let name: String = "contact".chars().chain(letters).collect();
        it.insert_contact(NewContact {
            confirmed: number > 0,
            ..NewContact::new(&name, &format!("{name}@example.com"))
        });
    }
    let target = options(&it).target(&[], keys).unwrap();
    let wanted = Wanted {
        pending: &|contact| contact.status != crate::domain::contact::ContactStatus::Active,
        accounts: true,
    };
    let listing = look(&target, wanted, Clock::system(), &Silent).await.unwrap();
    assert_eq!(listing.identity.directory_id.as_str(), directory_simulator::DIRECTORY_ID);
    assert_eq!(listing.snapshot.contacts().len(), 230);
    let accounts = listing.accounts.unwrap().unwrap();
    assert_eq!(accounts.len(), directory_simulator::Tree::default().accounts.len());
    let counts = it.counts();
    assert_eq!(counts.of("ListMessageContacts"), 3, "three pages");
    assert_eq!(counts.of("ListMessageContactVerifications"), 1, "one contact is in doubt");
    assert_eq!(counts.in_flight_max, 1, "one call at a time");
    let reads = ["GetResourceDirectory", "ListMessageContacts", "ListMessageContactVerifications"];
    let others = it.calls().into_iter().map(|call| call.action);
    let others: Vec<_> =
        others.filter(|it| it != "ListAccounts" && !reads.contains(&it.as_str())).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[tokio::test]
async fn others_throttling_and_a_cut_answer_are_waited_out() {
    let it = simulator().await;
    it.insert_contact(NewContact::new("somebody", "somebody@example.com"));
    it.fault(Fault::on("GetResourceDirectory", FaultKind::Drop { executed: false }));
    it.fault(Fault::on("ListMessageContacts", FaultKind::error(429, "ConcurrentCallNotSupported")));
    it.fault(Fault::on("ListMessageContacts", FaultKind::error(400, "Throttling.User")));
    let listing = look_at(&options(&it).target(&[], keys).unwrap()).await.unwrap();
    assert_eq!(listing.snapshot.contacts().len(), 1);
    assert_eq!(
        (it.counts().of("GetResourceDirectory"), it.counts().of("ListMessageContacts")),
        (2, 3)
    );
}

#[tokio::test]
async fn a_failure_says_what_to_do() {
    let it = simulator().await;
    let target = options(&it).target(&[], keys).unwrap();
    let told = async |fault: FaultKind| {
        it.clear_faults();
        it.fault(Fault::on("GetResourceDirectory", fault).times(9));
        let failure = look_at(&target).await.unwrap_err();
        (failure.reason, failure.message)
    };
    let (reason, message) = told(FaultKind::error(403, "NoPermission")).await;
    assert_eq!(reason, Reason::Forbidden);
    assert!(message.ends_with("grant resourcemanager:GetResourceDirectory to this identity"));
    let (reason, _) = told(FaultKind::error(404, "InvalidAccessKeyId.NotFound")).await;
    assert_eq!(reason, Reason::Unauthorized);
    let (reason, _) = told(FaultKind::error(404, "ResourceDirectoryNotInUse")).await;
    assert_eq!(reason, Reason::NoDirectory);
    let before = it.counts().of("GetResourceDirectory");
    let (reason, message) = told(FaultKind::Drop { executed: false }).await;
    assert_eq!(reason, Reason::Unreachable);
    assert!(message.ends_with("try it again"), "{message}");
    assert_eq!(it.counts().of("GetResourceDirectory") - before, 3, "a few times, not for ever");
}

#[tokio::test]
async fn another_directory_than_the_pinned_one_is_named() {
    let it = simulator().await;
    let spec = json!({ "endpoint": it.endpoint(), "directoryId": "rd-other1" });
    let objects = [directory("main", spec)];
    let options = Options { allow_endpoint: vec![it.endpoint()], ..Options::default() };
    let failure = look_at(&options.target(&objects, keys).unwrap()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::DirectoryChanged);
    let message = failure.message;
    assert!(message.contains("rd-other1") && message.contains(directory_simulator::DIRECTORY_ID));
    assert_eq!(it.counts().of("ListMessageContacts"), 0);
}

#[tokio::test]
async fn keys_come_from_the_secret_beside_the_directory() {
    let it = simulator().await;
    let spec = json!({ "endpoint": it.endpoint(),
        "credentials": { "source": "Secret", "secretRef": { "name": "cloud" } } });
    let options = Options { allow_endpoint: vec![it.endpoint()], ..Options::default() };
    let data = |text: &str| BASE64_STANDARD.encode(text);
    let kinds = [
        json!({ "data": { "accessKeyId": data(ACCESS_KEY_ID),
            "accessKeySecret": data(ACCESS_KEY_SECRET) } }),
        json!({ "stringData": { "accessKeyId": ACCESS_KEY_ID,
            "accessKeySecret": ACCESS_KEY_SECRET } }),
    ];
    for fields in kinds {
        let objects = [directory("main", spec.clone()), secret("cloud", fields)];
        let target = options.target(&objects, nothing).unwrap();
        assert_eq!((target.name.as_str(), target.notes.len()), ("main", 0));
        look_at(&target).await.unwrap();
    }
    let alone = [directory("main", spec)];
    let target = options.target(&alone, keys).unwrap();
    assert!(target.notes[0].contains("do not hold the Secret `cloud`"), "{:?}", target.notes);
    look_at(&target).await.unwrap();
    let refused = options.target(&alone, nothing).unwrap_err().to_string();
    assert!(refused.contains("give it with -f, or set ALIBABA_CLOUD_ACCESS_KEY_ID"), "{refused}");
}

#[test]
fn which_directory_is_meant_is_never_guessed() {
    let objects = [
        directory("one", json!({ "site": "International" })),
        directory("two", json!({ "credentials": { "source": "RRSA" } })),
        directory("evil", json!({ "endpoint": "https://evil.example.com" })),
    ];
    let target = |directory: Option<&str>, change: fn(&mut Options)| {
        let mut options = Options { directory: directory.map(str::to_owned), ..Options::default() };
        change(&mut options);
        let told = |target: Target| (target.name, target.desired.endpoint.as_str().to_owned());
        options.target(&objects, keys).map(told).map_err(|error| error.to_string())
    };
    let as_it_is = |_: &mut Options| {};
    let several = target(None, as_it_is).unwrap_err();
    assert!(several.contains("--directory: one, two, evil"), "{several}");
    assert!(target(Some("three"), as_it_is).unwrap_err().contains("one, two, evil"));
    let (name, endpoint) = target(Some("one"), as_it_is).unwrap();
    assert_eq!((name.as_str(), endpoint.contains("-intl.")), ("one", true));
    let evil = target(Some("evil"), as_it_is).unwrap_err();
    assert!(evil.contains("--allow-endpoint") && !evil.contains("evil.example.com"), "{evil}");
    // What is meant for a pod needs other keys elsewhere.
    assert!(target(Some("two"), as_it_is).unwrap_err().contains("--credentials Environment"));
    let environment = |options: &mut Options| options.credentials = Some(Source::Environment);
    assert_eq!(target(Some("two"), environment).unwrap().0, "two");
    let (_, endpoint) = target(Some("one"), |it| it.site = Some(Site::China)).unwrap();
    assert!(!endpoint.contains("-intl."));
}
