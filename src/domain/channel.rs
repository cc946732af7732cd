//! The two channels of a contact, e-mail and phone. Both mask themselves when printed.

use std::fmt;

/// Why a value was refused: a rule that is not met, never the value itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// An e-mail address. `Debug` and `Display` show `t***@example.com`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Longest address that is sent to the cloud, in characters.
    ///
    /// Unverified (A3): the API has an error code for the length but prints no figure.
    pub const CHARS_MAX: usize = 254;

    /// What an address must look like, as a regular expression for schemas and CEL.
    pub const PATTERN: &'static str =
        r"^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)+$";

    /// What to write instead of a malformed address.
    pub const ADVICE: &'static str = "write one mailbox of 3 to 254 characters as user@example.com, \
                                      without a display name, spaces or characters outside ASCII";

    /// # Errors
    /// The text is not one plain address: see [`Self::PATTERN`] and [`Self::CHARS_MAX`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let local = |c: char| c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_{|}~-".contains(c);
        let label =
            |l: &str| !l.is_empty() && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let well_formed = text.len() <= Self::CHARS_MAX
            && text.split_once('@').is_some_and(|(user, host)| {
                !user.is_empty()
                    && user.chars().all(local)
                    && host.contains('.')
                    && host.split('.').all(label)
            });
        if well_formed { Ok(Self(text.to_owned())) } else { Err(Malformed(Self::ADVICE)) }
    }

    /// An address as the cloud shows it, whatever it looks like.
    #[must_use]
    pub fn observed(text: String) -> Self {
        Self(text)
    }

    /// The clear text. Callable from few files only; `tests/it/architecture.rs` has the list.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What stands behind the `@`, which [`fmt::Display`] shows as well.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Whether both name the same mailbox: letter case aside.
    ///
    /// Unverified (A25): whether the cloud keeps the case of an address. A difference in case
    /// alone is therefore no difference, or an update could repeat for ever.
    #[must_use]
    pub fn same_mailbox(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, domain) = self.0.rsplit_once('@').unwrap_or(("", "***"));
        write!(f, "{}***@{domain}", local.chars().next().unwrap_or('*'))
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A phone number, `<country code>-<number>`. `Debug` and `Display` show `86-138****0000`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// What a number must look like, as a regular expression for schemas and CEL.
    ///
    /// Source: RPC reference of `AddMessageContact`, `PhoneNumber`: country code, hyphen, number.
    /// Unverified: that a number of country code 86 is `1`, one of 3 to 9, and nine digits more.
    pub const PATTERN: &'static str =
        r"^(86-1[3-9][0-9]{9}|([1-79][0-9]{0,3}|8|8[0-57-9][0-9]{0,2}|86[0-9]{1,2})-[0-9]{5,20})$";

    /// What to write instead of a malformed number.
    pub const ADVICE: &'static str = "write the country code without a plus sign, one hyphen and \
                                      the digits of the number, as 86-1XXXXXXXXXX (11 digits after 86-)";

    /// # Errors
    /// The text is not of the form in [`Self::PATTERN`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let well_formed = text.split_once('-').is_some_and(|(country, number)| {
            let length = match country {
                "86" => {
                    number.starts_with('1')
                        && matches!(number.as_bytes().get(1), Some(b'3'..=b'9'))
                        && number.len() == 11
                }
                _ => {
                    (1..=4).contains(&country.len())
                        && !country.starts_with('0')
                        && (5..=20).contains(&number.len())
                }
            };
            digits(country) && digits(number) && length
        });
        if well_formed { Ok(Self(text.to_owned())) } else { Err(Malformed(Self::ADVICE)) }
    }

    /// A number as the cloud shows it, whatever it looks like.
    #[must_use]
    pub fn observed(text: String) -> Self {
        Self(text)
    }

    /// The clear text. Callable from few files only; `tests/it/architecture.rs` has the list.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (country, number) = self.0.split_once('-').unwrap_or(("", &self.0));
        let shown = |range: std::ops::Range<usize>| number.get(range).unwrap_or_default();
        // Short numbers show nothing: three plus four digits of seven would be all of it.
        if number.len() < 10 {
            return write!(f, "{country}-****");
        }
        write!(f, "{country}-{}****{}", shown(0..3), shown(number.len() - 4..number.len()))
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
