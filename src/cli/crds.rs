//! The command `crds`: the custom resource definitions as YAML.

use std::io;

use crate::api;

/// One file a kind: its name below `crds/`, and its text.
///
/// The text is the same on every run and machine.
///
/// # Errors
/// A definition has no YAML form; never seen.
pub fn render() -> Result<Vec<(String, String)>, serde_saphyr::SerializeError> {
    let file = |crd| {
        let crd: api::CustomResourceDefinition = crd;
        let name = format!("{}.yaml", crd.spec.names.plural);
        serde_saphyr::to_string(&crd).map(|yaml| (name, yaml))
    };
    api::crds().into_iter().map(file).collect()
}

/// Writes all definitions, one YAML document each.
///
/// # Errors
/// The output cannot be written.
pub fn print(out: &mut dyn io::Write) -> io::Result<()> {
    for (_, yaml) in render().map_err(io::Error::other)? {
        write!(out, "---\n{}\n", yaml.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "MCO_REWRITE says whether to write them anew")]
    fn the_files_below_crds_are_what_the_types_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        let rewrite = env::var_os("MCO_REWRITE").is_some();
        let rendered = super::render().unwrap();
        if rewrite {
            fs::create_dir_all(&folder).unwrap();
        }
        for (name, text) in &rendered {
            let path = folder.join(name);
            if rewrite {
                fs::write(&path, text).unwrap();
            }
            let stored = fs::read_to_string(&path).unwrap_or_default();
            assert!(stored == *text, "{name} differs; run this test with MCO_REWRITE=1");
        }
        let names: Vec<_> = rendered.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["messagecontacts.yaml", "resourcedirectories.yaml"]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), names.len(), "a file too many");
    }
}
