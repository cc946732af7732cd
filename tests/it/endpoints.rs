//! Calls go to endpoints that are built in or allowed by their exact origin, and nowhere else.

use std::time::Duration;

use directory_simulator::Options;
use jiff::SignedDuration;
use message_contact_operator::api::{ResourceDirectorySpec, parse};
use message_contact_operator::cli::validate;
use message_contact_operator::clock::Clock;
use message_contact_operator::domain::access::Endpoint;
use serde_json::json;
use tokio::net::TcpListener;

use crate::privacy;
use crate::process::alone;
use crate::stand::{self, Stand, deaf_endpoint, message_of};

/// Who says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The schema, and so `validate` as well: it is no origin.
    Schema,
    /// The operator: it is an origin, but not an allowed one.
    Operator,
}
use By::{Operator, Schema};

/// `PORT` is that of a listener whose exact origin, `http://127.0.0.1:PORT`, is allowed.
const HOSTILE: &[(&str, By)] = &[
    // Other hosts under the vendor's domain, and hosts that only look like it.
    ("https://evil.aliyuncs.com", Operator),
    ("https://resourcedirectory.aliyuncs.com.evil.example", Operator),
    ("https://resourcedirectory.aliyuncs.comevil.example", Operator),
    ("https://evilresourcedirectory.aliyuncs.com", Operator),
    ("https://resourcedirectory.evil.aliyuncs.com", Operator),
    ("https://resourcedirectory.oss-cn-hangzhou.aliyuncs.com", Operator),
    ("https://resourcedirectory-intl.aliyuncs.com.cn", Operator),
    ("https://resourcedirectory.vpc-proxy.aliyuncs.com.evil.example", Operator),
    ("https://resourcedirectory.aliyuncs.co", Operator),
    ("https://resourcedirectory-aliyuncs.com", Operator),
    ("https://aliyuncs.com", Operator),
    ("https://sts.aliyuncs.com", Operator),
    ("https://resourcedirectorymaster.aliyuncs.com", Operator),
    ("http://100.100.100.200", Operator),
    // The built-in host in another spelling.
    ("http://resourcedirectory.aliyuncs.com", Operator),
    ("https://resourcedirectory.aliyuncs.com:443", Operator),
    ("https://resourcedirectory.aliyuncs.com:0443", Operator),
    ("https://resourcedirectory.aliyuncs.com:8443", Operator),
    ("https://RESOURCEDIRECTORY.aliyuncs.com", Operator),
    ("https://resourcedirectory.aliyuncs.COM", Operator),
    ("https://resourcedirectory..aliyuncs.com", Operator),
    ("https://resourcedirectory.aliyuncs.com.", Schema),
    ("HTTPS://resourcedirectory.aliyuncs.com", Schema),
    ("Https://resourcedirectory.aliyuncs.com", Schema),
    ("https:/resourcedirectory.aliyuncs.com", Schema),
    ("https:resourcedirectory.aliyuncs.com", Schema),
    ("https:///resourcedirectory.aliyuncs.com", Schema),
    ("//resourcedirectory.aliyuncs.com", Schema),
    ("resourcedirectory.aliyuncs.com", Schema),
    ("https://resourcedirectory.aliyuncs.com//", Schema),
    ("https://.resourcedirectory.aliyuncs.com", Schema),
    ("https://-resourcedirectory.aliyuncs.com", Schema),
    // Somebody else's host before or behind it.
    ("https://resourcedirectory.aliyuncs.com@evil.example", Schema),
    ("https://resourcedirectory.aliyuncs.com:443@evil.example", Schema),
    ("https://user@resourcedirectory.aliyuncs.com", Schema),
    ("https://user:word@resourcedirectory.aliyuncs.com", Schema),
    ("https://evil.example@resourcedirectory.aliyuncs.com", Schema),
    ("https://@resourcedirectory.aliyuncs.com", Schema),
    ("https://evil.example/resourcedirectory.aliyuncs.com", Schema),
    ("https://evil.example?resourcedirectory.aliyuncs.com", Schema),
    ("https://evil.example#resourcedirectory.aliyuncs.com", Schema),
    ("https://evil.example\\resourcedirectory.aliyuncs.com", Schema),
    ("https://evil.example\\.resourcedirectory.aliyuncs.com", Schema),
    ("https:\\\\resourcedirectory.aliyuncs.com", Schema),
    ("https://resourcedirectory.aliyuncs.com\\@evil.example", Schema),
    ("https://evil.example%2fresourcedirectory.aliyuncs.com", Schema),
    ("https://evil.example%00.aliyuncs.com", Schema),
    ("https://evil.example;resourcedirectory.aliyuncs.com", Schema),
    ("https://evil.example,https://resourcedirectory.aliyuncs.com", Schema),
    // Parts that an origin does not have.
    ("https://resourcedirectory.aliyuncs.com/v1", Schema),
    ("https://resourcedirectory.aliyuncs.com/../", Schema),
    ("https://resourcedirectory.aliyuncs.com?Action=Add", Schema),
    ("https://resourcedirectory.aliyuncs.com/?", Schema),
    ("https://resourcedirectory.aliyuncs.com#top", Schema),
    ("https://resourcedirectory.aliyuncs.com:", Schema),
    ("https://resourcedirectory.aliyuncs.com:https", Schema),
    ("https://resourcedirectory.aliyuncs.com:-1", Schema),
    ("https://resourcedirectory.aliyuncs.com:443:443", Schema),
    ("https://resourcedirectory.aliyuncs.com:000443", Schema),
    // Letters that are drawn alike, and what some parsers take out.
    ("https://resourcedirectory。aliyuncs。com", Schema),
    ("https://resourcedirectory．aliyuncs．com", Schema),
    ("https://resourcedirectory.aliyuncs｡com", Schema),
    ("https://resourcedirect\u{43e}ry.aliyuncs.com", Schema),
    ("https://resourcedirectory.a\u{131}iyuncs.com", Schema),
    ("https://xn--resourcedirectry-3ij.aliyuncs.com", Operator),
    ("https://resourcedirectory.aliyuncs.com\u{200b}", Schema),
    ("https://resource\u{ad}directory.aliyuncs.com", Schema),
    ("https://resourcedirectory.aliyuncs.com\u{2f}\u{2044}", Schema),
    (" https://resourcedirectory.aliyuncs.com", Schema),
    ("https://resourcedirectory.aliyuncs.com ", Schema),
    ("https://resourcedirectory.aliyuncs.com\n", Schema),
    ("https://resource\tdirectory.aliyuncs.com", Schema),
    ("https://resourcedirectory.aliyuncs.com\r\nHost: evil.example", Schema),
    ("https://resourcedirectory.aliyuncs.com\u{0}", Schema),
    // Other schemes.
    ("ftp://resourcedirectory.aliyuncs.com", Schema),
    ("file:///etc/passwd", Schema),
    ("unix:///run/evil.sock", Schema),
    ("javascript:alert(1)", Schema),
    ("", Schema),
    // The allowed listener by another name.
    ("https://127.0.0.1:PORT", Operator),
    ("http://localhost:PORT", Operator),
    ("http://LOCALHOST:PORT", Operator),
    ("http://127.1:PORT", Operator),
    ("http://127.0.1:PORT", Operator),
    ("http://127.0.0.01:PORT", Operator),
    ("http://127.000.000.001:PORT", Operator),
    ("http://2130706433:PORT", Operator),
    ("http://0x7f000001:PORT", Operator),
    ("http://0x7f.0.0.1:PORT", Operator),
    ("http://0177.0.0.1:PORT", Operator),
    ("http://0:PORT", Operator),
    ("http://0.0.0.0:PORT", Operator),
    ("http://[::1]:PORT", Operator),
    ("http://[0:0:0:0:0:0:0:1]:PORT", Operator),
    ("http://[::ffff:127.0.0.1]:PORT", Operator),
    ("http://[::ffff:7f00:1]:PORT", Operator),
    ("http://[::]:PORT", Operator),
    ("http://[::1%25lo]:PORT", Schema),
    ("http://[::1%lo]:PORT", Schema),
    ("http://[fe80::1%eth0]:PORT", Schema),
    ("http://[127.0.0.1]:PORT", Operator),
    ("http://::1:PORT", Schema),
    ("http://127.0.0.1.:PORT", Schema),
    ("http://①②⑦.0.0.1:PORT", Schema),
    ("http://127。0。0。1:PORT", Schema),
    ("http://user@127.0.0.1:PORT", Schema),
    ("http://127.0.0.1:PORT@evil.example", Schema),
    ("http://127.0.0.1:PORT/path", Schema),
    ("http://127.0.0.1:PORT?", Schema),
    ("http://127.0.0.1:PORT#", Schema),
    ("http://127.0.0.1:PORT\\@evil.example", Schema),
    ("http://127.0.0.1 :PORT", Schema),
    ("http://127.0.0.1", Operator),
    ("http://127.0.0.1:80", Operator),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_hostile_endpoint_is_connected_to() {
    let stand = Stand::unconnected(Options::default()).await;
    let (socket, allowed) = deaf_endpoint();
    let listener = socket.listen(256).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let allow_list = [allowed.clone()];
    for (text, by) in HOSTILE {
        let endpoint = text.replace("PORT", &port);
        let object = json!({ "apiVersion": "message-contacts.dev/v1alpha1",
            "kind": "ResourceDirectory", "metadata": { "name": stand.directory },
            "spec": { "endpoint": endpoint } });
        let offline = validate::check(&object);
        assert_eq!(!offline.is_empty(), *by == Schema, "validate: {text:?}: {offline:?}");
        let told = stand::apply(&stand.directories(), &object).await;
        match (told, by) {
            (Err(kube::Error::Api(refusal)), Schema) => {
                let why = "spec.endpoint";
                assert!(refusal.message.contains(why), "{text:?}: {}", refusal.message);
            }
            (Ok(_), Operator) => {
                let object = stand.directory_becomes("Ready", "EndpointNotAllowed").await;
                let message = message_of(&object, "Ready");
                assert!(message.contains("--allow-endpoint"), "{text:?}: {message}");
                assert!(!message.contains(&endpoint), "{text:?}: {message}");
            }
            (told, _) => panic!("{text:?}: {told:?}"),
        }
        // Without a cluster: nothing that could be connected to comes of it.
        let spec = ResourceDirectorySpec { endpoint: Some(endpoint.clone()), ..Default::default() };
        assert!(parse::directory(&spec, &allow_list).is_err(), "{text:?}");
        assert!(Endpoint::allowed(&endpoint, &allow_list).is_err(), "{text:?}");
        if !endpoint.contains("sts.aliyuncs.com") {
            assert!(Endpoint::sts(&endpoint, &allow_list).is_err(), "as STS: {text:?}");
        }
    }
    println!("{} hostile endpoints", HOSTILE.len());
    assert!(HOSTILE.len() >= 60);
    assert_eq!(connections(&listener).await, 0);
    assert_eq!(stand.simulator.counts().calls, 0);

    // The listener counts: by its own name it is called.
    stand.apply_directory(json!({ "endpoint": allowed })).await;
    let accepted = tokio::time::timeout(stand::PATIENCE, listener.accept()).await;
    assert!(accepted.is_ok_and(|accepted| accepted.is_ok()), "the allowed one is not called");
}

/// Who has connected so far.
async fn connections(listener: &TcpListener) -> usize {
    let mut count = 0;
    let at_once = Duration::from_millis(50);
    while tokio::time::timeout(at_once, listener.accept()).await.is_ok_and(|it| it.is_ok()) {
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_told_with_the_minutes_and_its_correction_noticed() {
    privacy::listen();
    let alone = alone().await;
    let stand = Stand::on(alone.cluster, Options::default()).await;
    let clock = Clock::system();
    let operator = tokio::spawn(stand::run_operator(stand.client.clone(), clock.clone()));
    stand.apply_directory(json!({})).await;
    stand.directory_becomes("Ready", "Connected").await;
    stand.settled("desk", "Luoxia", json!({})).await;

    // The cloud goes on, and this machine stays behind.
    stand.simulator.advance(Duration::from_hours(3));
    let object = stand.directory_becomes("Ready", "ClockSkewed").await;
    let message = message_of(&object, "Ready");
    assert!(message.contains("180 minutes behind the cloud's"), "{message}");
    let version = object.metadata.resource_version.clone();
    stand.apply("desk", "Luoxia", json!({ "title": "CEO" })).await;
    stand.becomes("desk", "Synced", "Unauthorized").await;
    // The same failure again writes nothing.
    stand
        .cloud("it is asked again", |it| {
            (it.counts().ended("InvalidTimeStamp.Expired") >= 4).then_some(())
        })
        .await;
    let object = stand.object_of_directory().await;
    assert_eq!(object.metadata.resource_version, version);

    clock.advance(SignedDuration::from_hours(3));
    stand.directory_becomes("Ready", "Connected").await;
    stand.becomes("desk", "Ready", "InSync").await;

    // And the other way round: five minutes are within what the cloud takes, twenty are not.
    clock.advance(SignedDuration::from_mins(5));
    stand.ask_directory().await;
    stand.directory_becomes("Ready", "Connected").await;
    clock.advance(SignedDuration::from_mins(15));
    stand.ask_directory().await;
    let object = stand.directory_becomes("Ready", "ClockSkewed").await;
    let message = message_of(&object, "Ready");
    assert!(message.contains("20 minutes ahead of the cloud's"), "{message}");
    stand.simulator.advance(Duration::from_mins(20));
    stand.directory_becomes("Ready", "Connected").await;
    operator.abort();
    let _ = operator.await;
}
