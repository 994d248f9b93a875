"""Documents that touch every field of the Gateway API kinds that gapi serves, and texts that its forms turn on."""

STRINGS = [
    "a", "A", "a-", "-a", "a.b", "a..b", ".a", "a.", "*.a", "*.*.a", "*", "**", "*a.b", "1.2.3.4", "*.1.2.3.4", "::1", "::",
    "1.2.3.04", "1.2.3", "fe80::1%eth0", "::ffff:1.2.3.4", "0:0:0:0:0:0:0:1", "http://a", "a:80", "A.b", "a_b", "é", "a b",
    " a", "a\tb", "a  b", "a\n", "a/b", "/", "/a", "//", "/a//b", "/a/./b", "/a/../b", "/a/..", "/a/.", "/%2f", "/%2F", "/%",
    "/%41", "/#", "/a?b", "/é", "(", "(?=a)", "1h", "1h30m", "1ms1h", "1s1s1s1s", "1s1s1s1s1s", "1.5s", "0", "0s", "100000s",
    "99999h", "1d", "-1s", "10s", "9s", "GET", "get", "Get", "HEAD", "CONNECT", "TRACE", "Exact", "PathPrefix",
    "RegularExpression", "ReplaceFullPath", "ReplacePrefixMatch", "RequestRedirect", "URLRewrite", "CORS", "RequestMirror",
    "RequestHeaderModifier", "ResponseHeaderModifier", "ExtensionRef", "ExternalAuth", "HTTP", "HTTPS", "TLS", "TCP", "UDP",
    "http", "https", "GRPC", "example.com/x", "!! x/y", "X/y", "Hostname", "HostnameX", "IPAddress", "x IPAddress y",
    "NamedAddress", "Ipaddress", "Terminate", "Passthrough", "All", "None", "Same", "Selector", "Cookie", "Header", "Session",
    "Permanent", "Cluster", "k8s.io/x", "a.k8s.io/x", "xk8s.io/x", "example.com/", "EXAMPLE.com/x", "/x", "a/b/c", "a\nb/c",
    "", "gateway.networking.k8s.io", "gateway.networking.x-k8s.io", "XBackend", "Service", "certificates.k8s.io",
    "ClusterTrustBundle", "core", "v1", "Foo1-bar", "1Foo", "Foo-", "https://a.b", "https://*.a.b:8443", "https://*", "ftp://a",
    "http://a:123456", "http://a:1", "http://a.", "http://a_b", "https://a/", "*://a", "x!#$%&'*+-.^_`|~", "x:", "x y",
    "%zz", "AllowValidOnly", "AllowInsecureFallback", "a" * 63 + "." + "b" * 63, "a" * 64 + ".b",
    "a" * 64 + "/b", "b/" + "a" * 63, "b/" + "a" * 64, "Apply", "Update", "FieldsV1", "2026-01-31T12:00:00Z",
    "2026-01-31T12:00:00.5+01:00", "2026-02-30T12:00:00Z", "2026-01-31 12:00:00Z", "2026-01-31t12:00:00z", "2026-01-31",
    "2026-01-31T1:00:00Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00:00+24:00", "2026-01-31T24:00:00Z", "orphan",
    "foregroundDeletion", "default", "kube-system", "\u017foo", "\u212aa.b", ".a.b", "a.1", "_a._b1", "echo.v1.Echo",
]

METADATA = {
    "name": "a-name", "namespace": "a-namespace", "generateName": "a-", "uid": "u", "resourceVersion": "12",
    "generation": 3, "selfLink": "x", "creationTimestamp": "2026-01-31T12:00:00Z",
    "deletionTimestamp": "2026-01-31T12:00:00Z", "deletionGracePeriodSeconds": 30,
    "labels": {"app": "x", "example.com/a": ""}, "annotations": {"Example.com/A": "any text"},
    "finalizers": ["example.com/f", "orphan"],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": True,
                         "blockOwnerDeletion": False}],
    "managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "2026-01-31T12:00:00Z",
                       "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}, "subresource": "status"}],
}
CONDITIONS = [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 1,
               "lastTransitionTime": "2026-01-31T12:00:00Z"}]
LOCAL = {"group": "example.com", "kind": "Thing", "name": "t"}
SELECTOR = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}
CA = {"group": "", "kind": "ConfigMap", "name": "ca", "namespace": "other"}
AUTH_BACKEND = {"group": "", "kind": "Service", "name": "auth", "namespace": "other", "port": 80}
AUTH_HTTP = {"protocol": "HTTP", "backendRef": AUTH_BACKEND, "forwardBody": {"maxSize": 10},
             "http": {"path": "/auth", "allowedHeaders": ["a"], "allowedResponseHeaders": ["b"]}}
AUTH_GRPC = {"protocol": "GRPC", "backendRef": AUTH_BACKEND, "grpc": {"allowedHeaders": ["a"]}}


def document(kind, version="v1", **fields):
    return {"apiVersion": f"gateway.networking.k8s.io/{version}", "kind": kind, "metadata": {"name": "a"}, **fields}


def route(*rules, **spec):
    return document("HTTPRoute", spec={"parentRefs": [{"name": "gw"}], **spec, "rules": list(rules)})


def gateway(*listeners, **spec):
    return document("Gateway", spec={"gatewayClassName": "gapi", "listeners": list(listeners), **spec})


def filtered(*filters, **rule):
    return route({"filters": list(filters), **rule})


BACKEND = {"group": "", "kind": "Service", "name": "b", "namespace": "other", "port": 80, "weight": 1}
MODIFIER = {"set": [{"name": "a", "value": "1"}], "add": [{"name": "b", "value": "2 3"}], "remove": ["c", "d"]}

PARENT = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "n", "name": "g", "sectionName": "s",
          "port": 80}
GRPC_FILTERS = [
    {"type": "RequestHeaderModifier", "requestHeaderModifier": MODIFIER},
    {"type": "ResponseHeaderModifier", "responseHeaderModifier": MODIFIER},
    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "m", "port": 80}, "percent": 10}},
    {"type": "ExtensionRef", "extensionRef": LOCAL}]

BASES = [
    document("GatewayClass", metadata=METADATA, spec={
        "controllerName": "gapi.dev/gateway-controller", "description": "text",
        "parametersRef": {"group": "", "kind": "ConfigMap", "name": "p", "namespace": "n"}},
        status={"conditions": CONDITIONS, "supportedFeatures": [{"name": "Gateway"}]}),
    document("ReferenceGrant", "v1beta1", metadata=METADATA, spec={
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "n"}],
        "to": [{"group": "", "kind": "Service", "name": "s"}]}),
    gateway(
        {"name": "http", "port": 80, "protocol": "HTTP", "hostname": "a.example.com",
         "allowedRoutes": {"namespaces": {"from": "Selector", "selector": SELECTOR},
                           "kinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]}},
        {"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "*.example.com",
         "tls": {"mode": "Terminate", "certificateRefs": [{"group": "", "kind": "Secret", "name": "c", "namespace": "n"}],
                 "options": {"example.com/a": "b"}}},
        addresses=[{"type": "IPAddress", "value": "1.2.3.4", "routability": "Cluster"},
                   {"type": "Hostname", "value": "a.example.com"}],
        infrastructure={"labels": {"example.com/a": "b"}, "annotations": {"a": "b"}, "parametersRef": LOCAL},
        allowedListeners={"namespaces": {"from": "Selector", "selector": SELECTOR}}, defaultScope="None"),
    gateway({"name": "http", "port": 80, "protocol": "HTTP"}, tls={
        "backend": {"clientCertificateRef": {"group": "", "kind": "Secret", "name": "c", "namespace": "n"}},
        "frontend": {"default": {"validation": {"caCertificateRefs": [CA], "mode": "AllowValidOnly"}},
                     "perPort": [{"port": 443, "tls": {"validation": {"caCertificateRefs": [CA]}}}]}}),
    gateway({"name": "tcp", "port": 80, "protocol": "TCP"}, {"name": "udp", "port": 80, "protocol": "UDP"},
            {"name": "tls", "port": 443, "protocol": "TLS", "hostname": "a.b", "tls": {"mode": "Passthrough"}}),
    gateway({"name": "http", "port": 80, "protocol": "HTTP", "filters": {"requests": [
        {"type": "ExternalAuth", "externalAuth": AUTH_HTTP}, {"type": "ExternalAuth", "externalAuth": AUTH_GRPC},
        {"type": "ExtensionRef", "extensionRef": LOCAL}]}}),
    {**gateway({"name": "http", "port": 80, "protocol": "HTTP"}), "apiVersion": "gateway.networking.k8s.io/v1beta1",
     "metadata": METADATA,
     "status": {"conditions": CONDITIONS, "attachedListenerSets": 0,
                "addresses": [{"type": "IPAddress", "value": "1.2.3.4", "routability": "Cluster"}],
                "listeners": [{"name": "http", "attachedRoutes": 1, "conditions": CONDITIONS,
                               "supportedKinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]}]}},
    document("HTTPRoute", metadata=METADATA, spec={
        "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "n", "name": "g",
                        "sectionName": "s", "port": 80}, {"name": "g", "port": 80}, {"name": "g", "port": 81}],
        "useDefaultGateways": "None", "hostnames": ["a.example.com", "*.example.com"],
        "rules": [{"name": "r", "matches": [
            {"path": {"type": "Exact", "value": "/a"}, "method": "GET",
             "headers": [{"type": "Exact", "name": "h", "value": "v"}],
             "queryParams": [{"type": "RegularExpression", "name": "q", "value": "v"}]},
            {"path": {"type": "RegularExpression", "value": "a.*"}}],
            "backendRefs": [BACKEND], "timeouts": {"request": "10s", "backendRequest": "1s"},
            "retry": {"codes": [500, 503], "attempts": 2, "backoff": "100ms"}}, {"name": "r2"}]},
        status={"parents": [{"parentRef": {"name": "g", "group": "x", "kind": "y", "namespace": "n", "sectionName": "s",
                                           "port": 80}, "controllerName": "a.b/c", "conditions": CONDITIONS}]}),
    filtered({"type": "RequestHeaderModifier", "requestHeaderModifier": MODIFIER},
             {"type": "ResponseHeaderModifier", "responseHeaderModifier": MODIFIER},
             {"type": "RequestMirror", "requestMirror": {
                 "backendRef": {"group": "", "kind": "Service", "name": "m", "namespace": "n", "port": 80}, "percent": 10}},
             {"type": "RequestMirror", "requestMirror": {
                 "backendRef": {"name": "m", "port": 80}, "fraction": {"numerator": 1, "denominator": 10}}}),
    filtered({"type": "CORS", "cors": {
        "allowOrigins": ["https://a.b", "https://*.c.d:8443"], "allowCredentials": True, "allowMethods": ["GET", "PUT"],
        "allowHeaders": ["a", "b"], "exposeHeaders": ["c"], "maxAge": 10}},
        {"type": "ExtensionRef", "extensionRef": LOCAL}, {"type": "ExternalAuth", "externalAuth": AUTH_HTTP}),
    filtered({"type": "ExternalAuth", "externalAuth": AUTH_GRPC}),
    filtered({"type": "RequestRedirect", "requestRedirect": {
        "scheme": "https", "hostname": "a.b", "port": 443, "statusCode": 301,
        "path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}}}),
    filtered({"type": "RequestRedirect", "requestRedirect": {
        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}}, matches=[{"path": {"value": "/a"}}]),
    filtered({"type": "URLRewrite", "urlRewrite": {
        "hostname": "a.b", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}},
        matches=[{"path": {"type": "PathPrefix", "value": "/a"}}], backendRefs=[{"name": "b", "port": 80}]),
    route({"matches": [{"path": {"value": "/a"}}], "backendRefs": [
        {"name": "b", "port": 80, "filters": [
            {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}]},
        {"name": "c", "group": "gateway.networking.x-k8s.io", "kind": "XBackend", "weight": 0}]}),
    route({"matches": [{"path": {"value": "/a"}}], "backendRefs": [
        {"name": "b", "port": 80, "filters": [{"type": "RequestRedirect", "requestRedirect": {
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}]}]}),
    route({"sessionPersistence": {"type": "Cookie", "absoluteTimeout": "1h", "cookie": {
        "name": "c", "path": "/", "lifetimeType": "Permanent"}}},
        {"sessionPersistence": {"type": "Header", "header": {"name": "h"}}}),
    route({"matches": [{}] * 64}, {"matches": [{"method": "GET"}] * 63}, {}),
    document("GRPCRoute", metadata=METADATA, spec={
        "parentRefs": [PARENT], "useDefaultGateways": "None", "hostnames": ["a.example.com", "*.example.com"],
        "rules": [{"name": "r", "matches": [
            {"method": {"type": "Exact", "service": "echo.v1.Echo", "method": "Say"},
             "headers": [{"type": "Exact", "name": "h", "value": "v w"}]},
            {"method": {"type": "RegularExpression", "service": "a.*", "method": ""}},
            {"method": {"service": ".a"}}, {"method": {"method": "A"}},
            {"headers": [{"name": "a", "value": "b"}, {"type": "RegularExpression", "name": "b", "value": "("}]}],
            "filters": GRPC_FILTERS, "backendRefs": [{**BACKEND, "filters": GRPC_FILTERS}],
            "sessionPersistence": {"cookie": {"name": "c"}}}, {"name": "r2"}, {}]},
        status={"parents": [{"parentRef": PARENT, "controllerName": "a.b/c", "conditions": CONDITIONS}]}),
    document("GRPCRoute", spec={"rules": [{"matches": [{}] * 64}, {"matches": [{}] * 63}, {}]}),
    document("GRPCRoute", spec={"rules": []}),
    document("TLSRoute", spec={"parentRefs": [PARENT], "hostnames": ["a.example.com", "*.example.com"],
                               "rules": [{"name": "r", "backendRefs": [BACKEND]}]},
             status={"parents": [{"parentRef": PARENT, "controllerName": "a.b/c", "conditions": CONDITIONS}]}),
    document("TLSRoute", "v1alpha3", spec={"hostnames": ["a.b"], "rules": [{"backendRefs": [{"name": "b", "port": 80}]}]}),
    *(document(kind, version, spec={
        "parentRefs": [PARENT], "useDefaultGateways": "All", **extra,
        "rules": [{"name": "r", "backendRefs": [BACKEND]}, {"name": "s", "backendRefs": [BACKEND]}][:count]})
      for kind, version, count, extra in (
          ("TLSRoute", "v1alpha2", 2, {"hostnames": ["a.b"]}), ("TLSRoute", "v1alpha2", 1, {}),
          ("TCPRoute", "v1", 1, {}), ("TCPRoute", "v1alpha2", 2, {}),
          ("UDPRoute", "v1", 1, {}), ("UDPRoute", "v1alpha2", 2, {}))),
]
