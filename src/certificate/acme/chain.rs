//! Which of the chains that a server has for a certificate is taken (RFC 8555, 7.4.2)? The one whose topmost issuer is
//! `preferredChain`, else the default one.

use http::{HeaderMap, header};
use instant_acme::{Account, Error};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{account, client::Client, fault, signed::Voice};
use crate::graph::issuance::issuer::Acme;

/// No server has as many.
const MAX_ALTERNATES: usize = 8;

/// The chain to take instead of `chain`, the default one that `url` gave; and what is to be said of it.
pub async fn choose(chain: String, url: Option<&str>, acme: &Acme, account: &Account) -> (String, Option<String>) {
    let preferred = acme.spec.preferred_chain.as_str();
    let default = top(&chain);
    if preferred.is_empty() || default.as_deref() == Some(preferred) {
        return (chain, None);
    }
    let why = match (url, default) {
        (Some(url), Some(default)) => match find(&chain, url, acme, account).await {
            Ok(Some(other)) => return (other, None),
            Ok(None) => format!("the chain ends at {default:?}, and the server has none that ends at {preferred:?}"),
            Err(error) => {
                let failure = fault::failure("looking for other chains", error);
                format!("the chain ends at {default:?}, not at {preferred:?}: {}", failure.message)
            }
        },
        _ => "the chain has no end that can be read".into(),
    };
    (chain, Some(why))
}

/// The alternate that is preferred, if there is one.
async fn find(chain: &str, url: &str, acme: &Acme, account: &Account) -> Result<Option<String>, Error> {
    let key = acme.account_key.as_deref().ok_or(Error::Str("the account's key is gone"))?;
    let client = Client::new(&acme.spec).map_err(|why| Error::Other(why.into()))?;
    let signer = account::signer(key).map_err(|failure| Error::Other(failure.message.into()))?;
    let voice = Voice::new(client, &acme.spec.server, Some(account.id()), signer).await?;
    let (headers, _) = voice.post(url, None).await?;
    for alternate in alternates(&headers).into_iter().take(MAX_ALTERNATES) {
        let (_, body) = voice.post(&alternate, None).await?;
        let other = String::from_utf8_lossy(&body).into_owned();
        if top(&other).as_deref() == Some(&acme.spec.preferred_chain) && leaf(&other) == leaf(chain) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

fn leaf(chain: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(chain.as_bytes()).ok()
}

/// The common name of the last certificate's issuer.
fn top(chain: &str) -> Option<String> {
    let last = CertificateDer::pem_slice_iter(chain.as_bytes()).flatten().last()?;
    let (_, last) = x509_parser::parse_x509_certificate(&last).ok()?;
    Some(last.issuer().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned())
}

/// The targets of `Link` fields with `rel="alternate"` (RFC 8288, 3).
fn alternates(headers: &HeaderMap) -> Vec<String> {
    let fields = headers.get_all(header::LINK).iter().filter_map(|field| field.to_str().ok());
    let mut found = Vec::new();
    for field in fields {
        let mut rest = field;
        while let Some((target, after)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
            // Targets may have commas, the parameters that ACME servers write have none.
            let (parameters, next) = after.split_once(',').unwrap_or((after, ""));
            let alternate =
                parameters.split(';').filter_map(|parameter| parameter.trim().split_once('=')).any(|(name, value)| {
                    name.trim().eq_ignore_ascii_case("rel")
                        && value.trim().trim_matches('"').split(' ').any(|rel| rel.eq_ignore_ascii_case("alternate"))
                });
            if alternate {
                found.push(target.trim().to_owned());
            }
            rest = next;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternates_are_found_among_links() {
        let mut headers = HeaderMap::new();
        for field in [
            r#"<https://a/dir>;rel="index""#,
            r#"<https://a/c/1,2>; title=x; rel="alternate", <https://a/up>;rel=up,<https://a/c/3>;REL=alternate"#,
            "nonsense; rel=alternate",
            "<https://a/none>",
        ] {
            headers.append(header::LINK, field.parse().expect("a field"));
        }
        assert_eq!(alternates(&headers), ["https://a/c/1,2", "https://a/c/3"]);
    }
}
