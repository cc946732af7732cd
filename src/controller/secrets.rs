//! Values that contacts take from Secrets of their own namespaces. No Secret is listed or watched:
//! each one that is used is read by name, and read again after a minute at most.
//!
//! ```text
//!            +------- a person waits for it: first in the queue -------+
//!            v                                                         |
//!   used --> waits for its turn --> is read --> rests: 60 s, in trouble 2 s .. 60 s --> waits
//!                                                                      |
//!   nobody uses it any more, whatever it did: forgotten <--------------+
//! ```
//!
//! A Secret is read once for all objects that use it, and no object has a poll of its own: who uses
//! it is woken when something has changed. What is no address and no number is dropped when it is
//! read, and so is every key that nobody uses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::Notify;

use super::claims::Contact;
use super::gather::World;
use super::report::{Interrupted, within};
use crate::api::MessageContactSpec;
use crate::api::message_contact::SecretKeyRef;
use crate::api::values::{self, Value, Values};
use crate::domain::channel::{EmailAddress, PhoneNumber};
use crate::domain::contact::Uid;

/// How long what was read counts as known. A change is noticed within this time, and the time that
/// the queue takes: with more than [`READ_EVERY`] / [`PACE`] = 1200 Secrets in use, [`PACE`] for
/// each of them.
pub const READ_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// Shortest pause while something is missing or malformed, or the apiserver does not answer.
pub const READ_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(2);

/// Pause between the beginnings of two reads, whichever Secrets they are of.
pub const PACE: SignedDuration = SignedDuration::from_millis(50);

/// How many reads are under way at most.
const READS_AT_ONCE: usize = 4;

/// How many reads in a row people are served with while others are due.
const AWAITED_IN_ROW: u32 = 4;

/// Which Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct SecretName {
    namespace: String,
    name: String,
}

/// A key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    secret: SecretName,
    key: String,
}

/// Where the values of one object stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    email: Option<Place>,
    phone: Option<Place>,
}

impl Places {
    /// The places that a spec names, in the object's own namespace.
    pub(super) fn of(namespace: &str, spec: &MessageContactSpec) -> Self {
        let place = |at: &SecretKeyRef| Place {
            secret: SecretName { namespace: namespace.to_owned(), name: at.name.clone() },
            key: at.key.clone(),
        };
        let values::Places { email, phone } = values::places(spec);
        Self { email: email.map(place), phone: phone.map(place) }
    }

    fn secrets(&self) -> BTreeSet<&SecretName> {
        [&self.email, &self.phone].into_iter().flatten().map(|place| &place.secret).collect()
    }
}

/// What an object takes from Secrets.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// The object, to be woken.
    pub(super) object: Contact,
    /// Where its values stand; not empty.
    pub(super) places: Places,
    /// The generation of its spec. Another one is another wish: whoever edits a Secret and then the
    /// object means the edited Secret.
    pub(super) generation: Option<i64>,
    /// The text that asks for a reconcile, if it is a new one.
    pub(super) asked: Option<String>,
    /// A person waits: the Secrets are read anew and before others.
    pub(super) awaited: bool,
}

#[derive(Debug)]
struct Use {
    wish: Wish,
    /// A read counts that began no earlier.
    since: Timestamp,
}

/// What is known of a Secret: of the keys that are used, and of no others.
#[derive(Debug, PartialEq)]
enum Known {
    Forbidden,
    Missing,
    Found {
        emails: BTreeMap<String, Value<EmailAddress>>,
        phones: BTreeMap<String, Value<PhoneNumber>>,
    },
}

impl Known {
    fn is_trouble(&self) -> bool {
        match self {
            Self::Forbidden | Self::Missing => true,
            Self::Found { emails, phones } => {
                emails.values().any(Value::is_trouble) || phones.values().any(Value::is_trouble)
            }
        }
    }

    fn email(&self, key: &str) -> Value<EmailAddress> {
        match self {
            Self::Forbidden => Value::Forbidden,
            Self::Missing => Value::NoSecret,
            Self::Found { emails, .. } => emails.get(key).cloned().unwrap_or_default(),
        }
    }

    fn phone(&self, key: &str) -> Value<PhoneNumber> {
        match self {
            Self::Forbidden => Value::Forbidden,
            Self::Missing => Value::NoSecret,
            Self::Found { phones, .. } => phones.get(key).cloned().unwrap_or_default(),
        }
    }
}

/// What the apiserver says of a Secret. Never printed: it holds values.
enum Answer {
    Found(BTreeMap<String, ByteString>),
    Missing,
    Forbidden,
    /// Nothing that can be used: what was known stands.
    Unusable,
}

/// A Secret that is used.
#[derive(Debug, Default)]
struct Kept {
    users: BTreeSet<Uid>,
    known: Option<Known>,
    /// When the last read began that has ended, however it did.
    read_at: Option<Timestamp>,
    /// When the read began that is under way.
    reading: Option<Timestamp>,
    /// Since when something is wrong, and the same.
    trouble_since: Option<Timestamp>,
    /// Its place in the queue.
    queued: Option<(Rank, Timestamp)>,
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A person waits.
    Awaited,
    /// It was not read for a while.
    Due,
}

/// What is to be done now.
#[derive(Debug, PartialEq)]
enum Next {
    /// Read this one.
    Read(SecretName),
    /// Nothing before that time, or before something changes.
    Wait(Option<Timestamp>),
}

/// An object that is to look again.
#[derive(Debug, PartialEq)]
struct Told {
    uid: Uid,
    object: Contact,
    /// Its values are others than they were; not: they are known for the first time.
    changed: bool,
}

/// Which Secrets are used and by whom, what is known of them, and which is read next.
#[derive(Debug)]
struct Table {
    uses: HashMap<Uid, Use>,
    secrets: HashMap<SecretName, Kept>,
    queue: BTreeSet<(Rank, Timestamp, SecretName)>,
    /// When the next read may begin.
    ready_at: Timestamp,
    awaited_in_row: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            uses: HashMap::new(),
            secrets: HashMap::new(),
            queue: BTreeSet::new(),
            ready_at: Timestamp::MIN,
            awaited_in_row: 0,
        }
    }
}

impl Table {
    /// Takes in what an object uses from now on. The same wish again changes nothing.
    fn declare(&mut self, uid: &Uid, wish: Wish, now: Timestamp) {
        let before = self.uses.get(uid).map(|known| &known.wish);
        let same = before.is_some_and(|before| {
            let is_new = wish.asked.is_some() && wish.asked != before.asked;
            before.places == wish.places && before.generation == wish.generation && !is_new
        });
        if same {
            return;
        }
        let (awaited, places) = (wish.awaited, wish.places.clone());
        let since = if awaited { now } else { Timestamp::MIN };
        let before = self.uses.insert(uid.clone(), Use { wish, since });
        for secret in places.secrets() {
            self.secrets.entry(secret.clone()).or_default().users.insert(uid.clone());
            if awaited {
                self.enqueue(secret, Rank::Awaited, now);
            } else if self.lacks(secret, &places) {
                self.enqueue(secret, Rank::Due, now);
            }
        }
        let before = before.map(|before| before.wish.places).unwrap_or_default();
        self.leave(uid, before.secrets());
    }

    /// The object uses none any more.
    fn forget(&mut self, uid: &Uid) {
        if let Some(before) = self.uses.remove(uid) {
            self.leave(uid, before.wish.places.secrets());
        }
    }

    /// What is known of the values of an object, in time for its wish.
    fn values(&self, uid: &Uid, places: &Places) -> Values {
        let declared = self.uses.get(uid).filter(|known| known.wish.places == *places);
        if declared.is_some_and(|known| !self.is_pending(known)) {
            self.look_up(places)
        } else {
            Values::default()
        }
    }

    fn look_up(&self, places: &Places) -> Values {
        let known = |place: &Place| self.secrets.get(&place.secret)?.known.as_ref();
        let Places { email, phone } = places;
        let email = email.as_ref().and_then(|place| Some(known(place)?.email(&place.key)));
        let phone = phone.as_ref().and_then(|place| Some(known(place)?.phone(&place.key)));
        Values { email: email.unwrap_or_default(), phone: phone.unwrap_or_default() }
    }

    /// Whether something of a Secret is not known that these places name.
    fn lacks(&self, secret: &SecretName, places: &Places) -> bool {
        let Values { email, phone } = self.look_up(places);
        let is_in = |place: &Option<Place>| place.as_ref().is_some_and(|it| it.secret == *secret);
        (is_in(&places.email) && email == Value::Unread)
            || (is_in(&places.phone) && phone == Value::Unread)
    }

    /// Whether a Secret is still to be read for the wish.
    fn is_pending(&self, known: &Use) -> bool {
        known.wish.places.secrets().into_iter().any(|secret| {
            let read_at = self.secrets.get(secret).and_then(|kept| kept.read_at);
            read_at.is_none_or(|at| at < known.since)
        })
    }

    /// An object no longer uses some of these Secrets, or not all of their keys.
    fn leave<'a>(&mut self, uid: &Uid, secrets: impl IntoIterator<Item = &'a SecretName>) {
        for secret in secrets {
            let Some(kept) = self.secrets.get_mut(secret) else { continue };
            let uses = |uid: &Uid| {
                self.uses.get(uid).is_some_and(|it| it.wish.places.secrets().contains(secret))
            };
            if !uses(uid) {
                kept.users.remove(uid);
            }
            if kept.users.is_empty() {
                self.unqueue(secret);
                self.secrets.remove(secret);
                continue;
            }
            let (email_keys, phone_keys) = self.keys(secret);
            if let Some(Kept { known: Some(Known::Found { emails, phones }), .. }) =
                self.secrets.get_mut(secret)
            {
                emails.retain(|key, _| email_keys.contains(key));
                phones.retain(|key, _| phone_keys.contains(key));
            }
        }
    }

    /// The keys of a Secret that are used, as a mailbox and as a number.
    fn keys(&self, secret: &SecretName) -> (BTreeSet<String>, BTreeSet<String>) {
        let users = self.secrets.get(secret).into_iter().flat_map(|kept| &kept.users);
        let places = users.filter_map(|uid| self.uses.get(uid)).map(|known| &known.wish.places);
        let key = |place: &Option<Place>| {
            place.as_ref().filter(|it| it.secret == *secret).map(|it| it.key.clone())
        };
        let (mut emails, mut phones) = (BTreeSet::new(), BTreeSet::new());
        for Places { email, phone } in places {
            emails.extend(key(email));
            phones.extend(key(phone));
        }
        (emails, phones)
    }

    /// Puts a Secret into the queue, unless it is there further ahead or is being read: whoever
    /// waits for another read than that one is seen when it ends.
    fn enqueue(&mut self, secret: &SecretName, rank: Rank, at: Timestamp) {
        let Some(kept) = self.secrets.get_mut(secret) else { return };
        let ahead = kept.queued.is_some_and(|queued| queued <= (rank, at));
        if ahead || kept.reading.is_some() {
            return;
        }
        self.unqueue(secret);
        if let Some(kept) = self.secrets.get_mut(secret) {
            kept.queued = Some((rank, at));
            self.queue.insert((rank, at, secret.clone()));
        }
    }

    fn unqueue(&mut self, secret: &SecretName) {
        let queued = self.secrets.get_mut(secret).and_then(|kept| kept.queued.take());
        if let Some((rank, at)) = queued {
            self.queue.remove(&(rank, at, secret.clone()));
        }
    }

    /// The Secret that is read now, or until when nothing is to be read.
    fn next(&mut self, now: Timestamp) -> Next {
        // A time further ahead than any pause can only come from a clock that was set back.
        let sane = |at: Timestamp, longest: SignedDuration| {
            if at > later(now, longest) { now } else { at }
        };
        let awaited = self.queue.first().filter(|(rank, ..)| *rank == Rank::Awaited);
        let dues = (Rank::Due, Timestamp::MIN, SecretName::default());
        let due = self.queue.range(dues..).next();
        let due = due.map(|(_, at, secret)| (sane(*at, READ_EVERY), secret));
        let overdue = due.filter(|(at, _)| *at <= now).map(|(_, secret)| secret);
        let is_awaited =
            awaited.is_some() && (overdue.is_none() || self.awaited_in_row < AWAITED_IN_ROW);
        let awaited = awaited.map(|(_, _, secret)| secret);
        let Some(secret) = (if is_awaited { awaited } else { overdue }).cloned() else {
            return Next::Wait(due.map(|(at, _)| at));
        };
        let ready_at = sane(self.ready_at, PACE);
        if ready_at > now {
            return Next::Wait(Some(ready_at));
        }
        self.unqueue(&secret);
        self.ready_at = later(now, PACE);
        self.awaited_in_row = if is_awaited { self.awaited_in_row + 1 } else { 0 };
        if let Some(kept) = self.secrets.get_mut(&secret) {
            kept.reading = Some(now);
        }
        Next::Read(secret)
    }

    /// Takes in how the read of a Secret ended that began then. Returns who is to look again, and
    /// whether the apiserver has stopped to answer for this one.
    fn answered(
        &mut self,
        secret: &SecretName,
        began: Timestamp,
        answer: Answer,
        now: Timestamp,
    ) -> (Vec<Told>, bool) {
        let (email_keys, phone_keys) = self.keys(secret);
        let reading = self.secrets.get(secret).filter(|kept| kept.reading == Some(began));
        let Some(users) = reading.map(|kept| kept.users.clone()) else {
            // Nobody uses it any more, or somebody does again.
            return (Vec::new(), false);
        };
        let silent = matches!(answer, Answer::Unusable);
        let known = match answer {
            Answer::Unusable => None,
            Answer::Missing => Some(Known::Missing),
            Answer::Forbidden => Some(Known::Forbidden),
            Answer::Found(data) => {
                let bytes = |key: &String| data.get(key).map(|bytes| bytes.0.as_slice());
                let email = |key: String| (key.clone(), values::email(bytes(&key)));
                let phone = |key: String| (key.clone(), values::phone(bytes(&key)));
                let emails = email_keys.into_iter().map(email).collect();
                let phones = phone_keys.into_iter().map(phone).collect();
                Some(Known::Found { emails, phones })
            }
        };
        let before = self.standing(&users);
        let Some(kept) = self.secrets.get_mut(secret) else { return (Vec::new(), false) };
        let fell_silent = silent && kept.trouble_since.is_none();
        let differs = known.is_some() && known != kept.known;
        let trouble = silent || known.as_ref().is_some_and(Known::is_trouble);
        let since = kept.trouble_since.filter(|_| !differs).unwrap_or(now);
        kept.trouble_since = trouble.then_some(since);
        kept.reading = None;
        kept.read_at = Some(began);
        kept.known = known.or(kept.known.take());
        let pause = if trouble {
            (now.duration_since(since) / 4).clamp(READ_AGAIN_AFTER, READ_EVERY)
        } else {
            READ_EVERY
        };
        if before.iter().any(|(uid, ..)| self.uses.get(uid).is_some_and(|it| it.since > began)) {
            // Somebody has come after this read began.
            self.enqueue(secret, Rank::Awaited, now);
        } else {
            self.enqueue(secret, Rank::Due, later(began, pause).max(now));
        }
        let after = self.standing(&users);
        let told = before.into_iter().zip(after).filter(|(before, after)| before != after);
        let told = told.filter_map(|((uid, _, before), (_, _, after))| {
            let object = self.uses.get(&uid)?.wish.object.clone();
            let changed =
                differ(&before.email, &after.email) || differ(&before.phone, &after.phone);
            Some(Told { uid, object, changed })
        });
        (told.collect(), fell_silent)
    }

    /// How it stands with these objects: whether a read is awaited, and what is known.
    fn standing(&self, users: &BTreeSet<Uid>) -> Vec<(Uid, bool, Values)> {
        let known = users.iter().filter_map(|uid| Some((uid, self.uses.get(uid)?)));
        known
            .map(|(uid, it)| (uid.clone(), self.is_pending(it), self.look_up(&it.wish.places)))
            .collect()
    }
}

/// Whether a value that was known, or known to be missing, is another one now.
fn differ<T: PartialEq>(before: &Value<T>, after: &Value<T>) -> bool {
    *before != Value::Unread && before != after
}

/// That much later, or the last time that can be written down.
fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// The Secrets that contacts take values from.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    table: Mutex<Table>,
    declared: Notify,
}

impl Secrets {
    /// An object uses these from now on; the same wish again changes nothing.
    pub(super) fn declare(&self, uid: &Uid, wish: Wish, now: Timestamp) {
        self.table().declare(uid, wish, now);
        self.declared.notify_one();
    }

    /// An object uses none any more: what nobody uses is dropped.
    pub(super) fn forget(&self, uid: &Uid) {
        self.table().forget(uid);
    }

    /// What is known of the values of an object. Nothing, until they were read for its last wish.
    pub(super) fn values(&self, uid: &Uid, places: &Places) -> Values {
        self.table().values(uid, places)
    }

    /// A panic of somebody who reads leaves the table as it was.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what is used, when it is its turn, and wakes whom it concerns. Never ends.
pub(super) async fn keep(world: Arc<World>) {
    let mut reads = FuturesUnordered::new();
    loop {
        let now = world.clock.now();
        let wait = if reads.len() < READS_AT_ONCE {
            match world.secrets.table().next(now) {
                Next::Read(secret) => {
                    reads.push(read(&world.client, secret, now));
                    continue;
                }
                Next::Wait(until) => until,
            }
        } else {
            None
        };
        let waited = async {
            match wait {
                Some(until) => world.clock.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((secret, began, answer)) = reads.next() => {
                take_in(&world, &secret, began, answer);
            }
            () = waited => {}
            () = world.secrets.declared.notified() => {}
        }
    }
}

/// Reads one Secret by its name.
async fn read(
    client: &Client,
    secret: SecretName,
    began: Timestamp,
) -> (SecretName, Timestamp, Answer) {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace);
    let answer = match within(api.get_opt(&secret.name)).await {
        Ok(Some(found)) => Answer::Found(found.data.unwrap_or_default()),
        Ok(None) => Answer::Missing,
        Err(Interrupted::Refused(kube::Error::Api(refusal))) if refusal.code == 403 => {
            Answer::Forbidden
        }
        Err(_) => Answer::Unusable,
    };
    (secret, began, answer)
}

fn take_in(world: &World, secret: &SecretName, began: Timestamp, answer: Answer) {
    let now = world.clock.now();
    let (told, fell_silent) = world.secrets.table().answered(secret, began, answer, now);
    if fell_silent {
        let SecretName { namespace, name } = secret;
        tracing::warn!(namespace, name, "a Secret could not be read; it is tried again");
    }
    for Told { uid, object, changed } in told {
        if changed {
            world.values_changed(&uid);
        }
        // Whether its claim counts may depend on it.
        let rivals = world.claims().rivals(&uid);
        for concerned in rivals.into_iter().chain([object]) {
            world.contact_waker.wake(concerned);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::ObjectRef;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("it is a time")
    }

    fn uid(name: &str) -> Uid {
        Uid(name.to_owned())
    }

    fn secret(name: &str) -> SecretName {
        let (namespace, name) = name.split_once('/').expect("namespace/name");
        SecretName { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn email_at(name: &str, key: &str) -> Places {
        let email = Some(Place { secret: secret(name), key: key.to_owned() });
        Places { email, phone: None }
    }

    /// The object's spec of that generation takes its address from the key `mail` of a Secret.
    fn wish(object: &str, name: &str, generation: i64) -> Wish {
        Wish {
            object: ObjectRef::new(object).within("team-a"),
            places: email_at(name, "mail"),
            generation: Some(generation),
            asked: None,
            awaited: true,
        }
    }

    /// As after a restart: nobody waits.
    fn at_rest(object: &str, name: &str) -> Wish {
        Wish { awaited: false, ..wish(object, name, 1) }
    }

    fn mail(text: &str) -> Answer {
        let other = ("other".to_owned(), ByteString(b"another@example.com".to_vec()));
        Answer::Found([("mail".to_owned(), ByteString(text.into())), other].into())
    }

    impl Table {
        /// Reads whose turn it is, with that answer; that object's, which is told to look again.
        fn reads(&mut self, name: &str, answer: Answer, now: Timestamp) -> Vec<(String, bool)> {
            assert_eq!(self.next(now), Next::Read(secret(name)));
            let (told, _) = self.answered(&secret(name), now, answer, now);
            told.into_iter().map(|told| (told.uid.0, told.changed)).collect()
        }

        fn email(&self, object: &str, name: &str) -> Value<EmailAddress> {
            self.values(&uid(object), &email_at(name, "mail")).email
        }
    }

    fn known(text: &str) -> Value<EmailAddress> {
        Value::Known(EmailAddress::observed(text.to_owned()))
    }

    fn told(object: &str, changed: bool) -> Vec<(String, bool)> {
        vec![(object.to_owned(), changed)]
    }

    #[test]
    fn a_secret_is_read_at_once_then_each_minute_and_a_change_is_told() {
        let mut table = Table::default();
        assert_eq!(table.next(at(0)), Next::Wait(None));
        table.declare(&uid("one"), wish("one", "a/desk", 1), at(0));
        assert_eq!(table.email("one", "a/desk"), Value::Unread);
        assert_eq!(table.reads("a/desk", mail("old@example.com"), at(0)), told("one", false));
        assert_eq!(table.email("one", "a/desk"), known("old@example.com"));
        // A pass tells the same again.
        table.declare(&uid("one"), wish("one", "a/desk", 1), at(1));
        assert_eq!(table.next(at(1)), Next::Wait(Some(at(60))));
        assert_eq!(table.reads("a/desk", mail("old@example.com"), at(60)), []);
        assert_eq!(table.reads("a/desk", mail("new@example.com"), at(120)), told("one", true));
        assert_eq!(table.email("one", "a/desk"), known("new@example.com"));
        assert_eq!(table.reads("a/desk", Answer::Missing, at(180)), told("one", true));
        assert_eq!(table.email("one", "a/desk"), Value::NoSecret);
        assert_eq!(table.reads("a/desk", Answer::Forbidden, at(182)), told("one", true));
        assert_eq!(table.email("one", "a/desk"), Value::Forbidden);
    }

    #[test]
    fn who_edits_an_object_gets_what_the_secret_holds_after_the_edit() {
        let mut table = Table::default();
        table.declare(&uid("one"), wish("one", "a/desk", 1), at(0));
        table.reads("a/desk", mail("old@example.com"), at(0));
        assert_eq!(table.next(at(10)), Next::Wait(Some(at(60))));
        table.declare(&uid("one"), wish("one", "a/desk", 2), at(10));
        assert_eq!(table.email("one", "a/desk"), Value::Unread);
        assert_eq!(table.reads("a/desk", mail("new@example.com"), at(10)), told("one", true));
        // A request, which is told again until it is answered, and then is not told any more.
        let asks = |text: Option<&str>| Wish {
            asked: text.map(str::to_owned),
            ..wish("one", "a/desk", 2)
        };
        table.declare(&uid("one"), asks(Some("now")), at(20));
        assert_eq!(table.reads("a/desk", mail("new@example.com"), at(20)), told("one", false));
        table.declare(&uid("one"), asks(Some("now")), at(21));
        table.declare(&uid("one"), asks(None), at(22));
        assert_eq!(table.next(at(23)), Next::Wait(Some(at(80))));
        // An edit while a read is under way: what that read brings may be older.
        table.declare(&uid("one"), asks(Some("again")), at(30));
        assert_eq!(table.next(at(30)), Next::Read(secret("a/desk")));
        table.declare(&uid("one"), wish("one", "a/desk", 3), at(31));
        assert_eq!(table.next(at(31)), Next::Wait(None));
        let (heard, _) =
            table.answered(&secret("a/desk"), at(30), mail("older@example.com"), at(32));
        assert_eq!(table.email("one", "a/desk"), Value::Unread);
        assert_eq!(heard.len(), 1, "rivals may depend on it");
        assert_eq!(table.reads("a/desk", mail("newest@example.com"), at(32)), told("one", true));
        assert_eq!(table.email("one", "a/desk"), known("newest@example.com"));
    }

    #[test]
    fn one_read_serves_all_who_use_a_secret_and_nobody_else() {
        let mut table = Table::default();
        for number in 0..50 {
            let name = format!("user-{number}");
            table.declare(&uid(&name), at_rest(&name, "a/desk"), at(0));
        }
        // The trap: another namespace, the same names.
        table.declare(&uid("neighbour"), at_rest("neighbour", "b/desk"), at(0));
        assert_eq!(table.reads("a/desk", mail("of-a@example.com"), at(0)).len(), 50);
        assert_eq!(table.email("neighbour", "b/desk"), Value::Unread);
        assert_eq!(table.values(&uid("neighbour"), &email_at("a/desk", "mail")), Values::default());
        assert_eq!(
            table.reads("b/desk", mail("of-b@example.com"), at(1)),
            told("neighbour", false)
        );
        assert_eq!(table.email("user-7", "a/desk"), known("of-a@example.com"));
        assert_eq!(table.email("neighbour", "b/desk"), known("of-b@example.com"));
        assert_eq!(table.next(at(2)), Next::Wait(Some(at(60))));
        // Whoever comes after a restart takes what is known, and another key is read.
        table.declare(&uid("late"), at_rest("late", "a/desk"), at(3));
        assert_eq!(table.email("late", "a/desk"), known("of-a@example.com"));
        assert_eq!(table.next(at(3)), Next::Wait(Some(at(60))));
        let other = Wish { places: email_at("a/desk", "other"), ..at_rest("other", "a/desk") };
        table.declare(&uid("other"), other, at(4));
        assert_eq!(table.reads("a/desk", mail("of-a@example.com"), at(4)), told("other", false));
    }

    #[test]
    fn what_nobody_uses_any_more_is_dropped() {
        let mut table = Table::default();
        table.declare(&uid("one"), wish("one", "a/desk", 1), at(0));
        let other = Wish { places: email_at("a/desk", "other"), ..wish("two", "a/desk", 1) };
        table.declare(&uid("two"), other.clone(), at(0));
        table.reads("a/desk", mail("old@example.com"), at(0));
        let keys = |table: &Table| match &table.secrets[&secret("a/desk")].known {
            Some(Known::Found { emails, phones }) => {
                assert!(phones.is_empty());
                emails.keys().cloned().collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(keys(&table), ["mail", "other"]);
        table.forget(&uid("one"));
        assert_eq!(keys(&table), ["other"]);
        // Another Secret of the same object takes the place of the first.
        let moved = Wish { places: email_at("a/second", "mail"), ..other };
        table.declare(&uid("two"), moved, at(1));
        assert!(!table.secrets.contains_key(&secret("a/desk")));
        assert_eq!(table.next(at(1)), Next::Read(secret("a/second")));
        table.forget(&uid("two"));
        assert_eq!((table.secrets.len(), table.uses.len(), table.queue.len()), (0, 0, 0));
        let answered = table.answered(&secret("a/second"), at(1), mail("x@example.com"), at(2));
        assert_eq!(answered, (Vec::new(), false));
        assert_eq!((table.secrets.len(), table.queue.len()), (0, 0));
    }

    #[test]
    fn without_an_answer_what_was_known_stands() {
        let mut table = Table::default();
        table.declare(&uid("one"), wish("one", "a/desk", 1), at(0));
        assert_eq!(table.next(at(0)), Next::Read(secret("a/desk")));
        let silent =
            |table: &mut Table, now| table.answered(&secret("a/desk"), now, Answer::Unusable, now);
        // Nothing is known, and nothing is said; it is told once that there is no answer.
        let (heard, fell_silent) = silent(&mut table, at(0));
        assert!(heard.len() == 1 && !heard[0].changed && fell_silent);
        assert_eq!(table.email("one", "a/desk"), Value::Unread);
        table.reads("a/desk", mail("kept@example.com"), at(2));
        table.declare(&uid("one"), wish("one", "a/desk", 2), at(3));
        assert_eq!(table.email("one", "a/desk"), Value::Unread);
        assert_eq!(table.next(at(3)), Next::Read(secret("a/desk")));
        assert!(silent(&mut table, at(3)).1);
        assert_eq!(table.email("one", "a/desk"), known("kept@example.com"));
        assert_eq!(table.next(at(5)), Next::Read(secret("a/desk")));
        assert_eq!(silent(&mut table, at(5)), (Vec::new(), false));
    }

    #[test]
    fn while_something_is_missing_it_is_read_again_with_growing_pauses() {
        let mut table = Table::default();
        table.declare(&uid("one"), wish("one", "a/desk", 1), at(0));
        table.reads("a/desk", Answer::Missing, at(0));
        let (mut now, mut times) = (at(0), Vec::new());
        while now < at(600) {
            let Next::Wait(Some(until)) = table.next(now) else { panic!("it is read too early") };
            times.push(until.duration_since(now).as_secs());
            now = until;
            table.reads("a/desk", Answer::Missing, now);
        }
        assert!(times.is_sorted() && times[..4] == [2, 2, 2, 2], "{times:?}");
        assert_eq!(times.last(), Some(&60), "{times:?}");
        assert!(times.len() < 35, "{times:?}");
        // Somebody is at work: the key is still missing, and soon there.
        let empty = Answer::Found(BTreeMap::new());
        assert_eq!(table.next(now), Next::Wait(Some(now + READ_EVERY)));
        table.reads("a/desk", empty, now + READ_EVERY);
        assert_eq!(table.email("one", "a/desk"), Value::NoKey);
        let soon = now + READ_EVERY + READ_AGAIN_AFTER;
        table.reads("a/desk", mail("not an address"), soon);
        assert!(matches!(table.email("one", "a/desk"), Value::Malformed(_)));
        table.reads("a/desk", mail("here@example.com"), soon + READ_AGAIN_AFTER);
        let rests = soon + READ_AGAIN_AFTER + READ_EVERY;
        assert_eq!(table.next(soon + READ_EVERY), Next::Wait(Some(rests)));
    }

    /// Walks so many seconds, and counts the reads of each Secret.
    fn walk(
        table: &mut Table,
        from: Timestamp,
        seconds: i64,
    ) -> HashMap<SecretName, Vec<Timestamp>> {
        let mut reads: HashMap<_, Vec<_>> = HashMap::new();
        let mut now = from;
        while now < from + SignedDuration::from_secs(seconds) {
            if let Next::Read(secret) = table.next(now) {
                table.answered(&secret, now, mail("a@example.com"), now);
                reads.entry(secret).or_default().push(now);
            }
            now += SignedDuration::from_millis(10);
        }
        reads
    }

    #[test]
    fn very_many_secrets_are_read_twenty_a_second_in_turn() {
        let mut table = Table::default();
        for number in 0..3000 {
            let name = format!("user-{number}");
            table.declare(&uid(&name), at_rest(&name, &format!("a/{name}")), at(0));
        }
        let reads = walk(&mut table, at(0), 450);
        let all: usize = reads.values().map(Vec::len).sum();
        assert_eq!(all, 450 * 20);
        // 3000 at 20 a second: each of them after 150 s again.
        let longest = reads.values().flat_map(|times| times.windows(2));
        let longest = longest.map(|two| two[1].duration_since(two[0]).as_secs()).max();
        assert_eq!((reads.len(), longest), (3000, Some(150)));
        // A person does not wait for them, and does not make them wait.
        let now = at(450);
        for number in 0..100 {
            let name = format!("edited-{number}");
            table.declare(&uid(&name), wish(&name, &format!("a/{name}"), 1), now);
        }
        let reads = walk(&mut table, now, 7);
        let edited = reads.keys().filter(|secret| secret.name.starts_with("edited"));
        assert_eq!(edited.count(), 100);
        assert_eq!(reads.len(), 140);
    }

    #[test]
    fn a_clock_that_is_set_back_stops_no_read() {
        let mut table = Table::default();
        table.declare(&uid("one"), at_rest("one", "a/desk"), at(10_000));
        table.reads("a/desk", mail("old@example.com"), at(10_000));
        assert_eq!(table.reads("a/desk", mail("new@example.com"), at(0)), told("one", true));
    }
}
