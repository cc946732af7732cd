//! The command `crds`: the custom resource definitions, or the rules of admission, as YAML.

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

/// The rules by which the apiserver judges contacts: the text of `admission/policies.yaml`.
///
/// # Errors
/// As [`render`].
pub fn render_admission() -> Result<String, serde_saphyr::SerializeError> {
    let mut all = String::new();
    for (policy, binding) in api::admission::rules() {
        for yaml in [serde_saphyr::to_string(&policy)?, serde_saphyr::to_string(&binding)?] {
            all.push_str("---\n");
            all.push_str(yaml.trim_end());
            all.push('\n');
        }
    }
    Ok(all)
}

/// Writes all definitions, or all rules of admission, one YAML document each.
///
/// # Errors
/// The output cannot be written.
pub fn print(admission: bool, out: &mut dyn io::Write) -> io::Result<()> {
    if admission {
        return out.write_all(render_admission().map_err(io::Error::other)?.as_bytes());
    }
    for (_, yaml) in render().map_err(io::Error::other)? {
        write!(out, "---\n{}\n", yaml.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "MCO_REWRITE says whether to write it anew")]
    fn the_file_below_admission_is_what_the_code_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("admission/policies.yaml");
        let rendered = super::render_admission().unwrap();
        if env::var_os("MCO_REWRITE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &rendered).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == rendered, "it differs; run this test with MCO_REWRITE=1");
    }

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
        let kinds = ["messagecontacts.yaml", "resourcedirectories.yaml", "contactpolicies.yaml"];
        assert_eq!(names, kinds);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), names.len(), "a file too many");
    }
}
