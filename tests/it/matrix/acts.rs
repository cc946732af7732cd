//! The acts of the standard story, and what differs by nature under some answers.

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
const EDIT: &str = "title and message types are changed";
const HELD: &str = "the name becomes Chinese while somebody else uses the directory";
const RENAME: &str = "the name becomes Latin again";
const DRIFT: &str = "somebody changes the contact in the console";
const LOST: &str = "somebody deletes the contact in the console";
const NO_PHONE: &str = "the phone number is taken out";
const NEW_PHONE: &str = "there is another phone number";
const DELETE: &str = "the objects are deleted, and the cloud fails once";

const FIRST: &str = "First.Owner@example.com";
const SECOND: &str = "Second.Owner@example.com";
const PLAIN: &str = "plain@example.com";
const PHONE: &str = "86-13800138001";
const OTHER_PHONE: &str = "86-13800138002";

const DIFFERENCES: &[Difference] = &[
    Difference {
        answer: "A1 form ignored",
        act: Some(CREATE),
        why: "the cloud does not see what it is told, so that nothing can be done there",
        ends: |ends| {
            for (name, end) in &mut ends.contacts {
                *end = End { conditions: refused(), ..End::default() };
                if *name == "main" {
                    end.conditions.insert("PhoneVerified", "NotSynced");
                }
            }
            ends.done.clear();
            ends.refused = 2;
            ends.over = true;
        },
    },
    Difference {
        answer: "A4 clears the phone",
        act: None,
        why: "each change of something else takes the phone number out, which is put back",
        ends: put_back,
    },
    Difference {
        answer: "A23 get lags",
        act: None,
        why: "what was written does not show at once, and is written once more",
        ends: put_back,
    },
    Difference {
        answer: "phone needed",
        act: Some(CREATE),
        why: "a contact without a phone number is refused, and the person is told so",
        ends: |ends| {
            ends.contacts.insert("plain", End { conditions: refused(), ..End::default() });
            ends.done.insert("AddMessageContact", 1);
            ends.refused = 1;
        },
    },
    Difference {
        answer: "phone needed",
        act: Some(DELETE),
        why: "the second contact was never there",
        ends: |ends| {
            ends.done.insert("DeleteMessageContact", 2);
        },
    },
    Difference {
        answer: "A29 latin letters only",
        act: Some(HELD),
        why: "the name is refused, and the person is told so",
        ends: |ends| {
            let main = main(ends);
            main.conditions.extend(refused());
            main.conditions.insert("PhoneVerified", "NotSynced");
            main.ready = false;
            main.contact.as_mut().unwrap().name = "LiMing".to_owned();
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
            main.conditions
                .extend([("Synced", "InSync"), ("EmailVerified", "VerificationPending")]);
            main.ready = true;
            main.contact.as_mut().unwrap().phone = Values::default();
            ends.refused = 0;
            ends.done.insert("UpdateMessageContact", 1);
        },
    },
    Difference {
        answer: "A14 ignores",
        act: Some(NO_PHONE),
        why: "the cloud takes the call and keeps the number: it is told twice and no more",
        ends: |ends| {
            ends.refused = 0;
            ends.done.insert("UpdateMessageContact", 2);
        },
    },
];

fn refused() -> std::collections::BTreeMap<&'static str, &'static str> {
    [("Synced", "InvalidContact"), ("EmailVerified", "NotSynced")].into()
}

fn put_back(ends: &mut Ends) {
    *ends.more.entry("UpdateMessageContact").or_default() += 1;
}

fn main(ends: &mut Ends) -> &mut End {
    ends.contacts.get_mut("main").unwrap()
}

fn contact(ends: &mut Ends) -> &mut Facts {
    main(ends).contact.as_mut().unwrap()
}

fn pending(value: &str) -> Values {
    Values { pending: Some(value.to_lowercase()), ..Values::default() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// From the first apply to the end of the deletion.
pub fn standard() -> Vec<Act> {
    vec![
        Act {
            name: CREATE,
            deed: Deed::Apply(vec![
                (
                    "main",
                    json!({ "name": "LiMing", "title": "TechnicalDirector", "emailAddress": FIRST,
                        "phoneNumber": PHONE, "messageTypes": ["SecurityMessage", "FaultMessage"],
                        "readyWhen": "Synced" }),
                ),
                (
                    "plain",
                    json!({ "name": "ZhangWei", "title": "CEO", "emailAddress": PLAIN,
                        "messageTypes": ["ProductMessage"], "readyWhen": "Synced" }),
                ),
            ]),
            ends: |ends| {
                let waits = ("EmailVerified", "VerificationPending");
                let main = End {
                    conditions: [
                        ("Synced", "InSync"),
                        waits,
                        ("PhoneVerified", "VerificationPending"),
                    ]
                    .into(),
                    ready: true,
                    contact: Some(Facts {
                        name: "LiMing".to_owned(),
                        title: "TechnicalDirector".to_owned(),
                        types: words(&["FaultMessage", "SecurityMessage"]),
                        email: pending(FIRST),
                        phone: pending(PHONE),
                        members: Vec::new(),
                    }),
                };
                let plain = End {
                    conditions: [("Synced", "InSync"), waits].into(),
                    ready: true,
                    contact: Some(Facts {
                        name: "ZhangWei".to_owned(),
                        title: "CEO".to_owned(),
                        types: words(&["ProductMessage"]),
                        email: pending(PLAIN),
                        ..Facts::default()
                    }),
                };
                ends.contacts = [("main", main), ("plain", plain)].into();
                ends.done = [("AddMessageContact", 2)].into();
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
                contact.title = "CEO".to_owned();
                contact.types = words(&["AccountExpenses", "FaultMessage"]);
                ends.done = [("UpdateMessageContact", 1)].into();
            },
        },
        Act {
            name: HELD,
            deed: Deed::ApplyWhileHeld(vec![("main", json!({ "name": "李明" }))]),
            ends: |ends| {
                contact(ends).name = "李明".to_owned();
                ends.done = [("UpdateMessageContact", 1)].into();
            },
        },
        Act {
            name: RENAME,
            deed: Deed::Apply(vec![("main", json!({ "name": "LiMingBo" }))]),
            ends: |ends| {
                let main_ends = main(ends);
                main_ends.ready = true;
                main_ends.conditions.extend([
                    ("Synced", "InSync"),
                    ("EmailVerified", "VerificationPending"),
                    ("PhoneVerified", "VerificationPending"),
                ]);
                contact(ends).name = "LiMingBo".to_owned();
                ends.done = [("UpdateMessageContact", 1)].into();
            },
        },
        Act {
            name: DRIFT,
            deed: Deed::Outsider(ContactChange {
                name: Some("Somebody".to_owned()),
                title: Some("Other".to_owned()),
                message_types: Some(words(&["ServiceMessage"])),
                ..ContactChange::default()
            }),
            ends: |ends| ends.done = [("UpdateMessageContact", 1)].into(),
        },
        Act {
            name: LOST,
            deed: Deed::OutsiderDeletes,
            ends: |ends| ends.done = [("AddMessageContact", 1)].into(),
        },
        Act {
            name: NO_PHONE,
            deed: Deed::Apply(vec![("main", json!({ "phoneNumber": null }))]),
            ends: |ends| {
                let main = main(ends);
                main.conditions.remove("PhoneVerified");
                main.conditions
                    .extend([("Synced", "NotRemovable"), ("EmailVerified", "NotSynced")]);
                main.ready = false;
                ends.refused = 1;
            },
        },
        Act {
            name: NEW_PHONE,
            deed: Deed::Apply(vec![("main", json!({ "phoneNumber": OTHER_PHONE }))]),
            ends: |ends| {
                let main = main(ends);
                main.conditions.extend([
                    ("Synced", "InSync"),
                    ("EmailVerified", "VerificationPending"),
                    ("PhoneVerified", "VerificationPending"),
                ]);
                main.ready = true;
                contact(ends).phone = pending(OTHER_PHONE);
                ends.done = [("UpdateMessageContact", 1)].into();
            },
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
                ends.done = [("DeleteMessageContact", 2)].into();
            },
        },
    ]
}
