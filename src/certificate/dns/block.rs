//! cert-manager's own blocks, as providers of `dns-update`.

use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use dns_update::{
    DnsUpdater, TsigAlgorithm,
    providers::{
        azuredns::{AzureDnsConfig, AzureEnvironment},
        edgedns::EdgeDnsConfig,
        google_cloud_dns::GoogleCloudDnsConfig,
        rfc2136::DnsAddress,
        route53::Route53Config,
    },
};
use tokio::net::lookup_host;

use super::{
    authority,
    provider::{REQUEST, Update},
    settings::Settings,
};

/// Of a block. `ambient` lets it take credentials from the daemon's environment.
pub fn updater(
    name: &str,
    settings: &Settings,
    ambient: bool,
    nameserver: Option<SocketAddr>,
) -> Result<Update, String> {
    match name {
        "rfc2136" => rfc2136(settings, nameserver),
        "cloudflare" => cloudflare(settings),
        "route53" => route53(settings, ambient),
        "azureDNS" => azure(settings),
        "cloudDNS" => google(settings),
        "akamai" => akamai(settings),
        "digitalocean" => {
            let updater = DnsUpdater::new_digitalocean(settings.need("token")?, Some(REQUEST)).map_err(text)?;
            Ok(Update::new(updater, 60, "check the token in the Secret"))
        }
        other => Err(format!("{other}: gapi has no such provider")),
    }
}

fn text(error: dns_update::Error) -> String {
    error.to_string()
}

fn rfc2136(settings: &Settings, nameserver: Option<SocketAddr>) -> Result<Update, String> {
    let address = nameserver.ok_or("rfc2136.nameserver: has no address")?;
    let address = match settings.get("protocol")?.as_deref() {
        Some("TCP") => DnsAddress::Tcp(address),
        _ => DnsAddress::Udp(address),
    };
    let algorithm = match settings.need("tsigAlgorithm")?.to_ascii_uppercase().as_str() {
        "HMACSHA512" => TsigAlgorithm::HmacSha512,
        _ => TsigAlgorithm::HmacSha256,
    };
    let secret = STANDARD.decode(settings.need("tsigSecret")?);
    let secret = secret.map_err(|_| "rfc2136.tsigSecretSecretRef: the entry of the Secret is not base64")?;
    let key = settings.need("tsigKeyName")?;
    let updater = DnsUpdater::new_rfc2136_tsig(address, key, secret, algorithm).map_err(text)?;
    let remedy = "check tsigKeyName, tsigAlgorithm and the Secret of tsigSecretSecretRef, and what the server's \
                  configuration lets this key change";
    Ok(Update::new(updater, 60, remedy))
}

/// The address of `rfc2136.nameserver`, `host` or `host:port`; a name is looked up.
pub async fn nameserver(written: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = authority::nameserver(written) {
        return Ok(address);
    }
    let (host, port) = match written.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| "the port is no number")?),
        None => (written, 53),
    };
    let mut addresses = lookup_host((host, port)).await.map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "the name has no address".to_owned())
}

fn cloudflare(settings: &Settings) -> Result<Update, String> {
    let updater = DnsUpdater::new_cloudflare(settings.need("apiToken")?, Some(REQUEST)).map_err(text)?;
    Ok(Update::new(updater, 120, "check that the token may edit the zone's DNS"))
}

/// Where nothing is written, a ClusterIssuer takes AWS's variables from the daemon's environment.
fn route53(settings: &Settings, ambient: bool) -> Result<Update, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (id, secret) = (settings.get("accessKeyID")?, settings.get("secretAccessKey")?);
    let (id, secret, session_token) = match (id, secret) {
        (Some(id), Some(secret)) => (id, secret, None),
        (None, None) if ambient => {
            let missing = "route53.accessKeyID: is missing, and so is AWS_ACCESS_KEY_ID in the daemon's environment";
            let id = variable("AWS_ACCESS_KEY_ID").ok_or(missing)?;
            let secret = variable("AWS_SECRET_ACCESS_KEY");
            let secret = secret.ok_or("AWS_SECRET_ACCESS_KEY is missing in the daemon's environment")?;
            (id, secret, variable("AWS_SESSION_TOKEN"))
        }
        (None, _) => return Err("route53.accessKeyID: is missing: add it, or accessKeyIDSecretRef".into()),
        (Some(_), None) => return Err("route53.secretAccessKeySecretRef: is missing: add it".into()),
    };
    let config = Route53Config {
        access_key_id: id,
        secret_access_key: secret,
        session_token,
        region: settings.get("region")?.or_else(|| variable("AWS_REGION")),
        hosted_zone_id: settings.get("hostedZoneID")?,
        private_zone_only: None,
        endpoint: variable("AWS_ENDPOINT_URL_ROUTE_53").or_else(|| variable("AWS_ENDPOINT_URL")),
    };
    let updater = DnsUpdater::new_route53(config).map_err(text)?;
    Ok(Update::new(updater, 10, "check the access key, and that it may change the zone"))
}

fn azure(settings: &Settings) -> Result<Update, String> {
    let environment = match settings.get("environment")?.as_deref() {
        Some("AzureChinaCloud") => AzureEnvironment::China,
        Some("AzureUSGovernmentCloud") => AzureEnvironment::UsGovernment,
        _ => AzureEnvironment::Public,
    };
    let config = AzureDnsConfig {
        tenant_id: settings.need("tenantID")?,
        client_id: settings.need("clientID")?,
        client_secret: settings.need("clientSecret")?,
        subscription_id: settings.need("subscriptionID")?,
        resource_group: settings.need("resourceGroupName")?,
        environment,
        request_timeout: Some(REQUEST),
    };
    let updater = DnsUpdater::new_azuredns(config).map_err(text)?;
    let mut update = Update::new(updater, 60, "check the client's secret, and that it may change the zone");
    update.zone = settings.get("hostedZoneName")?;
    Ok(update)
}

fn google(settings: &Settings) -> Result<Update, String> {
    let config = GoogleCloudDnsConfig {
        service_account_json: settings.need("serviceAccount")?,
        project_id: settings.need("project")?,
        managed_zone: settings.get("hostedZoneName")?,
        private_zone: false,
        impersonate_service_account: None,
        request_timeout: Some(REQUEST),
    };
    let updater = DnsUpdater::new_google_cloud_dns(config).map_err(text)?;
    Ok(Update::new(updater, 60, "check the service account's key, and that it may change the zone"))
}

fn akamai(settings: &Settings) -> Result<Update, String> {
    let config = EdgeDnsConfig {
        host: settings.need("serviceConsumerDomain")?,
        client_token: settings.need("clientToken")?,
        client_secret: settings.need("clientSecret")?,
        access_token: settings.need("accessToken")?,
        account_switch_key: None,
        request_timeout: Some(REQUEST),
    };
    let updater = DnsUpdater::new_edgedns(config).map_err(text)?;
    Ok(Update::new(updater, 60, "check the three tokens, and that they may change the zone"))
}
