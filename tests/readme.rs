//! The README says what the program says: its table of settings is `gapi run --help`.

use std::{collections::BTreeMap, process::Command};

const BINARY: &str = env!("CARGO_BIN_EXE_gapi");

fn help(command: &str) -> String {
    let output = Command::new(BINARY).args([command, "--help"]).output().expect("the binary is built");
    String::from_utf8(output.stdout).expect("help is text")
}

/// Flag → default, as `--help` has them. Flags that turn something on have none.
fn flags(help: &str) -> BTreeMap<String, Option<String>> {
    let mut flags = BTreeMap::new();
    let mut current = None;
    for line in help.lines() {
        let words = line.trim();
        if words.starts_with("--") {
            current = words.split_whitespace().next().map(str::to_owned);
            flags.extend(current.clone().map(|flag| (flag, None)));
        }
        let default = words.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
        if let (Some(flag), Some((value, _))) = (&current, default) {
            flags.insert(flag.clone(), Some(value.to_owned()));
        }
    }
    flags
}

#[test]
fn every_setting_is_in_the_readme_with_its_default() {
    let readme = include_str!("../README.md");
    let table: BTreeMap<&str, &str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `--"))
        .filter_map(|row| {
            let mut cells = row.split(" | ");
            Some((cells.next()?.trim_end_matches('`'), cells.next()?))
        })
        .collect();
    let flags = flags(&help("run"));
    assert!(flags.len() > 20, "{flags:?}");
    for (flag, default) in &flags {
        let written = table.get(flag.trim_start_matches('-')).unwrap_or_else(|| panic!("{flag} is not in the README"));
        if let (Some(default), Some(quoted)) = (default, written.strip_prefix('`')) {
            assert_eq!(quoted.trim_end_matches('`'), default, "{flag}");
        }
    }
    for flag in table.keys() {
        assert!(flags.contains_key(&format!("--{flag}")), "the README has --{flag}, gapi run does not");
    }
}

#[test]
fn every_command_is_in_the_readme() {
    let readme = include_str!("../README.md");
    let output = Command::new(BINARY).arg("--help").output().expect("the binary is built");
    let help = String::from_utf8(output.stdout).expect("help is text");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|command| *command != "help") {
        assert!(readme.contains(&format!("`gapi {command}")), "gapi {command} is not in the README");
    }
}
