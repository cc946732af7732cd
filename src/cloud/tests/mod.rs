mod credentials;
mod error;
mod provider;
mod sign;
mod socket;
mod wire;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::access::{AccessKeys, Hidden};
use crate::domain::call::{Call, Changes, NewContact, PhoneChange};
use crate::domain::channel::{EmailAddress, PhoneNumber};
use crate::domain::contact::{ContactId, ContactName, MemberId, MessageType, Title};

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/api/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn keys() -> AccessKeys {
    AccessKeys {
        id: Hidden::new("CanaryKeyId".to_owned()),
        secret: Hidden::new("CanarySecret".to_owned()),
        token: Some(Hidden::new("Canary+Token/with==signs".to_owned())),
    }
}

fn list() -> Call {
    Call::ListMessageContacts { page: 1 }
}

fn add() -> Call {
    Call::AddMessageContact(NewContact {
        name: ContactName::parse("canaryname").unwrap(),
        title: Title::TechnicalDirector,
        email: EmailAddress::parse("canarymail@example.com").unwrap(),
        phone: Some(PhoneNumber::parse("86-13800100500").unwrap()),
        message_types: BTreeSet::from([MessageType::SecurityMessage, MessageType::FaultMessage]),
    })
}

fn rename() -> Call {
    let name = Some(ContactName::parse("李雷").unwrap());
    Call::UpdateMessageContact(id(), Changes { name, ..Changes::default() })
}

fn clear_phone() -> Call {
    let phone = Some(PhoneChange::Clear);
    Call::UpdateMessageContact(id(), Changes { phone, ..Changes::default() })
}

fn send_mail() -> Call {
    let email = EmailAddress::parse("canarymail@example.com").unwrap();
    Call::SendEmailVerificationForMessageContact(id(), email)
}

fn id() -> ContactId {
    ContactId::from("c-fake000000000001")
}

fn members(ids: &[&str]) -> BTreeSet<MemberId> {
    ids.iter().copied().map(MemberId::from).collect()
}
