//! Webhooks of group `gapi.dev`: the providers of `dns-update` by their names there.

use std::collections::HashMap;

use dns_update::{
    DnsUpdater as D,
    providers::{
        azuredns::{AzureDnsConfig, AzureEnvironment},
        bluecatv2::BluecatV2Config,
        edgedns::EdgeDnsConfig,
        google_cloud_dns::GoogleCloudDnsConfig,
        infoblox::InfobloxConfig,
        joker::JokerAuth,
        lightsail::LightsailConfig,
        oraclecloud::OracleCloudConfig,
        route53::Route53Config,
        volcengine::VolcengineConfig,
        yandexcloud::YandexCloudConfig,
    },
};

use super::{
    provider::{REQUEST, Update},
    settings::Settings,
};

/// The time to live of records where a solver's settings say none; providers that have a least one take that.
const TTL: u32 = 120;

/// Of the provider `name`, whose settings were found to be complete.
pub fn updater(name: &str, settings: &Settings) -> Result<Update, String> {
    let ttl = settings.get("ttl")?.and_then(|ttl| ttl.parse().ok());
    let least = match name {
        "godaddy" | "porkbun" => 600,
        "gandiv5" | "inwx" | "ionos" | "linode" | "luadns" => 300,
        "desec" | "namesilo" => 3600,
        _ => TTL,
    };
    let updater = by_name(name, settings)?;
    Ok(Update::new(updater, ttl.unwrap_or(least), "check the settings in config, and the Secrets that they name"))
}

fn by_name(name: &str, settings: &Settings) -> Result<D, String> {
    let need = |name: &str| settings.need(name);
    let get = |name: &str| settings.get(name);
    let is = |name: &str| settings.is(name);
    let t = Some(REQUEST);
    let made = match name {
        "alidns" => {
            let (region, token, line) = (get("region")?, get("securityToken")?, get("line")?);
            D::new_alidns(need("accessKey")?, need("secretKey")?, region, token, line, t)
        }
        "arvancloud" => D::new_arvancloud(need("apiKey")?, t),
        "autodns" => {
            let context = get("context")?.map(|text| text.parse().map_err(|_| "config.context is no number"));
            D::new_autodns(need("username")?, need("password")?, context.transpose()?, t)
        }
        "azuredns" => D::new_azuredns(AzureDnsConfig {
            tenant_id: need("tenantId")?,
            client_id: need("clientId")?,
            client_secret: need("clientSecret")?,
            subscription_id: need("subscriptionId")?,
            resource_group: need("resourceGroup")?,
            environment: AzureEnvironment::from_str_lossy(&get("environment")?.unwrap_or_default()),
            request_timeout: t,
        }),
        "baiducloud" => D::new_baiducloud(need("accessKey")?, need("secretKey")?, t),
        "bluecatv2" => D::new_bluecatv2(BluecatV2Config {
            server_url: need("serverUrl")?,
            username: need("username")?,
            password: need("password")?,
            config_name: need("configName")?,
            view_name: need("viewName")?,
            skip_deploy: is("skipDeploy")?,
            request_timeout: t,
        }),
        "bunny" => D::new_bunny(need("apiKey")?, t),
        "cloudflare" => D::new_cloudflare(need("apiToken")?, t),
        "cloudns" => D::new_cloudns(get("authId")?, get("subAuthId")?, need("authPassword")?, t),
        "constellix" => D::new_constellix(need("apiKey")?, need("secretKey")?, t),
        "cpanel" => D::new_cpanel(need("baseUrl")?, need("username")?, need("token")?, t),
        "ddnss" => D::new_ddnss(need("key")?, t),
        "desec" => D::new_desec(need("authToken")?, t),
        "digitalocean" => D::new_digitalocean(need("authToken")?, t),
        "dnsimple" => D::new_dnsimple(need("authToken")?, need("accountId")?, t),
        "dnsmadeeasy" => D::new_dnsmadeeasy(need("apiKey")?, need("apiSecret")?, t),
        "domeneshop" => D::new_domeneshop(need("apiToken")?, need("apiSecret")?, t),
        "dreamhost" => D::new_dreamhost(need("apiKey")?, t),
        "duckdns" => D::new_duckdns(need("token")?, t),
        "dynu" => D::new_dynu(need("apiKey")?, t),
        "easydns" => D::new_easydns(need("token")?, need("key")?, t),
        "edgedns" => D::new_edgedns(EdgeDnsConfig {
            host: need("host")?,
            client_token: need("clientToken")?,
            client_secret: need("clientSecret")?,
            access_token: need("accessToken")?,
            account_switch_key: get("accountSwitchKey")?,
            request_timeout: t,
        }),
        "exoscale" => D::new_exoscale(need("apiKey")?, need("apiSecret")?, t),
        "freemyip" => D::new_freemyip(need("token")?, t),
        "gandiv5" => D::new_gandiv5(need("personalAccessToken")?, t),
        "gcore" => D::new_gcore(need("apiToken")?, t),
        "glesys" => D::new_glesys(need("apiUser")?, need("apiKey")?, t),
        "godaddy" => D::new_godaddy(need("apiKey")?, need("apiSecret")?, t),
        "google_cloud_dns" => D::new_google_cloud_dns(GoogleCloudDnsConfig {
            service_account_json: need("serviceAccountJson")?,
            project_id: need("projectId")?,
            managed_zone: get("managedZone")?,
            private_zone: is("privateZone")?,
            impersonate_service_account: get("impersonateServiceAccount")?,
            request_timeout: t,
        }),
        "hetzner" => D::new_hetzner(need("apiToken")?, t),
        "hostingde" => D::new_hostingde(need("apiKey")?, t),
        "hostinger" => D::new_hostinger(need("apiToken")?, t),
        "huaweicloud" => D::new_huaweicloud(need("accessKey")?, need("secretKey")?, need("region")?, t),
        "hurricane" => {
            let written = need("credentials")?;
            let names: HashMap<String, String> = serde_json::from_str(&written)
                .map_err(|_| "config.credentialsSecretRef: is no JSON of names and keys")?;
            D::new_hurricane(names, t)
        }
        "ibmcloud" => D::new_ibmcloud(need("username")?, need("apiKey")?, t),
        "infoblox" => D::new_infoblox(InfobloxConfig {
            host: need("host")?,
            port: get("port")?,
            username: need("username")?,
            password: need("password")?,
            wapi_version: get("wapiVersion")?,
            dns_view: get("dnsView")?,
            request_timeout: t,
        }),
        "infomaniak" => D::new_infomaniak(need("accessToken")?, t),
        "inwx" => D::new_inwx(need("username")?, need("password")?, is("sandbox")?, t),
        "ionos" => D::new_ionos(need("apiKey")?, t),
        "ipv64" => D::new_ipv64(need("apiKey")?, t),
        "joker" => match get("apiKey")? {
            Some(key) => D::new_joker(JokerAuth::api_key(key), t),
            None => D::new_joker(JokerAuth::username_password(need("username")?, need("password")?), t),
        },
        "lightsail" => D::new_lightsail(LightsailConfig {
            access_key_id: need("accessKeyId")?,
            secret_access_key: need("secretAccessKey")?,
            session_token: get("sessionToken")?,
            region: get("region")?,
            domain: get("domain")?,
            request_timeout: t,
        }),
        "linode" => D::new_linode(need("authToken")?, t),
        "luadns" => D::new_luadns(need("apiUsername")?, need("apiToken")?, t),
        "mythicbeasts" => D::new_mythicbeasts(need("username")?, need("password")?, t),
        "namecheap" => D::new_namecheap(need("apiUser")?, need("apiKey")?, need("clientIp")?, get("username")?, t),
        "namedotcom" => D::new_namedotcom(need("username")?, need("apiToken")?, t),
        "namesilo" => D::new_namesilo(need("apiKey")?, t),
        "netcup" => D::new_netcup(need("customerNumber")?, need("apiKey")?, need("apiPassword")?, t),
        "netlify" => D::new_netlify(need("accessToken")?, t),
        "nifcloud" => D::new_nifcloud(need("accessKey")?, need("secretKey")?, t),
        "ns1" => D::new_ns1(need("apiKey")?, t),
        "oraclecloud" => D::new_oraclecloud(OracleCloudConfig {
            tenancy_ocid: need("tenancyOcid")?,
            user_ocid: need("userOcid")?,
            fingerprint: need("fingerprint")?,
            private_key_pem: need("privateKeyPem")?,
            private_key_password: get("privateKeyPassword")?,
            region: need("region")?,
            compartment_ocid: need("compartmentOcid")?,
            request_timeout: t,
        }),
        "ovh" => {
            let endpoint = need("endpoint")?.parse().map_err(|error: dns_update::Error| error.to_string())?;
            D::new_ovh(need("applicationKey")?, need("applicationSecret")?, need("consumerKey")?, endpoint, t)
        }
        "pdns" => D::new_pdns(need("apiKey")?, get("endpoint")?, get("serverName")?, t),
        "plesk" => D::new_plesk(need("baseUrl")?, need("apiKey")?, t),
        "porkbun" => D::new_porkbun(need("apiKey")?, need("secretApiKey")?, t),
        "route53" => D::new_route53(Route53Config {
            access_key_id: need("accessKeyId")?,
            secret_access_key: need("secretAccessKey")?,
            session_token: get("sessionToken")?,
            region: get("region")?,
            hosted_zone_id: get("hostedZoneId")?,
            private_zone_only: Some(is("privateZoneOnly")?),
            endpoint: get("endpoint")?,
        }),
        "safedns" => D::new_safedns(need("authToken")?, t),
        "scaleway" => D::new_scaleway(need("apiToken")?, t),
        "selectel" => D::new_selectel(need("username")?, need("password")?, need("accountId")?, need("projectId")?, t),
        "simplycom" => D::new_simplycom(need("accountName")?, need("apiKey")?, t),
        "spaceship" => D::new_spaceship(need("apiKey")?, need("apiSecret")?, t),
        "tencentcloud" => {
            let (region, token) = (get("region")?, get("sessionToken")?);
            D::new_tencentcloud(need("secretId")?, need("secretKey")?, region, token, t)
        }
        "transip" => D::new_transip(need("login")?, need("privateKeyPem")?, is("globalKey")?, t),
        "ultradns" => D::new_ultradns(need("username")?, need("password")?, get("endpoint")?, t),
        "vercel" => D::new_vercel(need("authToken")?, get("teamId")?, t),
        "volcengine" => D::new_volcengine(VolcengineConfig {
            access_key: need("accessKey")?,
            secret_key: need("secretKey")?,
            region: get("region")?,
            host: get("host")?,
            scheme: get("scheme")?,
            request_timeout: t,
        }),
        "vultr" => D::new_vultr(need("apiKey")?, t),
        "websupport" => D::new_websupport(need("apiKey")?, need("secret")?, t),
        "yandexcloud" => D::new_yandexcloud(YandexCloudConfig {
            iam_token_b64: need("iamTokenB64")?,
            folder_id: need("folderId")?,
            request_timeout: t,
        }),
        "zoneeu" => D::new_zoneeu(need("username")?, need("apiKey")?, t),
        other => return Err(format!("webhook.solverName: gapi has no solver {other}")),
    };
    made.map_err(|error| format!("webhook.config: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::graph::issuance::{
        dns01::Secrets,
        provider::{PROVIDERS, settings},
    };

    /// What the table of settings says is what the provider is made of: all of it is enough, and nothing is missing.
    #[test]
    fn every_provider_of_the_table_is_made_of_its_settings() {
        let mut unreadable = BTreeSet::new();
        for (name, _) in PROVIDERS {
            let settings = settings(name).expect("it is in the table");
            let mut block = Map::new();
            for setting in &settings {
                let value = match (*name, setting.name) {
                    (_, "context") => json!(4),
                    (_, "sandbox" | "privateZone" | "skipDeploy" | "globalKey" | "privateZoneOnly") => json!(true),
                    (_, "credentials") => json!("{\"example.com\": \"key\"}"),
                    ("ovh", "endpoint") => json!("ovh-eu"),
                    (_, "region") => json!("eu-central-1"),
                    (_, "baseUrl" | "serverUrl" | "endpoint") => json!("https://dns.example"),
                    _ => json!("abcdefgh"),
                };
                block.insert(setting.name.to_owned(), value);
            }
            let block = Value::Object(block);
            let settings = Settings { field: "webhook.config", block: &block, secrets: &Secrets::new() };
            if let Err(why) = updater(name, &settings) {
                assert!(!why.contains("is missing") && !why.contains("no solver"), "{name}: {why}");
                unreadable.insert(*name);
            }
        }
        // It looks at the key that it is given.
        assert_eq!(unreadable, BTreeSet::from(["oraclecloud"]));
    }
}
