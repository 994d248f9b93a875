//! DNS providers that cert-manager has no block for, written as a webhook of group `gapi.dev`: their names, and the
//! settings that each takes in `config`.

/// The group of the solvers that are gapi's own.
pub const GROUP: &str = "gapi.dev";
/// The solver that runs a program of this machine.
pub const EXEC: &str = "exec";

/// A setting of a provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Setting {
    /// As in `config`; a secret one is written `<name>SecretRef: {name, key}`.
    pub name: &'static str,
    pub is_secret: bool,
    pub is_required: bool,
}

/// The settings of a provider; none where there is no such provider.
pub fn settings(solver: &str) -> Option<Vec<Setting>> {
    let (_, written) = PROVIDERS.iter().find(|(name, _)| *name == solver)?;
    let read = |word: &'static str| {
        let bare = word.trim_end_matches('?');
        let name = bare.trim_end_matches('*');
        Setting { name, is_secret: bare.ends_with('*'), is_required: !word.ends_with('?') }
    };
    Some(written.split(' ').map(read).collect())
}

/// Every solver name of the group.
pub fn names() -> impl Iterator<Item = &'static str> {
    [EXEC].into_iter().chain(PROVIDERS.iter().map(|(name, _)| *name))
}

/// Name, and settings: `*` stands behind secrets, `?` behind what may be left out.
pub const PROVIDERS: &[(&str, &str)] = &[
    ("alidns", "accessKey* secretKey* region? securityToken*? line?"),
    ("arvancloud", "apiKey*"),
    ("autodns", "username password* context?"),
    ("azuredns", "tenantId clientId clientSecret* subscriptionId resourceGroup environment?"),
    ("baiducloud", "accessKey* secretKey*"),
    ("bluecatv2", "serverUrl username password* configName viewName skipDeploy?"),
    ("bunny", "apiKey*"),
    ("cloudflare", "apiToken*"),
    ("cloudns", "authId? subAuthId? authPassword*"),
    ("constellix", "apiKey* secretKey*"),
    ("cpanel", "baseUrl username token*"),
    ("ddnss", "key*"),
    ("desec", "authToken*"),
    ("digitalocean", "authToken*"),
    ("dnsimple", "authToken* accountId"),
    ("dnsmadeeasy", "apiKey* apiSecret*"),
    ("domeneshop", "apiToken* apiSecret*"),
    ("dreamhost", "apiKey*"),
    ("duckdns", "token*"),
    ("dynu", "apiKey*"),
    ("easydns", "token* key*"),
    ("edgedns", "host clientToken* clientSecret* accessToken* accountSwitchKey?"),
    ("exoscale", "apiKey* apiSecret*"),
    ("freemyip", "token*"),
    ("gandiv5", "personalAccessToken*"),
    ("gcore", "apiToken*"),
    ("glesys", "apiUser apiKey*"),
    ("godaddy", "apiKey* apiSecret*"),
    ("google_cloud_dns", "serviceAccountJson* projectId managedZone? privateZone? impersonateServiceAccount?"),
    ("hetzner", "apiToken*"),
    ("hostingde", "apiKey*"),
    ("hostinger", "apiToken*"),
    ("huaweicloud", "accessKey* secretKey* region"),
    ("hurricane", "credentials*"),
    ("ibmcloud", "username apiKey*"),
    ("infoblox", "host port? username password* wapiVersion? dnsView?"),
    ("infomaniak", "accessToken*"),
    ("inwx", "username password* sandbox?"),
    ("ionos", "apiKey*"),
    ("ipv64", "apiKey*"),
    ("joker", "apiKey*? username? password*?"),
    ("lightsail", "accessKeyId secretAccessKey* sessionToken*? region? domain?"),
    ("linode", "authToken*"),
    ("luadns", "apiUsername apiToken*"),
    ("mythicbeasts", "username password*"),
    ("namecheap", "apiUser apiKey* clientIp username?"),
    ("namedotcom", "username apiToken*"),
    ("namesilo", "apiKey*"),
    ("netcup", "customerNumber apiKey* apiPassword*"),
    ("netlify", "accessToken*"),
    ("nifcloud", "accessKey* secretKey*"),
    ("ns1", "apiKey*"),
    ("oraclecloud", "tenancyOcid userOcid fingerprint privateKeyPem* privateKeyPassword*? region compartmentOcid"),
    ("ovh", "applicationKey* applicationSecret* consumerKey* endpoint"),
    ("pdns", "apiKey* endpoint? serverName?"),
    ("plesk", "baseUrl apiKey*"),
    ("porkbun", "apiKey* secretApiKey*"),
    ("route53", "accessKeyId secretAccessKey* sessionToken*? region? hostedZoneId? privateZoneOnly? endpoint?"),
    ("safedns", "authToken*"),
    ("scaleway", "apiToken*"),
    ("selectel", "username password* accountId projectId"),
    ("simplycom", "accountName apiKey*"),
    ("spaceship", "apiKey* apiSecret*"),
    ("tencentcloud", "secretId* secretKey* region? sessionToken*?"),
    ("transip", "login privateKeyPem* globalKey?"),
    ("ultradns", "username password* endpoint?"),
    ("vercel", "authToken* teamId?"),
    ("volcengine", "accessKey* secretKey* region? host? scheme?"),
    ("vultr", "apiKey*"),
    ("websupport", "apiKey* secret*"),
    ("yandexcloud", "iamTokenB64* folderId"),
    ("zoneeu", "username apiKey*"),
];

#[cfg(test)]
mod tests {
    use super::{super::dns01::written, *};

    #[test]
    fn the_documentation_has_every_provider_with_its_settings() {
        let page = include_str!("../../../docs/certificates.md");
        for (name, _) in PROVIDERS {
            let settings = settings(name).expect("it is in the table");
            let words: Vec<String> =
                settings.iter().map(|one| written(one) + if one.is_required { "" } else { "?" }).collect();
            let row = format!("| `{name}` | `{}` |", words.join(" "));
            assert!(page.contains(&row), "{row}");
        }
    }
}
