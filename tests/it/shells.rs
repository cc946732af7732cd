//! Manual pages and completions of the real program.

use std::process::{Command, Stdio};

use crate::process;

fn output(arguments: &[&str]) -> Vec<u8> {
    let ended = process::run(arguments, &[]);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    ended.stdout
}

#[test]
fn every_shell_gets_a_script_and_takes_it() {
    // Arguments with which a shell reads a script and does not run it.
    let shells = [
        ("bash", Some(vec!["-n"])),
        ("zsh", Some(vec!["-n"])),
        ("fish", Some(vec!["--no-execute"])),
        ("elvish", Some(vec!["-compileonly"])),
        ("powershell", None),
    ];
    for (shell, check) in shells {
        let script = output(&["completions", shell]);
        let text = String::from_utf8(script.clone()).unwrap();
        for word in ["export", "report", "doctor", "values-in-secrets", "no-cluster"] {
            assert!(text.contains(word), "{word} is missing for {shell}");
        }
        let path = process::scratch(shell);
        std::fs::write(&path, script).unwrap();
        let Some(check) = check else { continue };
        let mut command = Command::new(shell);
        match command.args(check).arg(&path).stdin(Stdio::null()).output() {
            Ok(ended) => {
                assert!(
                    ended.status.success(),
                    "{shell}: {}",
                    String::from_utf8_lossy(&ended.stderr)
                );
            }
            // A shell that is not here cannot be asked.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = process::scratch("man");
    output(&["man", "--output", folder.to_str().unwrap()]);
    let commands = ["crds", "doctor", "export", "man", "report", "run", "validate", "completions"];
    let page = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}");
        text
    };
    let program = page("message-contact-operator.1");
    for command in commands {
        page(&format!("message-contact-operator-{command}.1"));
        assert!(program.contains(command), "{command} is not named");
    }
    let export = page("message-contact-operator-export.1");
    assert!(export.contains("Exit code 0"), "{export}");
    // All of them in one piece, for a pager.
    let all = String::from_utf8(output(&["man"])).unwrap();
    assert!(all.contains(&program) && all.contains(&export));
}
