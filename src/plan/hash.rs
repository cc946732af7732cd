//! Keyed hashes of what was written: they tell whether it is the same again, and nothing else.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::call::Target;
use crate::domain::contact::{ContactId, ContactName, DesiredContact, DirectoryId, Uid};

/// The key of the hashes: without it they could be guessed from a list of addresses.
#[derive(Clone)]
pub struct HashKey([u8; Self::BYTES]);

impl HashKey {
    /// Length of the key in bytes.
    pub const BYTES: usize = 32;

    /// The key from its bytes.
    #[must_use]
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Covers everything that makes an Add the same Add: the object, the directory and what is
    /// sent.
    #[must_use]
    pub fn of_creation(
        &self,
        uid: &Uid,
        directory: &DirectoryId,
        wanted: &DesiredContact,
    ) -> String {
        self.of("creation", &[uid.as_str(), directory.as_str()], wanted)
    }

    /// Covers everything that makes a write of fields the same write.
    #[must_use]
    pub fn of_write(&self, id: &ContactId, wanted: &DesiredContact) -> String {
        self.of("write", &[id.as_str()], wanted)
    }

    /// Covers everything that makes taking the phone out the same write: it goes alone, so it is
    /// counted alone.
    #[must_use]
    pub fn of_clearing(&self, id: &ContactId, wanted: &DesiredContact) -> String {
        self.of("clearing", &[id.as_str()], wanted)
    }

    /// Covers one value of one channel, whichever contact has it. An address is folded to ASCII
    /// lower case: the same mailbox is the same target.
    #[must_use]
    pub fn of_target(&self, target: &Target) -> String {
        let (channel, value) = match target {
            Target::Email(email) => ("email", email.reveal().to_ascii_lowercase()),
            Target::Phone(phone) => ("phone", phone.reveal().to_owned()),
        };
        self.digest(["target", channel, &value])
    }

    /// Tells this key from others, and nothing else about it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.digest(["key"])
    }

    /// Covers the name of a contact, letter case aside.
    #[must_use]
    pub fn of_name(&self, name: &ContactName) -> String {
        self.digest(["name", &name.folded()])
    }

    fn of(&self, purpose: &str, identity: &[&str], wanted: &DesiredContact) -> String {
        let DesiredContact {
            name,
            title,
            email,
            phone,
            message_types,
            members: _,
            mode: _,
            adoption: _,
            verification: _,
            ready_when: _,
        } = wanted;
        let fields = [
            name.as_str(),
            title.as_str(),
            email.reveal(),
            phone.as_ref().map_or("", |phone| phone.reveal()),
        ];
        let types = message_types.iter().map(|word| word.as_str());
        let parts = std::iter::once(purpose).chain(identity.iter().copied());
        self.digest(parts.chain(fields).chain(types))
    }

    /// Each part goes in with its length, so that no two lists of parts are the same bytes.
    fn digest<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> String {
        let mut mac = self.mac();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        digest.iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
            use fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length")
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}
