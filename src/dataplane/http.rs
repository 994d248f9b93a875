//! Where a request enters.

use std::rc::Rc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{Connection, Worker, body::Body};

/// Answers one request.
pub async fn serve(worker: Rc<Worker>, connection: Rc<Connection>, request: Request<Incoming>) -> Response<Body> {
    let _ = (worker.snapshots.pin(), connection, request);
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
