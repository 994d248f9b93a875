//! HTTPS to an ACME server: timed, bounded, with the roots that the issuer says. A connection for each request: there
//! are few of them.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{api::cert_manager::AcmeIssuer, certificate::anyone::Anyone};

/// From the connection to the end of the answer.
const REQUEST: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// A chain of certificates is far smaller.
const MAX_BODY: usize = 1 << 20;

/// Speaks HTTPS to one ACME server.
pub struct Client {
    config: Arc<ClientConfig>,
}

/// The server said that it does not want to be asked now.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    /// The type of the ACME problem, where there is one.
    pub kind: String,
    pub detail: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl std::error::Error for Refusal {}

impl Client {
    /// Trusts `caBundle`, or the machine's roots where there is none.
    ///
    /// # Errors
    /// There is no root to trust.
    pub fn new(issuer: &AcmeIssuer) -> Result<Client, String> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = match issuer.skip_tls_verify {
            true => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
            }
            false => builder.with_root_certificates(roots(&issuer.ca_bundle)?).with_no_client_auth(),
        };
        Ok(Client { config: Arc::new(config) })
    }
}

fn roots(bundle: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if bundle.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return match roots.is_empty() {
            true => Err("this machine trusts no certificate authority: install the package ca-certificates".into()),
            false => Ok(roots),
        };
    }
    let pem = STANDARD.decode(bundle).map_err(|_| "spec.acme.caBundle is not base64")?;
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if roots.is_empty() { Err("spec.acme.caBundle holds no certificate that can be used".into()) } else { Ok(roots) }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let config = self.config.clone();
        Box::pin(async move {
            let uri = request.uri().clone();
            let answered = timeout(REQUEST, exchange(config, request)).await;
            let answered = answered.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            let response = answered.map_err(|error| Error::Other(unreachable(&uri, error.as_ref()).into()))?;
            match response.status() {
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    Err(Error::Other(Box::new(refusal(&response))))
                }
                _ => Ok(BytesResponse::from(response.map(Full::new))),
            }
        })
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The error with its causes, and where it happened.
fn unreachable(uri: &Uri, error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{}: {error}", uri.authority().map_or("", |authority| authority.as_str()));
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

async fn exchange(config: Arc<ClientConfig>, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, Fault> {
    let (mut parts, body) = request.into_parts();
    if parts.uri.scheme_str() != Some("https") {
        return Err(format!("{} is no https URL", parts.uri).into());
    }
    let authority = parts.uri.authority().ok_or("the URL has no host")?.clone();
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(443);
    let stream = timeout(CONNECT, TcpStream::connect((host, port))).await??;
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    parts.headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
    parts.uri = path.parse()?;
    let response = sender.send_request(Request::from_parts(parts, body)).await?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(parts, body))
}

fn refusal(response: &Response<Bytes>) -> Refusal {
    let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |name: &str| -> String { problem[name].as_str().unwrap_or_default().chars().take(500).collect() };
    let header = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(retry_after);
    Refusal { status: response.status(), retry_after, kind: text("type"), detail: text("detail") }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(retry_after("Fri, 06 Nov 2099 08:49:37 GMT").is_some_and(|wait| wait.as_secs() > 3600));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        assert!(roots("bm9uc2Vuc2U=").is_err());
        assert!(roots("%").is_err());
    }
}
