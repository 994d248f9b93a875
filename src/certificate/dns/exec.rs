//! A program of this machine that changes DNS, called as lego's exec provider calls it: `present NAME VALUE` and
//! `cleanup NAME VALUE`, or with mode RAW `present -- DOMAIN TOKEN KEY-AUTHORIZATION`.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

use super::{record::Record, settings::Settings};
use crate::api::cert_manager::{SecretKey, read_duration};

/// How long a program may take where nothing else is written.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What may be written.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Of what it prints, so much is told.
const MAX_OUTPUT: usize = 2000;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is run.
pub struct Program {
    command: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    timeout: Duration,
    raw: bool,
}

impl Program {
    /// Of settings that were found to be complete.
    pub fn new(settings: &Settings) -> Result<Program, String> {
        let block = settings.block;
        let texts = block["args"].as_array().into_iter().flatten();
        let timeout = block["timeout"].as_str().and_then(read_duration).unwrap_or(TIMEOUT);
        let variables = block["env"].as_array().into_iter().flatten();
        let environment = variables.map(|variable| read_variable(settings, variable)).collect::<Result<_, String>>()?;
        Ok(Program {
            command: settings.need("command")?.into(),
            arguments: texts.filter_map(|text| Some(text.as_str()?.to_owned())).collect(),
            environment,
            timeout: timeout.min(MAX_TIMEOUT),
            raw: block["mode"] == "RAW",
        })
    }

    pub fn name(&self) -> String {
        format!("exec {}", self.command.display())
    }

    /// Runs it, without a shell, in a process group of its own and within its time.
    pub async fn run(&self, action: &str, record: &Record) -> Result<(), String> {
        let program = trusted(&self.command).map_err(|why| format!("webhook.config.command: {why}"))?;
        let name = format!("{}.", record.name);
        let words: Vec<&str> = match self.raw {
            true => vec![action, "--", &record.domain, &record.token, &record.authorization],
            false => vec![action, &name, &record.value],
        };
        let mut child = Command::new(&program)
            .args(&self.arguments)
            .args(words)
            .env_clear()
            .env("PATH", PATH)
            .envs(&self.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let (mut printed, mut complained) = (Vec::new(), Vec::new());
        let reading = async { tokio::join!(read(output, &mut printed), read(errors, &mut complained)) };
        let ending = async {
            tokio::pin!(reading);
            let mut read_all = false;
            loop {
                tokio::select! {
                    _ = &mut reading, if !read_all => read_all = true,
                    status = child.wait() => {
                        // What it left running may hold its output open.
                        if !read_all {
                            let _ = timeout(Duration::from_millis(200), &mut reading).await;
                        }
                        break status;
                    }
                }
            }
        };
        let ended = timeout(self.timeout, ending).await;
        drop(group);
        let said = said(&complained, &printed);
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("{} {action} ended with {status}{said}", program.display())),
            Ok(Err(error)) => Err(format!("{}: {error}", program.display())),
            Err(_) => Err(format!(
                "{} {action} was ended after {} s{said}; give it more time with config.timeout",
                program.display(),
                self.timeout.as_secs()
            )),
        }
    }
}

fn read_variable(settings: &Settings, variable: &Value) -> Result<(String, String), String> {
    let name = variable["name"].as_str().unwrap_or_default().to_owned();
    if let Some(value) = variable["value"].as_str() {
        return Ok((name, value.to_owned()));
    }
    let reference = &variable["valueFrom"]["secretKeyRef"];
    let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
    let told = |why: &str| format!("webhook.config.env: {name}: {why}");
    let held = settings.secrets.get(&SecretKey { name: text("name"), key: text("key") });
    let bytes = held.ok_or_else(|| told("the Secret is not known"))?.as_ref().map_err(|why| told(why))?;
    let value = std::str::from_utf8(bytes).map_err(|_| told("the entry of the Secret is no text"))?;
    Ok((name.clone(), value.trim_end_matches('\n').to_owned()))
}

/// Ends what is left of a process group.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads to the end and keeps the beginning, so that nobody waits for a full pipe.
async fn read(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut bytes = [0; 4096];
    while let Ok(length) = stream.read(&mut bytes).await
        && length > 0
    {
        let room = MAX_OUTPUT.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&bytes[..room]);
    }
}

fn said(complained: &[u8], printed: &[u8]) -> String {
    let said = [complained, printed].concat();
    let lines = String::from_utf8_lossy(&said);
    let clean: String = lines.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_OUTPUT).collect();
    if clean.is_empty() { clean } else { format!(": {clean}") }
}

/// The program itself, where nobody but root and the daemon's user can change what is run.
fn trusted(command: &Path) -> Result<PathBuf, String> {
    let told = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut path = command.to_owned();
    // Each link on the way can be changed by whoever can write its directory.
    for _ in 0..8 {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let directory = directory.canonicalize().map_err(|error| told(directory, error))?;
        for ancestor in directory.ancestors() {
            let metadata = fs::symlink_metadata(ancestor).map_err(|error| told(ancestor, error))?;
            // In a directory like /tmp nobody takes away what is another's.
            let sticky = metadata.mode() & 0o1000 != 0;
            guarded(ancestor, &metadata, sticky)?;
        }
        path = directory.join(path.file_name().ok_or_else(|| format!("{} is no file", command.display()))?);
        let metadata = fs::symlink_metadata(&path).map_err(|error| told(&path, error))?;
        if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(|error| told(&path, error))?;
            path = directory.join(target);
            continue;
        }
        if !metadata.is_file() {
            return Err(format!("{} is no file", path.display()));
        }
        guarded(&path, &metadata, false)?;
        return Ok(path);
    }
    Err(format!("{}: too many links", command.display()))
}

fn guarded(path: &Path, metadata: &fs::Metadata, sticky: bool) -> Result<(), String> {
    let own = geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Err(format!("{} belongs to user {}: give it to root", path.display(), metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 && !sticky {
        return Err(format!("{} can be written to by others: run chmod go-w {0}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::graph::issuance::dns01::Secrets;
    use serde_json::json;

    fn program(directory: &Path, text: &str) -> PathBuf {
        let path = directory.join("program");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        path
    }

    fn run(path: &Path, more: Value, action: &str) -> Result<(), String> {
        let mut block = json!({"command": path});
        block.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let settings = Settings { field: "webhook.config", block: &block, secrets: &Secrets::new() };
        let program = Program::new(&settings)?;
        let record = Record {
            domain: "a.example".into(),
            name: "_acme-challenge.a.example".into(),
            zone: String::new(),
            value: "value".into(),
            token: "token".into(),
            authorization: "authorization".into(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(program.run(action, &record))
    }

    #[test]
    fn a_program_is_called_as_lego_calls_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = program(directory.path(), "echo \"$*|$A|$HOME\" >&2; exit 3");
        let told = run(&path, json!({"args": ["-x"], "env": [{"name": "A", "value": "b"}]}), "present");
        let told = told.expect_err("it fails");
        assert!(told.contains("-x present _acme-challenge.a.example. value|b|"), "{told}");
        assert!(told.contains("exit status: 3"), "{told}");
        let told = run(&path, json!({"mode": "RAW"}), "cleanup").expect_err("it fails");
        assert!(told.contains("cleanup -- a.example token authorization||"), "{told}");
    }

    #[test]
    fn a_program_ends_in_time_with_all_that_it_started() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = program(directory.path(), "sleep 600 & echo $! > \"$0.pid\"; echo waiting; wait");
        let start = std::time::Instant::now();
        let told = run(&path, json!({"timeout": "1s"}), "present").expect_err("it takes too long");
        assert!(start.elapsed() < Duration::from_secs(30) && told.contains("waiting"), "{told}");
        let pid = fs::read_to_string(directory.path().join("program.pid")).expect("it wrote it");
        let gone = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "));
        for _ in 0..500 {
            if !gone() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!gone());
        // One that leaves something behind, and prints without end, is not waited for.
        let path = program(directory.path(), "sleep 600 & head -c 1000000 /dev/zero");
        assert_eq!(run(&path, json!({}), "present"), Ok(()));
    }

    #[test]
    fn what_others_can_change_is_not_run() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = program(directory.path(), "exit 0");
        assert_eq!(run(&path, json!({}), "present"), Ok(()));
        let link = directory.path().join("link");
        symlink(&path, &link).expect("writable");
        assert_eq!(run(&link, json!({}), "present"), Ok(()));
        for mode in [0o775, 0o757] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            for path in [&path, &link] {
                assert!(run(path, json!({}), "present").is_err_and(|told| told.contains("chmod")), "{mode:o}");
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("ours");
        assert!(run(&path, json!({}), "present").is_err_and(|told| told.contains("written to by others")));
        assert!(run(Path::new("/nonexistent/program"), json!({}), "present").is_err());
        assert!(run(Path::new("/usr"), json!({}), "present").is_err_and(|told| told.contains("no file")));
    }
}
