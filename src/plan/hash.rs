//! Keyed hashes of what was written: they tell whether it is the same again, and nothing else.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::contact::{ContactId, DesiredContact, DirectoryId, Uid};

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
        let mut mac = self.mac();
        let mut part = |text: &str| {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        };
        part(purpose);
        for text in identity {
            part(text);
        }
        part(name.as_str());
        part(title.as_str());
        part(email.reveal());
        part(phone.as_ref().map_or("", |phone| phone.reveal()));
        for word in message_types {
            part(word.as_str());
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
