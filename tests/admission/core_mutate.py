#!/usr/bin/env python3
"""Writes mutants of valid core objects, one document to a file, for a differential run against an API server.

    core_mutate.py DIR          every mutant (some thousands, the same ones each time)

Each seed touches every field of its Go type. A mutant differs from its seed in one place: a field dropped, set to
null, to another type or to a value that some rule cares about, misspelt, unknown, written twice; a list emptied, an
item dropped or repeated. Pairs of mutations are drawn for the Service spec, whose rules look at several fields.
"""

import copy
import itertools
import json
import pathlib
import random
import sys

META = {"name": "a", "namespace": "default", "labels": {"app": "x"}, "annotations": {"note": "y"}, "generation": 1,
        "finalizers": ["example.com/f"]}
REFERENCE = {
    "kind": "Pod", "namespace": "default", "name": "p", "uid": "u", "apiVersion": "v1", "resourceVersion": "7",
    "fieldPath": "spec",
}
TIME = "2026-01-02T03:04:05Z"


def service(spec, **rest):
    return {"apiVersion": "v1", "kind": "Service", "metadata": copy.deepcopy(META), "spec": spec, **rest}


def slice_(address_type, endpoints, ports):
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": copy.deepcopy(META),
        "addressType": address_type, "endpoints": endpoints, "ports": ports,
    }


def rbac(kind, **fields):
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": copy.deepcopy(META), **fields}


RULE = {"verbs": ["get", "*"], "apiGroups": ["", "apps"], "resources": ["pods", "*/status"], "resourceNames": ["a"]}
URLS = {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/a/*"]}
SUBJECTS = [
    {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "alice"}, {"kind": "Group", "name": "x:y"},
    {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
]


def secret(type_, **fields):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": copy.deepcopy(META), "type": type_, **fields}


SEEDS = {
    "service-cluster-ip": service({
        "type": "ClusterIP", "selector": {"app": "x"}, "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack", "externalIPs": ["192.0.2.1"],
        "externalTrafficPolicy": "Cluster", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}, "internalTrafficPolicy": "Local",
        "publishNotReadyAddresses": True, "trafficDistribution": "PreferClose",
        "ports": [
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
            {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
        ],
    }),
    "service-small": service({"ports": [{"port": 80}]}),
    "service-headless": service({"clusterIP": "None", "ports": [{"port": 80}]}),
    "service-external-name": service({"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]}),
    "service-node-port": service({
        "type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81}],
        "externalTrafficPolicy": "Local",
    }),
    "service-load-balancer": service(
        {
            "type": "LoadBalancer", "loadBalancerIP": "192.0.2.7", "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "allocateLoadBalancerNodePorts": False, "loadBalancerClass": "example.com/lb", "healthCheckNodePort": 30001,
            "externalTrafficPolicy": "Local", "ports": [{"port": 443, "nodePort": 30443}],
        },
        status={
            "loadBalancer": {"ingress": [{
                "ip": "192.0.2.7", "hostname": "h", "ipMode": "VIP",
                "ports": [{"port": 443, "protocol": "TCP", "error": "e"}],
            }]},
            "conditions": [{
                "type": "T", "status": "True", "observedGeneration": 1, "lastTransitionTime": TIME, "reason": "R",
                "message": "m",
            }],
        },
    ),
    "slice-ipv4": slice_(
        "IPv4",
        [
            {
                "addresses": ["10.1.2.3"], "conditions": {"ready": True, "serving": True, "terminating": False},
                "hostname": "pod-1", "targetRef": REFERENCE, "deprecatedTopology": {"a": "b"}, "nodeName": "node-1",
                "zone": "z", "hints": {"forZones": [{"name": "z"}, {"name": "y"}], "forNodes": [{"name": "node-1"}]},
            },
            {"addresses": ["10.1.2.4"]},
        ],
        [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}, {"port": 9}],
    ),
    "slice-ipv6": slice_("IPv6", [{"addresses": ["2001:db8::1"]}], [{"port": 80}]),
    "slice-fqdn": slice_("FQDN", [{"addresses": ["a.example.com"]}], [{"port": 80}]),
    "endpoints": {
        "apiVersion": "v1", "kind": "Endpoints", "metadata": META,
        "subsets": [{
            "addresses": [{"ip": "10.1.2.3", "hostname": "pod-1", "nodeName": "node-1", "targetRef": REFERENCE}],
            "notReadyAddresses": [{"ip": "2001:db8::1"}],
            "ports": [
                {"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}, {"name": "x", "port": 9},
            ],
        }],
    },
    "endpoints-small": {
        "apiVersion": "v1", "kind": "Endpoints", "metadata": META,
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}],
    },
    "secret-opaque": secret("Opaque", data={"a.b": "aGVsbG8="}, stringData={"c": "text"}, immutable=True),
    "secret-tls": secret("kubernetes.io/tls", data={"tls.crt": "YQ==", "tls.key": "YQ=="}),
    "secret-tls-string": secret("kubernetes.io/tls", stringData={"tls.crt": "a", "tls.key": "b"}),
    "secret-docker-cfg": secret("kubernetes.io/dockercfg", data={".dockercfg": "e30="}),
    "secret-docker-json": secret("kubernetes.io/dockerconfigjson", stringData={".dockerconfigjson": "{}"}),
    "secret-basic": secret("kubernetes.io/basic-auth", stringData={"username": "u", "password": "p"}),
    "secret-ssh": secret("kubernetes.io/ssh-auth", data={"ssh-privatekey": "YQ=="}),
    "secret-token": {
        **secret("kubernetes.io/service-account-token", data={}),
        "metadata": {"name": "a", "annotations": {"kubernetes.io/service-account.name": "s"}},
    },
    "config-map": {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": META, "immutable": False, "data": {"a": "text"},
        "binaryData": {"b": "aGVsbG8="},
    },
    "role": rbac("Role", rules=[RULE]),
    "role-urls": rbac("Role", rules=[URLS]),
    "cluster-role": rbac("ClusterRole", rules=[RULE, URLS]),
    "cluster-role-aggregated": rbac("ClusterRole", aggregationRule={"clusterRoleSelectors": [
        {"matchLabels": {"app": "x"}, "matchExpressions": [
            {"key": "k", "operator": "In", "values": ["text"]}, {"key": "k", "operator": "Exists"}]}]}),
    "binding": rbac("RoleBinding", roleRef={
        "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, subjects=SUBJECTS),
    "cluster-binding": rbac("ClusterRoleBinding", roleRef={"kind": "ClusterRole", "name": "r"}, subjects=SUBJECTS),
    "namespace": {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"app": "x"}},
        "spec": {"finalizers": ["kubernetes", "example.com/f"]},
        "status": {
            "phase": "Active",
            "conditions": [{
                "type": "T", "status": "True", "lastTransitionTime": TIME, "reason": "R", "message": "m",
            }],
        },
    },
}

OTHER_TYPES = [None, "x", "", 0, 1, -1, 1.5, 80.0, 2147483647, 2147483648, 1e30, True, [], {}, [None], [1], ["x"],
               {"a": "b"}, {"a": None}, {"a": 1}, [[]], [{}]]
IPS = ["10.0.0.1", "10.0.0.2", "010.0.0.1", "1.2.3", "1.2.3.4.5", "256.0.0.1", "::", "::1", "0.0.0.0", "127.0.0.1",
       "169.254.1.1", "fe80::1", "fe80::1%eth0", "ff02::1", "224.0.0.1", "239.1.1.1", "255.255.255.255",
       "::ffff:1.2.3.4", "::1.2.3.4", "2001:DB8::1", "2001:db8:0:0:0:0:0:1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::",
       "1:2:3:4::5:6:7:8", "00001::", "2001:db8::1:0:0:1", "1:0:0:2:0:0:0:3", "[::1]", " 10.0.0.1", "10.0.0.1 ", "None",
       "none", "", "localhost", "1:2:3:4:5:6:7:0"]
LABELS = ["a", "A", "a.b", "a-b", "a_b", "-a", "a-", "a b", "é", "a" * 63, "a" * 64, "1", "a\n"]
KEYS = LABELS + ["x.y/a", "/a", "a/", "a/b/c", "X.y/a", "x" * 254 + "/a", ".", "..", "..a", ".a", "a" * 253, "a" * 254]
DOMAINS = ["a.b", "a.b.", "a..b", "a", "a.", ".", "*.a.b", "A.b", "1.2.3.4", "a_b.c", "a" * 64 + ".b",
           ".".join(["a" * 60] * 4) + ".abcdefghi", ".".join(["a" * 60] * 4) + ".abcdefghij", "-a.b", "a-.b"]
RANGES = ["10.0.0.0/8", "10.0.0.1/8", " 10.0.0.0/8 ", "010.0.0.0/8", "10.0.0.0/08", "10.0.0.0", "10.0.0.0/33",
          "10.0.0.0/-1", "10.0.0.0/+8", "::/0", "0.0.0.0/0", "fd00::/8", "fd00::1/8", "::ffff:1.2.3.0/120", "FD00::/8",
          "10.0.0.0/8/8", "fe80::%eth0/64", "/8", "10.0.0.0/", "\u00a010.0.0.0/8", "::1/128", "::1/129"]
ENCODED = ["aGVsbG8=", "aGVsbG8", "aGVs\nbG8=", "aGVsbG8=\n", "aGVsbG8=\r\n", "aGVs bG8=", "aGVsbG9=", "YQ=\n=", "=",
           "====", "YQ===", "YQ==YQ==", "YQ==\t", "_-8=", "/+8=", "é", "YQ", "YWI=", "YWJ=", [104, 105], [256], [-1],
           [None], [1.5], ["a"], [0, 255], [True], "W10=", "bnVsbA==", "e30=", "MQ==", "e30K", "e30gfQ==", "InMi"]
JSONS = ["{}", "[]", "null", "1", "\"s\"", "{\"a\":1}", "{\"a\":1,\"a\":2}", " {} ", "{} x", "{'a':1}", "{\"a\":1,}",
         "{\"a\":\"\\ud800\"}", "{\"a\":1e999}", "{\"a\":01}", "{\"a\":\"\t\"}", "{\"a\":\"\u007f\"}", "",
         "[" * 200 + "]" * 200, "{\"a\":" * 200 + "1" + "}" * 200, "{\"a\":1e308}", "{\"a\":123456789012345678901234567890}",
         "{\"a\":-0}", "{\"a\":-}", "{\"a\":1.}", "{\"a\":.5}", "{\"a\":\"\\x\"}", "\ufeff{}", "{\"a\":\"\\u00e9\"}", "nul"]
TIMES = [TIME, "2026-01-02", "2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05+01:00",
         "2026-01-02T03:04:05.5Z", "2026-02-30T00:00:00Z", "2026-01-02t03:04:05z", "2026-01-02T24:00:00Z"]
PORTS = [0, 1, 80, 65535, 65536, -1, 30000, "80", "http", "HTTP", "a--b", "-a", "a-", "a" * 15, "a" * 16, "1", "1a", "é", "0"]
ENUMS = ["TCP", "UDP", "SCTP", "tcp", "HTTP", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "clusterIP", "None",
         "ClientIP", "Cluster", "Local", "IPv4", "IPv6", "FQDN", "ipv4", "SingleStack", "PreferDualStack",
         "RequireDualStack", "PreferClose", "PreferSameZone", "PreferSameNode", "VIP", "Proxy", "Opaque",
         "kubernetes.io/tls", "kubernetes.io/ssh-auth", "kubernetes.io/basic-auth", "kubernetes.io/dockercfg",
         "kubernetes.io/service-account-token", "helm.sh/release.v1", "Active", "Terminating", "User", "Group", "user",
         "ServiceAccount", "Role", "ClusterRole", "In", "NotIn", "Exists", "DoesNotExist", "rbac.authorization.k8s.io"]

# The values that the rules of a field care about, by the field's name (for items of a list, the list's).
VALUES = {
    "clusterIP": IPS, "clusterIPs": IPS, "externalIPs": IPS, "addresses": IPS + DOMAINS, "ip": IPS,
    "loadBalancerIP": IPS, "loadBalancerSourceRanges": RANGES, "name": LABELS + KEYS, "hostname": LABELS + DOMAINS,
    "nodeName": LABELS + DOMAINS, "zone": LABELS, "externalName": DOMAINS + IPS[:3], "appProtocol": KEYS,
    "loadBalancerClass": KEYS, "selector": LABELS, "app": LABELS, "deprecatedTopology": LABELS, "finalizers": KEYS + [
        "kubernetes", "orphan", "foregroundDeletion", "example.com/x"], "lastTransitionTime": TIMES,
    "port": PORTS, "targetPort": PORTS, "nodePort": PORTS, "healthCheckNodePort": PORTS,
    "key": KEYS, "values": LABELS, "namespace": LABELS, "timeoutSeconds": [0, 1, 86400, 86401, -1], ".dockercfg": ENCODED, ".dockerconfigjson": JSONS, "a.b": ENCODED,
    "tls.crt": ENCODED, "tls.key": ENCODED, "ssh-privatekey": ENCODED, "b": ENCODED, "text": ENCODED,
}
for name in ("type", "protocol", "sessionAffinity", "externalTrafficPolicy", "internalTrafficPolicy", "ipFamilies",
             "ipFamilyPolicy", "trafficDistribution", "addressType", "ipMode", "phase", "status", "kind", "apiGroup", "operator"):
    VALUES[name] = ENUMS

# Whole values for a field that one seed has.
WHOLE = {
    "clusterIPs": [["None"], ["None", "10.0.0.1"], ["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["fd00::1", "10.0.0.1"],
                   ["10.0.0.1", "fd00::1", "fd00::2"], ["", "fd00::1"], ["10.0.0.1", "None"], ["fd00::1"]],
    "ipFamilies": [["IPv4"], ["IPv6"], ["IPv6", "IPv4"], ["IPv4", "IPv4"], ["IPv4", "IPv6", "IPv4"]],
    "sessionAffinityConfig": [{}, {"clientIP": {}}, {"clientIP": None}, {"clientIP": {"timeoutSeconds": None}},
                              {"clientIP": {"timeoutSeconds": 0}}],
    "addresses": [[f"10.0.{i}.1" for i in range(100)], [f"10.0.{i}.1" for i in range(101)], ["10.0.0.1", "10.0.0.1"]],
    "forZones": [[{"name": f"z{i}"} for i in range(8)], [{"name": f"z{i}"} for i in range(9)],
                 [{"name": "z"}, {"name": "z"}], [{}], [{}, {}]],
    "forNodes": [[{"name": f"z{i}"} for i in range(8)], [{"name": f"z{i}"} for i in range(9)],
                 [{"name": "z"}, {"name": "z"}], [{}]],
    "endpoints": [[{"addresses": ["10.0.0.1"]}] * 1000, [{"addresses": ["10.0.0.1"]}] * 1001],
    "deprecatedTopology": [{f"k{i}": "v" for i in range(17)}, {"-": "v"}, {"topology.kubernetes.io/zone": "z"}],
    "data": [{}, {"a": "a" * 700000, "b": "a" * 700000}, {"a": "a" * 1048576}, {"a": "a" * 1048580}, {"a": "a" * 1398100},
             {"a": "a" * 1398104}, {"a": "a" * 1398108}],
    "stringData": [{"a": "a" * 1048576}, {"a": "a" * 1048577}, {"a.b": "x"}, {"a": "é" * 524289}],
    "binaryData": [{"a": "YQ=="}, {"a": "a" * 1398104}],
    "annotations": [
        {"service.kubernetes.io/topology-aware-hints": "a", "service.kubernetes.io/topology-mode": "b"},
        {"service.kubernetes.io/topology-aware-hints": "a", "service.kubernetes.io/topology-mode": "a"},
        {"service.kubernetes.io/topology-aware-hints": "a"},
        {"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8, 10.1.0.0/16"},
        {"service.beta.kubernetes.io/load-balancer-source-ranges": " "},
        {"service.beta.kubernetes.io/load-balancer-source-ranges": "x"},
        {"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8,"},
        {"kubernetes.io/service-account.name": ""},
    ],
    "ports": [
        [{"port": 80}, {"port": 81}], [{"name": "a", "port": 80}, {"name": "a", "port": 81}],
        [{"name": "a", "port": 80}, {"name": "b", "port": 80}],
        [{"name": "a", "port": 80, "protocol": "TCP"}, {"name": "b", "port": 80, "protocol": "UDP"}],
        [{"name": "a", "port": 80, "nodePort": 30000}, {"name": "b", "port": 81, "nodePort": 30000}],
        [{"name": "a", "port": 80, "nodePort": 30000}, {"name": "b", "port": 81, "nodePort": 30000, "protocol": "UDP"}],
        [{"name": "", "port": 80}, {"name": "b", "port": 81}], [{"port": 1}] * 101, [None, {"name": "b", "port": 1}],
        [{"port": None}], [{"port": None, "targetPort": 5}], [{"targetPort": 80}],
        [{"name": f"p{i}", "port": 80} for i in range(20000)], [{"name": f"p{i}", "port": 80} for i in range(20001)],
    ],
    "subsets": [[{}], [{"ports": [{"port": 80}]}], [{"addresses": [{"ip": "10.0.0.1"}]}] * 2, [{"notReadyAddresses": []}],
                [{"notReadyAddresses": [{"ip": "10.0.0.1"}]}]],
}

# The kind that a seed's name begins with.
KINDS = {"service": "Service", "slice": "EndpointSlice", "endpoints": "Endpoints", "secret": "Secret",
         "config-map": "ConfigMap", "namespace": "Namespace", "role": "Role", "cluster-role": "ClusterRole",
         "binding": "RoleBinding", "cluster-binding": "ClusterRoleBinding"}

# Documents in a form that JSON does not have; %s is the mutated place.
TEXT = {
    "service": ("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  ports:\n  - port: 80\n    %s\n", [
        "targetPort: 080", "targetPort: 0x50", "targetPort: 8e1", "targetPort: 80.0", "targetPort: \"80\"",
        "targetPort: 1_0", "targetPort: +80", "targetPort: 80.5", "targetPort: yes", "targetPort: y", "targetPort: ~",
        "targetPort: 1e3", "targetPort: .inf", "targetPort: .nan", "targetPort: 2001-01-01", "targetPort: 1:20",
        "name: on", "name: y", "name: 1a", "name: 1", "name: 1e3", "name: !!str 1", "protocol: !!str TCP",
        "port: 81", "name: a\n    name: b", "nodePort: 0", "nodePort: 00", "targetPort: !!binary aGk=",
        "appProtocol: !!str 1", "targetPort: !local 80", "name: &x a\n    appProtocol: *x",
    ]),
    "secret": ("apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n%s\n", [
        "data: {a: |\n  aGVsbG8=\n}", "data:\n  a: |\n    aGVs\n    bG8=\n", "data:\n  a: >\n    aGVs\n    bG8=\n",
        "data:\n  a: !!binary aGVsbG8=", "data:\n  a: !!binary YUdWc2JHOD0=", "data: {1: YQ==}", "data: {yes: YQ==}",
        "data: {1.5: YQ==}", "data: {~: YQ==}", "data: {a: YQ==, a: YQ==}", "stringData: {a: 1}", "stringData: {a: yes}",
        "stringData: {a: ~}", "stringData: {a: }", "StringData: {a: b}", "stringdata: {a: b}", "data: {a: 1234}",
        "data: {a: true}", "data: {a: {}}", "data: {[a]: YQ==}", "data: {2001-01-01: YQ==}", "data: {0x10: YQ==}",
        "data: {a: []}", "data: {a: [1, 2, 0x3]}", "type: 1", "type: ~", "type: ''", "immutable: 'true'", "immutable: y",
        "immutable: 1", "data: []", "data: ''", "data: ~",
    ]),
    "config-map": ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n%s\n", [
        "data: {a: b}\nbinaryData: {a: YQ==}", "data: {a: b}\nbinaryData: {a: ~}", "data: {a: ~}\nbinaryData: {a: ~}",
        "data: {a: 1}", "data: {'': b}", "data: {a/b: c}", "data: {..a: c}", "data: {..: c}", "data: {.: c}",
        "data: {...: c}", "binaryData: {..: YQ==}", "binaryData: {a: YQ}", "data: {a: |\n  x\n}",
    ]),
}


def paths(node, at=()):
    """Every place in a document, parents first."""
    if at:
        yield at
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from paths(child, at + (key,))


def get(document, path):
    for step in path:
        document = document[step]
    return document


def with_value(document, path, value):
    document = copy.deepcopy(document)
    get(document, path[:-1])[path[-1]] = value
    return document


def without(document, path):
    document = copy.deepcopy(document)
    del get(document, path[:-1])[path[-1]]
    return document


def renamed(document, path, name):
    document = copy.deepcopy(document)
    parent = get(document, path[:-1])
    parent[name] = parent.pop(path[-1])
    return document


def field(path):
    """The name that the rules of a place go by."""
    return next((step for step in reversed(path) if isinstance(step, str)), "")


def values(path):
    return OTHER_TYPES + VALUES.get(field(path), []) + WHOLE.get(path[-1], [])


def twice(document, path):
    """The document's text with the key at `path` written a second time, which no dict can hold."""
    marked = path[-1] + " twice"
    key, value = json.dumps(path[-1]), json.dumps(get(document, path))
    return json.dumps(renamed(document, path, marked)).replace(json.dumps(marked), f"{key}: {value}, {key}")


def mutants(name, seed):
    yield name, seed
    first = next(other for other, document in SEEDS.items() if document["kind"] == seed["kind"]) == name
    spots = [path for path in paths(seed) if first or path[0] != "metadata"]
    for path in [()] + [path for path in spots if isinstance(get(seed, path), dict)]:
        at = "/".join(map(str, path))
        yield f"{name} {at} unknown", with_value(seed, path + ("unknownField",), 1)
        yield f"{name} {at} unknown null", with_value(seed, path + ("unknownField",), None)
        yield f"{name} {at} empty key", with_value(seed, path + ("",), "a")
        for key in KEYS:
            yield f"{name} {at} key {key[:20]} {len(key)}", with_value(seed, path + (key,), "YQ==")
    for path in spots:
        at = "/".join(map(str, path))
        yield f"{name} {at} dropped", without(seed, path)
        for value in values(path):
            big = len(json.dumps(value)) > 100_000
            if not big or first:
                yield f"{name} {at} = {json.dumps(value)[:60]} {len(json.dumps(value))}", with_value(seed, path, value)
        if isinstance(path[-1], str):
            yield f"{name} {at} upper", renamed(seed, path, path[-1][:1].upper() + path[-1][1:])
            yield f"{name} {at} lower", renamed(seed, path, path[-1].lower())
            yield f"{name} {at} twice", twice(seed, path)
        else:
            parent = get(seed, path[:-1])
            yield f"{name} {at} repeated", with_value(seed, path[:-1], parent + [parent[path[-1]]])


def whole_fields(name, seed):
    """Fields that the seed lacks, each with every value that its rules care about."""
    spec = seed.get("spec", {})
    for key in SEEDS["service-cluster-ip"]["spec"] | SEEDS["service-load-balancer"]["spec"] | {"externalName": ""}:
        if key not in spec:
            for value in values((key,)):
                yield f"{name} + {key} = {json.dumps(value)[:60]}", with_value(seed, ("spec", key), value)


def pairs(name, seed, count):
    """Two mutations of one document; drawn, since all of them would be too many."""
    draw = random.Random(name)
    spots = [path for path in paths(seed) if path[0] in (
        "spec", "endpoints", "ports", "subsets", "data", "stringData", "rules", "aggregationRule", "roleRef", "subjects")]
    fields = [("spec", key) for key in SEEDS["service-cluster-ip"]["spec"] | SEEDS["service-load-balancer"]["spec"]
              ] if seed["kind"] == "Service" else []
    for number in range(count):
        document = seed
        for _ in range(2):
            path = draw.choice(spots + fields)
            good = [value for value in values(path)[len(OTHER_TYPES):] if len(str(value)) < 100_000] or OTHER_TYPES
            try:
                document = with_value(document, path, draw.choice(good)) if draw.random() < 0.8 else without(document, path)
            except (KeyError, IndexError, TypeError):
                pass
        yield f"{name} pair {number}", document


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    seen = set()
    every = itertools.chain(
        *(mutants(name, seed) for name, seed in SEEDS.items()),
        *(whole_fields(name, seed) for name, seed in SEEDS.items() if seed["kind"] == "Service"),
        *(pairs(name, seed, 400 if seed["kind"] == "Service" else 100) for name, seed in SEEDS.items()),
        *([(f"text {name} {place}", text % place) for place in places] for name, (text, places) in TEXT.items()),
    )
    for title, document in every:
        text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
        if text not in seen:
            seen.add(text)
            kind = next(kind for kind in KINDS if title.removeprefix("text ").startswith(kind))
            title = title.encode("unicode_escape").decode()
            (folder / f"{KINDS[kind]}-{len(seen):05}.yaml").write_text(f"# {title}\n{text}\n")
    print(len(seen), "documents")


if __name__ == "__main__":
    main(*sys.argv[1:])
