//! What a person sees of the cloud and of the cluster, as lines of text.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use directory_simulator::CallRecord;
use kube::Client;
use serde_json::Value;

/// One call of the cloud in one line. Private values are masked by the simulator already.
pub(crate) fn call(record: &CallRecord) -> String {
    let CallRecord { at, action, parameters, status, outcome, millis, .. } = record;
    // `MessageTypes.1` and `MessageTypes.2` are one list.
    let mut fields: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, value) in parameters {
        let field = name.split('.').next().unwrap_or(name);
        match fields.last_mut() {
            Some((last, values)) if *last == field => values.push(cell(value)),
            _ => fields.push((field, vec![cell(value)])),
        }
    }
    let shown = |(field, values): &(&str, Vec<String>)| format!("{field}={} ", values.join(","));
    let fields = fields.iter().map(shown).collect::<Vec<_>>().concat();
    let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    let at = at.strftime("%H:%M:%S%.3f");
    format!("{at}  {action} {fields}→ {status} {outcome}, {millis} ms")
}

/// The contacts as `kubectl get messagecontacts -A` prints them; the apiserver makes the cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contacts {
    /// The printer columns of priority 0, without the age, which would never stand still.
    pub columns: Vec<String>,
    /// The cells of each object.
    pub rows: BTreeMap<String, Vec<String>>,
}

impl Contacts {
    /// Asks the apiserver for its table.
    ///
    /// # Errors
    /// It does not answer, or with something else than a table.
    pub(crate) async fn look(client: &Client) -> Result<Self> {
        let request =
            http::Request::get("/apis/message-contacts.dev/v1alpha1/messagecontacts?limit=500")
                .header(http::header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
                .body(Vec::new())?;
        Self::read(&client.request::<Value>(request).await?)
    }

    fn read(table: &Value) -> Result<Self> {
        let columns = table["columnDefinitions"].as_array().context("not a table")?;
        let wanted = |column: &Value| column["priority"] == 0 && column["name"] != "Age";
        let named = |column: &Value| column["name"].as_str().unwrap_or_default().to_owned();
        let shown: Vec<bool> = columns.iter().map(wanted).collect();
        let only_shown = |cells: Vec<String>| -> Vec<String> {
            cells
                .into_iter()
                .zip(&shown)
                .filter(|(_, shown)| **shown)
                .map(|(cell, _)| cell)
                .collect()
        };
        let rows = table["rows"].as_array().context("no rows")?.iter().map(|row| {
            let name = row["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let cells = row["cells"].as_array().map(Vec::as_slice).unwrap_or_default();
            (name, only_shown(cells.iter().map(cell).collect()))
        });
        let rows = rows.collect();
        Ok(Self { columns: only_shown(columns.iter().map(named).collect()), rows })
    }

    /// A line for each object that is new, different or gone, with the cells that are.
    pub(crate) fn changes(&self, before: &Self) -> Vec<String> {
        let line = |(name, cells): (&String, &Vec<String>)| {
            let old = before.rows.get(name).map(Vec::as_slice).unwrap_or_default();
            let cells = self.columns.iter().zip(cells).enumerate().skip(1);
            let changed: Vec<String> = cells
                .filter(|(at, (_, cell))| old.get(*at).map_or("", String::as_str) != *cell)
                .map(|(_, (column, cell))| format!("{column}={cell}"))
                .collect();
            (!changed.is_empty()).then(|| format!("{name:<14} {}", changed.join(" ")))
        };
        let gone = before.rows.keys().filter(|name| !self.rows.contains_key(*name));
        let gone = gone.map(|name| format!("{name:<14} is gone"));
        self.rows.iter().filter_map(line).chain(gone).collect()
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(rows: &[(&str, &str)]) -> Contacts {
        let row = |(name, ready): &(&str, &str)| json!({"cells": [name, ready, "3s", null], "object": {"metadata": {"name": name}}});
        let column = |name: &str, priority: i32| json!({"name": name, "priority": priority});
        let columns =
            [column("Name", 0), column("Ready", 0), column("Age", 0), column("Message", 1)];
        let rows: Vec<Value> = rows.iter().map(row).collect();
        Contacts::read(&json!({"columnDefinitions": columns, "rows": rows})).unwrap_or_default()
    }

    #[test]
    fn neither_the_age_nor_wide_columns_are_shown() {
        assert_eq!(table(&[("desk", "True")]).columns, ["Name", "Ready"]);
        assert_eq!(table(&[("desk", "True")]).rows["desk"], ["desk", "True"]);
    }

    #[test]
    fn what_is_new_different_or_gone_is_told_and_nothing_else() {
        let before = table(&[("desk", "True"), ("old", "True"), ("same", "True")]);
        let now = table(&[("desk", "False"), ("new", "Unknown"), ("same", "True")]);
        let told = [
            "desk           Ready=False",
            "new            Ready=Unknown",
            "old            is gone",
        ];
        assert_eq!(now.changes(&before), told);
    }
}
