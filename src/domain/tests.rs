use super::channel::{EmailAddress, PhoneNumber};

#[test]
fn an_address_shows_its_first_letter_and_domain() {
    let address = EmailAddress::observed("owner@example.com".to_owned());
    assert_eq!(format!("{address} {address:?}"), "o***@example.com o***@example.com");
}

#[test]
fn a_number_shows_its_country_and_a_few_digits() {
    let shown = |text: &str| PhoneNumber::observed(text.to_owned()).to_string();
    assert_eq!(shown("86-13800138000"), "86-138****8000");
    assert_eq!(shown("65-1234567"), "65-****");
    assert_eq!(shown("no number"), "-****");
}
