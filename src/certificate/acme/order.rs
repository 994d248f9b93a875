//! One order: from names to a chain (RFC 8555, 7.4). What was begun goes on, also after a restart.

use std::{net::IpAddr, time::Duration};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error, Identifier, NewOrder,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use super::{
    chain,
    fault::{self, kind},
    solver::{Offered, Proof, choose},
};
use crate::{
    api::cert_manager::CertificateSpec,
    certificate::{
        decide::Cause,
        dns::proof::Proofs,
        event::{Challenge, Event, Failure, Link},
        key::{self, Key},
        request,
        sign::{Issued, key_for},
        store::Order as Kept,
        task::{Job, blocking},
    },
    graph::issuance::{Issuer, issuer::Acme, request_digest},
    plan::TlsChallengePlan,
};

/// How long the server may take to look at challenges, and to issue. After that the order rests, and goes on later.
const PATIENCE: Duration = Duration::from_secs(180);

/// The library takes few refused nonces in a row for a failure. That they are refused says nothing of the order, whose
/// challenges have to stay up: the server is asked again this often.
const NONCES: u32 = 20;

/// Has the certificate made.
///
/// # Errors
/// What the server, or this machine, has against it.
pub async fn obtain(
    job: &Job,
    issuer: &Issuer,
    acme: &Acme,
    account: &Account,
    link: &Link,
) -> Result<Issued, Failure> {
    let spec = &job.wanted.spec;
    let identifiers = identifiers(spec)?;
    let (mut order, key) = open(job, acme, account, link, &identifiers).await?;
    if matches!(order.state().status, OrderStatus::Pending) {
        let mut dns = Proofs::new(job, issuer, acme, link);
        prove(job, acme, link, &mut order, &mut dns).await?;
        link.step("the server looks at the challenges");
        let policy = RetryPolicy::new().timeout(PATIENCE);
        let mut status = order.poll_ready(&policy).await;
        for _ in 0..NONCES {
            match &status {
                Err(Error::Api(problem)) if kind(problem) == "badNonce" => status = order.poll_ready(&policy).await,
                _ => break,
            }
        }
        let refused = matches!(status, Ok(OrderStatus::Invalid) | Err(Error::Api(_)));
        if refused {
            return Err(refusal(&mut order, status.err()).await);
        }
        status.map_err(|error| fault::failure("waiting for the challenges to be looked at", error))?;
    }
    if matches!(order.state().status, OrderStatus::Ready) {
        link.step("the certificate is asked for");
        let params = request::asked(spec).map_err(|why| Failure::new(Cause::Refused, why))?;
        let csr = params.serialize_request(&key.pair).map_err(|error| Failure::local(error.to_string()))?;
        order.finalize_csr(csr.der()).await.map_err(|error| fault::failure("asking for the certificate", error))?;
    }
    link.step("the certificate is waited for");
    let chain = order.poll_certificate(&RetryPolicy::new().timeout(PATIENCE)).await;
    let chain = chain.map_err(|error| fault::failure("waiting for the certificate", error))?;
    fits(&chain, &key)?;
    let (chain, remark) = chain::choose(chain, order.state().certificate.as_deref(), acme, account).await;
    Ok(Issued { remark, chain, ca: None, key: key.pem })
}

/// What the certificate is for. ACME has no subjects: the common name has to be one of the names.
fn identifiers(spec: &CertificateSpec) -> Result<Vec<Identifier>, Failure> {
    let refused = |message: String| Failure::new(Cause::Refused, message);
    let common = &spec.common_name;
    if !common.is_empty() && !spec.dns_names.contains(common) && !spec.ip_addresses.contains(common) {
        let message = "spec.commonName is not among spec.dnsNames, as ACME asks for";
        return Err(refused(message.into()));
    }
    if spec.is_ca || !spec.uris.is_empty() || !spec.email_addresses.is_empty() {
        let message = "an ACME server makes no CAs, and certificates for DNS names and IP addresses alone";
        return Err(refused(message.into()));
    }
    let mut identifiers: Vec<Identifier> =
        spec.dns_names.iter().map(|name| Identifier::Dns(name.to_ascii_lowercase())).collect();
    for address in &spec.ip_addresses {
        let address: IpAddr = address.parse().map_err(|_| refused(format!("{address:?} is no IP address")))?;
        identifiers.push(Identifier::Ip(address));
    }
    Ok(identifiers)
}

/// The order that is under way, or a new one; with its key.
async fn open(
    job: &Job,
    acme: &Acme,
    account: &Account,
    link: &Link,
    identifiers: &[Identifier],
) -> Result<(instant_acme::Order, Key), Failure> {
    let wanted = &job.wanted;
    let request = request_digest(&wanted.spec);
    let kept = job.order.as_ref().filter(|kept| kept.account == account.id() && kept.request == request);
    if let Some(kept) = kept {
        link.step("an earlier order goes on");
        match account.order(kept.url.clone()).await {
            Ok(mut order) => {
                let is_alive = !matches!(order.state().status, OrderStatus::Invalid);
                if let Ok(key) = key::read(kept.key.as_bytes(), &wanted.spec)
                    && is_alive
                {
                    return Ok((order, key));
                }
            }
            // It is gone, or came to nothing: a new one.
            Err(Error::Api(_)) => {}
            Err(error) => return Err(fault::failure("looking at the order", error)),
        }
    }
    link.step("a key is made");
    let (spec, last) = (wanted.spec.clone(), wanted.judgement.certificate.clone());
    let key =
        blocking(move || key_for(&spec, last.as_ref())).await?.map_err(|why| Failure::new(Cause::Refused, why))?;
    link.step(format!("an order is made at {}", acme.spec.server));
    let order = make(job, acme, account, identifiers).await?;
    let kept = Kept {
        url: order.url().to_owned(),
        account: account.id().to_owned(),
        request,
        key: Zeroizing::new(key.pem.to_string()),
    };
    link.tell(Event::Order { task: link.task.clone(), order: Some(Box::new(kept)) });
    Ok((order, key))
}

/// A new order; it replaces the certificate that is there, where the server can have it so.
async fn make(
    job: &Job,
    acme: &Acme,
    account: &Account,
    identifiers: &[Identifier],
) -> Result<instant_acme::Order, Failure> {
    let new = || {
        let order = NewOrder::new(identifiers);
        if acme.spec.profile.is_empty() { order } else { order.profile(&acme.spec.profile) }
    };
    let last = job.wanted.judgement.certificate.as_ref();
    let leaf = last.and_then(|last| CertificateDer::from_pem_slice(&last.chain_pem).ok());
    // RFC 9773, 5: one that is for other names altogether is not replaced.
    let leaf = leaf.filter(|leaf| shares_a_name(leaf, identifiers));
    let replaced = leaf.as_ref().and_then(|leaf| CertificateIdentifier::try_from(leaf).ok());
    let informed = job.wanted.attempt.renewal_info.is_some();
    if let Some(replaced) = replaced.filter(|_| informed) {
        match account.new_order(&new().replaces(replaced)).await {
            Ok(order) => return Ok(order),
            // Not this server's certificate, or replaced already: that is no reason to have none.
            Err(Error::Unsupported(_) | Error::Str(_)) => {}
            Err(Error::Api(problem)) if matches!(kind(&problem), "alreadyReplaced" | "malformed" | "unauthorized") => {}
            Err(error) => return Err(fault::failure("making an order", error)),
        }
    }
    account.new_order(&new()).await.map_err(|error| fault::failure("making an order", error))
}

fn shares_a_name(leaf: &CertificateDer, identifiers: &[Identifier]) -> bool {
    let Ok((_, leaf)) = x509_parser::parse_x509_certificate(leaf) else { return false };
    let names = leaf.subject_alternative_name().ok().flatten();
    names.iter().flat_map(|names| &names.value.general_names).any(|name| match name {
        GeneralName::DNSName(name) => identifiers.contains(&Identifier::Dns(name.to_ascii_lowercase())),
        GeneralName::IPAddress(bytes) => identifiers.iter().any(|identifier| match identifier {
            Identifier::Ip(IpAddr::V4(address)) => address.octets() == *bytes,
            Identifier::Ip(IpAddr::V6(address)) => address.octets() == *bytes,
            _ => false,
        }),
        _ => false,
    })
}

/// Has every name's challenge answered, and tells the server. What is in `dns` stays in DNS as long as that does.
async fn prove(
    job: &Job,
    acme: &Acme,
    link: &Link,
    order: &mut instant_acme::Order,
    dns: &mut Proofs<'_>,
) -> Result<(), Failure> {
    let fault = |error| fault::failure("proving the names", error);
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(fault)?;
        if matches!(authorization.status, AuthorizationStatus::Valid) {
            continue;
        }
        let name = authorization.identifier().to_string();
        let offers = |kind: ChallengeType| authorization.challenges.iter().any(|challenge| challenge.r#type == kind);
        let offered = Offered {
            http01: offers(ChallengeType::Http01),
            tls_alpn01: offers(ChallengeType::TlsAlpn01),
            dns01: offers(ChallengeType::Dns01),
        };
        let proof = choose(&acme.spec.solvers, &name, &job.wanted.meta.labels, offered);
        let proof = proof.map_err(|why| Failure::new(Cause::Refused, why))?;
        let kind = match proof {
            Proof::Http01 => ChallengeType::Http01,
            Proof::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Proof::Dns01(_) => ChallengeType::Dns01,
        };
        let missing = || Failure::new(Cause::Refused, format!("the server offers no such challenge for {name}"));
        let mut challenge = authorization.challenge(kind).ok_or_else(missing)?;
        let authorized = challenge.key_authorization();
        let answer = match proof {
            Proof::Http01 => {
                Challenge::Http { token: challenge.token.clone(), authorization: authorized.as_str().to_owned() }
            }
            Proof::TlsAlpn01 => tls_challenge(&name, authorized.digest().as_ref()).map_err(Failure::local)?,
            Proof::Dns01(solver) => {
                let value = authorized.dns_value();
                dns.put(solver, &name, &challenge.token, authorized.as_str(), value).await?;
                continue;
            }
        };
        link.step(format!("the challenge for {name} is put up"));
        link.present(answer).await.map_err(Failure::local)?;
        if matches!(challenge.status, ChallengeStatus::Pending) {
            challenge.set_ready().await.map_err(fault)?;
        }
    }
    dns.seen().await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(fault)?;
        if !dns.has(&authorization.identifier().to_string()) {
            continue;
        }
        if let Some(mut challenge) = authorization.challenge(ChallengeType::Dns01)
            && matches!(challenge.status, ChallengeStatus::Pending)
        {
            challenge.set_ready().await.map_err(fault)?;
        }
    }
    Ok(())
}

/// The certificate that is shown for `name` (RFC 8737, 3).
fn tls_challenge(name: &str, digest: &[u8]) -> Result<Challenge, String> {
    let mut params = CertificateParams::default();
    let (san, server_name) = match name.parse::<IpAddr>() {
        Ok(address) => (SanType::IpAddress(address), reverse(address)),
        Err(_) => {
            let ascii = name.try_into().map_err(|_| format!("{name:?} is not plain ASCII"))?;
            (SanType::DnsName(ascii), name.to_ascii_lowercase())
        }
    };
    params.subject_alt_names = vec![san];
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let certificate = TlsChallengePlan { certificate: certificate.der().to_vec(), key: key.serialize_der() };
    Ok(Challenge::Tls { name: server_name, certificate })
}

/// The name that stands for an address in a ClientHello (RFC 8738, 6).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).chain(["ip6.arpa".to_owned()]).collect()
        }
    }
}

/// Why an order came to nothing: what its authorizations say.
async fn refusal(order: &mut instant_acme::Order, error: Option<Error>) -> Failure {
    let mut why = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            break;
        }
        let name = authorization.identifier().to_string();
        let problems = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        why.extend(problems.map(|problem| format!("{name}: {}", fault::text(problem))));
    }
    let general = error.map(|error| fault::failure("proving the names", error));
    match (why.as_slice(), general) {
        ([], Some(general)) => general,
        ([], None) => Failure::new(Cause::Refused, "the server refused the order and does not say why"),
        (why, _) => Failure::new(Cause::Refused, format!("the server refused: {}", why.join("; "))),
    }
}

/// The server's certificate is for our key.
fn fits(chain: &str, key: &Key) -> Result<(), Failure> {
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).ok();
    let same = leaf.as_ref().and_then(|leaf| {
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).ok()?;
        Some(*leaf.public_key().subject_public_key.data == *key.pair.public_key_raw())
    });
    match same {
        Some(true) => Ok(()),
        _ => Err(Failure::new(Cause::Refused, "the server sent something else than a certificate for the key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_names_in_a_client_hello() {
        assert_eq!(reverse("192.0.2.7".parse().expect("an address")), "7.2.0.192.in-addr.arpa");
        let six = reverse("2001:db8::1".parse().expect("an address"));
        assert_eq!(six, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    }
}
