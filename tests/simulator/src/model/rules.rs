//! The shapes of single values.
//!
//! Source: RPC reference of `ResourceDirectoryMaster` 2022-04-19, `AddMessageContact` and others.

use crate::model::{Quotas, Refusal};
use crate::switches::NameLetters;

/// The titles a contact may have.
pub const TITLES: [&str; 6] = [
    "FinanceDirector",
    "TechnicalDirector",
    "MaintenanceDirector",
    "CEO",
    "ProjectDirector",
    "Other",
];

/// The messages a contact may be told.
pub const MESSAGE_TYPES: [&str; 6] = [
    "ServiceMessage",
    "FaultMessage",
    "AccountExpenses",
    "SecurityMessage",
    "ActivityMessage",
    "ProductMessage",
];

/// 2 to 12 letters or Chinese characters, counted as code points.
///
/// Unverified: the exact alphabet, and which of the two codes comes first.
pub(super) fn name(name: &str, letters: NameLetters) -> Result<(), Refusal> {
    let allowed =
        |c: char| c.is_ascii_alphabetic() || (letters == NameLetters::LatinAndHan && is_han(c));
    if !name.chars().all(allowed) {
        return Err(Refusal::invalid("Name", name));
    }
    if !(2..=12).contains(&name.chars().count()) {
        return Err(Refusal::invalid("Name.Length", name));
    }
    Ok(())
}

fn is_han(c: char) -> bool {
    matches!(u32::from(c),
        0x3005 | 0x3007 | 0x3021..=0x3029 | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
        | 0x2_0000..=0x2_FA1F | 0x3_0000..=0x3_23AF)
}

/// A mail address, as far as it can be told by its look.
pub(super) fn email_shape(email: &str) -> Result<(), Refusal> {
    let visible = email.chars().all(|c| !c.is_whitespace() && !c.is_control());
    let parts = email.split_once('@');
    let well_formed = parts.is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.contains('@')
            && domain.contains('.')
            && domain.split('.').all(|label| !label.is_empty())
    });
    if visible && well_formed { Ok(()) } else { Err(Refusal::invalid("EmailAddress", email)) }
}

/// A mail address that is not too long.
pub(super) fn email(email: &str, quotas: &Quotas) -> Result<(), Refusal> {
    email_shape(email)?;
    if email.len() > quotas.email_length_max {
        return Err(Refusal::invalid("EmailAddress.Length", email));
    }
    Ok(())
}

/// `<country code>-<number>`; the China site takes 86 only.
pub(super) fn phone(phone: &str, quotas: &Quotas) -> Result<(), Refusal> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (country, number) = phone
        .split_once('-')
        .filter(|(country, number)| digits(country) && digits(number) && country.len() <= 4)
        .ok_or_else(|| Refusal::invalid("PhoneNumber", phone))?;
    if !quotas.country_codes.is_empty() && !quotas.country_codes.iter().any(|code| code == country)
    {
        return Err(Refusal::invalid("MobileCountryCode", phone));
    }
    let bytes = number.as_bytes();
    let fits = if country == "86" {
        bytes.len() == 11 && bytes[0] == b'1' && (b'3'..=b'9').contains(&bytes[1])
    } else {
        (5..=15).contains(&bytes.len())
    };
    if fits { Ok(()) } else { Err(Refusal::invalid("PhoneNumber", phone)) }
}

/// `c-` and 16 letters or digits.
pub(super) fn is_contact_id(id: &str) -> bool {
    has_shape(id, "c-", 16)
}

/// A directory, folder or account, by its look.
pub(super) fn is_member_id(id: &str) -> bool {
    has_shape(id, "rd-", 6) || is_folder_id(id) || is_account_id(id)
}

/// The root or another folder, by its look.
pub(super) fn is_folder_id(id: &str) -> bool {
    has_shape(id, "r-", 6) || has_shape(id, "fd-", 10)
}

fn is_account_id(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|b| b.is_ascii_digit())
}

fn has_shape(id: &str, prefix: &str, len: usize) -> bool {
    id.strip_prefix(prefix).is_some_and(|rest| {
        rest.len() == len && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}
