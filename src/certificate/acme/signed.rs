//! Signed requests that the library does not make (RFC 8555, 6.2): the change of a key that is kept first, chains other
//! than the default one, and an account for a key that is there with an external one.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use instant_acme::{BodyWrapper, Error, HttpClient, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{client::Client, fault::kind};

/// How often a nonce may be refused.
const ATTEMPTS: usize = 5;
const NONCE: &str = "replay-nonce";

/// A key that signs: ECDSA on P-256.
pub struct Signer(EcdsaKeyPair);

impl Signer {
    /// # Errors
    /// It is no such key.
    pub fn new(pkcs8: &[u8]) -> Result<Signer, Error> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Signer).map_err(|_| Error::KeyRejected)
    }

    /// The public key (RFC 7517).
    pub fn public(&self) -> Value {
        // An uncompressed point: 4, then the coordinates.
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        json!({ "crv": "P-256", "kty": "EC", "x": encode(x), "y": encode(y) })
    }

    /// Without a payload it is POST-as-GET.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn sign(&self, mut header: Value, payload: Option<&Value>) -> Result<Value, Error> {
        header["alg"] = json!("ES256");
        jws(&header, payload, |text| self.0.sign(&SystemRandom::new(), text).map_err(|_| Error::Crypto))
    }
}

/// RFC 7515, flattened.
fn jws<S: AsRef<[u8]>>(
    header: &Value,
    payload: Option<&Value>,
    sign: impl FnOnce(&[u8]) -> Result<S, Error>,
) -> Result<Value, Error> {
    let header = encode(header.to_string());
    let payload = payload.map(|payload| encode(payload.to_string())).unwrap_or_default();
    let signature = encode(sign(format!("{header}.{payload}").as_bytes())?);
    Ok(json!({ "protected": header, "payload": payload, "signature": signature }))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The part of a server's directory that is used here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    key_change: Option<String>,
}

/// What speaks for an account, or for a key that is to have one.
pub struct Voice {
    client: Client,
    directory: Directory,
    /// None where there is no account yet.
    account: Option<String>,
    signer: Signer,
}

impl Voice {
    /// For the account with this URL, if there is one, and key.
    ///
    /// # Errors
    /// The server's directory cannot be had.
    pub async fn new(client: Client, server: &str, account: Option<&str>, signer: Signer) -> Result<Voice, Error> {
        let (_, body) = send(&client, Method::GET, server, Vec::new()).await?;
        let directory = serde_json::from_slice(&body)?;
        Ok(Voice { client, directory, account: account.map(str::to_owned), signer })
    }

    /// Makes an account for the key, bound to an external one (RFC 8555, 7.3.4).
    ///
    /// # Errors
    /// As [`Voice::post`].
    pub async fn register(&self, contacts: &[String], (id, key): (&str, &[u8])) -> Result<(), Error> {
        let url = &self.directory.new_account;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let header = json!({ "alg": "HS256", "kid": id, "url": url });
        let binding = jws(&header, Some(&self.signer.public()), |text| Ok(hmac::sign(&key, text)))?;
        let account = json!({
            "contact": contacts, "termsOfServiceAgreed": true, "externalAccountBinding": binding,
        });
        self.post(url, Some(&account)).await.map(|_| ())
    }

    /// Where keys are changed, if the server has that.
    pub fn key_change(&self) -> Option<&str> {
        self.directory.key_change.as_deref()
    }

    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The answer, if it is no problem.
    ///
    /// # Errors
    /// What the server has against it, or keeps it from being asked.
    pub async fn post(&self, url: &str, payload: Option<&Value>) -> Result<(HeaderMap, Bytes), Error> {
        let (mut headers, _) = send(&self.client, Method::HEAD, &self.directory.new_nonce, Vec::new()).await?;
        let mut attempt = 1;
        loop {
            let nonce = headers.get(NONCE).and_then(|nonce| nonce.to_str().ok());
            let nonce = nonce.ok_or(Error::Str("the server gave no nonce"))?;
            let mut header = json!({ "nonce": nonce, "url": url });
            match &self.account {
                Some(account) => header["kid"] = json!(account),
                None => header["jwk"] = self.signer.public(),
            }
            let body = self.signer.sign(header, payload)?.to_string().into_bytes();
            match send_any(&self.client, Method::POST, url, body).await? {
                (status, headers, body) if status.is_success() => return Ok((headers, body)),
                (status, refused, body) => {
                    let unknown = |_| Error::Other(format!("{url} answered {status}").into());
                    let problem: Problem = serde_json::from_slice(&body).map_err(unknown)?;
                    if kind(&problem) != "badNonce" || attempt == ATTEMPTS {
                        return Err(Error::Api(problem));
                    }
                    (headers, attempt) = (refused, attempt + 1);
                }
            }
        }
    }
}

async fn send(client: &Client, method: Method, url: &str, body: Vec<u8>) -> Result<(HeaderMap, Bytes), Error> {
    match send_any(client, method, url, body).await? {
        (status, headers, body) if status.is_success() => Ok((headers, body)),
        (status, ..) => Err(Error::Other(format!("{url} answered {status}").into())),
    }
}

async fn send_any(
    client: &Client,
    method: Method,
    url: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, HeaderMap, Bytes), Error> {
    let mut request = Request::builder().method(&method).uri(url);
    request = request.header(header::USER_AGENT, concat!("gapi/", env!("CARGO_PKG_VERSION")));
    if method == Method::POST {
        request = request.header(header::CONTENT_TYPE, "application/jose+json");
    }
    let mut response = client.request(request.body(BodyWrapper::from(body))?).await?;
    let body = response.body.into_bytes().await.map_err(Error::Other)?;
    Ok((response.parts.status, response.parts.headers, body))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn what_is_signed_can_be_verified() {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
        let signer = Signer::new(key.as_ref()).expect("it is on P-256");
        let signed = signer.sign(json!({ "url": "u" }), Some(&json!({ "a": 1 }))).expect("it signs");
        let decode = |text: &Value| URL_SAFE_NO_PAD.decode(text.as_str().expect("text")).expect("base64url");
        let header: Value = serde_json::from_slice(&decode(&signed["protected"])).expect("JSON");
        assert_eq!(header, json!({ "url": "u", "alg": "ES256" }));
        let public = signer.public();
        let point = [vec![4], decode(&public["x"]), decode(&public["y"])].concat();
        let text = format!("{}.{}", signed["protected"].as_str().expect("a"), signed["payload"].as_str().expect("b"));
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(text.as_bytes(), &decode(&signed["signature"])).expect("the signature is right");
        assert_eq!(signer.sign(json!({}), None).expect("it signs")["payload"], "");
    }
}
