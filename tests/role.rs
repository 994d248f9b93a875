//! Who may declare what, with the real binary and real owners. All of it needs root: only root gives files away.

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{
    Authority, Backend, Client, Gapi, free_port,
    gapi::{Start, replace, run},
    loopback,
    manifest::{file, gateway, http, https, prefix, route, secret, service, simple},
    wait,
};

const SOON: Duration = Duration::from_secs(10);

/// Users and groups of these numbers have no names, so their numbers are their names.
const ALICE: u32 = 61_001;
const BOB: u32 = 61_002;
const DEVELOPERS: u32 = 62_001;
const STAFF: u32 = 62_002;

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: it gives files to other users, which only root can");
    }
    root
}

fn own(path: &Path, user: u32, group: u32, mode: u32) {
    chown(path, Some(user), Some(group)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("root may");
}

/// A file that appears whole, with this owner.
fn put(gapi: &Gapi, name: &str, text: &str, user: u32, group: u32) {
    let path = gapi.config().join(name);
    let aside = gapi.config().join(format!(".{}.aside", name.replace('/', "-")));
    fs::write(&aside, text).expect("the directory is writable");
    own(&aside, user, group, 0o644);
    fs::rename(&aside, &path).expect("the same file system");
}

fn rbac(kind: &str, name: &str, namespace: &str, rest: Value) -> Value {
    let mut document = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
    if !namespace.is_empty() {
        document["metadata"]["namespace"] = namespace.into();
    }
    for (field, value) in rest.as_object().into_iter().flatten() {
        document[field] = value.clone();
    }
    document
}

/// Routes of namespace default, for a subject such as `User 61001`.
fn routes_for(subject: &str) -> String {
    let (kind, name) = subject.split_once(' ').expect("kind and name");
    file(&[
        rbac(
            "ClusterRole",
            "route-editor",
            "",
            json!({"rules": [{
                "apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": ["create", "update"],
            }]}),
        ),
        rbac(
            "RoleBinding",
            "routes",
            "default",
            json!({
                "roleRef": {"kind": "ClusterRole", "name": "route-editor"},
                "subjects": [{"kind": kind, "name": name}],
            }),
        ),
    ])
}

fn route_to(name: &str) -> String {
    file(&[route(name, "gate", &[&format!("{name}.test")], &[prefix("/", "backend")])])
}

fn status(port: u16, host: &str) -> Option<u16> {
    Some(Client::connect(loopback(port)).ok()?.get(host, "/").ok()?.status())
}

fn platform(port: u16, backend: &Backend) -> String {
    let mut documents = vec![gateway("gate", &[http("http", port)])];
    documents.extend(service("backend", &[backend.address]));
    file(&documents)
}

#[test]
fn a_file_declares_what_its_owner_may() {
    if !is_root("a_file_declares_what_its_owner_may") {
        return;
    }
    let backend = Backend::named("hello");
    let port = free_port();
    let gapi = Gapi::serve(&[("platform.yaml", platform(port, &backend))]);
    put(&gapi, "alice.yaml", &route_to("alice"), ALICE, DEVELOPERS);
    let ran = gapi.reload();
    assert_eq!(ran.code, 1, "{ran:?}");
    for words in [
        "HTTPRoute default/alice: 61001 (group 62001) may not create httproutes.gateway.networking.k8s.io in namespace default",
        "bound to User 61001 or Group 62001",
        "alice.yaml:2:1",
    ] {
        assert!(ran.text.contains(words), "{words:?} is not in {}", ran.text);
    }
    assert_eq!(status(port, "alice.test"), Some(404));
    assert_eq!(gapi.ask(&["auth", "can-i", "create", "httproutes", "--as", "61001"]).code, 1);

    // By the user, by the group; of nothing else, and nowhere else.
    for subject in ["User 61001", "Group 62001"] {
        gapi.put("roles.yaml", routes_for(subject));
        let ran = gapi.reload();
        assert_eq!(ran.code, 0, "{subject}: {ran:?}");
        assert_eq!(status(port, "alice.test"), Some(200), "{subject}");
        let can = |words: &str| {
            let ran = gapi.ask(&["auth", "can-i"].into_iter().chain(words.split(' ')).collect::<Vec<_>>());
            (ran.text.lines().next().unwrap_or_default().to_owned(), ran.code)
        };
        let (yes, no) = (("yes".to_owned(), 0), ("no".to_owned(), 1));
        let alice = "--as 61001 --as-group 62001";
        assert_eq!(can(&format!("create httproutes {alice}")), yes);
        assert_eq!(can(&format!("update HTTPRoute.gateway.networking.k8s.io/x -n default {alice}")), yes);
        assert_eq!(can(&format!("create httproutes -n other {alice}")), no);
        assert_eq!(can(&format!("create httproutes -A {alice}")), no);
        assert_eq!(can(&format!("delete httproutes {alice}")), no);
        assert_eq!(can(&format!("create gateways {alice}")), no);
        assert_eq!(can(&format!("create gatewayclasses {alice}")), no);
        assert_eq!(can("create gatewayclasses --as root"), yes);
        assert_eq!(
            can("create httproutes --as 61001"),
            if subject.starts_with("User") { yes.clone() } else { no.clone() }
        );
        assert_eq!(can("create httproutes --as-group 62001"), if subject.starts_with("User") { no } else { yes });
    }
    let unknown = gapi.ask(&["auth", "can-i", "create", "pods", "--as", "61001"]);
    assert!(
        unknown.code == 1 && unknown.text.contains("Warning: gapi doesn't have a resource type 'pods'"),
        "{unknown:?}"
    );
    let list = gapi.ask(&["auth", "can-i", "--list", "--as-group", "62001"]);
    assert!(
        list.text.contains("httproutes.gateway.networking.k8s.io") && list.text.contains("[create update]"),
        "{list:?}"
    );

    // What nobody binds goes on, over a restart too; a change of it does not come through.
    gapi.take("roles.yaml");
    let ran = gapi.reload();
    assert!(ran.code == 1 && ran.text.contains("stays in force"), "{ran:?}");
    assert_eq!(status(port, "alice.test"), Some(200));
    let (_, start) = gapi.end(Signal::TERM, SOON);
    let gapi = start.serve();
    assert_eq!(status(port, "alice.test"), Some(200));
    put(&gapi, "alice.yaml", &route_to("alice").replace("alice.test", "changed.test"), ALICE, DEVELOPERS);
    assert_eq!(gapi.reload().code, 1);
    assert_eq!((status(port, "alice.test"), status(port, "changed.test")), (Some(200), Some(404)));
    gapi.take("alice.yaml");
    assert_eq!(gapi.reload().code, 0);
    assert_eq!(status(port, "alice.test"), Some(404));
}

/// Bob has a directory of his own and may declare nothing; alice may declare routes.
#[test]
fn nothing_is_gained_with_what_is_anothers() {
    if !is_root("nothing_is_gained_with_what_is_anothers") {
        return;
    }
    let backend = Backend::named("hello");
    let port = free_port();
    let start = Start::new()
        .file("platform.yaml", platform(port, &backend))
        .file("roles.yaml", routes_for("User 61001"))
        .file("bob/.keep", "")
        .file("team/.keep", "");
    let outside = start.root().join("outside");
    for (name, user, group) in [("roots", 0, 0), ("alices", ALICE, DEVELOPERS)] {
        replace(&outside.join(format!("{name}.yaml")), route_to(name).as_bytes());
        own(&outside.join(format!("{name}.yaml")), user, group, 0o644);
    }
    let bob = start.config().join("bob");
    own(&bob, BOB, STAFF, 0o755);
    let gapi = start.serve();
    put(&gapi, "team/team.yaml", &route_to("team"), ALICE, DEVELOPERS);
    assert_eq!(gapi.reload().code, 0);
    let hosts = ["roots.test", "alices.test"];
    let refused = |what: &str| {
        let ran = gapi.reload();
        assert!(ran.code == 1 && ran.text.contains("may not"), "{what}: {ran:?}");
        for host in hosts {
            assert_eq!(status(port, host), Some(404), "{what}: {host}");
        }
        assert_eq!(status(port, "team.test"), Some(200), "{what}: what was there before is untouched");
        let state = gapi.ask(&["status", "-o", "json"]);
        assert!(!state.text.contains("older than"), "{what}: {}", state.text);
    };
    let here = |name: &str| bob.join(name);
    for name in ["roots.yaml", "alices.yaml"] {
        fs::hard_link(outside.join(name), here(name)).expect("the same file system");
    }
    refused("hard links");
    for name in ["roots.yaml", "alices.yaml"] {
        fs::remove_file(here(name)).expect("it is there");
        symlink(outside.join(name), here(name)).expect("root may");
        std::os::unix::fs::lchown(here(name), Some(BOB), Some(STAFF)).expect("root may");
    }
    refused("links");
    for name in ["roots.yaml", "alices.yaml"] {
        fs::remove_file(here(name)).expect("it is there");
    }
    symlink(&outside, here("all")).expect("root may");
    std::os::unix::fs::lchown(here("all"), Some(BOB), Some(STAFF)).expect("root may");
    refused("a link to a directory");
    // A directory that comes first by its name, to keep hers from being read.
    fs::remove_file(here("all")).expect("it is there");
    symlink("../team", here("a")).expect("root may");
    std::os::unix::fs::lchown(here("a"), Some(BOB), Some(STAFF)).expect("root may");
    put(&gapi, "team/team.yaml", &route_to("team2"), ALICE, DEVELOPERS);
    let ran = gapi.reload();
    assert_eq!((ran.code, status(port, "team2.test")), (0, Some(200)), "{ran:?}");
    put(&gapi, "team/team.yaml", &route_to("team"), ALICE, DEVELOPERS);
    fs::remove_file(here("a")).expect("it is there");
    for name in ["roots.yaml", "alices.yaml"] {
        fs::rename(outside.join(name), here(name)).expect("the same file system");
    }
    refused("moved files");
    // By root's own link to where bob can put what he wants.
    fs::create_dir(outside.join("bobs")).expect("root may");
    own(&outside.join("bobs"), BOB, STAFF, 0o755);
    for name in ["roots.yaml", "alices.yaml"] {
        fs::rename(here(name), outside.join("bobs").join(name)).expect("the same file system");
    }
    symlink(outside.join("bobs"), gapi.config().join("linked")).expect("root may");
    refused("root's link to bob's directory");
    // The same files in a directory of root's are what they are.
    own(&outside.join("bobs"), 0, 0, 0o755);
    assert_eq!(gapi.reload().code, 0);
    for host in hosts {
        assert_eq!(status(port, host), Some(200), "{host}");
    }
}

#[test]
fn what_everybody_can_write_is_not_read() {
    if !is_root("what_everybody_can_write_is_not_read") {
        return;
    }
    let backend = Backend::named("hello");
    let port = free_port();
    let start = Start::new().file("platform.yaml", platform(port, &backend)).file("team/route.yaml", route_to("team"));
    let (team, path) = (start.config().join("team"), start.config().join("team/route.yaml"));
    let gapi = start.serve();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("root may");
    assert_eq!((gapi.reload().code, status(port, "team.test")), (0, Some(200)));
    for (place, closed, open, words) in [
        (&path, 0o644, 0o666, "chmod o-w team/route.yaml"),
        (&team, 0o755, 0o777, "chmod o-w team"),
        (&team, 0o755, 0o1777, "chmod o-w team"),
    ] {
        mode(place, open);
        let ran = gapi.reload();
        assert!(ran.code == 1 && ran.text.contains(words), "{open:o}: {ran:?}");
        replace(&path, route_to("changed").as_bytes());
        if place == &path {
            mode(&path, open);
        }
        assert_eq!(gapi.reload().code, 1);
        assert_eq!((status(port, "team.test"), status(port, "changed.test")), (Some(200), Some(404)), "{open:o}");
        replace(&path, route_to("team").as_bytes());
        mode(place, closed);
        let ran = gapi.reload();
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    // What its group can write is the group's, whoever owns it.
    own(&path, 0, DEVELOPERS, 0o664);
    let ran = gapi.reload();
    assert!(ran.code == 1 && ran.text.contains("group 62001, whose members can write the file,"), "{ran:?}");
    gapi.put("roles.yaml", routes_for("Group 62001"));
    assert_eq!(gapi.reload().code, 0);
}

/// An ordinary user's own daemon on their own files.
#[test]
fn whoever_runs_the_daemon_is_trusted() {
    if !is_root("whoever_runs_the_daemon_is_trusted") {
        return;
    }
    let backend = Backend::named("hello");
    let port = free_port();
    let start = Start::new().file("all.yaml", simple(port, backend.address)).file("bob.yaml", route_to("bob"));
    for path in ["config", "state", "run", "config/all.yaml"] {
        own(&start.root().join(path), ALICE, DEVELOPERS, if path.ends_with("yaml") { 0o600 } else { 0o700 });
    }
    own(start.root(), ALICE, DEVELOPERS, 0o755);
    own(&start.config().join("bob.yaml"), BOB, STAFF, 0o644);
    let gapi = start.under(&["setpriv", "--reuid=61001", "--regid=62001", "--clear-groups"]).serve();
    assert_eq!(status(port, "a.test"), Some(200));
    assert_eq!(gapi.ask(&["get", "httproutes", "bob"]).code, 1);
    // No core dump, and no look at its memory: what belongs to such a process in /proc is root's.
    let environment = fs::metadata(format!("/proc/{}/environ", gapi.id())).expect("it runs");
    assert_eq!(environment.uid(), 0, "the process is dumpable");
    let limits = fs::read_to_string(format!("/proc/{}/limits", gapi.id())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    assert!(core.split_whitespace().filter(|word| *word == "0").count() == 2, "{core}");
}

#[test]
fn secrets_are_seen_nowhere() {
    let authority = Authority::new();
    let mut pair = authority.sign(&["secret.test"]);
    let port = free_port();
    let marker = pair.key.lines().nth(1).expect("PEM has lines")[..40].to_owned();
    let documents = [gateway("gate", &[https("https", port, None, "cert")]), secret("cert", &pair)];
    let gapi = Gapi::serve(&[("all.yaml", file(&documents))]);
    fs::set_permissions(gapi.config().join("all.yaml"), fs::Permissions::from_mode(0o644)).expect("ours");
    let ran = gapi.reload();
    assert!(ran.code == 0 && ran.text.contains("Secret default/cert: every user of this machine can read"), "{ran:?}");
    let status_mode = fs::metadata(gapi.runtime().join("status")).expect("it serves").permissions().mode();
    assert_eq!(status_mode & 0o777, 0o750);
    // One that is no key, and one in a document that is refused, or no YAML at all.
    pair.key = format!("{marker}: not a key\n");
    gapi.put("other.yaml", file(&[secret("other", &pair)]));
    let broken = |text: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: broken}}\n{text}\n");
    let quoted = [
        broken(&format!("data: {{tls.key: [\"{marker}\"]}}")),
        broken(&format!("stringData: {{tls.key: \"{marker}")),
        broken(&format!("stringData:\n  tls.key: {marker}\n {marker}: x")),
        broken(&format!("data:\n  tls.key: \"{marker}!\"")),
        broken(&format!("stringData:\n  tls.key: |\n-----BEGIN PRIVATE KEY-----\n{marker}\n-----END PRIVATE KEY-----")),
        broken(&format!("stringData: {{tls.key: x}}\ntls.key: {marker}")),
        broken(&format!("stringData: [{marker}]")),
        broken(&format!("stringData: {marker}")),
        broken(&format!("type: {marker}/{marker}\ndata: {{tls.key: 1}}")),
    ];
    let mut said = String::new();
    for text in &quoted {
        gapi.put("broken.yaml", text);
        said += &gapi.reload().text;
        let path = gapi.config().join("broken.yaml");
        let path = path.to_str().expect("the path is ASCII");
        let checked = run(["check", path]);
        assert!(checked.code == 1 && checked.text.contains("broken.yaml:"), "{checked:?}");
        said += &checked.text;
        said += &run(["check", "-o", "json", path]).text;
    }
    for words in [
        &["get", "secrets", "-A", "-o", "yaml"][..],
        &["get", "secrets", "cert", "-o", "json"],
        &["describe", "secrets"],
        &["describe", "gateway", "gate"],
        &["status", "-o", "wide"],
        &["status", "-o", "json"],
    ] {
        said += &gapi.ask(words).text;
    }
    said += &gapi.log();
    let mut directories = vec![gapi.runtime().join("status")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("root may") {
            let path = entry.expect("root may").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                said += &fs::read_to_string(path).expect("status files are text");
            }
        }
    }
    assert!(said.contains("default/cert") || said.contains("cert"), "{said}");
    assert!(!said.contains(&marker), "a key is in:\n{said}");
    // Once nobody else can read it, there is nothing to say.
    gapi.take("broken.yaml");
    gapi.take("other.yaml");
    fs::set_permissions(gapi.config().join("all.yaml"), fs::Permissions::from_mode(0o640)).expect("ours");
    let ran = gapi.reload();
    assert!(ran.code == 0 && !ran.text.contains("holds a Secret"), "{ran:?}");
}

#[test]
fn check_and_get_know_roles() {
    if !is_root("check_and_get_know_roles") {
        return;
    }
    let backend = Backend::named("hello");
    let gapi =
        Gapi::serve(&[("platform.yaml", platform(free_port(), &backend)), ("roles.yaml", routes_for("User 61001"))]);
    put(&gapi, "alice.yaml", &route_to("alice"), ALICE, DEVELOPERS);
    put(&gapi, "bob.yaml", &route_to("bob"), BOB, STAFF);
    let config = gapi.config();
    let config = config.to_str().expect("the path is ASCII");
    let checked = run(["check", config]);
    assert!(
        checked.code == 1 && checked.text.contains("HTTPRoute default/bob: 61002 (group 62002) may not"),
        "{checked:?}"
    );
    assert!(!checked.text.contains("default/alice"), "{checked:?}");
    let alone = run(["check", &format!("{config}/bob.yaml")]);
    assert!(alone.text.contains("warning") && alone.text.contains("61002"), "{alone:?}");
    let can = |group: &str| {
        let words =
            ["auth", "can-i", "create", "httproutes", "--config-dir", config, "--as", "61001", "--as-group", group];
        run(words).code
    };
    assert_eq!(can("62001"), 0);
    assert_eq!(run(["auth", "can-i", "create", "httproutes", "--config-dir", config, "--as", "61002"]).code, 1);
    gapi.reload();
    let columns = |words: &[&str]| {
        let ran = gapi.ask(words);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(columns(&["get", "clusterroles"])[0], ["NAME", "CREATED", "AT"]);
    let bindings = columns(&["get", "rolebindings", "-o", "wide"]);
    assert_eq!(bindings[0], ["NAME", "ROLE", "AGE", "USERS", "GROUPS", "SERVICEACCOUNTS"]);
    assert_eq!(bindings[1][..2], ["routes", "ClusterRole/route-editor"]);
    assert_eq!(bindings[1][3], "61001");
    let described = gapi.ask(&["describe", "clusterrole", "route-editor"]).text;
    assert!(described.contains("httproutes.gateway.networking.k8s.io   []"), "{described}");
    let described = gapi.ask(&["describe", "rolebinding", "routes"]).text;
    assert!(described.contains("route-editor") && described.contains("61001"), "{described}");
}

/// The names of users and groups are what bindings name, and a directory's permissions count as soon as they change.
#[test]
fn names_and_directories() {
    if !is_root("names_and_directories") {
        return;
    }
    let backend = Backend::named("hello");
    let port = free_port();
    // `daemon` and `mail` are users and groups of every Linux.
    let (daemon, mail) = (1, 8);
    let start = Start::new()
        .file("platform.yaml", platform(port, &backend))
        .file("roles.yaml", routes_for("Group mail"))
        .file("team/.keep", "");
    let team = start.config().join("team");
    let gapi = start.serve();
    put(&gapi, "team/route.yaml", &route_to("team"), daemon, mail);
    assert_eq!((gapi.reload().code, status(port, "team.test")), (0, Some(200)));
    own(&team, BOB, STAFF, 0o755);
    let ran = gapi.reload();
    assert!(ran.code == 1 && ran.text.contains("61002 (group 62002), who owns the directory team,"), "{ran:?}");
    own(&team, 0, 0, 0o755);
    put(&gapi, "team/route.yaml", &route_to("team2"), daemon, mail);
    wait("the new route", SOON, || status(port, "team2.test") == Some(200));
    // Seen by itself, too.
    put(&gapi, "team/route.yaml", &route_to("team3"), BOB, STAFF);
    wait("the finding", SOON, || gapi.log().contains("HTTPRoute default/team3: 61002 (group 62002) may not"));
    assert_eq!(status(port, "team3.test"), Some(404));
}
