//! Values that a spec takes from Secrets: where they stand, and what is known of them.

use super::message_contact::{MessageContactSpec, SecretKeyRef};
use crate::domain::channel::{EmailAddress, Malformed, PhoneNumber};

/// What is known of the values that a spec takes from Secrets. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// What `emailAddressFrom` names.
    pub email: Value<EmailAddress>,
    /// What `phoneNumberFrom` names.
    pub phone: Value<PhoneNumber>,
}

/// What is known of one value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Value<T> {
    /// Nothing yet.
    #[default]
    Unread,
    /// The operator may not read the Secret.
    Forbidden,
    /// There is no such Secret.
    NoSecret,
    /// The Secret does not have the key.
    NoKey,
    /// It is not of the form that it must have.
    Malformed(Malformed),
    /// This is it.
    Known(T),
}

impl<T> Value<T> {
    /// Whether somebody has to do something before it can be used.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        match self {
            Self::Unread | Self::Known(_) => false,
            Self::Forbidden | Self::NoSecret | Self::NoKey | Self::Malformed(_) => true,
        }
    }
}

/// Where the values of a spec stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places<'a> {
    /// What `emailAddressFrom` names.
    pub email: Option<&'a SecretKeyRef>,
    /// What `phoneNumberFrom` names.
    pub phone: Option<&'a SecretKeyRef>,
}

/// Where the values of a spec stand. Whether the names are acceptable is not checked here.
#[must_use]
pub fn places(spec: &MessageContactSpec) -> Places<'_> {
    Places {
        email: spec.email_address_from.as_ref().map(|from| &from.secret_key_ref),
        phone: spec.phone_number_from.as_ref().map(|from| &from.secret_key_ref),
    }
}

/// A mailbox as a key of a Secret holds it; `None` if the key is not there.
///
/// One line end behind it, as `echo` and editors leave it, is no part of the value.
#[must_use]
pub fn email(bytes: Option<&[u8]>) -> Value<EmailAddress> {
    parsed(bytes, EmailAddress::parse, EmailAddress::ADVICE)
}

/// A phone number as a key of a Secret holds it; as [`email`].
#[must_use]
pub fn phone(bytes: Option<&[u8]>) -> Value<PhoneNumber> {
    parsed(bytes, PhoneNumber::parse, PhoneNumber::ADVICE)
}

fn parsed<T>(
    bytes: Option<&[u8]>,
    parse: impl Fn(&str) -> Result<T, Malformed>,
    advice: &'static str,
) -> Value<T> {
    let Some(bytes) = bytes else { return Value::NoKey };
    let Ok(text) = std::str::from_utf8(bytes) else { return Value::Malformed(Malformed(advice)) };
    let line_end = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n'));
    parse(line_end.unwrap_or(text)).map_or_else(Value::Malformed, Value::Known)
}
