//! What editors, shells and `man` are given: schemas, completions and pages.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::server::Home;
use crate::world;

/// The commands that help lists.
fn commands(home: &Home) -> Vec<String> {
    let help = home.run(&["--help"]).expect(0).stdout;
    let list =
        help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names: Vec<String> = names.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(names.len() > 10, "{help}");
    names
}

#[test]
fn schema_prints_what_is_kept_for_packages() {
    let home = world::home();
    let all = home.run(&["schema"]).expect(0).json();
    for kind in ["sites", "zone", "config"] {
        let printed = home.run(&["schema", kind]).expect(0).stdout;
        let kept =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/schema").join(format!("{kind}.json"));
        assert_eq!(printed, fs::read_to_string(&kept).expect("a schema"), "{kind}");
        assert_eq!(all[kind], serde_json::from_str::<Value>(&printed).expect("JSON"));
    }
    home.run(&["schema", "zones"]).expect(2);
}

#[test]
fn completions_know_every_command_and_none_that_is_hidden() {
    let home = world::home();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]).expect(0).stdout;
        for command in commands(&home).iter().filter(|command| *command != "help") {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(
            script.contains(if shell == "fish" { "-l down" } else { "--down" })
                && !script.contains("starter"),
            "{shell}"
        );
        home.write("completions", &script);
        // Where the shell is there, it is asked whether it can read it.
        if let Ok(checked) = Command::new(shell).arg("-n").arg(home.path("completions")).output() {
            assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
    home.run(&["completions", "powershell"]).expect(2);
}

#[test]
fn every_command_has_a_man_page_with_its_example() {
    let home = world::home();
    home.run(&["man", "share/man1"]).expect(0);
    for command in commands(&home).iter().filter(|command| *command != "help") {
        let page =
            fs::read_to_string(home.path(&format!("share/man1/meridian-{command}.1"))).expect("a page");
        assert!(
            page.contains(&format!("meridian\\-{}", command.replace('-', "\\-")))
                && page.contains("EXAMPLES"),
            "{page}"
        );
    }
    let page = fs::read_to_string(home.path("share/man1/meridian.1")).expect("a page");
    assert!(page.contains("nearest healthy site"), "{page}");
    assert!(!home.path("share/man1/meridian-starter.1").exists());
    home.write("file", "");
    let ran = home.run(&["man", "file"]).expect(1);
    assert!(ran.stderr.starts_with("file: "), "{}", ran.stderr);
}
