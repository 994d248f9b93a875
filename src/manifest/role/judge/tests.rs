//! Which bindings allow what, who may give them, and what stays.

use super::*;
use crate::{
    api::ObjectKey,
    manifest::{parse::parse_file, role::custody::Part, span::Bounds},
};

/// Files with who wrote them; nobody for root.
type Files<'a> = &'a [(&'a str, &'a str, &'a str)];

fn who(words: &str) -> Vec<(Who, Part)> {
    let one = |words: &str| {
        let (user, groups) = words.split_once(':').unwrap_or((words, ""));
        Who {
            user: Some(user.to_owned()).filter(|user| !user.is_empty()),
            groups: groups.split(':').filter(|group| !group.is_empty()).map(str::to_owned).collect(),
        }
    };
    words.split_whitespace().map(|words| (one(words), Part::File)).collect()
}

fn run(previous: &Objects, files: Files) -> (Objects, Vec<Finding>) {
    let (mut sources, mut writers) = (BTreeMap::new(), BTreeMap::new());
    for (name, people, text) in files {
        let parsed = parse_file(name, text.as_bytes(), &Bounds::default());
        assert!(
            parsed.whole_file_rejected || parsed.findings.is_empty() || text.contains("broken"),
            "{:?}",
            parsed.findings
        );
        sources.insert((*name).into(), Source::Parsed(Arc::new(parsed)));
        if !people.is_empty() {
            writers.insert((*name).into(), Writers { all: who(people), open: None });
        }
    }
    let judged = judge(previous, sources, &writers);
    (merge(previous, &judged.sources), judged.findings)
}

/// What is in force of these files, and how often something was refused.
fn declared(files: Files) -> (Vec<String>, usize) {
    let (objects, findings) = run(&Objects::new(), files);
    let shown = objects.keys().filter(|key| !key.kind.contains("Role")).map(ToString::to_string).collect();
    (shown, findings.len())
}

fn route(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{rules: [{{name: r}}]}}\n---\n"
    )
}

fn map(namespace: &str, name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{a: '{value}'}}\n---\n"
    )
}

const CLASS: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: c}\n\
                     spec: {controllerName: gapi.dev/gateway-controller}\n---\n";

/// `[cluster]role NAME [NAMESPACE] RULE`, the rule as in YAML.
fn role(place: &str, name: &str, rule: &str) -> String {
    let (kind, namespace) = scoped(place, "Role");
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\n\
         rules: [{rule}]\n---\n"
    )
}

fn binding(place: &str, name: &str, role: &str, subject: &str) -> String {
    let (kind, namespace) = scoped(place, "RoleBinding");
    let (role_kind, role) = role.split_once('/').unwrap();
    let (subject_kind, subject) = subject.split_once('/').unwrap();
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}{namespace}}}\n\
         roleRef: {{kind: {role_kind}, name: {role}}}\nsubjects: [{{kind: {subject_kind}, name: '{subject}'}}]\n---\n"
    )
}

fn scoped(place: &str, kind: &str) -> (String, String) {
    match place {
        "" => (format!("Cluster{kind}"), String::new()),
        namespace => (kind.to_owned(), format!(", namespace: {namespace}")),
    }
}

const ROUTES: &str = "{apiGroups: [gateway.networking.k8s.io], resources: [httproutes], verbs: [create, update]}";
const ALL: &str = "{apiGroups: ['*'], resources: ['*'], verbs: ['*']}";

#[test]
fn every_binding() {
    let cluster_role = role("", "edit", ROUTES);
    let namespaced = role("echo", "edit", ROUTES);
    for (writer, roles, expected) in [
        ("", String::new(), "echo other class"),
        ("alice:developers", String::new(), ""),
        // A Role binds in its namespace, to the user or to the group.
        ("alice:developers", namespaced.clone() + &binding("echo", "b", "Role/edit", "User/alice"), "echo"),
        ("alice:developers", namespaced.clone() + &binding("echo", "b", "Role/edit", "Group/developers"), "echo"),
        (":developers", namespaced.clone() + &binding("echo", "b", "Role/edit", "Group/developers"), "echo"),
        (":developers", namespaced.clone() + &binding("echo", "b", "Role/edit", "User/alice"), ""),
        ("bob:staff", namespaced.clone() + &binding("echo", "b", "Role/edit", "User/alice"), ""),
        // A user is no group, and the other way round.
        ("developers:alice", namespaced.clone() + &binding("echo", "b", "Role/edit", "User/alice"), ""),
        // A Role of another namespace, a role that is not there.
        ("alice:developers", namespaced.clone() + &binding("other", "b", "Role/edit", "User/alice"), ""),
        ("alice:developers", binding("echo", "b", "ClusterRole/edit", "User/alice"), ""),
        // A ClusterRole binds in the namespace of its RoleBinding, or everywhere.
        ("alice:developers", cluster_role.clone() + &binding("other", "b", "ClusterRole/edit", "User/alice"), "other"),
        ("alice:developers", cluster_role.clone() + &binding("", "b", "ClusterRole/edit", "User/alice"), "echo other"),
        // All of a namespace does not have what is in none.
        ("alice:developers", role("", "all", ALL) + &binding("echo", "b", "ClusterRole/all", "User/alice"), "echo"),
        (
            "alice:developers",
            role("", "all", ALL) + &binding("", "b", "ClusterRole/all", "User/alice"),
            "echo other class",
        ),
        // Every hand must be allowed.
        ("alice:developers bob:staff", cluster_role.clone() + &binding("", "b", "ClusterRole/edit", "User/alice"), ""),
        (
            "alice:developers bob:staff",
            cluster_role.clone()
                + &binding("", "b", "ClusterRole/edit", "User/alice")
                + &binding("echo", "b", "ClusterRole/edit", "Group/staff"),
            "echo",
        ),
        // A service account is nobody's.
        (
            "alice:developers",
            cluster_role.clone() + &binding("echo", "b", "ClusterRole/edit", "ServiceAccount/alice"),
            "",
        ),
    ] {
        let documents = route("echo", "echo") + &route("other", "other") + CLASS;
        let (shown, refused) = declared(&[("a.yaml", writer, &documents), ("roles.yaml", "", &roles)]);
        let expected: Vec<String> = expected
            .split_whitespace()
            .map(|word| if word == "class" { "GatewayClass c".to_owned() } else { format!("HTTPRoute {word}/{word}") })
            .collect();
        let mut sorted = expected.clone();
        sorted.sort();
        assert_eq!((shown, refused), (sorted, 3 - expected.len()), "{writer}\n{roles}");
    }
}

#[test]
fn aggregated_roles_have_the_rules_of_what_they_select() {
    let aggregated = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: NAME, labels: {is: NAME}}\n\
                      aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: NAME}}, {matchLabels: {is: top}}]}\n\
                      rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]\n---\n";
    let part = role("", "part, labels: {to: low}", ROUTES);
    // Two that take in each other, and rules as written, which count for nothing.
    let low = aggregated.replace("NAME", "low");
    let top = aggregated.replace("NAME", "top").replace("{to: top}", "{is: low}");
    let roles = part + &low + &top + &binding("echo", "b", "ClusterRole/top", "User/alice");
    let documents = route("echo", "a") + &map("echo", "b", "1");
    let (shown, refused) = declared(&[("a.yaml", "alice:x", &documents), ("roles.yaml", "", &roles)]);
    assert_eq!((shown, refused), (vec!["HTTPRoute echo/a".to_owned()], 1));
}

#[test]
fn verbs() {
    let rule = |verbs: &str| format!("{{apiGroups: [''], resources: [configmaps], verbs: [{verbs}]}}");
    let roles = |verbs: &str| role("echo", "edit", &rule(verbs)) + &binding("echo", "b", "Role/edit", "User/alice");
    let value = |objects: &Objects| {
        objects.get(&ObjectKey::new("ConfigMap", "echo", "m")).map(|object| object.value["data"]["a"].clone())
    };
    let (old, new) = (map("echo", "m", "old"), map("echo", "m", "new"));
    let all = roles("'*'");
    let (before, findings) = run(&Objects::new(), &[("a.yaml", "alice:x", &old), ("roles.yaml", "", &all)]);
    assert_eq!((value(&before), findings.len()), (Some("old".into()), 0));
    for (verbs, create, keep, change) in [
        ("create", true, true, false),
        ("update", false, true, true),
        ("patch", false, true, true),
        ("'create', update", true, true, true),
        ("'*'", true, true, true),
        ("get, list, delete", false, false, false),
    ] {
        let roles = roles(verbs);
        let files = |text| [("a.yaml", "alice:x", text), ("roles.yaml", "", roles.as_str())];
        let (objects, findings) = run(&Objects::new(), &files(&new));
        assert_eq!((value(&objects).is_some(), findings.is_empty()), (create, create), "{verbs}: create");
        let (objects, findings) = run(&before, &files(&old));
        assert_eq!((value(&objects), findings.is_empty()), (Some("old".into()), keep), "{verbs}: keep");
        let (objects, findings) = run(&before, &files(&new));
        let expected = if change { "new" } else { "old" };
        assert_eq!((value(&objects), findings.is_empty()), (Some(expected.into()), change), "{verbs}: change");
    }
}

#[test]
fn names() {
    let rule = "{apiGroups: [''], resources: [configmaps], verbs: [create, update], resourceNames: [m]}";
    let roles = role("echo", "edit", rule) + &binding("echo", "b", "Role/edit", "User/alice");
    let documents = map("echo", "m", "1") + &map("echo", "other", "1");
    let (shown, refused) = declared(&[("a.yaml", "alice:x", &documents), ("roles.yaml", "", &roles)]);
    assert_eq!((shown, refused), (vec!["ConfigMap echo/m".to_owned()], 1));
}

#[test]
fn what_was_accepted_stays_until_its_document_goes() {
    let roles = role("echo", "edit", ALL) + &binding("echo", "b", "Role/edit", "User/alice");
    let (old, new) = (map("echo", "m", "old"), map("echo", "m", "new"));
    let (before, _) = run(&Objects::new(), &[("a.yaml", "alice:x", &old), ("roles.yaml", "", &roles)]);
    let key = ObjectKey::new("ConfigMap", "echo", "m");
    let value =
        |objects: &Objects| objects.get(&key).map(|object| object.value["data"]["a"].as_str().unwrap().to_owned());
    // The right is gone; the document is as it was, or another; then it goes.
    let (objects, findings) = run(&before, &[("a.yaml", "alice:x", &old)]);
    assert_eq!((value(&objects).as_deref(), findings.len()), (Some("old"), 1));
    assert!(findings[0].message.contains("stays in force"), "{}", findings[0]);
    let (objects, findings) = run(&before, &[("a.yaml", "alice:x", &new)]);
    assert_eq!((value(&objects).as_deref(), findings.len()), (Some("old"), 1));
    let (objects, findings) = run(&before, &[("a.yaml", "alice:x", "# nothing\n")]);
    assert_eq!((value(&objects), findings.len()), (None, 0));
    // Another's document keeps nothing, allowed or not, well formed or not.
    for text in [new.clone(), old.clone(), new.replace("data:", "broken:")] {
        let (objects, _) = run(&before, &[("b.yaml", "bob:y", &text)]);
        assert_eq!(value(&objects), None, "{text}");
    }
    // Nor is it taken for news of hers.
    let (objects, findings) =
        run(&before, &[("0.yaml", "bob:y", &new), ("a.yaml", "alice:x", &old), ("roles.yaml", "", &roles)]);
    assert_eq!((value(&objects).as_deref(), findings.len()), (Some("old"), 1));
}

#[test]
fn nobody_gives_what_they_do_not_have() {
    let rbac = "{apiGroups: [rbac.authorization.k8s.io], resources: [roles, rolebindings, clusterroles, clusterrolebindings], verbs: [create, update]}";
    let base = |more: &str| {
        role("echo", "admin", &format!("{rbac}, {ROUTES}{more}"))
            + &binding("echo", "admin", "Role/admin", "User/alice")
            + &role("", "all", ALL)
            + &role("", "routes", ROUTES)
            + &role("echo", "routes", ROUTES)
    };
    let may = |verb: &str, resource: &str| {
        format!(", {{apiGroups: [rbac.authorization.k8s.io], resources: [{resource}], verbs: [{verb}]}}")
    };
    let nothing = String::new;
    for (more, document, allowed) in [
        (nothing(), role("echo", "mine", ROUTES), true),
        (nothing(), role("echo", "mine", ALL), false),
        (nothing(), role("echo", "mine", &ROUTES.replace("update", "delete")), false),
        (nothing(), role("echo", "mine", &ROUTES.replace("verbs", "resourceNames: [a], verbs")), true),
        (nothing(), role("other", "mine", ROUTES), false),
        (nothing(), role("", "mine", ROUTES), false),
        (nothing(), binding("echo", "mine", "Role/routes", "User/bob"), true),
        (nothing(), binding("echo", "mine", "ClusterRole/routes", "User/bob"), true),
        (nothing(), binding("echo", "mine", "ClusterRole/all", "User/alice"), false),
        (nothing(), binding("echo", "mine", "ClusterRole/not-there-yet", "User/alice"), false),
        (nothing(), binding("", "mine", "ClusterRole/routes", "User/alice"), false),
        (nothing(), binding("other", "mine", "ClusterRole/routes", "User/alice"), false),
        (may("escalate", "roles"), role("echo", "mine", ALL), true),
        (may("bind", "clusterroles"), binding("echo", "mine", "ClusterRole/all", "User/alice"), true),
        (may("bind", "roles"), binding("echo", "mine", "ClusterRole/all", "User/alice"), false),
        // What was root's does not become hers by being written as root wrote it.
        (nothing(), binding("echo", "gone", "ClusterRole/all", "User/alice"), false),
        (nothing(), binding("echo", "admin", "ClusterRole/all", "User/alice"), false),
    ] {
        let (mut before, _) =
            run(&Objects::new(), &[("gone.yaml", "", &binding("echo", "gone", "ClusterRole/all", "User/alice"))]);
        before.extend(run(&Objects::new(), &[("roles.yaml", "", &base(&more))]).0);
        let (objects, findings) = run(&before, &[("a.yaml", "alice:x", &document), ("roles.yaml", "", &base(&more))]);
        assert_eq!(findings.is_empty(), allowed, "{more}\n{document}\n{findings:#?}");
        let mine = objects.values().any(|object| &*object.origin.file == "a.yaml");
        assert_eq!(mine, allowed, "{document}");
    }
}

#[test]
fn what_is_given_may_be_given_on() {
    let rbac = "{apiGroups: [rbac.authorization.k8s.io], resources: ['*'], verbs: ['*']}";
    let roles = role("echo", "all", &format!("{rbac}, {ROUTES}")) + &binding("echo", "a", "Role/all", "User/alice");
    let files = [
        ("1.yaml", "dora:x", route("echo", "d")),
        ("2.yaml", "carol:x", binding("echo", "d", "Role/all", "User/dora")),
        ("3.yaml", "bob:x", binding("echo", "c", "Role/all", "User/carol")),
        ("4.yaml", "alice:x", binding("echo", "b", "Role/all", "User/bob")),
        ("5.yaml", "eve:x", binding("echo", "e", "Role/all", "User/eve")),
        ("roles.yaml", "", roles),
    ];
    let files: Vec<_> = files.iter().map(|(name, who, text)| (*name, *who, text.as_str())).collect();
    let (objects, findings) = run(&Objects::new(), &files);
    assert!(objects.contains_key(&ObjectKey::new("HTTPRoute", "echo", "d")));
    assert_eq!(
        findings.iter().map(|finding| finding.origin.clone().unwrap().file).collect::<Vec<_>>(),
        ["5.yaml".into()]
    );
}

#[test]
fn a_finding_says_who_what_where_and_what_to_do() {
    let (_, findings) = run(&Objects::new(), &[("routes.yaml", "alice:developers", &route("echo", "web"))]);
    assert_eq!(
        findings[0].to_string(),
        "HTTPRoute echo/web: alice (group developers) may not create httproutes.gateway.networking.k8s.io in namespace \
         echo: no Role or ClusterRole bound to User alice or Group developers allows it; root can declare a RoleBinding \
         in namespace echo for User alice or Group developers to a Role with apiGroups: \
         [\"gateway.networking.k8s.io\"], resources: [\"httproutes\"], verbs: [\"create\", \"update\"] (routes.yaml:1:1)"
    );
}

#[test]
fn a_rule_too_large_to_look_at_gives_nothing_and_costs_little() {
    let many = |prefix: &str| (0..400).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(", ");
    let own = format!("{{apiGroups: ['*'], resources: ['*'], verbs: [{}]}}", many("v"));
    let rbac = "{apiGroups: ['*'], resources: [roles], verbs: [create]}";
    let roles = role("", "own", &format!("{own}, {rbac}")) + &binding("", "own", "ClusterRole/own", "User/alice");
    let wanted = format!("{{apiGroups: [{}], resources: [{}], verbs: [{}, other]}}", many("g"), many("r"), many("v"));
    let start = std::time::Instant::now();
    let (_, findings) =
        run(&Objects::new(), &[("a.yaml", "alice:x", &role("echo", "mine", &wanted)), ("roles.yaml", "", &roles)]);
    assert_eq!(findings.len(), 1);
    assert!(start.elapsed().as_secs() < 20);
}
