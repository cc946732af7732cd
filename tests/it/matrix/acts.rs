//! The acts of the standard story, and what differs by nature under some answers.

use std::collections::BTreeMap;
use std::time::Duration;

use directory_simulator::{ContactChange, DeletionPlan, FailReason};
use serde_json::{Value, json};

use super::cases::Case;
use super::story::{End, Ends, Facts, Values};

/// Something happens, and it is to end in a certain way.
pub struct Act {
    pub name: &'static str,
    pub deed: Deed,
    /// What has changed when it has ended.
    ends: fn(&mut Ends),
}

/// What happens.
pub enum Deed {
    /// A person applies objects: these fields are put over what they have.
    Apply(Vec<(&'static str, Value)>),
    /// The same, while somebody else holds the directory for a while.
    ApplyWhileHeld(Vec<(&'static str, Value)>),
    /// Whoever has got a message clicks it.
    Click,
    /// Somebody changes the contact of `main` in the console.
    Outsider(ContactChange),
    /// Somebody deletes it there.
    OutsiderDeletes,
    /// The same, and the next message to a mailbox gets no answer and is not sent.
    ApplyAndLose(Vec<(&'static str, Value)>),
    /// Nothing, for so long.
    Wait(Duration),
    /// A person deletes the objects; deletions in the background end so.
    Delete { plan: DeletionPlan },
}

impl Act {
    /// How the act is to end, which begins with how the last one has ended.
    pub fn ends(&self, case: &Case, ends: &mut Ends) {
        (self.ends)(ends);
        for difference in DIFFERENCES {
            let here = difference.act.is_none_or(|act| act == self.name);
            if case.says(difference.answer) && here {
                (difference.ends)(ends);
            }
        }
    }
}

/// Answers that no combination has together, and why.
pub const APART: &[([&str; 2], &str)] = &[
    (
        ["A4 clears the phone", "A17 mismatch"],
        "the phone waits until its owner may be asked again, and until then nothing can be bound",
    ),
    (
        ["A4 clears the phone", "A23 get lags"],
        "each spoils one of the two writes after which a difference is reported and left",
    ),
    (
        ["A12 shows pending", "A23 get lags"],
        "a change that was taken back still shows for a while as if it was in force, so that the \
         wanted address is written over it, and its owner asked once more",
    ),
    (
        ["A4 clears the phone", "A29 latin letters only"],
        "without the first new name, the message of the second counts for the contact made anew",
    ),
    (
        ["A26 expanded", "A29 latin letters only"],
        "as long as a name is refused, it is not found out what follows from a folder",
    ),
    (
        ["A17 mismatch", "A26 expanded"],
        "what follows from a folder is unbound in vain, and while an owner is to confirm not even \
         that can be found out",
    ),
];

/// Where an answer makes a difference by nature.
struct Difference {
    answer: &'static str,
    /// In which act; `None`: in all.
    act: Option<&'static str>,
    /// What is so in the end, and why it cannot be otherwise.
    #[expect(dead_code, reason = "for people who read the table")]
    why: &'static str,
    ends: fn(&mut Ends),
}

const CREATE: &str = "two contacts are applied";
const CONFIRM: &str = "their owners click";
const EDIT: &str = "title and message types are changed";
const MOVE: &str = "there is another address";
const BACK: &str = "the first address is wanted after all";
const MOVE_ON: &str = "there is a third address";
const CONFIRM_MOVE: &str = "the owner of the third address clicks";
const BIND: &str = "the contact is bound to more";
const UNBIND: &str = "it is bound to a folder alone";
const HELD: &str = "the name becomes Chinese while somebody else uses the directory";
const RENAME: &str = "the name becomes Latin again";
const DRIFT: &str = "somebody changes the contact in the console";
const LOST: &str = "somebody deletes the contact in the console";
const CONFIRM_AGAIN: &str = "the owner of the new contact clicks";
const NO_PHONE: &str = "the phone number is taken out";
const NEW_PHONE: &str = "there is another phone number";
const CONFIRM_PHONE: &str = "the owner of the other phone clicks";
const DELETE: &str = "the objects are deleted, and the cloud fails once";

const FIRST: &str = "First.Owner@example.com";
const SECOND: &str = "Second.Owner@example.com";
const THIRD: &str = "Third.Owner@example.com";
const PLAIN: &str = "plain@example.com";
const PHONE: &str = "86-13800138001";
const OTHER_PHONE: &str = "86-13800138002";

const ACCOUNTS: [&str; 5] = [
    "2000000000000001",
    "2000000000000002",
    "2000000000000003",
    "2000000000000004",
    "2000000000000005",
];
/// A folder, and another one in which it lies.
const INNER: &str = "fd-sim0000003";
const OUTER: &str = "fd-sim0000001";

const ADD: &str = "AddMessageContact";
const UPDATE: &str = "UpdateMessageContact";
const CANCEL: &str = "CancelMessageContactUpdate";
const BIND_TO: &str = "AssociateMembers";
const UNBIND_FROM: &str = "DisassociateMembers";
const REMOVE: &str = "DeleteMessageContact";
const MAIL: &str = "SendEmailVerificationForMessageContact";
const TEXT: &str = "SendPhoneVerificationForMessageContact";

const DIFFERENCES: &[Difference] = &[
    Difference {
        answer: "A1 form ignored",
        act: Some(CREATE),
        why: "the cloud does not see what it is told, so that nothing can be done there",
        ends: |ends| {
            refuse(ends, "main");
            refuse(ends, "plain");
            ends.done.clear();
            ends.messages.clear();
            ends.refused = 2;
            ends.over = true;
        },
    },
    Difference {
        answer: "phone needed",
        act: Some(CREATE),
        why: "a contact without a phone number is refused, and the person is told so",
        ends: |ends| {
            refuse(ends, "plain");
            ends.done = [(ADD, 1), (MAIL, 1), (TEXT, 1), (BIND_TO, 1)].into();
            ends.messages.retain(|target| target != PLAIN);
            ends.refused = 1;
        },
    },
    Difference {
        answer: "phone needed",
        act: Some(CONFIRM),
        why: "the second contact is not there",
        ends: |ends| refuse(ends, "plain"),
    },
    Difference {
        answer: "phone needed",
        act: Some(DELETE),
        why: "the second contact was never there",
        ends: |ends| ends.done = [(REMOVE, 2)].into(),
    },
    Difference {
        answer: "A4 clears the phone",
        act: Some(EDIT),
        why: "the number is lost by the change and put back, and its owner was asked today already",
        ends: phone_put_back,
    },
    Difference {
        answer: "A4 clears the phone",
        act: Some(MOVE),
        why: "as before",
        ends: phone_put_back,
    },
    Difference {
        answer: "A4 clears the phone",
        act: Some(MOVE_ON),
        why: "as before",
        ends: phone_put_back,
    },
    Difference {
        answer: "A4 clears the phone",
        act: Some(HELD),
        why: "as before; for a contact of another name the message of today does not count",
        ends: phone_put_back_and_asked,
    },
    Difference {
        answer: "A4 clears the phone",
        act: Some(RENAME),
        why: "as before; for a contact of another name the message of today does not count",
        ends: phone_put_back_and_asked,
    },
    Difference {
        answer: "A4 clears the phone",
        act: Some(LOST),
        why: "the owner of the phone was asked for a contact of this name today",
        ends: |ends| {
            ends.done.remove(TEXT);
            ends.messages.retain(|target| target != PHONE);
        },
    },
    Difference {
        answer: "A4 clears the phone",
        act: Some(CONFIRM_AGAIN),
        why: "the message that was sent was for the contact before",
        ends: |ends| {
            let main = main(ends);
            main.conditions.insert("PhoneVerified", "VerificationSent");
            main.ready = false;
            contact(ends).phone = waits(PHONE);
        },
    },
    Difference {
        answer: "A4 clears the phone",
        act: Some(NEW_PHONE),
        why: "there is no number in force while the other one waits",
        ends: |ends| contact(ends).phone = waits(OTHER_PHONE),
    },
    Difference {
        answer: "A4 clears the phone",
        act: Some(DRIFT),
        why: "as before",
        ends: phone_put_back,
    },
    Difference {
        answer: "A17 mismatch",
        act: Some(CREATE),
        why: "nothing can be bound before the owner has clicked",
        ends: wait_to_bind,
    },
    Difference {
        answer: "A17 mismatch",
        act: Some(CONFIRM),
        why: "what could not be bound is bound now",
        ends: |ends| bind_at_last(ends, &ACCOUNTS[..1]),
    },
    Difference {
        answer: "A17 mismatch",
        act: Some(LOST),
        why: "nothing can be bound before the owner has clicked",
        ends: wait_to_bind,
    },
    Difference {
        answer: "A17 mismatch",
        act: Some(CONFIRM_AGAIN),
        why: "what could not be bound is bound now",
        ends: |ends| bind_at_last(ends, &[OUTER]),
    },
    Difference {
        answer: "A23 get lags",
        act: None,
        why: "what was written does not show at once, and is written once more",
        ends: |ends| {
            for write in [UPDATE, BIND_TO, UNBIND_FROM] {
                *ends.more.entry(write).or_default() += 2;
            }
            ends.refused += 12;
        },
    },
    Difference {
        answer: "A26 expanded",
        act: None,
        why: "what follows from a folder cannot be told apart, and is unbound in vain",
        ends: |ends| {
            for write in [BIND_TO, UNBIND_FROM] {
                *ends.more.entry(write).or_default() += 2;
            }
            ends.refused += 12;
        },
    },
    Difference {
        answer: "A29 latin letters only",
        act: Some(HELD),
        why: "the name is refused, and the person is told so",
        ends: |ends| {
            let main = main(ends);
            main.conditions.insert("Synced", "InvalidContact");
            main.ready = false;
            contact(ends).name = "LiMing".into();
            ends.done.clear();
            ends.refused = 1;
        },
    },
    Difference {
        answer: "A14 clears",
        act: Some(NO_PHONE),
        why: "the number can be taken out, as it was meant",
        ends: |ends| {
            let main = main(ends);
            main.conditions.insert("Synced", "InSync");
            main.ready = true;
            contact(ends).phone = Values::default();
            ends.refused -= 1;
            ends.done = [(UPDATE, 1)].into();
        },
    },
    Difference {
        answer: "A14 clears",
        act: Some(NEW_PHONE),
        why: "there is no number in force while the other one waits",
        ends: |ends| contact(ends).phone = waits(OTHER_PHONE),
    },
    Difference {
        answer: "A14 ignores",
        act: Some(NO_PHONE),
        why: "the cloud takes the call and keeps the number: it is told twice and no more",
        ends: |ends| {
            ends.refused -= 1;
            ends.done = [(UPDATE, 2)].into();
        },
    },
];

/// The object is told why it is not in the cloud.
fn refuse(ends: &mut Ends, name: &'static str) {
    let mut conditions: BTreeMap<_, _> =
        [("Synced", "InvalidContact"), ("EmailVerified", "NotSynced")].into();
    if name == "main" {
        conditions.extend([("PhoneVerified", "NotSynced"), ("Bound", "NotSynced")]);
    }
    ends.contacts.insert(name, End { conditions, ..End::default() });
}

fn wait_to_bind(ends: &mut Ends) {
    let main = main(ends);
    main.conditions.extend([("Synced", "Updating"), ("Bound", "VerificationPending")]);
    contact(ends).members.clear();
    ends.done.remove(BIND_TO);
    ends.refused += 1;
}

fn bind_at_last(ends: &mut Ends, members: &[&str]) {
    let main = main(ends);
    main.conditions.extend([("Synced", "InSync"), ("Bound", "InSync")]);
    contact(ends).members = words(members);
    ends.done.insert(BIND_TO, 1);
}

fn phone_put_back(ends: &mut Ends) {
    let main = main(ends);
    main.conditions.insert("PhoneVerified", "VerificationSent");
    main.ready = false;
    contact(ends).phone = waits(PHONE);
    *ends.done.entry(UPDATE).or_default() += 1;
}

fn phone_put_back_and_asked(ends: &mut Ends) {
    phone_put_back(ends);
    ends.done.insert(TEXT, 1);
    ends.messages.push(PHONE.to_owned());
}

fn main(ends: &mut Ends) -> &mut End {
    ends.contacts.get_mut("main").unwrap()
}

fn contact(ends: &mut Ends) -> &mut Facts {
    main(ends).contact.as_mut().unwrap()
}

/// A value that waits, and none is in force.
fn waits(value: &str) -> Values {
    Values { pending: Some(value.to_lowercase()), ..Values::default() }
}

fn in_force(value: &str) -> Values {
    Values { effective: Some(value.to_lowercase()), ..Values::default() }
}

/// One that waits beside another that is in force.
fn replaces(old: &str, new: &str) -> Values {
    Values { pending: Some(new.to_lowercase()), ..in_force(old) }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn more_members() -> Vec<String> {
    words(&[&ACCOUNTS[..], &[INNER]].concat())
}

/// From the first apply to the end of the deletion.
#[expect(clippy::too_many_lines, reason = "one story, told in one piece")]
pub fn standard() -> Vec<Act> {
    vec![
        Act {
            name: CREATE,
            deed: Deed::Apply(vec![
                (
                    "main",
                    json!({ "name": "LiMing", "title": "TechnicalDirector", "emailAddress": FIRST,
                        "phoneNumber": PHONE, "messageTypes": ["SecurityMessage", "FaultMessage"],
                        "members": [ACCOUNTS[0]] }),
                ),
                (
                    "plain",
                    json!({ "name": "ZhangWei", "title": "CEO", "emailAddress": PLAIN,
                        "messageTypes": ["ProductMessage"] }),
                ),
            ]),
            ends: created,
        },
        Act {
            name: CONFIRM,
            deed: Deed::Click,
            ends: |ends| {
                confirmed(ends, &[("EmailVerified", FIRST), ("PhoneVerified", PHONE)]);
                let plain = ends.contacts.get_mut("plain").unwrap();
                plain.conditions.insert("EmailVerified", "Verified");
                plain.ready = true;
                if let Some(facts) = &mut plain.contact {
                    facts.email = in_force(PLAIN);
                }
            },
        },
        Act {
            name: EDIT,
            deed: Deed::Apply(vec![(
                "main",
                json!({ "title": "CEO", "messageTypes": ["AccountExpenses", "FaultMessage"] }),
            )]),
            ends: |ends| {
                let contact = contact(ends);
                contact.title = "CEO".into();
                contact.types = words(&["AccountExpenses", "FaultMessage"]);
                ends.done = [(UPDATE, 1)].into();
            },
        },
        Act {
            name: MOVE,
            deed: Deed::Apply(vec![("main", json!({ "emailAddress": SECOND }))]),
            ends: |ends| moved(ends, FIRST, SECOND),
        },
        Act {
            name: BACK,
            deed: Deed::Apply(vec![("main", json!({ "emailAddress": FIRST }))]),
            ends: |ends| {
                confirmed(ends, &[("EmailVerified", FIRST)]);
                ends.done = [(CANCEL, 1)].into();
            },
        },
        Act {
            name: MOVE_ON,
            deed: Deed::Apply(vec![("main", json!({ "emailAddress": THIRD }))]),
            ends: |ends| moved(ends, FIRST, THIRD),
        },
        Act {
            name: CONFIRM_MOVE,
            deed: Deed::Click,
            ends: |ends| confirmed(ends, &[("EmailVerified", THIRD)]),
        },
        Act {
            name: BIND,
            deed: Deed::Apply(vec![("main", json!({ "members": more_members() }))]),
            ends: |ends| {
                contact(ends).members = more_members();
                ends.done = [(BIND_TO, 1)].into();
            },
        },
        Act {
            name: UNBIND,
            deed: Deed::Apply(vec![("main", json!({ "members": [OUTER] }))]),
            ends: |ends| {
                contact(ends).members = words(&[OUTER]);
                ends.done = [(BIND_TO, 1), (UNBIND_FROM, 2)].into();
            },
        },
        Act {
            name: HELD,
            deed: Deed::ApplyWhileHeld(vec![("main", json!({ "name": "李明" }))]),
            ends: |ends| {
                contact(ends).name = "李明".into();
                ends.done = [(UPDATE, 1)].into();
            },
        },
        Act {
            name: RENAME,
            deed: Deed::Apply(vec![("main", json!({ "name": "LiMingBo" }))]),
            ends: |ends| {
                let main = main(ends);
                main.conditions.insert("Synced", "InSync");
                main.ready = main.conditions["PhoneVerified"] == "Verified";
                contact(ends).name = "LiMingBo".into();
                ends.done = [(UPDATE, 1)].into();
            },
        },
        Act {
            name: DRIFT,
            deed: Deed::Outsider(ContactChange {
                name: Some("Somebody".to_owned()),
                title: Some("Other".to_owned()),
                message_types: Some(words(&["ServiceMessage"])),
                members: Some(words(&ACCOUNTS[4..])),
                ..ContactChange::default()
            }),
            ends: |ends| {
                ends.done = [(UPDATE, 1), (BIND_TO, 1), (UNBIND_FROM, 1)].into();
            },
        },
        Act {
            name: LOST,
            deed: Deed::OutsiderDeletes,
            ends: |ends| {
                let main = main(ends);
                main.conditions.extend([
                    ("EmailVerified", "VerificationSent"),
                    ("PhoneVerified", "VerificationSent"),
                ]);
                main.ready = false;
                let contact = contact(ends);
                (contact.email, contact.phone) = (waits(THIRD), waits(PHONE));
                ends.done = [(ADD, 1), (MAIL, 1), (TEXT, 1), (BIND_TO, 1)].into();
                ends.messages = words(&[THIRD, PHONE]);
            },
        },
        Act {
            name: CONFIRM_AGAIN,
            deed: Deed::Click,
            ends: |ends| confirmed(ends, &[("EmailVerified", THIRD), ("PhoneVerified", PHONE)]),
        },
        Act {
            name: NO_PHONE,
            deed: Deed::Apply(vec![("main", json!({ "phoneNumber": null }))]),
            ends: |ends| {
                let main = main(ends);
                main.conditions.remove("PhoneVerified");
                main.conditions.insert("Synced", "NotRemovable");
                main.ready = false;
                ends.refused = 1;
            },
        },
        Act {
            name: NEW_PHONE,
            deed: Deed::Apply(vec![("main", json!({ "phoneNumber": OTHER_PHONE }))]),
            ends: |ends| {
                let main = main(ends);
                main.conditions
                    .extend([("PhoneVerified", "VerificationSent"), ("Synced", "InSync")]);
                main.ready = false;
                contact(ends).phone = replaces(PHONE, OTHER_PHONE);
                ends.done = [(UPDATE, 1), (TEXT, 1)].into();
                ends.messages = words(&[OTHER_PHONE]);
            },
        },
        Act {
            name: CONFIRM_PHONE,
            deed: Deed::Click,
            ends: |ends| confirmed(ends, &[("PhoneVerified", OTHER_PHONE)]),
        },
        Act {
            name: DELETE,
            deed: Deed::Delete {
                plan: DeletionPlan {
                    after_ms: 5_000,
                    reasons: vec![FailReason {
                        account_id: "2000000000000001".to_owned(),
                        message_types: words(&["FaultMessage"]),
                    }],
                    times: Some(1),
                },
            },
            ends: |ends| {
                for end in ends.contacts.values_mut() {
                    *end = End::default();
                }
                ends.done = [(REMOVE, 3)].into();
            },
        },
    ]
}

/// An owner who takes days, and a message that is lost on its way.
pub fn slow() -> Vec<Act> {
    let mut acts = standard();
    let mut take = |name: &str| {
        let at = acts.iter().position(|act| act.name == name).unwrap();
        acts.swap_remove(at)
    };
    let (create, confirm, delete) = (take(CREATE), take(CONFIRM), take(DELETE));
    vec![
        create,
        Act {
            name: "their owners do not click for a day, and are asked once more",
            deed: Deed::Wait(A_DAY_AND_A_BIT),
            ends: |ends| {
                ends.done = [(MAIL, 2), (TEXT, 1)].into();
                ends.messages = words(&[FIRST, PHONE, PLAIN]);
            },
        },
        confirm,
        Act {
            name: "there is another address, and its message is lost",
            deed: Deed::ApplyAndLose(vec![(
                "main",
                json!({ "emailAddress": SECOND, "verification": { "resendAfter": "3h" } }),
            )]),
            ends: |ends| {
                moved(ends, FIRST, SECOND);
                ends.done.remove(MAIL);
                ends.messages.clear();
                ends.refused = 1;
            },
        },
        Act {
            name: "three hours later its owner is asked all the same",
            deed: Deed::Wait(Duration::from_mins(3 * 60 + 2)),
            ends: |ends| {
                ends.done = [(MAIL, 1)].into();
                ends.messages = words(&[SECOND]);
            },
        },
        Act {
            name: "and clicks",
            deed: Deed::Click,
            ends: |ends| confirmed(ends, &[("EmailVerified", SECOND)]),
        },
        delete,
    ]
}

/// `resendAfter` when the spec does not say, and no more than a poll or two.
const A_DAY_AND_A_BIT: Duration = Duration::from_mins(24 * 60 + 2);

fn created(ends: &mut Ends) {
    let sent = ("EmailVerified", "VerificationSent");
    let main = End {
        conditions: [
            ("Synced", "InSync"),
            sent,
            ("PhoneVerified", "VerificationSent"),
            ("Bound", "InSync"),
        ]
        .into(),
        ready: false,
        contact: Some(Facts {
            name: "LiMing".to_owned(),
            title: "TechnicalDirector".to_owned(),
            types: words(&["FaultMessage", "SecurityMessage"]),
            email: waits(FIRST),
            phone: waits(PHONE),
            members: words(&ACCOUNTS[..1]),
        }),
    };
    let plain = End {
        conditions: [("Synced", "InSync"), sent].into(),
        ready: false,
        contact: Some(Facts {
            name: "ZhangWei".to_owned(),
            title: "CEO".to_owned(),
            types: words(&["ProductMessage"]),
            email: waits(PLAIN),
            ..Facts::default()
        }),
    };
    ends.contacts = [("main", main), ("plain", plain)].into();
    ends.done = [(ADD, 2), (MAIL, 2), (TEXT, 1), (BIND_TO, 1)].into();
    ends.messages = words(&[FIRST, PHONE, PLAIN]);
}

/// The address is another one, which waits.
fn moved(ends: &mut Ends, old: &str, new: &str) {
    let main = main(ends);
    main.conditions.insert("EmailVerified", "VerificationSent");
    main.ready = false;
    contact(ends).email = replaces(old, new);
    ends.done = [(UPDATE, 1), (MAIL, 1)].into();
    ends.messages = words(&[new]);
}

/// These values are in force, and the contact is ready if all are.
fn confirmed(ends: &mut Ends, channels: &[(&'static str, &str)]) {
    for (condition, value) in channels {
        main(ends).conditions.insert(condition, "Verified");
        let contact = contact(ends);
        let channel =
            if *condition == "EmailVerified" { &mut contact.email } else { &mut contact.phone };
        *channel = in_force(value);
    }
    let main = main(ends);
    let of_channel = |condition: &str| main.conditions.get(condition).copied();
    let all = [of_channel("EmailVerified"), of_channel("PhoneVerified")];
    main.ready = all.into_iter().flatten().all(|reason| reason == "Verified");
}
