//! How the simulator behaves, from the bytes of real clients to its own faults.

mod client;

mod behaviour;
mod examples;
mod gate;
mod script;
mod sockets;
mod vectors;

use serde_json::Value;

/// A file of facts that the operator's tests read, too.
fn facts(name: &str) -> Value {
    let path = format!("{}/../fixtures/api/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the facts are in the repository");
    serde_json::from_str(&text).expect("the facts are JSON")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| unreachable!("{value} is no text")).to_owned()
}

/// An object of texts as pairs.
fn text_pairs(value: &Value) -> Vec<(String, String)> {
    let object = value.as_object().expect("an object");
    object.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}
