//! DNS-01 providers of a solver.

use serde_json::Value;

use super::{not_empty, secret_key, solver::one_of, strings};
use crate::manifest::{
    admit::{Fields, Judge},
    span::Node,
};

const PROVIDERS: [&str; 9] =
    ["acmeDNS", "akamai", "azureDNS", "cloudDNS", "cloudflare", "digitalocean", "rfc2136", "route53", "webhook"];

/// `dns01`: exactly one provider.
pub fn dns01(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("acmeDNS", acme_dns);
        fields.optional("akamai", akamai);
        fields.optional("azureDNS", azure_dns);
        fields.optional("cloudDNS", cloud_dns);
        fields.optional("cloudflare", cloudflare);
        fields.optional("cnameStrategy", |judge, node| judge.choice(node, &["None", "Follow"]));
        fields.optional("digitalocean", |judge, node| {
            judge.object(node, |fields| fields.required("tokenSecretRef", whole_key))
        });
        fields.optional("nameservers", strings);
        fields.optional("rfc2136", rfc2136);
        fields.optional("route53", route53);
        fields.optional("webhook", webhook);
        one_of(fields, &PROVIDERS, "dns01");
    })
}

fn whole_key(judge: &mut Judge, node: &Node) -> Option<Value> {
    secret_key(judge, node, true)
}

fn key(judge: &mut Judge, node: &Node) -> Option<Value> {
    secret_key(judge, node, false)
}

fn acme_dns(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("accountSecretRef", whole_key);
        fields.required("host", Judge::string);
        not_empty(fields, "host", "write the URL of the acme-dns server");
    })
}

fn akamai(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for name in ["accessTokenSecretRef", "clientSecretSecretRef", "clientTokenSecretRef"] {
            fields.required(name, whole_key);
        }
        fields.required("serviceConsumerDomain", Judge::string);
        not_empty(fields, "serviceConsumerDomain", "write the host of your API client");
    })
}

fn azure_dns(judge: &mut Judge, node: &Node) -> Option<Value> {
    let clouds = ["AzurePublicCloud", "AzureChinaCloud", "AzureGermanCloud", "AzureUSGovernmentCloud"];
    judge.object(node, |fields| {
        for name in ["clientID", "hostedZoneName", "tenantID"] {
            fields.optional(name, Judge::string);
        }
        fields.optional("clientSecretSecretRef", whole_key);
        fields.optional("environment", |judge, node| judge.choice(node, &clouds));
        fields.optional("managedIdentity", |judge, node| {
            judge.object(node, |fields| {
                for name in ["clientID", "resourceID", "tenantID"] {
                    fields.optional(name, Judge::string);
                }
            })
        });
        fields.required("resourceGroupName", Judge::string);
        fields.required("subscriptionID", Judge::string);
        fields.optional("zoneType", |judge, node| judge.choice(node, &["AzurePublicZone", "AzurePrivateZone"]));
        not_empty(fields, "resourceGroupName", "write the resource group of the zone");
        not_empty(fields, "subscriptionID", "write the subscription");
        azure_identity(fields);
    })
}

fn azure_identity(fields: &mut Fields) {
    let filled = |fields: &Fields, name| fields.text(name).is_some_and(|text| !text.is_empty());
    let client = filled(fields, "clientID") || filled(fields, "tenantID") || fields.has("clientSecretSecretRef");
    if !client {
        return;
    }
    not_empty(fields, "clientID", "a client needs all of clientID, clientSecretSecretRef and tenantID");
    not_empty(fields, "tenantID", "a client needs all of clientID, clientSecretSecretRef and tenantID");
    if !fields.has("clientSecretSecretRef") {
        fields.conflict("clientSecretSecretRef", "a client needs its secret", "add clientSecretSecretRef");
    }
    if fields.has("managedIdentity") {
        fields.conflict("managedIdentity", "stands beside clientID, its secret or tenantID", "keep one of the two");
    }
}

fn cloud_dns(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("hostedZoneName", Judge::string);
        fields.required("project", Judge::string);
        fields.optional("serviceAccountSecretRef", whole_key);
        not_empty(fields, "project", "write the project of the zone");
    })
}

fn cloudflare(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("apiKeySecretRef", whole_key);
        fields.optional("apiTokenSecretRef", whole_key);
        fields.optional("email", Judge::string);
        one_of(fields, &["apiTokenSecretRef", "apiKeySecretRef"], "cloudflare");
        if fields.has("apiKeySecretRef") {
            not_empty(fields, "email", "an API key needs the account's email");
        }
    })
}

fn rfc2136(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("nameserver", Judge::string);
        fields.optional("protocol", |judge, node| judge.choice(node, &["TCP", "UDP"]));
        fields.optional("tsigAlgorithm", Judge::string);
        fields.optional("tsigKeyName", Judge::string);
        fields.optional("tsigSecretSecretRef", key);
        not_empty(fields, "nameserver", "write host:port of the name server");
        let algorithm = fields.text("tsigAlgorithm").unwrap_or_default().to_ascii_uppercase();
        if !matches!(algorithm.as_str(), "" | "HMACMD5" | "HMACSHA1" | "HMACSHA256" | "HMACSHA512") {
            fields.conflict("tsigAlgorithm", "is no TSIG algorithm", "write HMACSHA256 or HMACSHA512");
        }
        let named = fields.text("tsigKeyName").is_some_and(|name| !name.is_empty());
        let secret = fields.get("tsigSecretSecretRef");
        let filled = |name: &str| secret.and_then(|secret| secret[name].as_str()).is_some_and(|text| !text.is_empty());
        let whole = filled("name") && filled("key");
        if named && !whole {
            fields.conflict("tsigSecretSecretRef", "a TSIG key needs its secret", "name a Secret and its entry");
        } else if whole && !named {
            fields.conflict("tsigKeyName", "a TSIG secret needs the name of its key", "add tsigKeyName");
        }
    })
}

fn route53(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for name in ["accessKeyID", "hostedZoneID", "region", "role"] {
            fields.optional(name, Judge::string);
        }
        fields.optional("accessKeyIDSecretRef", whole_key);
        fields.optional("secretAccessKeySecretRef", key);
        fields.optional("auth", |judge, node| {
            judge.object(node, |fields| {
                fields.required("kubernetes", |judge, node| {
                    judge.object(node, |fields| {
                        fields.required("serviceAccountRef", |judge, node| {
                            judge.object(node, |fields| {
                                fields.optional("audiences", strings);
                                fields.required("name", Judge::string);
                            })
                        });
                    })
                });
            })
        });
        let written = fields.text("accessKeyID").is_some_and(|id| !id.is_empty());
        if written && fields.has("accessKeyIDSecretRef") {
            fields.conflict("accessKeyIDSecretRef", "stands beside accessKeyID", "keep one of the two");
        }
    })
}

fn webhook(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("config", |_, node| Some(node.value()));
        fields.required("groupName", Judge::string);
        fields.required("solverName", Judge::string);
        not_empty(fields, "solverName", "write the solver's name");
    })
}
