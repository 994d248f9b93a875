//! The CRDs of cert-manager and its webhook: what is taken, what is refused, and where.

use gapi::manifest::{parse::parse_file, span::Bounds};

/// The fields that are found wrong.
fn faults(text: &str) -> Vec<String> {
    let parsed = parse_file("case.yaml", text.as_bytes(), &Bounds::default());
    assert_eq!(parsed.objects.len() + parsed.rejected, 1, "{:?}", parsed.findings);
    parsed.findings.iter().map(|finding| finding.field.clone()).collect()
}

fn certificate(spec: &str) -> Vec<String> {
    faults(&format!("{{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {{name: c}}, spec: {spec}}}"))
}

fn issuer(spec: &str) -> Vec<String> {
    let cluster = faults(&format!(
        "{{apiVersion: cert-manager.io/v1, kind: ClusterIssuer, metadata: {{name: i}}, spec: {spec}}}"
    ));
    let own = faults(&format!("{{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {{name: i}}, spec: {spec}}}"));
    assert_eq!(own, cluster);
    own
}

fn solver(solver: &str) -> Vec<String> {
    issuer(&format!("{{acme: {{server: 's', privateKeySecretRef: {{name: k}}, solvers: [{solver}]}}}}"))
}

#[test]
fn certificates_that_are_right() {
    for spec in [
        "{secretName: s, dnsNames: [a.example], issuerRef: {name: i}}",
        "{secretName: s, ipAddresses: [192.0.2.1, '::1'], issuerRef: {name: i, kind: ClusterIssuer, group: cert-manager.io}}",
        "{secretName: s, commonName: a, isCA: true, duration: 8760h, renewBefore: 360h, issuerRef: {name: i}, privateKey: {algorithm: ECDSA, size: 384, rotationPolicy: Always, encoding: PKCS8}, signatureAlgorithm: ECDSAWithSHA384}",
        "{secretName: s, commonName: a, issuerRef: {name: i, kind: AWSPCAIssuer, group: awspca.cert-manager.io}}",
        "{secretName: s, uris: ['spiffe://a'], renewBeforePercentage: 25, duration: 2h, usages: [server auth, client auth], issuerRef: {name: i}, secretTemplate: {labels: {a: b}, annotations: {c: d}}, additionalOutputFormats: [{type: DER}, {type: CombinedPEM}], subject: {organizations: [o], serialNumber: '1'}, revisionHistoryLimit: 1}",
        "{secretName: s, commonName: a, isCA: true, issuerRef: {name: i}, nameConstraints: {critical: true, permitted: {dnsDomains: [a.example]}}, renewal: {policy: RenewBefore, windows: [{cron: '0 1 * * *', windowDuration: 1h}]}, keystores: {pkcs12: {create: true, password: p, profile: Modern2023}, jks: {create: false}}}",
    ] {
        assert_eq!(certificate(spec), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn certificates_that_are_wrong() {
    for (spec, field) in [
        ("{dnsNames: [a], issuerRef: {name: i}}", "spec.secretName"),
        ("{secretName: '', dnsNames: [a], issuerRef: {name: i}}", "spec.secretName"),
        ("{secretName: A_b, dnsNames: [a], issuerRef: {name: i}}", "spec.secretName"),
        ("{secretName: s, dnsNames: [a]}", "spec.issuerRef"),
        ("{secretName: s, dnsNames: [a], issuerRef: {}}", "spec.issuerRef.name"),
        ("{secretName: s, dnsNames: [a], issuerRef: {name: i, kind: Isuer}}", "spec.issuerRef.kind"),
        ("{secretName: s, issuerRef: {name: i}}", "spec"),
        ("{secretName: s, dnsName: [a], issuerRef: {name: i}, commonName: a}", "spec.dnsName"),
        ("{secretName: s, dnsNames: a, issuerRef: {name: i}}", "spec.dnsNames"),
        ("{secretName: s, ipAddresses: [localhost], issuerRef: {name: i}}", "spec.ipAddresses"),
        ("{secretName: s, emailAddresses: ['A <a@b>'], issuerRef: {name: i}}", "spec.emailAddresses"),
        ("{secretName: s, dnsNames: [a], duration: 90d, issuerRef: {name: i}}", "spec.duration"),
        ("{secretName: s, dnsNames: [a], duration: 30m, issuerRef: {name: i}}", "spec.duration"),
        ("{secretName: s, dnsNames: [a], renewBefore: 1m, issuerRef: {name: i}}", "spec.renewBefore"),
        ("{secretName: s, dnsNames: [a], duration: 2h, renewBefore: 2h, issuerRef: {name: i}}", "spec.renewBefore"),
        (
            "{secretName: s, dnsNames: [a], privateKey: {algorithm: rsa}, issuerRef: {name: i}}",
            "spec.privateKey.algorithm",
        ),
        ("{secretName: s, dnsNames: [a], privateKey: {size: 1024}, issuerRef: {name: i}}", "spec.privateKey.size"),
        (
            "{secretName: s, dnsNames: [a], privateKey: {algorithm: ECDSA, size: 255}, issuerRef: {name: i}}",
            "spec.privateKey.size",
        ),
        (
            "{secretName: s, dnsNames: [a], signatureAlgorithm: PureEd25519, issuerRef: {name: i}}",
            "spec.signatureAlgorithm",
        ),
        ("{secretName: s, dnsNames: [a], usages: [sign], issuerRef: {name: i}}", "spec.usages[0]"),
        ("{secretName: s, dnsNames: [a], revisionHistoryLimit: 0, issuerRef: {name: i}}", "spec.revisionHistoryLimit"),
        (
            "{secretName: s, dnsNames: [a], issuerRef: {name: i}, secretTemplate: {annotations: {cert-manager.io/x: y}}}",
            "spec.secretTemplate.annotations.cert-manager.io/x",
        ),
    ] {
        assert_eq!(certificate(spec), [field], "{spec}");
    }
    let long = format!("{{secretName: s, commonName: {}, issuerRef: {{name: i}}}}", "a".repeat(65));
    assert_eq!(certificate(&long), ["spec.commonName"]);
}

#[test]
fn issuers() {
    for spec in [
        "{selfSigned: {}}",
        "{ca: {secretName: s, crlDistributionPoints: ['http://a']}}",
        "{vault: {server: s, path: p, auth: {tokenSecretRef: {name: x}}}}",
        "{acme: {server: s, email: a@b, privateKeySecretRef: {name: k}, preferredChain: X, profile: p, skipTLSVerify: true, solvers: [], externalAccountBinding: {keyID: k, keySecretRef: {name: x, key: k}}}}",
    ] {
        assert_eq!(issuer(spec), Vec::<String>::new(), "{spec}");
    }
    for (spec, field) in [
        ("{}", "spec"),
        ("{selfSigned: {}, ca: {secretName: s}}", "spec.selfSigned"),
        ("{selfSinged: {}, selfSigned: {}}", "spec.selfSinged"),
        ("{ca: {}}", "spec.ca.secretName"),
        ("{ca: {secretName: ''}}", "spec.ca.secretName"),
        ("{acme: {server: s}}", "spec.acme.privateKeySecretRef"),
        ("{acme: {privateKeySecretRef: {name: k}}}", "spec.acme.server"),
        ("{acme: {server: s, privateKeySecretRef: {name: ''}}}", "spec.acme.privateKeySecretRef.name"),
        ("{acme: {server: s, privateKeySecretRef: {name: k}, caBundle: '%'}}", "spec.acme.caBundle"),
        ("{acme: {server: s, privateKeySecretRef: {name: k}, caBundle: YQ==}}", "spec.acme.caBundle"),
        (
            "{acme: {server: s, privateKeySecretRef: {name: k}, externalAccountBinding: {keyID: k, keySecretRef: {name: x}}}}",
            "spec.acme.externalAccountBinding.keySecretRef.key",
        ),
    ] {
        assert_eq!(issuer(spec), [field], "{spec}");
    }
}

#[test]
fn solvers() {
    for right in [
        "{http01: {ingress: {}}}",
        "{http01: {ingress: {ingressClassName: nginx, podTemplate: {spec: {nodeSelector: {a: b}}}}}}",
        "{http01: {gatewayHTTPRoute: {parentRefs: [{name: g, kind: Gateway}]}}, selector: {dnsNames: [a], dnsZones: [b], matchLabels: {c: d}}}",
        "{tlsALPN01: {}}",
        "{dns01: {cnameStrategy: Follow, rfc2136: {nameserver: '192.0.2.1:53', tsigKeyName: k, tsigAlgorithm: HMACSHA512, tsigSecretSecretRef: {name: x, key: k}}}}",
        "{dns01: {cloudflare: {apiTokenSecretRef: {name: x, key: k}}}}",
        "{dns01: {route53: {region: eu-central-1, hostedZoneID: Z, accessKeyID: A, secretAccessKeySecretRef: {name: x, key: k}}}}",
        "{dns01: {azureDNS: {subscriptionID: s, resourceGroupName: r, clientID: c, tenantID: t, clientSecretSecretRef: {name: x, key: k}}}}",
        "{dns01: {webhook: {groupName: gapi.dev, solverName: exec, config: {command: /bin/true, list: [1, {a: b}]}}}}",
    ] {
        assert_eq!(solver(right), Vec::<String>::new(), "{right}");
    }
    let at = "spec.acme.solvers[0]";
    for (wrong, field) in [
        ("{}", ""),
        ("{http01: {ingress: {}}, tlsALPN01: {}}", ".tlsALPN01"),
        ("{http01: {}}", ".http01"),
        ("{http01: {ingress: {serviceType: LoadBalancer}}}", ".http01.ingress.serviceType"),
        ("{http01: {ingress: {class: a, name: b}}}", ".http01.ingress"),
        ("{tlsALPN01: {port: 1}}", ".tlsALPN01.port"),
        ("{dns01: {}}", ".dns01"),
        ("{dns01: {cloudflare: {}}}", ".dns01.cloudflare"),
        ("{dns01: {cloudflare: {apiKeySecretRef: {name: x, key: k}}}}", ".dns01.cloudflare.email"),
        ("{dns01: {rfc2136: {nameserver: a, tsigKeyName: k}}}", ".dns01.rfc2136.tsigSecretSecretRef"),
        ("{dns01: {rfc2136: {nameserver: a, tsigAlgorithm: SHA1}}}", ".dns01.rfc2136.tsigAlgorithm"),
        ("{dns01: {digitalocean: {tokenSecretRef: {name: x}}}}", ".dns01.digitalocean.tokenSecretRef.key"),
        ("{dns01: {webhook: {groupName: g}}}", ".dns01.webhook.solverName"),
        ("{dns01: {cloudDNS: {project: p}, route53: {}}}", ".dns01.route53"),
    ] {
        assert_eq!(solver(wrong), [format!("{at}{field}")], "{wrong}");
    }
}

#[test]
fn versions_and_kinds_of_the_group() {
    let old = "{apiVersion: cert-manager.io/v1alpha2, kind: Issuer, metadata: {name: i}, spec: {selfSigned: {}}}";
    assert_eq!(parse_file("a", old.as_bytes(), &Bounds::default()).rejected, 1);
    let typo = "{apiVersion: cert-manager.io/v1, kind: Certficate, metadata: {name: i}}";
    assert!(parse_file("a", typo.as_bytes(), &Bounds::default()).findings[0].remedy.contains("Certificate"));
    let request = "{apiVersion: cert-manager.io/v1, kind: CertificateRequest, metadata: {name: i}}";
    assert_eq!(parse_file("a", request.as_bytes(), &Bounds::default()).ignored.len(), 1);
}
